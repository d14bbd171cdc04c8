"""The metrics of segmenters: mean intersection over union, accuracy and average precision of pixels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from alhelpers.evaluation.boxes import Boxes
from alhelpers.evaluation.calibration import ROUNDING
from alhelpers.evaluation.curves import warn_of_unfounded
from alhelpers.evaluation.masks import check_sizes
from alhelpers.evaluation.measures import BinnedRanking, Macro, Measure, Share, Term
from alhelpers.evaluation.rows import (
    EvaluationError,
    NoGroundTruth,
    check_among,
    check_joined,
    keys,
    rows_by_name,
    sort_names,
)

#: The class of pixels that do not count, such as those of crowds.
NOT_COUNTED = 255

# Confidences are rounded to 1/255: a histogram for each image and class is all that resamples need.
LEVELS = 256


@dataclass(frozen=True)
class _Pixels:
    """The pixels of one image by class, (C,) each: right, of the ground truth, predicted; and by confidence, (C, K)."""

    right: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    right_at: np.ndarray | None = None
    found_at: np.ndarray | None = None


class Segmentations:
    """One model's classes of pixels beside the true ones: counted once for each image, measured in several ways.

    Parameters
    ----------
    truth : iterable of N arrays of shape (H, W)
        The class of each pixel as an index of ``class_names``; pixels of 255 do not count. Images may differ in size.
    predicted : iterable of N arrays
        The same, (H, W), or the confidence of each class, (C, H, W), from 0 to 1.
    class_names : sequence of length C
        The names of the classes, at most 255.
    items : sequence of length N, optional
        The test images, for pairing models; without it their places.

    Raises
    ------
    NoGroundTruth
        If no pixel counts.
    EvaluationError
        If the numbers of images differ, a map is of another size than its image, a class is not among
        ``class_names``, or a confidence is not from 0 to 1. It names the image.
    """

    def __init__(
        self,
        truth: Iterable[np.ndarray],
        predicted: Iterable[np.ndarray],
        class_names: Sequence[Hashable],
        items: Sequence[Hashable] | None = None,
    ) -> None:
        names = keys(class_names, "class_names", "class_names")
        if not 1 <= len(names) == len(set(names)) <= NOT_COUNTED:
            raise EvaluationError(
                f"class_names must be 1 to {NOT_COUNTED} that differ from each other, got {names}"
            )
        counted = []
        for place, (true, found) in enumerate(zip_longest(truth, predicted)):
            if true is None or found is None:
                more = "truth" if found is None else "predicted"
                raise EvaluationError(
                    f"truth and predicted must be equally many, {more} has more than {place}"
                )
            name = place if items is None or place >= len(items) else items[place]
            counted.append(_count(np.asarray(true), np.asarray(found), names, name))
        self._set(counted, names, range(len(counted)) if items is None else items, whole=True)

    @classmethod
    def from_masks(
        cls, ground_truth: Any, predictions: Any, items: Sequence[Hashable] | None = None
    ) -> Segmentations:
        """Read masks of labels, such as a platform's annotations, which may overlap.

        Parameters
        ----------
        ground_truth, predictions : list of dict or pandas.DataFrame
            Rows of ``image_id``, ``label`` and ``mask``, a bool array of the height and width of the image. The masks
            of a label in an image are put together; pixels of ground truth whose ``iscrowd`` is set do not count.
        items : sequence, optional
            The test images, also those without any mask; without it those of the rows.

        Returns
        -------
        Segmentations
            Of the labels of the rows, with `mean_iou` alone: what is not annotated is no class.

        Raises
        ------
        NoGroundTruth, EvaluationError
            As the class, and as `Detections` with masks.
        """
        truth = Boxes.read(ground_truth, "ground_truth", masks=True)
        found = Boxes.read(predictions, "predictions", masks=True, truth=False)
        check_joined(truth.label, found.label, ("the labels of ground_truth hold", "those of predictions"))
        check_joined(truth.image, found.image, ("image_id of ground_truth is", "that of predictions"))
        images = tuple(sort_names({*truth.image, *found.image})) if items is None else tuple(items)
        for name, boxes in (("ground_truth", truth), ("predictions", found)):
            check_among(images, boxes.image, name)
        check_sizes([*truth.image, *found.image], [*truth.masks.sizes, *found.masks.sizes])
        labels = sort_names({*truth.label, *found.label})
        rows = rows_by_name(truth.image), rows_by_name(found.image)
        counted = [
            _count_masks(
                *(
                    boxes.take(places[image]) if image in places else None
                    for boxes, places in zip((truth, found), rows, strict=True)
                ),
                labels,
            )
            for image in images
        ]
        self = cls.__new__(cls)
        self._set(counted, labels, images, whole=False)
        return self

    def _set(
        self, counted: Sequence[_Pixels], names: list[Hashable], items: Sequence[Hashable], whole: bool
    ) -> None:
        """Take the counts of all images."""
        if len(items) != len(counted) or len(set(items)) != len(items):
            raise EvaluationError(
                f"items must name each image once: {len(set(items))} names for {len(counted)} images"
            )
        self._names, self._counted, self._whole = names, counted, whole
        #: The test images.
        self.items = items
        right, truth, found = (
            np.array([getattr(image, field) for image in counted], dtype=np.int64).reshape(-1, len(names))
            for field in ("right", "truth", "found")
        )
        if not truth.any():
            raise NoGroundTruth("cannot compare: no pixel of the ground truth counts")
        self._right, self._truth, self._found = right, truth, found

    def mean_iou(self) -> Measure:
        """Measure the intersection over union of pixels, macro over the classes that have ground truth.

        Both are summed over the images first, as the PASCAL VOC challenge does (Everingham et al., IJCV 2010).
        ``per_label`` holds each class's own.
        """
        union = self._truth + self._found - self._right
        terms = self._by_class(
            lambda place: Share(self._right[:, place], union[:, place], self._truth[:, place])
        )
        return self._macro(terms, "intersection over union of pixels")

    def accuracy(self) -> Measure:
        """Measure the share of pixels whose class was predicted; ``per_label`` among the pixels of that class.

        An EvaluationError is raised if only masks of labels are known.
        """
        if not self._whole:
            raise EvaluationError(
                "accuracy of pixels needs the class of every pixel, here are masks of labels alone"
            )
        right, whole = self._right.sum(axis=1), self._truth.sum(axis=1)
        shares = {
            name: float(self._right[:, place].sum() / self._truth[:, place].sum())
            for place, name in self._classes()
        }
        value = float(right.sum() / whole.sum())
        return Measure(value, shares, "accuracy of pixels", self.items, True, (), Share(right, whole, whole))

    def average_precision(self) -> Measure:
        """Measure the average precision of pixels, macro over the classes that have ground truth.

        It is that of `classification_average_precision` with pixels as records and confidences rounded to 1/255. An
        EvaluationError is raised where only classes are known.
        """
        if any(image.found_at is None for image in self._counted):
            raise EvaluationError(
                "average precision of pixels needs the confidences of all classes, (C, H, W) for each image; classes "
                "alone are compared by mean_iou"
            )
        right, found = (
            np.array([getattr(image, field) for image in self._counted]) for field in ("right_at", "found_at")
        )
        terms = self._by_class(lambda place: BinnedRanking(right[:, place, ::-1], found[:, place, ::-1]))
        return self._macro(terms, "average precision of pixels")

    def _classes(self) -> list[tuple[int, Hashable]]:
        """Return the place and name of each class that has ground truth, in the order of the names."""
        places = {name: place for place, name in enumerate(self._names)}
        known = [name for name in self._names if self._truth[:, places[name]].any()]
        return [(places[name], name) for name in sort_names(known)]

    def _by_class(self, term: Callable[[int], Term]) -> Mapping[Hashable, Term]:
        return {name: term(place) for place, name in self._classes()}

    def _macro(self, by_class: Mapping[Hashable, Term], method: str) -> Measure:
        terms = Macro(by_class)
        value, per_label = terms.once(len(self.items))
        predicted = [name for place, name in enumerate(self._names) if self._found[:, place].any()]
        warnings = warn_of_unfounded(predicted, per_label)
        return Measure(value, per_label, method, self.items, True, warnings, terms)


# ------------------------------------------------------------------------------
# counting
# ------------------------------------------------------------------------------


def _count(truth: np.ndarray, found: np.ndarray, names: list[Hashable], image: Hashable) -> _Pixels:
    """Count the pixels of one image."""
    classes = len(names)
    if truth.ndim != 2 or truth.dtype.kind not in "iu":
        raise EvaluationError(
            f"image {image!r}: truth must be an array of classes of shape (height, width), got {truth.dtype} of "
            f"shape {truth.shape}"
        )
    shape = (*((classes,) if found.dtype.kind == "f" else ()), *truth.shape)
    if found.shape != shape or found.dtype.kind not in "iuf":
        raise EvaluationError(
            f"image {image!r}: predicted must be classes of shape {truth.shape} or confidences of shape "
            f"{(classes, *truth.shape)}, got {found.dtype} of shape {found.shape}"
        )
    counts = truth != NOT_COUNTED
    true = truth[counts].astype(np.intp)
    _check_classes(true, "truth", classes, image)
    confidences = found[:, counts] if found.dtype.kind == "f" else None
    if confidences is None:
        guess = found[counts].astype(np.intp)
        _check_classes(guess, "predicted", classes, image)
    else:
        _check_confidences(confidences, image)
        guess = confidences.argmax(axis=0)
    table = np.bincount(true * classes + guess, minlength=classes**2).reshape(classes, classes)
    totals = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    if confidences is None:
        return _Pixels(*totals)
    level = np.rint(confidences * (LEVELS - 1)).astype(np.intp).clip(0, LEVELS - 1)
    level += np.arange(classes)[:, None] * LEVELS
    own = level[true, np.arange(len(true))]
    by_level = (
        np.bincount(places.ravel(), minlength=classes * LEVELS).reshape(classes, LEVELS).astype(np.int32)
        for places in (own, level)
    )
    return _Pixels(*totals, *by_level)


def _count_masks(truth: Boxes | None, found: Boxes | None, labels: list[Hashable]) -> _Pixels:
    """Count the pixels of one image's masks by label."""
    size = next((boxes.masks.sizes[0] for boxes in (truth, found) if boxes is not None), (0, 0))
    crowd = np.zeros(size, dtype=bool)
    painted: list[dict[Hashable, np.ndarray]] = [{}, {}]
    for boxes, by_label in zip((truth, found), painted, strict=True):
        for row in range(0 if boxes is None else len(boxes.label)):
            left, top, right, bottom = boxes.masks.corners[row].tolist()
            whole = crowd if boxes.crowd[row] else by_label.setdefault(boxes.label[row], np.zeros_like(crowd))
            if boxes.masks.area[row]:
                whole[top:bottom, left:right] |= boxes.masks.crops[row]
    none = np.zeros(size, dtype=bool)
    totals = np.zeros((3, len(labels)), dtype=np.int64)
    for place, label in enumerate(labels):
        if label in painted[0] or label in painted[1]:
            true, guess = (by_label.get(label, none) & ~crowd for by_label in painted)
            totals[:, place] = [np.count_nonzero(mask) for mask in (true & guess, true, guess)]
    return _Pixels(*totals)


def _check_classes(values: np.ndarray, name: str, classes: int, image: Hashable) -> None:
    if len(values) and not 0 <= values.min() <= values.max() < classes:
        wrong = values[(values < 0) | (values >= classes)][0]
        raise EvaluationError(
            f"image {image!r}: {name} holds the class {wrong}, and there are {classes} class names; "
            f"{NOT_COUNTED} in truth marks pixels that do not count"
        )


def _check_confidences(values: np.ndarray, image: Hashable) -> None:
    wrong = values[~(abs(values - 0.5) <= 0.5 + ROUNDING)]
    if len(wrong):
        raise EvaluationError(
            f"image {image!r}: predicted holds the confidence {wrong[0]}, it must be from 0 to 1; logits go through "
            "a softmax first"
        )
