"""What a detector predicts, as arrays, as rows of boxes and as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from alhelpers import records, scores
from alhelpers.data.box_rows import SIDES
from alhelpers.learners.predictions import check_members
from alhelpers.uncertainty import BoxSamples, merge_boxes

if TYPE_CHECKING:
    import pyarrow as pa


class _Pass(NamedTuple):
    """The boxes that one pass found."""

    offsets: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray


@dataclass(frozen=True, eq=False)
class BoxPredictions:
    """Predicted boxes of N images, M boxes in all; what does not apply is None, numbers are float32.

    Parameters
    ----------
    offsets : numpy.ndarray of shape (N + 1,), int64
        The boxes of image ``k`` are ``offsets[k]`` up to, but not including, ``offsets[k + 1]``.
    boxes : numpy.ndarray of shape (M, 4)
        Left, top, right, bottom in pixels.
    confidences : numpy.ndarray of shape (M, C)
        Each class's own, from 0 to 1; they need not sum to 1.
    class_names : tuple of str, of length C
    embeddings : numpy.ndarray of shape (N, D), optional
        Of the images.
    object_embeddings : numpy.ndarray of shape (M, D), optional
        Of the boxes.
    samples : BoxSamples, optional
        What several passes or members say of the same M boxes.

    Raises
    ------
    ValueError
        If shapes do not fit each other, a box has no area, or a number is not finite or not from 0 to 1; the message
        names the box.
    """

    offsets: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...]
    embeddings: np.ndarray | None = None
    object_embeddings: np.ndarray | None = None
    samples: BoxSamples | None = None

    task: ClassVar[str] = "detection"

    def __post_init__(self) -> None:
        keep = object.__setattr__
        keep(self, "class_names", tuple(map(str, self.class_names)))
        for name in ("boxes", "confidences", "embeddings", "object_embeddings"):
            if getattr(self, name) is not None:
                keep(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        count, classes = len(self.boxes), len(self.class_names)
        keep(self, "offsets", scores.checked_offsets(self.offsets, count))
        _check_shape("boxes", self.boxes, (count, 4))
        _check_shape("confidences", self.confidences, (count, classes))
        _check_shape("embeddings", self.embeddings, (len(self), None))
        _check_shape("object_embeddings", self.object_embeddings, (count, None))
        if not classes:
            raise ValueError("class_names must be at least one, got none")
        areas = (self.boxes[:, :2] < self.boxes[:, 2:]).all(axis=1)
        _check_rows("boxes", self.boxes, areas, "left < right and top < bottom")
        right = ((self.confidences >= 0) & (self.confidences <= 1)).all(axis=1)
        _check_rows("confidences", self.confidences, right, "confidences from 0 to 1")
        for name in ("boxes", "embeddings", "object_embeddings"):
            values = getattr(self, name)
            if values is not None:
                _check_rows(name, values, np.isfinite(values).all(axis=1), "finite numbers")
        if self.samples is not None:
            self._check_samples(self.samples)

    def _check_samples(self, samples: BoxSamples) -> None:
        if not np.array_equal(samples.offsets, self.offsets):
            raise ValueError("samples have other offsets than the boxes: they must be of the same objects")
        passes = samples.boxes.shape[1] if np.ndim(samples.boxes) == 3 else None
        _check_shape("boxes of the samples", samples.boxes, (len(self.boxes), passes, 4))
        shape = (len(self.boxes), passes, len(self.class_names))
        _check_shape("confidences of the samples", samples.confidences, shape)
        found = ~np.isnan(samples.boxes).any(axis=2)
        apart = np.flatnonzero((found == np.isnan(samples.confidences).any(axis=2)).any(axis=1))
        if len(apart):
            raise ValueError(
                f"object {apart[0]} of the samples has a box without confidences, or the other way round"
            )

    @classmethod
    def merged(cls, predictions: Sequence[BoxPredictions]) -> BoxPredictions:
        """Merge predictions of several passes or members where their boxes overlap.

        Predictions that have samples take part with each of these.

        Parameters
        ----------
        predictions : sequence of BoxPredictions
            Of the same images and classes.

        Returns
        -------
        BoxPredictions
            Boxes are means over those that found the object (:func:`alhelpers.uncertainty.merge_boxes`), confidences
            over all, 0 where one did not find it; what each found is in ``samples``. The embeddings of the images are
            those of the first; objects have none.

        Raises
        ------
        ValueError
            If there are none, or they are not of as many images and of the same classes in the same order.
        """
        check_members(predictions)
        samples = merge_boxes([each for one in predictions for each in one._passes()])
        confidences = np.nan_to_num(samples.confidences).mean(axis=1)
        first = predictions[0]
        return cls(
            samples.offsets,
            samples.means()[0],
            confidences,
            first.class_names,
            first.embeddings,
            samples=samples,
        )

    def _passes(self) -> list[_Pass]:
        """Return what each pass found, or all that was found."""
        if self.samples is None:
            return [_Pass(self.offsets, self.boxes, self.confidences)]
        passes = []
        for boxes, confidences in zip(*(np.moveaxis(each, 1, 0) for each in self.samples[1:]), strict=True):
            found = ~np.isnan(boxes[:, 0])
            offsets = np.append(0, np.cumsum(found))[self.offsets]
            passes.append(_Pass(offsets, boxes[found], confidences[found]))
        return passes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def labels(self) -> np.ndarray:
        """The class of the highest confidence of each box, (M,)."""
        return self.confidences.argmax(axis=1)

    @property
    def scores(self) -> np.ndarray:
        """The highest confidence of each box, (M,)."""
        return self.confidences.max(axis=1)

    def certainties(self) -> dict[str, np.ndarray]:
        """Return what the passes say of each box, (M,) float32 from 0 to 1.

        Returns
        -------
        dict of numpy.ndarray
            ``class``, ``location``, ``existence``, and ``combined``, their product; and ``object``, of class and
            existence in one. See :func:`alhelpers.scores.class_certainty` and its neighbours there.

        Raises
        ------
        ValueError
            If the predictions have no samples.
        """
        samples = self._required_samples()
        found = {
            "class": scores.class_certainty(samples.confidences),
            "location": scores.location_certainty(samples.boxes),
            "existence": scores.existence_certainty(samples.boxes),
        }
        found["combined"] = found["class"] * found["location"] * found["existence"]
        return found | {"object": scores.object_certainty(samples.confidences)}

    def _required_samples(self) -> BoxSamples:
        if self.samples is None:
            raise ValueError(
                "predictions of one pass have no certainties: predict with passes, e.g. passes=20"
            )
        return self.samples

    def rows(self, ids: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one dict a box, as :mod:`alhelpers.evaluation` takes them.

        Parameters
        ----------
        ids : sequence of length N
            The ids of the images.

        Returns
        -------
        list of dict
            ``image_id``, ``label`` (the name of the class), ``score``, ``left``, ``top``, ``right`` and ``bottom``.
        """
        self._check_ids(ids)
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets)).tolist()
        return [
            {
                "image_id": ids[owner],
                "label": self.class_names[label],
                "score": score,
                **dict(zip(SIDES, box, strict=True)),
            }
            for owner, label, score, box in zip(
                owners, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]

    def to_records(self, ids: Sequence[Any]) -> pa.Table:
        """Return the predictions as records, one an image, with their boxes under ``detections``.

        Parameters
        ----------
        ids : sequence of length N
            All strings or all whole numbers, each once.

        Returns
        -------
        pyarrow.Table
            As :func:`alhelpers.records.from_arrays` returns it. With samples, each box has ``class_certainty``,
            ``location_certainty``, ``existence_certainty``, ``object_certainty`` and ``box_variance``.
        """
        self._check_ids(ids)
        fields = {}
        if self.samples is not None:
            certainties = self.certainties()
            fields = {
                f"{name}_certainty": values for name, values in certainties.items() if name != "combined"
            }
            fields["box_variance"] = scores.box_variance(self.samples.boxes)
        left, top, right, bottom = self.boxes.T
        boxes = records.Boxes(
            self.offsets,
            class_name=np.array(self.class_names, dtype=object)[self.labels],
            confidence=self.scores,
            confidences=self.confidences,
            left=left,
            top=top,
            width=right - left,
            height=bottom - top,
            embeddings=self.object_embeddings,
            **fields,
        )
        return records.from_arrays(
            ids, class_names=list(self.class_names), embeddings=self.embeddings, detections=boxes
        )

    def _check_ids(self, ids: Sequence[Any]) -> None:
        if len(ids) != len(self):
            raise ValueError(f"there are {len(ids)} ids of {len(self)} images: give one id an image")


def _check_shape(name: str, values: np.ndarray | None, shape: tuple[int | None, ...]) -> None:
    """Raise unless an array has a shape, in which None is any size but 0."""
    if values is None:
        return
    got = np.shape(values)
    if len(got) != len(shape) or any(
        (size != want) if want is not None else size < 1 for size, want in zip(got, shape, strict=True)
    ):
        text = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({text}), got {got}")


def _check_rows(name: str, values: np.ndarray, right: np.ndarray, rule: str) -> None:
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"row {row} of {name} must have {rule}, got {values[row].tolist()}")
