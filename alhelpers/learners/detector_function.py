"""Any detector by its predictions alone: a function from images to boxes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, NoReturn

import numpy as np

from alhelpers.data.box_rows import SIDES, cut_box, number_of, sides_of
from alhelpers.learners.box_predictions import BoxPredictions
from alhelpers.learners.predictions import check_request, checked_names, listed_names
from alhelpers.protocols import Dataset, History, Progress, Task
from alhelpers.uncertainty._torch import derived_seed, is_count


class DetectorFunction:
    """A detector that is trained elsewhere: a :class:`~alhelpers.protocols.Learner` that predicts and does not learn.

    Parameters
    ----------
    function : callable
        Takes a batch of inputs, as ``inputs(rows)`` of the data set returns them, and returns a sequence with the boxes
        of each image, in pixels, in one of three forms: a tuple of boxes (m, 4), as left, top, right, bottom, and
        confidences (m, C), each class's own from 0 to 1; a dict with ``boxes`` and ``confidences``, or as those of
        torchvision with ``boxes``, ``scores`` (m,) and ``labels`` (m,), indices of classes; or a list of box rows,
        dicts of ``label``, ``score``, ``left``, ``top``, ``right``, ``bottom``. Arrays may be tensors. A box may end
        outside of its image by a pixel, as tools round, and is cut there. If the function has a parameter ``seed``,
        such as for dropout, it can be called for several passes; without passes it is called with no seed, where the
        parameter has a default, such as None for no dropout, and else with that of the prediction.
    class_names : sequence of str
        The C classes.
    batch_size : int
        Images in one call.

    Attributes
    ----------
    class_names : tuple of str

    Examples
    --------
    >>> from torchvision.models import detection  # doctest: +SKIP
    >>> model = detection.ssdlite320_mobilenet_v3_large(weights="DEFAULT").eval()  # doctest: +SKIP
    >>> learner = DetectorFunction(lambda images: model(torch.from_numpy(images)), names)  # doctest: +SKIP
    """

    task: ClassVar[Task] = "detection"

    def __init__(
        self, function: Callable[..., Sequence[Any]], class_names: Sequence[str], *, batch_size: int = 64
    ) -> None:
        if not callable(function):
            raise ValueError(f"function is a {type(function).__name__}: it must take images and return boxes")
        if not is_count(batch_size):
            raise ValueError(f"batch_size is {batch_size!r}: it must be a whole number of at least 1")
        self.function, self.batch_size = function, batch_size
        self.class_names = listed_names(class_names)
        parameter = inspect.signature(function).parameters.get("seed")
        self._has_seed = parameter is not None
        self._needs_seed = parameter is not None and parameter.default is parameter.empty

    def fit(
        self,
        dataset: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> History:
        """Raise a ValueError: a function has nothing that could be trained."""
        self._refuse("cannot be fitted")

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> BoxPredictions:
        """Predict by calling the function batch by batch.

        Parameters
        ----------
        dataset : Dataset
            N images.
        passes : int
            How often a function with a ``seed`` is called for each batch, each time with another one: 0, or at least 2.
            The boxes of the passes are merged where they overlap (:func:`alhelpers.uncertainty.merge_boxes`).
        embeddings : bool
            Must be False: a function has none.
        seed : int
            Of the passes, or of the only call where the function's ``seed`` has no default.

        Returns
        -------
        BoxPredictions
            With passes, a confidence is the mean over them, 0 where one did not find the object.

        Raises
        ------
        ValueError
            If the data set is empty or has other class names, passes is not valid, the function has no ``seed`` for
            them, or its boxes are not valid; the message names the image.
        """
        check_request(dataset, passes)
        if passes and not self._has_seed:
            raise ValueError(
                f"passes is {passes}, but the function has no parameter seed, so that each call returns the same: pass"
                " def function(images, seed), or passes=0"
            )
        if embeddings:
            self._refuse("has no embeddings")
        checked_names(self.class_names, dataset)
        if not passes:
            return self._called(dataset, seed if self._needs_seed else None)
        return BoxPredictions.merged(
            [self._called(dataset, derived_seed(seed, each)) for each in range(passes)]
        )

    def fresh(self, seed: int) -> DetectorFunction:
        """Return the same detector, as nothing in it is trained."""
        return DetectorFunction(self.function, self.class_names, batch_size=self.batch_size)

    def save(self, folder: str | PathLike[str]) -> None:
        """Raise a ValueError: a function has no weights."""
        self._refuse("has no weights to save")

    def load(self, folder: str | PathLike[str]) -> None:
        """Raise a ValueError: a function has no weights."""
        self._refuse("has no weights to load")

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"a DetectorFunction {what}: its function predicts and no more; train what is behind it yourself and pass a"
            " new function, or use alhelpers.learners.Detector"
        )

    def _called(self, dataset: Dataset, seed: int | None) -> BoxPredictions:
        options = {} if seed is None else {"seed": seed}
        boxes, confidences = [], []
        for start in range(0, len(dataset), self.batch_size):
            rows = np.arange(start, min(start + self.batch_size, len(dataset)))
            inputs = dataset.inputs(rows)
            size = _image_size(inputs)  # before the call, as a function may work in place
            found = self.function(inputs, **options)
            if not isinstance(found, Sequence) or len(found) != len(rows):
                raise ValueError(
                    f"the function returned {_shown(found)} for {len(rows)} images: it must return a list with the"
                    " boxes of each"
                )
            for row, image in zip(rows.tolist(), found, strict=True):
                own = _checked(
                    *_arrays(image, self.class_names, dataset.ids[row]), self.class_names, dataset.ids[row]
                )
                boxes.append(own[0] if size is None else _cut(own[0], size, dataset.ids[row]))
                confidences.append(own[1])
        offsets = np.append(0, np.cumsum([len(image) for image in boxes])).astype(np.int64)
        return BoxPredictions(offsets, np.concatenate(boxes), np.concatenate(confidences), self.class_names)


def _shown(found: Any) -> str:
    return f"{len(found)} entries" if isinstance(found, Sequence) else f"a {type(found).__name__}"


def _arrays(image: Any, names: Sequence[str], identity: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes and confidences of an image, of any of the forms."""
    if isinstance(image, Mapping) and {"boxes", "confidences"} <= image.keys():
        return _numbers(image["boxes"]), _numbers(image["confidences"])
    if isinstance(image, Mapping) and {"boxes", "scores", "labels"} <= image.keys():
        known = {place: place for place in range(len(names))}
        scores, labels = _numbers(image["scores"]), _numbers(image["labels"])
        if scores.shape != labels.shape or labels.ndim != 1:
            raise ValueError(
                f"the function returned scores {scores.shape} and labels {labels.shape} for image {identity}: they must"
                " be (m,), one a box"
            )
        places = _places(labels.tolist(), known, names, identity)
        return _numbers(image["boxes"]), _of_one_class(places, scores, len(names))
    if isinstance(image, tuple) and len(image) == 2:
        return _numbers(image[0]), _numbers(image[1])
    if isinstance(image, list) and all(
        isinstance(row, Mapping) and {"label", "score", *SIDES} <= row.keys() for row in image
    ):
        known = {name: place for place, name in enumerate(names)}
        places = _places([str(row["label"]) for row in image], known, names, identity)
        where = [f"box {number} of image {identity}" for number in range(len(image))]
        boxes = np.array([sides_of(*pair) for pair in zip(image, where, strict=True)], dtype=np.float32)
        scores = np.array([number_of(row, "score", at) for row, at in zip(image, where, strict=True)])
        return boxes, _of_one_class(places, scores, len(names))
    raise ValueError(
        f"the function returned a {type(image).__name__} for an image: it must be (boxes, confidences), a dict of boxes"
        " and confidences, or of boxes, scores and labels, or a list of box rows"
    )


def _numbers(values: Any) -> np.ndarray:
    """Return an array or a tensor of any device as numbers."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)


def _places(
    labels: Sequence[Any], known: Mapping[Any, int], names: Sequence[str], identity: Any
) -> np.ndarray:
    """Return the place of each label among the classes, (m,), or raise a ValueError that names the first unknown."""
    for row, label in enumerate(labels):
        if label not in known:
            kind = "one of" if isinstance(label, str) else f"an index from 0 to {len(names) - 1} of"
            shown = repr(label) if isinstance(label, str) else f"{label:g}"
            raise ValueError(
                f"box {row} of image {identity} has the label {shown}: it must be {kind} the class names"
                f" {', '.join(names)}"
            )
    return np.array([known[label] for label in labels], dtype=np.int64)


def _of_one_class(places: np.ndarray, scores: np.ndarray, classes: int) -> np.ndarray:
    """Return confidences (m, C) of boxes of which one class is known."""
    confidences = np.zeros((len(places), classes))
    confidences[np.arange(len(places)), places] = scores
    return confidences


def _checked(
    boxes: np.ndarray, confidences: np.ndarray, names: Sequence[str], identity: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes and confidences of an image, or raise a ValueError that names it."""
    boxes = boxes.reshape(-1, 4) if not boxes.size else boxes
    confidences = confidences.reshape(-1, len(names)) if not confidences.size else confidences
    if boxes.shape != (len(boxes), 4) or confidences.shape != (len(boxes), len(names)):
        raise ValueError(
            f"the function returned boxes {boxes.shape} and confidences {confidences.shape} for image {identity}:"
            f" they must be (m, 4) and (m, {len(names)}), one column a class"
        )
    right = np.isfinite(boxes).all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1)
    right &= ((confidences >= 0) & (confidences <= 1)).all(1)
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(
            f"box {row} of image {identity} is {boxes[row].tolist()} with the confidences"
            f" {confidences[row].tolist()}: it must have left < right and top < bottom, and confidences from 0 to 1"
        )
    return boxes, confidences


def _image_size(inputs: Any) -> tuple[int, int] | None:
    """Return height and width of inputs that are images, (B, C, H, W) or uint8 (B, H, W) or (B, H, W, C), or None."""
    if not isinstance(inputs, np.ndarray):
        return None
    if inputs.dtype == np.uint8 and inputs.ndim in (3, 4):
        return inputs.shape[1], inputs.shape[2]
    return inputs.shape[2:] if inputs.dtype.kind == "f" and inputs.ndim == 4 else None


def _cut(boxes: np.ndarray, size: tuple[int, int], identity: Any) -> np.ndarray:
    """Return boxes that end inside of their image, or raise a ValueError that names the first that is not of it."""
    cut = [cut_box(box, *size) for box in boxes.tolist()]
    if None in cut:
        row, (height, width) = cut.index(None), size
        raise ValueError(
            f"box {row} of image {identity} is {boxes[row].tolist()}, and not inside of its image, {width} wide and"
            f" {height} high: return boxes in pixels of the inputs, cut at their borders"
        )
    return np.array(cut, dtype=boxes.dtype).reshape(-1, 4)
