"""The metrics of detectors: average precision, its mean over overlaps, F1, and calibration error."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from alhelpers.evaluation.boxes import Boxes, Pairs, check_threshold
from alhelpers.evaluation.calibration import ROUNDING
from alhelpers.evaluation.curves import Evaluation, evaluate_hits
from alhelpers.evaluation.measures import Measure
from alhelpers.evaluation.outcomes import Outcomes
from alhelpers.evaluation.rows import (
    EvaluationError,
    NoGroundTruth,
    check_among,
    check_joined,
    column,
    floats,
    sort_names,
)

#: The overlaps that mean average precision is the mean over: .50, .55, ..., .95.
COCO_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))

# Coordinates up to the first may be shares of the image, from the second on they are pixels.
SHARES, PIXELS = 1.5, 8


def average_precision(
    ground_truth: Any,
    predictions: Any,
    iou_threshold: float = 0.5,
    strict_iou: bool = False,
    items: Sequence[Hashable] | None = None,
) -> Evaluation:
    """Evaluate a detector by average precision: greedy matching, all-point interpolation.

    In each image and for each label, predictions are matched from the highest score down, each with the
    unmatched ground truth that it overlaps most. A ground truth is matched once; every other prediction is
    wrong. Equal scores are one point of the curve, and among them the best overlaps are matched first.

    Parameters
    ----------
    ground_truth : list of dict or pandas.DataFrame
        Rows of ``image_id``, ``label``, ``left``, ``top``, ``right``, ``bottom`` (in pixels, or any one
        unit). Every row counts once: a row whose ``iscrowd``, ``difficult`` or ``ignore`` is set, or whose
        ``weight`` is not 1, is refused. Other columns are not read.
    predictions : list of dict or pandas.DataFrame
        The same, and ``score``.
    iou_threshold : float
        The intersection over union, above 0 and at most 1, from which on a prediction matches.
    strict_iou : bool
        True: the intersection over union must be more than the threshold.
    items : sequence, optional
        The test images, also those without any box. Without it, predictions on images without ground truth
        count as wrong, with a warning.

    Returns
    -------
    Evaluation
        Without any prediction, 0 for every label.

    Raises
    ------
    NoGroundTruth
        If there is no ground truth at all.
    EvaluationError
        If a column is missing, a box or score is not valid, the threshold is out of range, an image is not among
        ``items``, ids or labels are text on one side and numbers on the other, or, without ``items``, no
        prediction is on an image with ground truth.

    References
    ----------
    Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010; Lin et al., "Microsoft
    COCO", 2014.
    """
    check_threshold(iou_threshold, strict_iou)
    return Detections(ground_truth, predictions, items).evaluate(iou_threshold, strict_iou)


class Detections:
    """One model's boxes beside the ground truth: read and compared once, measured in several ways.

    Parameters
    ----------
    ground_truth, predictions, items
        As `average_precision` takes them.

    Raises
    ------
    NoGroundTruth, EvaluationError
        As `average_precision`; also if ``items`` holds an image twice.
    """

    def __init__(self, ground_truth: Any, predictions: Any, items: Sequence[Hashable] | None = None) -> None:
        self._truth = Boxes.read(ground_truth, "ground_truth")
        self._found = Boxes.read(predictions, "predictions")
        self._score = floats(column(predictions, "score", "predictions"), "score", "predictions")
        if not self._truth.label:
            raise NoGroundTruth("cannot compare: the ground truth has no row")
        self._pairs: tuple[float, Pairs] | None = None
        #: The test images.
        self.items = _checked_items(items, self._truth, self._found)
        self._warnings = _warn_of_boxes(self._truth, self._found, images_known=items is not None)

    def evaluate(self, iou_threshold: float = 0.5, strict_iou: bool = False) -> Evaluation:
        """Evaluate by average precision, with the curves; as `average_precision`."""
        right = self._right(iou_threshold, strict_iou)
        found = evaluate_hits(self._truth.label, self._found.label, self._score, right)
        return replace(found, warnings=self._warnings + found.warnings)

    def average_precision(self, iou_threshold: float = 0.5) -> Measure:
        """Measure the average precision at one overlap, macro over the labels that have ground truth."""
        method = f"average precision of boxes at IoU {iou_threshold:g}"
        return self._outcomes.average_precision([self._right(iou_threshold)], method)

    def mean_average_precision(self) -> Measure:
        """Measure the mean of the average precisions at IoU .50, .55, ..., .95, as COCO does (Lin et al., 2014).

        The boxes are matched anew for each threshold.
        """
        rights = [self._right(threshold) for threshold in COCO_THRESHOLDS]
        method = "mean average precision of boxes at IoU 0.50 to 0.95"
        return self._outcomes.average_precision(rights, method)

    def f1(self, iou_threshold: float = 0.5, score_threshold: float = 0.5) -> Measure:
        """Measure the F1 of the predictions with at least a score, macro over the labels that have ground truth."""
        if not np.isfinite(score_threshold):
            raise EvaluationError(f"score_threshold must be a finite number, got {score_threshold!r}")
        # A match depends on higher scores only, so a prediction that does not count takes no ground truth from one
        # that does.
        method = f"F1 of boxes at IoU {iou_threshold:g}, from score {score_threshold:g}"
        measure = self._outcomes.f1(self._right(iou_threshold), self._score >= score_threshold, method)
        if 0 <= score_threshold <= 1 and (abs(self._score - 0.5) > 0.5 + ROUNDING).any():
            warning = (
                f"scores are from {self._score.min():g} to {self._score.max():g}: a score_threshold of "
                f"{score_threshold:g} is one of confidences from 0 to 1"
            )
            return replace(measure, warnings=(*measure.warnings, warning))
        return measure

    def calibration_error(self, bins: int = 10, iou_threshold: float = 0.5) -> Measure:
        """Measure the expected calibration error: the gap between score and share of right boxes, lower is better.

        There are ``bins`` score ranges of equal width. ``per_label`` holds the labels that were predicted. An
        EvaluationError is raised without any prediction, or if a score is not from 0 to 1.
        """
        method = f"expected calibration error of boxes at IoU {iou_threshold:g}"
        return self._outcomes.calibration_error(self._right(iou_threshold), bins, method)

    @cached_property
    def _outcomes(self) -> Outcomes:
        places = {item: place for place, item in enumerate(self.items)}
        truth_item, found_item = (
            np.fromiter(map(places.__getitem__, boxes.image), dtype=np.intp)
            for boxes in (self._truth, self._found)
        )
        labels = self._truth.label, self._found.label
        return Outcomes(self.items, labels[0], truth_item, labels[1], found_item, self._score, self._warnings)

    def _right(self, iou_threshold: float, strict_iou: bool = False) -> np.ndarray:
        """Match at a threshold; overlaps are computed again only for a threshold below all before it."""
        check_threshold(iou_threshold, strict_iou)
        if self._pairs is None or iou_threshold < self._pairs[0]:
            self._pairs = iou_threshold, Pairs.find(self._truth, self._found, self._score, iou_threshold)
        return self._pairs[1].match(iou_threshold, strict_iou)


def _checked_items(items: Sequence[Hashable] | None, truth: Boxes, found: Boxes) -> tuple[Hashable, ...]:
    """Return the test images, each once, with all those of the rows among them; by default these."""
    if items is None:
        return tuple(sort_names({*truth.image, *found.image}))
    given = tuple(items)
    if len(set(given)) != len(given):
        raise EvaluationError("items holds an image twice")
    for name, boxes in (("ground_truth", truth), ("predictions", found)):
        check_among(given, boxes.image, name)
    return given


def _warn_of_boxes(truth: Boxes, found: Boxes, images_known: bool) -> tuple[str, ...]:
    """Return what is odd about the boxes, or raise if the two sides cannot be joined by image or label."""
    check_joined(truth.label, found.label, ("the labels of ground_truth hold", "those of predictions"))
    check_joined(truth.image, found.image, ("image_id of ground_truth is", "that of predictions"))
    warnings = []
    if not images_known:
        known = set(truth.image)
        unknown = [image for image in found.image if image not in known]
        if unknown and len(unknown) == len(found.image):
            raise EvaluationError(
                f"no prediction is on an image with ground truth: image_id of predictions is {unknown[0]!r} and that "
                f"of ground_truth {truth.image[0]!r}; use the same ids, or pass all test images as items"
            )
        if unknown:
            warnings.append(
                f"{len(unknown)} of {len(found.image)} predictions are on images without ground truth, such as "
                f"{unknown[0]!r}: they count as wrong; pass all test images as items if that is right"
            )
    ends = [float(abs(boxes.corners).max(initial=0)) for boxes in (truth, found)]
    if min(ends) <= SHARES < PIXELS <= max(ends):
        warnings.append(
            f"the boxes of the ground truth end at {ends[0]:g} and those of the predictions at {ends[1]:g}: if one "
            "side holds shares of the image and the other pixels, none match"
        )
    empty = int((truth.corners[:, :2] == truth.corners[:, 2:]).any(axis=1).sum())
    if empty:
        warnings.append(f"{empty} boxes of the ground truth have no area: nothing can match them")
    return tuple(warnings)
