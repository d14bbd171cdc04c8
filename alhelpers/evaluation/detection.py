"""The metrics of boxes and masks: average precision, its mean over overlaps, F1, and calibration error."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from alhelpers.evaluation.boxes import Boxes
from alhelpers.evaluation.calibration import ROUNDING
from alhelpers.evaluation.curves import Evaluation, evaluate_hits
from alhelpers.evaluation.masks import check_sizes
from alhelpers.evaluation.matching import Pairs, best_rows, check_threshold
from alhelpers.evaluation.measures import Measure
from alhelpers.evaluation.outcomes import Matched, Outcomes
from alhelpers.evaluation.rows import (
    EvaluationError,
    NoGroundTruth,
    check_among,
    check_joined,
    check_whole,
    column,
    floats,
    sort_names,
)

#: The overlaps that mean average precision is the mean over: .50, .55, ..., .95.
COCO_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))

#: The least and greatest area, in pixels, of objects that are small, medium or large (Lin et al., 2014).
COCO_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}

#: A name of `COCO_SIZES`, or the least and the greatest area.
Size = str | tuple[float, float]

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
        unit). A row whose ``iscrowd`` is set is a region of objects that are not told apart, as in COCO: it
        need not be found, and predictions that match nothing else and lie in it, by their intersection with it
        over their own area, do not count. Every other row counts once: one whose ``difficult`` or ``ignore`` is
        set, or whose ``weight`` is not 1, is refused. Other columns are not read.
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
    """One model's boxes or masks beside the ground truth: read and compared once, measured in several ways.

    Parameters
    ----------
    ground_truth, predictions, items
        As `average_precision` takes them. A row of ground truth may have ``area``, which decides its size in place of
        the area of its box or mask, as in COCO's files.
    masks : bool
        True: compare masks instead of boxes. Each row has ``mask``, a bool array of the height and width of its
        image, and needs no box.
    max_detections : int, optional
        The most predictions of an image and label that count, those of the highest scores; COCO counts 100. By default
        all do.

    Raises
    ------
    NoGroundTruth, EvaluationError
        As `average_precision`; also if ``items`` holds an image twice, a mask is not an array of bool or not of the
        size of the other masks of its image, or ``max_detections`` is not an integer of at least 1.
    """

    def __init__(
        self,
        ground_truth: Any,
        predictions: Any,
        items: Sequence[Hashable] | None = None,
        *,
        masks: bool = False,
        max_detections: int | None = None,
    ) -> None:
        self._truth = Boxes.read(ground_truth, "ground_truth", masks=masks)
        self._found = Boxes.read(predictions, "predictions", masks=masks, truth=False)
        self._score = floats(column(predictions, "score", "predictions"), "score", "predictions")
        if not self._truth.label:
            raise NoGroundTruth("cannot compare: the ground truth has no row")
        if self._truth.crowd.all():
            raise NoGroundTruth("cannot compare: every row of the ground truth is of a crowd (iscrowd)")
        if max_detections is not None:
            check_whole(max_detections, "max_detections")
            kept = best_rows(self._found, self._score, max_detections)
            self._found, self._score = self._found.take(kept), self._score[kept]
        self._pairs: tuple[float, Pairs] | None = None
        self._by_areas: dict[tuple[float, float] | None, Outcomes] = {}
        #: The test images.
        self.items = _checked_items(items, self._truth, self._found)
        self._warnings = _warn_of_boxes(self._truth, self._found, images_known=items is not None)
        self._what = "masks" if masks else "boxes"

    def evaluate(self, iou_threshold: float = 0.5, strict_iou: bool = False) -> Evaluation:
        """Evaluate by average precision, with the curves; as `average_precision`."""
        way, outcomes = self._match(iou_threshold, strict_iou), self._outcomes()
        labels = outcomes.found.take(way.counted)
        found = evaluate_hits(outcomes.truth, labels, self._score[way.counted], way.right[way.counted])
        return replace(found, warnings=self._warnings + found.warnings)

    def average_precision(
        self, iou_threshold: float = 0.5, points: int | None = None, size: Size | None = None
    ) -> Measure:
        """Measure the average precision at one overlap, macro over the labels that have ground truth.

        Parameters
        ----------
        iou_threshold : float
            The intersection over union, above 0 and at most 1, from which on a prediction matches.
        points : int, optional
            Take the mean of the interpolated precision at so many recalls from 0 to 1, evenly apart: COCO's average
            precision has 101, that of PASCAL VOC until 2009 11. By default the area under all points.
        size : str or (float, float), optional
            Only objects of a size: ``"small"``, ``"medium"`` or ``"large"``, which are the areas of `COCO_SIZES`, or
            the least and the greatest area, in pixels. As in COCO, both limits are inside, other ground truth is
            ignored, and so are predictions that match it, or match nothing and are of another size themselves.

        Raises
        ------
        NoGroundTruth
            If no ground truth has the size.
        EvaluationError
            If an option is out of range.
        """
        return self._average_precision([iou_threshold], f"at IoU {iou_threshold:g}", points, size)

    def mean_average_precision(self, points: int | None = None, size: Size | None = None) -> Measure:
        """Measure the mean of the average precisions at IoU .50, .55, ..., .95, as COCO does (Lin et al., 2014).

        The boxes are matched anew for each threshold. `points` and `size` as in `average_precision`.
        """
        measure = self._average_precision(COCO_THRESHOLDS, "at IoU 0.50 to 0.95", points, size)
        return replace(measure, method=f"mean {measure.method}")

    def f1(self, iou_threshold: float = 0.5, score_threshold: float = 0.5) -> Measure:
        """Measure the F1 of the predictions with at least a score, macro over the labels that have ground truth."""
        if not np.isfinite(score_threshold):
            raise EvaluationError(f"score_threshold must be a finite number, got {score_threshold!r}")
        # A match depends on higher scores only, so a prediction that does not count takes no ground truth from one
        # that does.
        method = f"F1 of {self._what} at IoU {iou_threshold:g}, from score {score_threshold:g}"
        way = self._match(iou_threshold)
        way = way._replace(counted=way.counted & (self._score >= score_threshold))
        measure = self._outcomes().f1(way, method)
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
        method = f"expected calibration error of {self._what} at IoU {iou_threshold:g}"
        return self._outcomes().calibration_error(self._match(iou_threshold), bins, method)

    def _average_precision(
        self, thresholds: Sequence[float], where: str, points: int | None, size: Size | None
    ) -> Measure:
        method = f"average precision of {self._what} {where}"
        if points is not None:
            check_whole(points, "points")
            if points < 2:
                raise EvaluationError("points must be an integer, 2 or more, or None for all points, got 1")
            method += f", {points} recalls"
        areas = None
        if size is not None:
            areas = _areas_of(size)
            method += f", area {areas[0]:g} to {areas[1]:g}"
        outcomes = self._outcomes(areas)
        ways = [self._match(threshold, areas=areas) for threshold in thresholds]
        return outcomes.average_precision(ways, method, points)

    def _outcomes(self, areas: tuple[float, float] | None = None) -> Outcomes:
        """Return the labels and places of what counts, without crowds and other sizes; they are made once."""
        if areas not in self._by_areas:
            self._by_areas[areas] = self._made_outcomes(areas)
        return self._by_areas[areas]

    def _made_outcomes(self, areas: tuple[float, float] | None) -> Outcomes:
        counted = ~self._ignored(areas)
        if areas is not None and not counted.any():
            known = self._truth.area[~self._truth.crowd]
            raise NoGroundTruth(
                f"no ground truth has an area from {areas[0]:g} to {areas[1]:g}; the areas are from {known.min():g} to "
                f"{known.max():g}"
            )
        truth_item, found_item = self._places
        return Outcomes(
            self.items,
            self._truth.labels.take(counted),
            truth_item[counted],
            self._found.labels,
            found_item,
            self._score,
            self._warnings,
        )

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the images of ground truth and predictions among the items."""
        places = {item: place for place, item in enumerate(self.items)}
        first, second = (boxes.images.numbered(places) for boxes in (self._truth, self._found))
        return first, second

    def _ignored(self, areas: tuple[float, float] | None) -> np.ndarray:
        """Return which ground truths do not count, (m,) bool."""
        return self._truth.crowd if areas is None else self._truth.crowd | _outside(self._truth.area, areas)

    def _match(
        self, iou_threshold: float, strict_iou: bool = False, areas: tuple[float, float] | None = None
    ) -> Matched:
        """Match at a threshold; overlaps are computed again only for a threshold below all before it."""
        check_threshold(iou_threshold, strict_iou)
        if self._pairs is None or iou_threshold < self._pairs[0]:
            self._pairs = iou_threshold, Pairs.find(self._truth, self._found, self._score, iou_threshold)
        ignored = self._ignored(areas)
        partner = self._pairs[1].match(iou_threshold, strict_iou, ignored)
        matched = partner >= 0
        counted = ~(matched & ignored[partner])
        if areas is not None:
            counted &= matched | ~_outside(self._found.area, areas)
        return Matched(matched & counted, counted)


def _areas_of(size: Size) -> tuple[float, float]:
    """Return the least and greatest area of a size."""
    if isinstance(size, str):
        if size not in COCO_SIZES:
            raise EvaluationError(f"size must be one of {', '.join(COCO_SIZES)}, or two areas, got {size!r}")
        return COCO_SIZES[size]
    if not isinstance(size, Sequence | np.ndarray) or len(size) != 2 or not 0 <= size[0] < size[1]:
        raise EvaluationError(
            f"size must be the least and the greatest area, 0 or more and in this order, got {size!r}"
        )
    return float(size[0]), float(size[1])


def _outside(area: np.ndarray, areas: tuple[float, float]) -> np.ndarray:
    return (area < areas[0]) | (area > areas[1])


def _checked_items(items: Sequence[Hashable] | None, truth: Boxes, found: Boxes) -> tuple[Hashable, ...]:
    """Return the test images, each once, with all those of the rows among them; by default these."""
    if items is None:
        return tuple(sort_names({*truth.images.distinct, *found.images.distinct}))
    given = tuple(items)
    if len(set(given)) != len(given):
        raise EvaluationError("items holds an image twice")
    for name, boxes in (("ground_truth", truth), ("predictions", found)):
        check_among(given, boxes.images.distinct, name)
    return given


def _warn_of_boxes(truth: Boxes, found: Boxes, images_known: bool) -> tuple[str, ...]:
    """Return what is odd about the boxes, or raise if the two sides cannot be joined by image, label or size."""
    check_joined(
        truth.labels.distinct,
        found.labels.distinct,
        ("the labels of ground_truth hold", "those of predictions"),
    )
    check_joined(
        truth.images.distinct, found.images.distinct, ("image_id of ground_truth is", "that of predictions")
    )
    warnings = []
    if truth.masks is not None and found.masks is not None:
        check_sizes([*truth.image, *found.image], [*truth.masks.sizes, *found.masks.sizes])
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
    if found.label and truth.masks is None and min(ends) <= SHARES < PIXELS <= max(ends):
        warnings.append(
            f"the boxes of the ground truth end at {ends[0]:g} and those of the predictions at {ends[1]:g}: if one "
            "side holds shares of the image and the other pixels, none match"
        )
    empty = int((truth.corners[:, :2] == truth.corners[:, 2:]).any(axis=1).sum())
    if empty:
        what = "boxes" if truth.masks is None else "masks"
        warnings.append(f"{empty} {what} of the ground truth have no area: nothing can match them")
    return tuple(warnings)
