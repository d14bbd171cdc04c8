"""Acquisition scores on plain arrays: how much a model would learn from each record.

Every score takes an array and returns one float32 number a record, and for every score higher means mine it
first. ``confidences`` are (N, C) with rows that sum to 1, ``samples`` are (N, S, C): S passes of MC
dropout or S members of a committee. Entropies are divided by log C, so that 0 is certain and 1 is maximal
whatever the number of classes. Logits are never guessed from their values: turn them into confidences with
:func:`confidences_from_logits` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

# Confidences come from float32 or float16 softmaxes and from JSON with four digits: their sums are this
# near to 1.
SUM_TOLERANCE = 1e-3

# Elements worked on at once: a few float32 temporaries of this size stay in the processor's cache.
_CHUNK_ELEMENTS = 1 << 16

_Kernel = Callable[[np.ndarray], np.ndarray]


class ScoreError(ValueError):
    """An array that cannot be scored.

    Parameters
    ----------
    message : str
        What is wrong, with the row, its value and the way out.
    row : int or None
        The first row at fault, where one row is.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


# ------------------------------------------------------------------------------
# one prediction a record
# ------------------------------------------------------------------------------


def least_confidence(confidences: ArrayLike) -> np.ndarray:
    """Score by how little the model believes in the class that it predicts: 1 - the highest confidence.

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 - 1/C (undecided between all classes).

    Raises
    ------
    ScoreError
        If a row holds NaN or a negative number, or does not sum to 1; the message names the row.

    References
    ----------
    Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994.
    """
    return _map_confidences(confidences, lambda block: 1 - block.max(axis=0))


def margin(confidences: ArrayLike) -> np.ndarray:
    """Score by how close the two most likely classes are: 1 - (first - second).

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (the two best classes are tied).

    Raises
    ------
    ScoreError
        If a row holds NaN or a negative number, or does not sum to 1; the message names the row.

    References
    ----------
    Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
    """
    return _map_confidences(confidences, _margin)


def entropy(confidences: ArrayLike) -> np.ndarray:
    """Score by the entropy of the confidences, divided by log C.

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (all classes are equally likely).

    Raises
    ------
    ScoreError
        If a row holds NaN or a negative number, or does not sum to 1; the message names the row.

    References
    ----------
    Shannon, "A mathematical theory of communication", 1948; Settles, "Active learning literature survey",
    2009.
    """
    return _map_confidences(confidences, _entropy)


def weighted_entropy(confidences: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Score by entropy times the weight of the predicted class, so that rare classes come first.

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        Class confidences; rows sum to 1.
    weights : array_like of shape (C,)
        A weight a class, not negative; :func:`rarity` makes them from class counts.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        ``entropy * weights[predicted class]``; with the weights of a balanced reference this is the entropy.

    Raises
    ------
    ScoreError
        If the confidences are at fault, or the weights are not C finite numbers, none of them negative.
    """
    given = np.asarray(confidences)
    factors = np.asarray(weights, dtype=np.float32)
    classes = given.shape[-1] if given.ndim else 0
    if factors.shape != (classes,) or not np.isfinite(factors).all() or (factors < 0).any():
        raise ScoreError(
            f"weights must be {classes} finite numbers, one a class and none negative, got {weights!r}"
        )
    return _map_confidences(given, lambda block: _entropy(block) * factors[block.argmax(axis=0)])


def rarity(class_counts: ArrayLike) -> np.ndarray:
    """Weigh classes by how rare they are: the inverse of their smoothed frequency.

    Parameters
    ----------
    class_counts : array_like of shape (C,)
        How many reference records each class has.

    Returns
    -------
    numpy.ndarray of shape (C,), float32
        ``(n + C) / (C * (count + 1))``: 1 for every class of a balanced reference, more for rare classes,
        finite for a class that has no record yet.

    Raises
    ------
    ScoreError
        If a count is negative or not finite, or there is none.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or not counts.size or not np.isfinite(counts).all() or (counts < 0).any():
        raise ScoreError(f"class_counts must be one count a class, none negative, got {class_counts!r}")
    return ((counts.sum() + counts.size) / (counts.size * (counts + 1))).astype(np.float32)


# ------------------------------------------------------------------------------
# several predictions a record
# ------------------------------------------------------------------------------


def predictive_entropy(samples: ArrayLike) -> np.ndarray:
    """Score by the entropy of the mean prediction, divided by log C: all of the uncertainty.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 to 1. The mean is taken over confidences, not over logits.

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.

    References
    ----------
    Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017.
    """
    return _map_samples(samples, lambda block: _entropy(block.mean(axis=0)))


def mean_margin(samples: ArrayLike) -> np.ndarray:
    """Score by the margin of the mean prediction: 1 - (first - second).

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (certain) to 1 (the two best classes are tied).

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.
    """
    return _map_samples(samples, lambda block: _margin(block.mean(axis=0)))


def bald(samples: ArrayLike) -> np.ndarray:
    """Score by what the passes disagree about: entropy of the mean minus mean entropy, divided by log C.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all passes agree, however unsure each is) to 1 (each is sure of another class).

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.

    References
    ----------
    Houlsby et al., "Bayesian active learning for classification and preference learning", arXiv:1112.5745.
    """
    return _map_samples(samples, _bald)


def variance(samples: ArrayLike) -> np.ndarray:
    """Score by the variance of the confidences over the passes, averaged over the classes.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        Population variance (ddof 0) over S, mean over C; from 0 to 1/4.

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.

    References
    ----------
    Kampffmeyer, Salberg and Jenssen, "Semantic segmentation of small objects and modeling of uncertainty",
    2016.
    """
    return _map_samples(samples, lambda block: block.var(axis=0).mean(axis=0))


def variation_ratio(samples: ArrayLike) -> np.ndarray:
    """Score by the share of passes that do not vote for the most voted class.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all vote alike) to 1 - 1/min(S, C). A pass votes for its first most confident class.

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.

    References
    ----------
    Freeman, "Elementary applied statistics", 1965; Gal et al., ICML 2017.
    """
    return _map_samples(samples, lambda block: 1 - _vote_shares(block).max(axis=0))


def vote_entropy(samples: ArrayLike) -> np.ndarray:
    """Score by the entropy of the members' votes, divided by log C.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all vote alike) to log(min(S, C)) / log(C). A member votes for its first most confident class.

    Raises
    ------
    ScoreError
        If the shape is not (N, S, C) with S and C at least 2, or a record's confidences are at fault.

    References
    ----------
    Dagan and Engelson, "Committee-based sampling for training probabilistic classifiers", ICML 1995.
    """
    return _map_samples(samples, lambda block: _entropy(_vote_shares(block)))


def consensus_kl(samples: ArrayLike, reduction: Literal["mean", "max"] = "mean") -> np.ndarray:
    """Score by how far the members are from their mean prediction: the KL divergence, in nats.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        Confidences of S passes or members, S at least 2; the last axis sums to 1.
    reduction : {"mean", "max"}
        The mean over the members (the published definition), or the member that is farthest away.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (all predict alike) to log S. The mean is BALD in nats.

    Raises
    ------
    ScoreError
        If the reduction is unknown, the shape is not (N, S, C) with S and C at least 2, or a record's
        confidences are at fault.

    References
    ----------
    McCallum and Nigam, "Employing EM and pool-based active learning for text classification", ICML 1998.
    """
    if reduction not in ("mean", "max"):
        raise ScoreError(f'reduction must be "mean" or "max", got {reduction!r}')
    reduce = np.mean if reduction == "mean" else np.max
    return _map_samples(samples, lambda block: np.maximum(reduce(_member_kl(block), axis=0), 0))


# ------------------------------------------------------------------------------
# vectors and logits
# ------------------------------------------------------------------------------


def activation(vectors: ArrayLike) -> np.ndarray:
    """Score by how weakly a layer responds: minus the Euclidean norm of the vector.

    Parameters
    ----------
    vectors : array_like of shape (N, D)
        Embeddings or other activations.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        At most 0, which is no response at all.

    Raises
    ------
    ScoreError
        If the shape is not (N, D) or a row holds a number that is not finite; the message names the row.

    References
    ----------
    Dhamija, Guenther and Boult, "Reducing network agnostophobia", NeurIPS 2018 (unknown inputs have small
    norms).
    """
    return _map_vectors(vectors, "vectors", lambda block: -np.sqrt((block * block).sum(axis=0)))


def energy(logits: ArrayLike) -> np.ndarray:
    """Score by the free energy of the logits, -logsumexp: high for inputs unlike the training data.

    Parameters
    ----------
    logits : array_like of shape (N, C)
        Unnormalised class scores.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        The energy at temperature 1, in nats.

    Raises
    ------
    ScoreError
        If the shape is not (N, C) or a row holds a number that is not finite; the message names the row.

    References
    ----------
    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020.
    """
    return _map_vectors(logits, "logits", _energy)


def confidences_from_logits(logits: ArrayLike) -> np.ndarray:
    """Turn logits into confidences by the softmax over the last axis.

    Parameters
    ----------
    logits : array_like of shape (N, C) or (N, S, C)
        Unnormalised class scores, C at least 2.

    Returns
    -------
    numpy.ndarray of the same shape, float32
        Confidences; they sum to 1 over the last axis.

    Raises
    ------
    ScoreError
        If the shape is another one or a row holds a number that is not finite; the message names the row.
    """
    given = _numbers(logits, "logits")
    if given.ndim not in (2, 3) or given.shape[-1] < 2:
        raise ScoreError(f"logits must have shape (N, C) or (N, S, C) with C at least 2, got {given.shape}")
    values = given.astype(np.float32)  # always a copy, which the steps below then change in place
    _check_finite(values, "logits", first_row=0)
    values -= values.max(axis=-1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=-1, keepdims=True)
    return values


# ------------------------------------------------------------------------------
# kernels: on contiguous float32 blocks with the records last, so that each step is one pass over whole
# rows of memory
# ------------------------------------------------------------------------------


def _margin(block: np.ndarray) -> np.ndarray:
    """Return 1 - (first - second) of a (C, n) block."""
    first = np.maximum(block[0], block[1])
    second = np.minimum(block[0], block[1])
    for row in block[2:]:
        np.maximum(second, np.minimum(first, row), out=second)
        np.maximum(first, row, out=first)
    return 1 - (first - second)


def _entropy(block: np.ndarray) -> np.ndarray:
    """Return the entropy over the first axis, divided by its log length; (C, ...) -> (...)."""
    # log of the smallest positive float32 instead of log 0: p log p is 0 there as it should be, without a
    # warning
    logs = np.log(np.maximum(block, np.finfo(np.float32).tiny))
    total = np.multiply(logs, block, out=logs).sum(axis=0)
    return np.clip(total / np.float32(-np.log(len(block))), 0, 1)


def _bald(block: np.ndarray) -> np.ndarray:
    """Return entropy of the mean minus mean entropy of a (S, C, n) block."""
    each = _entropy(np.moveaxis(block, 1, 0))
    return np.maximum(_entropy(block.mean(axis=0)) - each.mean(axis=0), 0)


def _vote_shares(block: np.ndarray) -> np.ndarray:
    """Return the share of votes of each class, (S, C, n) -> (C, n)."""
    votes = block.argmax(axis=1)
    classes = np.arange(block.shape[1])[:, None]
    counts = np.zeros(block.shape[1:], dtype=np.float32)
    for member in votes:
        counts += member == classes
    return counts / np.float32(len(block))


def _member_kl(block: np.ndarray) -> np.ndarray:
    """Return each member's KL divergence from the mean, (S, C, n) -> (S, n)."""
    tiny = np.finfo(np.float32).tiny
    ratio = np.log(np.maximum(block, tiny)) - np.log(np.maximum(block.mean(axis=0), tiny))
    return np.multiply(ratio, block, out=ratio).sum(axis=1)


def _energy(block: np.ndarray) -> np.ndarray:
    """Return -logsumexp over the first axis of a (C, n) block."""
    peak = block.max(axis=0)
    return -(peak + np.log(np.exp(block - peak).sum(axis=0)))


# ------------------------------------------------------------------------------
# checks and chunks
# ------------------------------------------------------------------------------


def _map_confidences(confidences: ArrayLike, kernel: _Kernel) -> np.ndarray:
    """Check (N, C) confidences and apply a kernel to them in chunks."""
    given = _numbers(confidences, "confidences")
    if given.ndim != 2 or given.shape[1] < 2:
        raise ScoreError(f"confidences must have shape (N, C) with C at least 2, got {given.shape}")
    return _in_chunks(
        given, kernel, lambda block, row: _check_sums(block, "confidences", row, classes_axis=0)
    )


def _map_samples(samples: ArrayLike, kernel: _Kernel) -> np.ndarray:
    """Check (N, S, C) samples and apply a kernel to them in chunks."""
    given = _numbers(samples, "samples")
    if given.ndim != 3 or given.shape[1] < 2 or given.shape[2] < 2:
        raise ScoreError(
            "samples must have shape (N, S, C) with at least 2 passes or members and at least 2 classes, "
            f"got {given.shape}"
        )
    return _in_chunks(given, kernel, lambda block, row: _check_sums(block, "samples", row, classes_axis=1))


def _map_vectors(vectors: ArrayLike, name: str, kernel: _Kernel) -> np.ndarray:
    """Check (N, D) vectors and apply a kernel to them in chunks."""
    given = _numbers(vectors, name)
    if given.ndim != 2 or given.shape[1] < 1:
        raise ScoreError(f"{name} must have shape (N, D) with D at least 1, got {given.shape}")
    return _in_chunks(given, kernel, lambda block, row: _check_finite(block.T, name, row))


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Return the values as an array of real numbers, without a copy where they are one."""
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise ScoreError(
            f"{name} must be an array of real numbers, all rows of one length, got {given.dtype} values"
        )
    return given


def _in_chunks(given: np.ndarray, kernel: _Kernel, check: Callable[[np.ndarray, int], None]) -> np.ndarray:
    """Apply a kernel to (..., n) float32 copies of n rows at a time, after checking them."""
    result = np.empty(len(given), dtype=np.float32)
    step = max(1, _CHUNK_ELEMENTS // max(1, int(np.prod(given.shape[1:]))))
    for start in range(0, len(given), step):
        rows = given[start : start + step]
        block = np.ascontiguousarray(np.moveaxis(rows, 0, -1), dtype=np.float32)
        check(block, start)
        result[start : start + step] = kernel(block)
    return result


def _check_sums(block: np.ndarray, name: str, first_row: int, classes_axis: int) -> None:
    """Raise unless every record of a (..., n) block holds confidences: not negative, summing to 1."""
    sums = block.sum(axis=classes_axis)
    # written so that NaN fails too: any comparison with it is false
    good = (np.abs(sums - 1) <= SUM_TOLERANCE) & (block.min(axis=classes_axis) >= 0)
    if good.all():
        return
    sums, good = np.atleast_2d(sums), np.atleast_2d(good)
    record = int(np.flatnonzero(~good.all(axis=0))[0])
    sample = int(np.flatnonzero(~good[:, record])[0])
    place = f"row {first_row + record} of {name}" + (f", sample {sample}," if classes_axis else "")
    values = block[sample, :, record] if classes_axis else block[:, record]
    if not np.isfinite(values).all():
        problem = "holds NaN or infinity; leave the record out or predict it again"
    elif (values < 0).any():
        problem = (
            f"holds the negative number {values.min():.6g}; logits go through confidences_from_logits first"
        )
    else:
        problem = (
            f"sums to {sums[sample, record]:.6g}, not 1; logits go through confidences_from_logits first"
        )
    raise ScoreError(f"{place} {problem}", row=first_row + record)


def _check_finite(rows: np.ndarray, name: str, first_row: int) -> None:
    """Raise unless every number of the rows is finite."""
    good = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if not good.all():
        row = first_row + int(np.flatnonzero(~good)[0])
        raise ScoreError(
            f"row {row} of {name} holds NaN or infinity; leave the record out or compute it again", row=row
        )
