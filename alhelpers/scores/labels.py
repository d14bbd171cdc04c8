"""Scores of several labels that do not exclude each other: each has a confidence of its own, from a sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores import _kernels
from alhelpers.scores._blocks import Block, Kernel, ScoreError, check_finite, map_blocks, numbers

_OF_LABELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": _kernels.binary_entropy,
    "margin": lambda values: 2 * np.minimum(values, 1 - values),
    "confidence": lambda values: np.minimum(values, 1 - values),
}
_OVER = {"mean": _kernels.mean_of_labels, "max": lambda block: block.values.max(axis=block.classes)}


def label_uncertainty(
    confidences: ArrayLike,
    score: Literal["entropy", "margin", "confidence"] = "entropy",
    over: Literal["mean", "max"] = "mean",
) -> np.ndarray:
    """Score several labels by how uncertain each is by itself.

    Parameters
    ----------
    confidences : array_like of shape (N, C)
        The confidence that each of C labels holds, from 0 to 1; rows need not sum to 1.
    score : {"entropy", "margin", "confidence"}
        Of a label with the confidence p: the binary entropy, divided by log 2; the margin ``1 - |2p - 1|``; or
        ``1 - max(p, 1 - p)``, half the margin.
    over : {"mean", "max"}
        Over the labels: the mean, or the most uncertain one.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (every label is certain) to 1, or to 1/2 for ``score="confidence"`` (p = 1/2).

    Raises
    ------
    ScoreError
        If an option or the shape is not valid, or a confidence is NaN or not from 0 to 1; the message names the row.

    References
    ----------
    Tsoumakas, Katakis and Vlahavas, "Mining multi-label data", 2010 (binary relevance); Esuli and Sebastiani, "Active
    learning strategies for multi-label text classification", ECIR 2009 (mean and max over labels).
    """
    _check_option("score", score, _OF_LABELS)
    of_label = _OF_LABELS[score]
    return _map(
        confidences, "confidences", 2, over, lambda block: Block(of_label(block.values), block.classes)
    )


def label_bald(samples: ArrayLike, over: Literal["mean", "max"] = "mean") -> np.ndarray:
    """Score several labels by the disagreement of passes or members about each: BALD of each label.

    Parameters
    ----------
    samples : array_like of shape (N, S, C)
        The confidences, from 0 to 1, of C labels in S passes or of S members, S at least 2.
    over : {"mean", "max"}
        Over the labels: the mean, or the label that is most disputed.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        The binary entropy of the mean less the mean binary entropy, divided by log 2: from 0 (all agree) to 1.

    Raises
    ------
    ScoreError
        If the option or the shape is not valid, or a confidence is NaN or not from 0 to 1; the message names the row.

    References
    ----------
    Houlsby et al., "Bayesian active learning for classification and preference learning", arXiv:1112.5745.
    """
    return _map(samples, "samples", 3, over, _kernels.bald_of_labels)


def _map(
    values: ArrayLike, name: str, dimensions: int, over: str, of_labels: Callable[[Block], Block]
) -> np.ndarray:
    """Check confidences, score each label, and combine the labels of each record."""
    _check_option("over", over, _OVER)
    given = numbers(values, name)
    if given.ndim != dimensions or 0 in given.shape[1:] or (dimensions == 3 and given.shape[1] < 2):
        form = "(N, C)" if dimensions == 2 else "(N, S, C) with at least 2 passes or members"
        raise ScoreError(f"{name} must have shape {form} and at least 1 label, got {given.shape}")
    combine = _OVER[over]
    kernel: Kernel = lambda block: combine(of_labels(block))  # noqa: E731
    return map_blocks(given, kernel, lambda block, row: _check_range(block, name, row))


def _check_option(name: str, value: str, known: dict) -> None:
    if value not in known:
        raise ScoreError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")


def _check_range(block: Block, name: str, first_row: int) -> Block:
    values = block.values if block.classes == block.values.ndim - 1 else np.moveaxis(block.values, -1, 0)
    check_finite(values, name, first_row)
    if values.min() >= 0 and values.max() <= 1:
        return block
    good = ((values >= 0) & (values <= 1)).all(axis=tuple(range(1, values.ndim)))
    record = int(np.flatnonzero(~good)[0])
    wrong = values[record][(values[record] < 0) | (values[record] > 1)][0]
    raise ScoreError(
        f"row {first_row + record} of {name} holds {wrong:.6g}, which is not from 0 to 1; logits go through a sigmoid "
        "first",
        first_row + record,
    )
