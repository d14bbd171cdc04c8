"""Precision-recall curves, and the average precision of predictions that are known to be right or wrong."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from alhelpers.evaluation.rows import rows_by_label, sort_names


@dataclass(frozen=True)
class Curve:
    """The precision-recall curve of one label: one point for each distinct score, highest score first.

    Parameters
    ----------
    precision, recall : numpy.ndarray of shape (P,), float64
        The share of predictions that are right, and of ground truths that are found, at or above the score.
    scores : numpy.ndarray of shape (P,), float64
        The distinct scores, descending.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The average precision of one model on one test set.

    Parameters
    ----------
    macro : float
        The mean over the labels that have ground truth, from 0 to 1: the number that models are compared by.
    micro : float
        The average precision of all labels pooled into one ranking, from 0 to 1.
    per_label : dict
        The average precision of each label that has ground truth, in sorted order.
    curves : dict
        The :class:`Curve` of each of these labels.
    warnings : tuple of str
        What the numbers do not show, such as predictions of labels that have no ground truth.
    """

    macro: float
    micro: float
    per_label: dict[Hashable, float]
    curves: dict[Hashable, Curve]
    warnings: tuple[str, ...]


def evaluate_hits(
    truth_labels: list[Hashable], found_labels: list[Hashable], score: np.ndarray, right: np.ndarray
) -> Evaluation:
    """Compute the average precision of predictions that are each known to be right or wrong."""
    curves = {
        label: curve_of(score[rows], right[rows], len(truths))
        for label, truths, rows in rows_by_label(truth_labels, found_labels)
    }
    per_label = {label: interpolated_area(curve) for label, curve in curves.items()}
    micro = interpolated_area(curve_of(score, right, len(truth_labels)))
    return Evaluation(mean(per_label), micro, per_label, curves, warn_of_unfounded(found_labels, per_label))


def curve_of(score: np.ndarray, right: np.ndarray, total: int) -> Curve:
    """Return one point for each distinct score."""
    score = score.astype(np.float64)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    hits = np.cumsum(right[order])[last_of_tie]
    return Curve(hits / (last_of_tie + 1), hits / total, ranked[last_of_tie])


def interpolated_area(curve: Curve) -> float:
    """Return the area under the curve whose precision is the best one at that recall or beyond."""
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.diff(curve.recall, prepend=0) @ envelope)


def step_area(curve: Curve) -> float:
    """Return the sum of precision times the step in recall: scikit-learn's average precision."""
    return float(np.diff(curve.recall, prepend=0) @ curve.precision)


def mean(per_label: Mapping[Hashable, float]) -> float:
    """Return the macro mean."""
    return math.fsum(per_label.values()) / len(per_label)


def warn_of_unfounded(predicted: Iterable[Hashable], per_label: Mapping[Hashable, float]) -> tuple[str, ...]:
    """Return a warning for each predicted label without ground truth: the macro mean does not count it."""
    return tuple(
        f"label {label!r} was predicted but has no ground truth: the macro mean does not count these errors"
        for label in sort_names(set(predicted) - set(per_label))
    )
