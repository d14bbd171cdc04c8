"""The arithmetic of the scores, on blocks: each step is one pass over whole rows of memory.

A kernel takes a :class:`~alhelpers.scores._blocks.Block` and returns one number a record. The same kernels score
the pixels of an image, which are records too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from alhelpers.scores._blocks import Block, Kernel

_TINY = np.finfo(np.float32).tiny

# What the entropy of votes is counted in: far below the last bit of a float32, with room for millions of members.
_VOTE_UNIT = 2.0**-40


# ------------------------------------------------------------------------------
# one prediction a record
# ------------------------------------------------------------------------------


def least_confidence(block: Block) -> np.ndarray:
    """Return 1 - the highest confidence."""
    return 1 - block.values.max(axis=block.classes)


def margin(block: Block) -> np.ndarray:
    """Return 1 - (first - second)."""
    first, second = _turned_top_two(block.values) if block.classes == 0 else _wide_top_two(block.values)
    return 1 - (first - second)


def entropy(block: Block) -> np.ndarray:
    """Return the entropy, divided by log C."""
    return np.clip(_sum_p_log_p(block) / np.float32(-np.log(_classes(block))), 0, 1)


def first_most_confident(block: Block) -> np.ndarray:
    """Return the number of the first class with the highest confidence, over the axis of the classes."""
    values, axis = block
    if axis == values.ndim - 1:
        return values.argmax(axis=axis)
    # numpy's argmax down columns takes them one by one; this goes through whole rows, which are few
    values = np.moveaxis(values, axis, 0)
    highest = values[0].copy()
    kind = np.min_scalar_type(len(values))
    found = np.zeros(highest.shape, dtype=kind)
    for number, row in enumerate(values[1:], start=1):
        # later numbers are larger, so the largest number whose class won is the last winner
        np.maximum(found, (row > highest).view(np.uint8) * kind.type(number), out=found)
        np.maximum(highest, row, out=highest)
    return found


def _turned_top_two(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the second of (C, n) values."""
    first, second = np.maximum(values[0], values[1]), np.minimum(values[0], values[1])
    lower = np.empty_like(first)
    for row in values[2:]:
        np.minimum(first, row, out=lower)
        np.maximum(second, lower, out=second)
        np.maximum(first, row, out=first)
    return first, second


def _wide_top_two(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the second of (n, C) values."""
    # Halves play against each other, which leaves half the numbers to search. The second is either the highest of
    # the other winners or the one that lost to the first.
    half = values.shape[1] // 2
    winners = np.empty((len(values), values.shape[1] - half), dtype=values.dtype)
    np.maximum(values[:, :half], values[:, half : 2 * half], out=winners[:, :half])
    winners[:, half:] = values[:, 2 * half :]  # the last of an odd number has no rival
    rows, best = np.arange(len(values)), winners.argmax(axis=1)
    first = winners[rows, best]
    rival = np.minimum(values[rows, best], values[rows, np.minimum(best + half, values.shape[1] - 1)])
    winners[rows, best] = np.where(best < half, rival, -1)  # -1 is below every confidence
    return first, winners.max(axis=1)


def _sum_p_log_p(block: Block) -> np.ndarray:
    """Return the sum of p log p over the classes, in nats."""
    # the smallest positive float32 changes no confidence but 0, of which p log p is 0 then as it should be
    logs = block.values + _TINY
    np.log(logs, out=logs)
    return _sum_of_products(logs, block)


def _sum_of_products(factors: np.ndarray, block: Block) -> np.ndarray:
    """Return the sum of factors times values over the classes; the factors are overwritten."""
    if block.classes == block.values.ndim - 1:
        return np.vecdot(factors, block.values)
    return np.add.reduce(np.multiply(factors, block.values, out=factors), axis=block.classes)


def _classes(block: Block) -> int:
    return block.values.shape[block.classes]


# ------------------------------------------------------------------------------
# several predictions a record
# ------------------------------------------------------------------------------


def mean(block: Block) -> Block:
    """Return the block of the mean prediction of each record."""
    axis = block.classes - 1
    total = np.add.reduce(block.values, axis=axis)
    return Block(np.multiply(total, _one_over_samples(block), out=total), axis)


def predictive_entropy(block: Block) -> np.ndarray:
    """Return the entropy of the mean, divided by log C."""
    return entropy(mean(block))


def mean_margin(block: Block) -> np.ndarray:
    """Return the margin of the mean."""
    return margin(mean(block))


def bald(block: Block) -> np.ndarray:
    """Return the entropy of the mean minus the mean entropy, divided by log C."""
    each = np.add.reduce(_sum_p_log_p(block), axis=block.classes - 1) * _one_over_samples(block)
    difference = each - _sum_p_log_p(mean(block))
    return np.clip(difference / np.float32(np.log(_classes(block))), 0, 1)


def variance(block: Block) -> np.ndarray:
    """Return the variance over the samples (ddof 0), meaned over the classes."""
    values, axis = block
    away = values - np.expand_dims(mean(block).values, axis - 1)
    squares = np.add.reduce(_sum_of_products(away, Block(away, axis)), axis=axis - 1)
    return squares * (_one_over_samples(block) / np.float32(_classes(block)))


def variation_ratio(block: Block) -> np.ndarray:
    """Return the share of samples that do not vote for the most voted class."""
    votes = _votes(block)
    counts = _counts(votes, _classes(block)).max(axis=0)
    return 1 - counts * np.float32(1 / len(votes))


def vote_entropy(block: Block) -> np.ndarray:
    """Return the entropy of the votes, divided by log C."""
    return entropy_of_votes(_votes(block), _classes(block))


def entropy_of_votes(votes: np.ndarray, classes: int) -> np.ndarray:
    """Return the entropy of (S, n) votes, divided by log C."""
    counts = _counts(votes, classes)
    share = np.arange(len(votes) + 1) / len(votes)
    # A class with k votes adds -share log share: once, or spread evenly over the k members that voted for it.
    each = -np.log(np.maximum(share, 1 / len(votes))) / np.log(classes)
    weight = share if len(counts) == classes else 1 / len(votes)
    # In whole numbers sums are exact, so that records whose votes differ in nothing but the classes tie.
    table = np.rint(each * weight / _VOTE_UNIT).astype(np.int64)
    # told to clip, take looks nothing up twice; no count is beyond the table
    total = np.add.reduce(table.take(counts, mode="clip"), axis=0)
    return np.minimum(total * _VOTE_UNIT, 1).astype(np.float32)


def mean_kl(block: Block) -> np.ndarray:
    """Return the mean KL divergence of the samples from their mean, in nats."""
    return np.maximum(np.add.reduce(_kl(block), axis=block.classes - 1) * _one_over_samples(block), 0)


def max_kl(block: Block) -> np.ndarray:
    """Return the KL divergence of the sample that is farthest from the mean, in nats."""
    return np.maximum(_kl(block).max(axis=block.classes - 1), 0)


def _kl(block: Block) -> np.ndarray:
    """Return the KL divergence of each sample from the mean, (S, n) or (n, S)."""
    ratio = block.values + _TINY
    np.log(ratio, out=ratio)
    ratio -= np.expand_dims(np.log(mean(block).values + _TINY), block.classes - 1)
    return _sum_of_products(ratio, block)


def _one_over_samples(block: Block) -> np.float32:
    return np.float32(1 / block.values.shape[block.classes - 1])


def _votes(block: Block) -> np.ndarray:
    """Return the class that each sample votes for, (S, n), in the smallest type that holds it."""
    found = first_most_confident(block)
    if block.classes == block.values.ndim - 1:
        found = np.ascontiguousarray(found.T, dtype=np.min_scalar_type(_classes(block)))
    return found


def _counts(votes: np.ndarray, classes: int) -> np.ndarray:
    """Count votes: for each class the votes for it or, if members are fewer, for each the votes like its own.

    Parameters
    ----------
    votes : numpy.ndarray of shape (S, n)
        Class numbers.
    classes : int
        How many classes there are.

    Returns
    -------
    numpy.ndarray of shape (C, n) or (S, n)
        Whole numbers from 0 to S; of shape (C, n) unless S is less than C.
    """
    candidates = votes if len(votes) < classes else np.arange(classes, dtype=votes.dtype)
    kind = np.min_scalar_type(len(votes))
    counts = np.empty((len(candidates), votes.shape[1]), dtype=kind)
    for number, candidate in enumerate(candidates):
        same = (votes == candidate).view(np.uint8)
        np.add.reduce(same, axis=0, dtype=kind, out=counts[number])
    return counts


# ------------------------------------------------------------------------------
# vectors
# ------------------------------------------------------------------------------


def activation(block: Block) -> np.ndarray:
    """Return minus the Euclidean norm."""
    return -np.sqrt(np.add.reduce(np.square(block.values), axis=block.classes))


def energy(block: Block) -> np.ndarray:
    """Return -logsumexp."""
    values, axis = block
    peak = values.max(axis=axis, keepdims=True)
    above = values - peak
    np.exp(above, out=above)
    return -(peak.squeeze(axis) + np.log(np.add.reduce(above, axis=axis)))


# ------------------------------------------------------------------------------
# by name
# ------------------------------------------------------------------------------

OF_CONFIDENCES: Mapping[str, Kernel] = MappingProxyType(
    {"least_confidence": least_confidence, "margin": margin, "entropy": entropy}
)
OF_SAMPLES: Mapping[str, Kernel] = MappingProxyType(
    {
        "predictive_entropy": predictive_entropy,
        "mean_margin": mean_margin,
        "bald": bald,
        "variance": variance,
        "variation_ratio": variation_ratio,
        "vote_entropy": vote_entropy,
        "consensus_kl": mean_kl,
        "consensus_kl_max": max_kl,
    }
)
