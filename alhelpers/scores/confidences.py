"""Scores of one prediction per record: confidence, margin, entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores import _kernels
from alhelpers.scores._blocks import Block, ScoreError, map_confidences, numbers, unmasked
from alhelpers.scores._docs import documented

_of_confidences = documented(
    parameters="""
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.
    """,
    raises="If a row holds NaN or a negative number, or does not sum to 1; the message names the row.",
)


@_of_confidences
def least_confidence(confidences: ArrayLike) -> np.ndarray:
    """Score by 1 - the highest confidence, that of the predicted class.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 - 1/C (undecided between all classes).

    References
    ----------
    Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994.
    """
    return map_confidences(confidences, _kernels.least_confidence)


@_of_confidences
def margin(confidences: ArrayLike) -> np.ndarray:
    """Score by how close the two most likely classes are: 1 - (first - second).

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (the two best classes are tied).

    References
    ----------
    Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
    """
    return map_confidences(confidences, _kernels.margin)


@_of_confidences
def entropy(confidences: ArrayLike) -> np.ndarray:
    """Score by the entropy of the confidences, divided by log C.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (all classes are equally likely).

    References
    ----------
    Shannon, "A mathematical theory of communication", 1948; Settles, "Active learning literature survey", 2009.
    """
    return map_confidences(confidences, _kernels.entropy)


def weighted_entropy(confidences: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Score by entropy times the weight of the predicted class, so that rare classes come first.

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.
    weights : array_like of shape (C,)
        A weight per class, not negative; :func:`rarity` computes them from class counts.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        ``entropy * weights[predicted class]``; with the weights of a balanced reference this is the entropy.

    Raises
    ------
    ScoreError
        If the confidences are not valid, or the weights are not C finite numbers, none of them negative.
    """
    given = numbers(confidences, "confidences")
    factors = unmasked(weights, "weights").astype(np.float32)
    classes = given.shape[-1] if given.ndim else 0
    if factors.shape != (classes,) or not np.isfinite(factors).all() or (factors < 0).any():
        raise ScoreError(
            f"weights must be {classes} finite numbers, one per class and none negative, got {weights!r}"
        )

    def kernel(block: Block) -> np.ndarray:
        return _kernels.entropy(block) * factors[_kernels.first_most_confident(block)]

    return map_confidences(given, kernel)


def rarity(class_counts: ArrayLike) -> np.ndarray:
    """Compute the weights of classes: the inverse of their smoothed frequency.

    Parameters
    ----------
    class_counts : array_like of shape (C,)
        The number of reference records of each class.

    Returns
    -------
    numpy.ndarray of shape (C,), float32
        ``(n + C) / (C * (count + 1))``: 1 for every class of a balanced reference, finite for one without records.

    Raises
    ------
    ScoreError
        If a count is negative or not finite, or there are no counts.
    """
    counts = unmasked(class_counts, "class_counts").astype(np.float64)
    if counts.ndim != 1 or not counts.size or not np.isfinite(counts).all() or (counts < 0).any():
        raise ScoreError(f"class_counts must be one count per class, none negative, got {class_counts!r}")
    return ((counts.sum() + counts.size) / (counts.size * (counts + 1))).astype(np.float32)
