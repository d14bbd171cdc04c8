"""The formulas of the scores of the same names: a kernel takes a block and returns one number per record.

The same kernels score the pixels of an image, as if each were a record.
"""

from __future__ import annotations

import numpy as np

from alhelpers.scores._blocks import Block, Kernel

_TINY = np.finfo(np.float32).tiny
# A float32 of at least this size is the same after adding _TINY to it.
_UNCHANGED = _TINY * 2**25

# The unit of the entropy of votes: far below the last bit of a float32, with room for millions of members.
_VOTE_UNIT = 2.0**-40


# ------------------------------------------------------------------------------
# one prediction per record
# ------------------------------------------------------------------------------


def least_confidence(block: Block) -> np.ndarray:
    highest = block.values.max(axis=block.classes)
    return np.subtract(1, highest, out=highest)


def margin(block: Block) -> np.ndarray:
    top_two = _top_two_of_columns if block.classes == 0 else _top_two_of_rows
    first, second = top_two(block.values)
    first -= second
    return np.subtract(1, first, out=first)


def entropy(block: Block) -> np.ndarray:
    total = _sum_p_log_p(block)
    total /= np.float32(-np.log(_classes(block)))
    return np.clip(total, 0, 1, out=total)


def first_most_confident(block: Block) -> np.ndarray:
    """Return the number of the first class with the highest confidence, over the axis of the classes."""
    values, axis = block
    if axis == values.ndim - 1:
        return values.argmax(axis=axis)
    # numpy's argmax over columns is slow; this goes through whole rows, which are few
    values = np.moveaxis(values, axis, 0)
    highest = values[0].copy()
    kind = np.min_scalar_type(len(values))
    found = np.zeros(highest.shape, dtype=kind)
    for number, row in enumerate(values[1:], start=1):
        # the largest number whose class exceeded all before it is the first with the highest confidence
        np.maximum(found, (row > highest).view(np.uint8) * kind.type(number), out=found)
        np.maximum(highest, row, out=highest)
    return found


def _top_two_of_columns(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the second of (C, n) values."""
    first, second = np.maximum(values[0], values[1]), np.minimum(values[0], values[1])
    lower = np.empty_like(first)
    for row in values[2:]:
        np.minimum(first, row, out=lower)
        np.maximum(second, lower, out=second)
        np.maximum(first, row, out=first)
    return first, second


def _top_two_of_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the second of (n, C) values."""
    # Comparing one half with the other leaves half the numbers to search. The second is either the highest of the
    # other winners or the number that lost to the first.
    half = values.shape[1] // 2
    winners = np.empty((len(values), values.shape[1] - half), dtype=values.dtype)
    np.maximum(values[:, :half], values[:, half : 2 * half], out=winners[:, :half])
    winners[:, half:] = values[:, 2 * half :]  # the last of an odd number has no partner
    rows, best = np.arange(len(values)), winners.argmax(axis=1)
    first = winners[rows, best]
    rival = np.minimum(values[rows, best], values[rows, np.minimum(best + half, values.shape[1] - 1)])
    winners[rows, best] = np.where(best < half, rival, -1)  # -1 is below every confidence
    return first, winners.max(axis=1)


def _sum_p_log_p(block: Block) -> np.ndarray:
    """Return the sum of p log p over the classes, in nats."""
    return _sum_of_products(_logarithms(block), block)


def _logarithms(block: Block) -> np.ndarray:
    """Return the logarithms of the confidences; of 0 a finite number, so that p log p is 0 as it should be."""
    values = block.values
    if values.size and values.min() >= _UNCHANGED:
        return np.log(values)
    logs = values + _TINY
    return np.log(logs, out=logs)


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
    return entropy(mean(block))


def mean_margin(block: Block) -> np.ndarray:
    return margin(mean(block))


def bald(block: Block) -> np.ndarray:
    each = np.add.reduce(_sum_p_log_p(block), axis=block.classes - 1) * _one_over_samples(block)
    difference = each - _sum_p_log_p(mean(block))
    return np.clip(difference / np.float32(np.log(_classes(block))), 0, 1)


def variance(block: Block) -> np.ndarray:
    """Return the variance over the samples (ddof 0), averaged over the classes."""
    values, axis = block
    deviations = values - np.expand_dims(mean(block).values, axis - 1)
    squares = np.add.reduce(_sum_of_products(deviations, Block(deviations, axis)), axis=axis - 1)
    return squares * (_one_over_samples(block) / np.float32(_classes(block)))


def variation_ratio(block: Block) -> np.ndarray:
    """Return the share of samples that do not vote for the most voted class."""
    votes = _votes(block)
    counts = _counts(votes, _classes(block)).max(axis=0)
    return 1 - counts * np.float32(1 / len(votes))


def vote_entropy(block: Block) -> np.ndarray:
    return entropy_of_votes(_votes(block), _classes(block))


def entropy_of_votes(votes: np.ndarray, classes: int) -> np.ndarray:
    """Return the entropy of (S, n) votes, divided by log C."""
    counts = _counts(votes, classes)
    share = np.arange(len(votes) + 1) / len(votes)
    # A class with k votes adds -share log share: once, or spread evenly over the k members that voted for it.
    each = -np.log(np.maximum(share, 1 / len(votes))) / np.log(classes)
    weight = share if len(counts) == classes else 1 / len(votes)
    # Sums of whole numbers are exact, so that records whose votes differ only in the classes tie.
    table = np.rint(each * weight / _VOTE_UNIT).astype(np.int64)
    # no count is beyond the table; mode="clip" is the fastest
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
    ratio = _logarithms(block)
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
    """Count (S, n) votes by class, (C, n); with fewer members than classes, the votes equal to each vote, (S, n)."""
    candidates = votes if len(votes) < classes else np.arange(classes, dtype=votes.dtype)
    kind = np.min_scalar_type(len(votes))
    counts = np.empty((len(candidates), votes.shape[1]), dtype=kind)
    for number, candidate in enumerate(candidates):
        same = (votes == candidate).view(np.uint8)
        np.add.reduce(same, axis=0, dtype=kind, out=counts[number])
    return counts


# ------------------------------------------------------------------------------
# several labels a record, each by itself
# ------------------------------------------------------------------------------


def binary_entropy(values: np.ndarray) -> np.ndarray:
    """Return the entropy of each confidence p and 1 - p, divided by log 2."""
    rarer = np.minimum(values, 1 - values)  # never 1, whose complement has no logarithm
    total = rarer * np.log(rarer + _TINY)
    total += (1 - rarer) * np.log1p(-rarer)
    return np.multiply(total, np.float32(-1 / np.log(2)), out=total)


def mean_of_labels(block: Block) -> np.ndarray:
    return np.add.reduce(block.values, axis=block.classes) * np.float32(1 / _classes(block))


def bald_of_labels(block: Block) -> Block:
    """Return for each label the entropy of the mean less the mean entropy, divided by log 2."""
    whole, each = mean(block), mean(Block(binary_entropy(block.values), block.classes))
    return Block(np.clip(binary_entropy(np.minimum(whole.values, 1)) - each.values, 0, 1), whole.classes)


def activation(block: Block) -> np.ndarray:
    # squares of float32 numbers never leave the range of float64
    squares = np.square(block.values, dtype=np.float64)
    return -np.sqrt(np.add.reduce(squares, axis=block.classes))


def energy(block: Block) -> np.ndarray:
    values, axis = block
    peak = values.max(axis=axis, keepdims=True)
    above = values - peak
    np.exp(above, out=above)
    return -(peak.squeeze(axis) + np.log(np.add.reduce(above, axis=axis)))


_SAMPLES = (predictive_entropy, mean_margin, bald, variance, variation_ratio, vote_entropy)
OF_CONFIDENCES: dict[str, Kernel] = {
    kernel.__name__: kernel for kernel in (least_confidence, margin, entropy)
}
OF_SAMPLES: dict[str, Kernel] = {kernel.__name__: kernel for kernel in _SAMPLES}
OF_SAMPLES |= {"consensus_kl": mean_kl, "consensus_kl_max": max_kl}
