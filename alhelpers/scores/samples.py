"""Scores of several predictions per record: the passes of MC dropout, or the members of a committee."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores import _kernels
from alhelpers.scores._blocks import ScoreError, chunks, map_samples, unmasked
from alhelpers.scores._docs import documented

_of_samples = documented(
    parameters="""
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.
    """,
    raises="If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are not valid.",
)


@_of_samples
def predictive_entropy(samples: ArrayLike) -> np.ndarray:
    """Score by the entropy of the mean prediction, divided by log C: the total uncertainty.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 to 1. The mean is taken over confidences, not over logits.

    References
    ----------
    Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017.
    """
    return map_samples(samples, _kernels.predictive_entropy)


@_of_samples
def mean_margin(samples: ArrayLike) -> np.ndarray:
    """Score by the margin of the mean prediction: 1 - (first - second).

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (the two best classes are tied).
    """
    return map_samples(samples, _kernels.mean_margin)


@_of_samples
def bald(samples: ArrayLike) -> np.ndarray:
    """Score by the disagreement of the passes: entropy of the mean minus mean entropy, divided by log C.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all passes agree, however uncertain each is) to 1 (each is certain of another class).

    References
    ----------
    Houlsby et al., "Bayesian active learning for classification and preference learning", arXiv:1112.5745.
    """
    return map_samples(samples, _kernels.bald)


@_of_samples
def variance(samples: ArrayLike) -> np.ndarray:
    """Score by the variance of the confidences over the passes, averaged over the classes.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        Population variance (ddof 0) over S, mean over C; from 0 to 1/4.

    References
    ----------
    Kampffmeyer, Salberg and Jenssen, "Semantic segmentation of small objects and modeling of uncertainty", 2016.
    """
    return map_samples(samples, _kernels.variance)


@_of_samples
def variation_ratio(samples: ArrayLike) -> np.ndarray:
    """Score by the share of passes that do not vote for the most voted class.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all vote alike) to 1 - 1/min(S, C). A pass votes for its first most confident class.

    References
    ----------
    Freeman, "Elementary applied statistics", 1965; Gal et al., ICML 2017.
    """
    return map_samples(samples, _kernels.variation_ratio)


@_of_samples
def vote_entropy(samples: ArrayLike) -> np.ndarray:
    """Score by the entropy of the members' votes, divided by log C.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all vote alike) to log(min(S, C)) / log(C). A member votes for its first most confident class.

    References
    ----------
    Dagan and Engelson, "Committee-based sampling for training probabilistic classifiers", ICML 1995.
    """
    return map_samples(samples, _kernels.vote_entropy)


def vote_entropy_from_votes(votes: ArrayLike, classes: int) -> np.ndarray:
    """Score by the entropy of votes, divided by log C, for members that predict a class without confidences.

    Parameters
    ----------
    votes : array_like of shape (N, S)
        The number of the class that each of S members votes for, S at least 2.
    classes : int
        The number of classes C, at least 2.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        As :func:`vote_entropy`.

    Raises
    ------
    ScoreError
        If the shape is not valid, or a vote is not a whole number from 0 to C - 1; the message names the row.

    References
    ----------
    Dagan and Engelson, "Committee-based sampling for training probabilistic classifiers", ICML 1995.
    """
    given = unmasked(votes, "votes")
    if given.dtype.kind not in "iu" or given.ndim != 2 or given.shape[1] < 2:
        raise ScoreError(
            "votes must be whole numbers of shape (N, S) with at least 2 members, got "
            f"{given.dtype} of shape {given.shape}"
        )
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise ScoreError(f"classes must be a whole number of at least 2, got {classes!r}")
    if given.size and not (given.min() >= 0 and given.max() < classes):
        row, member = np.argwhere((given < 0) | (given >= classes))[0].tolist()
        raise ScoreError(
            f"row {row} of votes has {given[row, member]}, which is not a class: classes are 0 to {classes - 1}",
            row,
        )
    result = np.empty(len(given), dtype=np.float32)
    for chunk in chunks(given):
        members_first = np.ascontiguousarray(given[chunk].T, dtype=np.min_scalar_type(classes))
        result[chunk] = _kernels.entropy_of_votes(members_first, int(classes))
    return result


def consensus_kl(samples: ArrayLike, reduction: Literal["mean", "max"] = "mean") -> np.ndarray:
    """Score by the KL divergence of the members from their mean prediction, in nats.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.
    reduction : {"mean", "max"}
        The mean over the members (the published definition), or the largest of them.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all predict alike) to log S. The mean is BALD in nats.

    Raises
    ------
    ScoreError
        If the reduction, the shape or a record's confidences are not valid.

    References
    ----------
    McCallum and Nigam, "Employing EM and pool-based active learning for text classification", ICML 1998.
    """
    if reduction not in ("mean", "max"):
        raise ScoreError(f'reduction must be "mean" or "max", got {reduction!r}')
    return map_samples(samples, _kernels.mean_kl if reduction == "mean" else _kernels.max_kl)
