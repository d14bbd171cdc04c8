"""The metrics of detectors: average precision, its mean over overlaps, F1, and calibration error."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from alhelpers.evaluation.boxes import Boxes, Pairs, check_threshold
from alhelpers.evaluation.calibration import measure_calibration
from alhelpers.evaluation.curves import Evaluation, evaluate_hits, warn_of_unfounded
from alhelpers.evaluation.errors import EvaluationError, NoGroundTruth
from alhelpers.evaluation.measures import LabelF1, Macro, Measure, Ranking
from alhelpers.evaluation.rows import codes, column, floats, sort_names

#: The overlaps that mean average precision is the mean over: .50, .55, ..., .95.
COCO_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


def average_precision(
    ground_truth: Any, predictions: Any, iou_threshold: float = 0.5, strict_iou: bool = False
) -> Evaluation:
    """Evaluate a detector by average precision: greedy matching, all-point interpolation.

    In each image and for each label, predictions are matched from the highest score down, each with the
    unmatched ground truth that it overlaps most. A ground truth is matched once; every other prediction is
    wrong. Equal scores are one point of the curve, and among them the best overlaps are matched first.

    Parameters
    ----------
    ground_truth : list of dict or pandas.DataFrame
        Rows of ``image_id``, ``label``, ``left``, ``top``, ``right``, ``bottom`` (in pixels, or any one
        unit).
    predictions : list of dict or pandas.DataFrame
        The same, and ``score``.
    iou_threshold : float
        The intersection over union, above 0 and at most 1, from which on a prediction matches.
    strict_iou : bool
        True: the intersection over union must be more than the threshold.

    Returns
    -------
    Evaluation
        Without any prediction, 0 for every label.

    Raises
    ------
    NoGroundTruth
        If there is no ground truth at all.
    EvaluationError
        If a column is missing, a box or score is not valid, or the threshold is out of range.

    References
    ----------
    Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010; Lin et al., "Microsoft
    COCO", 2014.
    """
    check_threshold(iou_threshold)
    return Detections(ground_truth, predictions).evaluate(iou_threshold, strict_iou)


class Detections:
    """One model's boxes beside the ground truth: read and compared once, measured in several ways.

    Parameters
    ----------
    ground_truth, predictions : list of dict or pandas.DataFrame
        As `average_precision` takes them.
    items : sequence, optional
        The test images, also those without any box. Without it, the images of the rows.

    Raises
    ------
    NoGroundTruth
        If there is no ground truth at all.
    EvaluationError
        If a row is not usable, an image is given twice, or a row's image is not among them.
    """

    def __init__(self, ground_truth: Any, predictions: Any, items: Sequence[Hashable] | None = None) -> None:
        self._truth = Boxes.read(ground_truth, "ground_truth")
        self._found = Boxes.read(predictions, "predictions")
        self._score = floats(column(predictions, "score", "predictions"), "score", "predictions")
        if not self._truth.label:
            raise NoGroundTruth("cannot compare: the ground truth has no row")
        self._pairs: tuple[float, Pairs] | None = None
        self._given_items = items

    def evaluate(self, iou_threshold: float = 0.5, strict_iou: bool = False) -> Evaluation:
        """Evaluate by average precision, with the curves; as `average_precision`."""
        right = self._right(iou_threshold, strict_iou)
        return evaluate_hits(self._truth.label, self._found.label, self._score, right)

    def average_precision(self, iou_threshold: float = 0.5) -> Measure:
        """Measure the average precision at one overlap, macro over the labels that have ground truth.

        Parameters
        ----------
        iou_threshold : float
            The intersection over union from which on a prediction matches.

        Returns
        -------
        Measure
            From 0 to 1.
        """
        return self._ranked([iou_threshold], f"average precision of boxes at IoU {iou_threshold:g}")

    def mean_average_precision(self) -> Measure:
        """Measure the mean of the average precisions at IoU .50, .55, ..., .95.

        The boxes are matched anew for each threshold.

        Returns
        -------
        Measure
            From 0 to 1.

        References
        ----------
        Lin et al., "Microsoft COCO", 2014.
        """
        return self._ranked(COCO_THRESHOLDS, "mean average precision of boxes at IoU 0.50 to 0.95")

    def f1(self, iou_threshold: float = 0.5, score_threshold: float = 0.5) -> Measure:
        """Measure the F1 of the predictions from a score on, macro over the labels that have ground truth.

        Parameters
        ----------
        iou_threshold : float
            The intersection over union from which on a prediction matches.
        score_threshold : float
            The least score of a prediction that counts.

        Returns
        -------
        Measure
            From 0 to 1.

        Raises
        ------
        EvaluationError
            If a threshold is out of range.
        """
        if not np.isfinite(score_threshold):
            raise EvaluationError(f"score_threshold must be a finite number, got {score_threshold!r}")
        counts = self._score >= score_threshold
        # A match depends on higher scores only, so a prediction that does not count takes no ground truth from one
        # that does.
        right = self._right(iou_threshold) & counts
        terms = Macro(
            {
                label: LabelF1(
                    self._found_image[rows[right[rows]]],
                    self._found_image[rows[counts[rows]]],
                    self._truth_image[truths],
                )
                for label, truths, rows in self._labels
            }
        )
        method = f"F1 of boxes at IoU {iou_threshold:g}, from score {score_threshold:g}"
        predicted = {label for label, kept in zip(self._found.label, counts.tolist(), strict=True) if kept}
        return self._measure(terms, method, predicted)

    def calibration_error(self, bins: int = 10, iou_threshold: float = 0.5) -> Measure:
        """Measure the expected calibration error: the gap between score and share of right boxes.

        Parameters
        ----------
        bins : int
            How many score ranges of equal width.
        iou_threshold : float
            The intersection over union from which on a prediction is right.

        Returns
        -------
        Measure
            From 0 to 1, lower is better; ``per_label`` holds the labels that were predicted.

        Raises
        ------
        EvaluationError
            If there is no prediction, or a score is not from 0 to 1.
        """
        right = self._right(iou_threshold)
        return measure_calibration(
            self._found_image, self._found.label, self._score, right, bins, self.items,
            f"expected calibration error of boxes at IoU {iou_threshold:g}",
        )  # fmt: skip

    @cached_property
    def items(self) -> tuple[Hashable, ...]:
        """The test images."""
        if self._given_items is None:
            return tuple(sort_names({*self._truth.image, *self._found.image}))
        given = tuple(self._given_items)
        if len(set(given)) != len(given):
            raise EvaluationError("items holds an image twice")
        return given

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {item: place for place, item in enumerate(self.items)}

    @cached_property
    def _truth_image(self) -> np.ndarray:
        return self._image_of(self._truth, "ground_truth")

    @cached_property
    def _found_image(self) -> np.ndarray:
        return self._image_of(self._found, "predictions")

    def _image_of(self, boxes: Boxes, name: str) -> np.ndarray:
        places = self._places
        try:
            return np.fromiter((places[image] for image in boxes.image), dtype=np.intp)
        except KeyError as error:
            raise EvaluationError(
                f"{name} has a row of image {error.args[0]!r}, which is not among items"
            ) from None

    @cached_property
    def _labels(self) -> list[tuple[Hashable, np.ndarray, np.ndarray]]:
        """Each label that has ground truth, with its rows of ground truth and of predictions."""
        known: dict[Hashable, int] = {}
        truth, found = codes(self._truth.label, known), codes(self._found.label, known)
        by_label = [np.argsort(places, kind="stable") for places in (truth, found)]
        bounds = [
            np.searchsorted(places[order], np.arange(len(known) + 1))
            for places, order in zip((truth, found), by_label, strict=True)
        ]
        return [
            (label, *(
                order[bound[known[label]] : bound[known[label] + 1]]
                for order, bound in zip(by_label, bounds, strict=True)
            ))
            for label in sort_names(set(self._truth.label))
        ]  # fmt: skip

    def _right(self, iou_threshold: float, strict_iou: bool = False) -> np.ndarray:
        """Match at a threshold; overlaps are computed again only for a threshold below all before it."""
        check_threshold(iou_threshold)
        if self._pairs is None or iou_threshold < self._pairs[0]:
            self._pairs = iou_threshold, Pairs.find(self._truth, self._found, self._score, iou_threshold)
        return self._pairs[1].match(iou_threshold, strict_iou)

    def _ranked(self, thresholds: Sequence[float], method: str) -> Measure:
        rights = [self._right(threshold) for threshold in thresholds]
        terms = Macro(
            {
                label: Ranking.build(
                    self._found_image[rows],
                    self._score[rows],
                    [right[rows] for right in rights],
                    self._truth_image[truths],
                )
                for label, truths, rows in self._labels
            }
        )
        return self._measure(terms, method, set(self._found.label))

    def _measure(self, terms: Macro, method: str, predicted: set[Hashable]) -> Measure:
        value, per_label = terms.once(len(self.items))
        return Measure(
            value=value,
            per_label=per_label,
            method=method,
            items=self.items,
            higher_is_better=True,
            warnings=warn_of_unfounded(predicted, per_label),
            term=terms,
        )
