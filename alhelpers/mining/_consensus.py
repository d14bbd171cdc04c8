"""The consensus of annotators, and label errors."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.mining._selection import MiningError

Error = Literal["normalized_margin", "self_confidence"]

#: In an array of annotations: this annotator has not labelled this record.
MISSING = -1

# How much the confidences count beside the annotations: they are learned from these, and sharper than they are right.
_MODEL_WEIGHT = 0.5

# The annotations that the expected accuracy of an annotator counts as.
_PRIOR = 20.0
_ITERATIONS = 10

# Confidences below count as this: a model is never certain against all annotators.
_LEAST = 1e-3


class Consensus(NamedTuple):
    """What several annotators agree on.

    Parameters
    ----------
    labels : numpy.ndarray of shape (N,), int
        The most probable class of each record.
    quality : numpy.ndarray of shape (N,), float32
        Its probability.
    agreement : numpy.ndarray of shape (N,), float32
        The share of the record's annotations that are this class; NaN without annotations.
    accuracy : numpy.ndarray of shape (A,), float32
        The probability that each annotator is right.
    probabilities : numpy.ndarray of shape (N, C), float32
        Of all classes.
    """

    labels: np.ndarray
    quality: np.ndarray
    agreement: np.ndarray
    accuracy: np.ndarray
    probabilities: np.ndarray


def consensus(annotations: ArrayLike, confidences: ArrayLike, *, accuracy: float = 0.8) -> Consensus:
    """Estimate the class of each record from its annotations and a model, and how good each annotator is.

    An annotator names the right class with a probability of their own, and the other classes with equal ones
    (Dawid and Skene's model with one number an annotator [1]_, by expectation maximisation). The square root of the
    model's confidences, normalised, is the prior of each record, so that one annotation is overruled only by a model
    that is very sure. Only records with two annotations or more change what is thought of an annotator.

    Parameters
    ----------
    annotations : array_like of shape (N, A), int
        The class index that each annotator chose, -1 where they have not labelled the record.
    confidences : array_like of shape (N, C)
        The model's, **out of sample**: from models that did not learn from the record (cross-validation), or else the
        model repeats the errors of its labels.
    accuracy : float
        What is expected of an annotator before anything is known, above 1/C and below 1; it counts as 20 annotations.

    Returns
    -------
    Consensus

    Raises
    ------
    MiningError
        If the shapes do not fit, an annotation is no class index or -1, a row of confidences is not a distribution, or
        the accuracy is out of range.

    References
    ----------
    .. [1] Dawid & Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied
       Statistics 28, 1979.
    """
    votes, confidences = _checked(annotations, confidences)
    classes = confidences.shape[1]
    if not 1 / classes < accuracy < 1:
        raise MiningError(
            f"accuracy is {accuracy!r}: it must be above chance, {1 / classes:.3g}, and below 1"
        )
    chosen = votes[:, :, None] == np.arange(classes)
    given = votes != MISSING
    shared = given & (given.sum(1, keepdims=True) > 1)
    prior, accuracies = np.log(tempered(confidences)), np.full(votes.shape[1], accuracy)
    for step in range(_ITERATIONS + 1):
        right, wrong = np.log(accuracies), np.log((1 - accuracies) / (classes - 1))
        evidence = np.where(chosen, right[:, None], wrong[:, None]) * given[:, :, None]
        posterior = prior + evidence.sum(1)
        posterior = np.exp(posterior - posterior.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
        if step == _ITERATIONS:
            break
        hits = np.einsum("nac,nc,na->a", chosen, posterior, shared)
        accuracies = (hits + _PRIOR * accuracy) / (shared.sum(0) + _PRIOR)
        accuracies = accuracies.clip(1.5 / (classes + 0.5), 0.99)
    labels = posterior.argmax(1)
    quality = np.take_along_axis(posterior, labels[:, None], 1)[:, 0]
    return Consensus(
        labels,
        quality.astype(np.float32),
        _agreement(votes, labels),
        accuracies.astype(np.float32),
        posterior.astype(np.float32),
    )


def label_errors(labels: ArrayLike, confidences: ArrayLike, score: Error = "normalized_margin") -> np.ndarray:
    """Score how likely each label is wrong.

    Parameters
    ----------
    labels : array_like of shape (N,), int
        Class indices.
    confidences : array_like of shape (N, C)
        The model's, **out of sample**: from models that did not learn from the record (cross-validation).
    score : {"normalized_margin", "self_confidence"}
        How far the confidence of another class is above that of the label, from 0 to 1; or 1 - the confidence of the
        label. The first finds labels that the model contradicts, the second also those it is unsure of.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        From 0 (the model is certain of the label) to 1 (it is certain of another class).

    Raises
    ------
    MiningError
        If the shapes do not fit, a label is no class index, a row is not a distribution, or the score is unknown.

    References
    ----------
    Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021;
    Kuan & Mueller, "Model-agnostic label quality scoring to detect real-world label errors", ICML DataPerf 2022.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise MiningError(f"labels have the shape {labels.shape}: they must be one class index a record")
    votes, confidences = _checked(labels[:, None], confidences)
    if (votes == MISSING).any():
        raise MiningError(
            f"label {np.flatnonzero(votes == MISSING)[0]} is {MISSING}: leave unlabelled records out"
        )
    own = np.take_along_axis(confidences, votes, 1)[:, 0]
    if score == "self_confidence":
        return (1 - own).astype(np.float32)
    if score != "normalized_margin":
        raise MiningError(f"score is {score!r}: choose 'normalized_margin' or 'self_confidence'")
    others = confidences.copy()
    np.put_along_axis(others, votes, -np.inf, 1)
    return ((1 - own + others.max(1)) / 2).astype(np.float32)


# ------------------------------------------------------------------------------
# parts of the scores
# ------------------------------------------------------------------------------


def tempered(confidences: np.ndarray) -> np.ndarray:
    """Return the prior that confidences (N, C) are for the annotators' labels."""
    found = confidences.clip(_LEAST) ** _MODEL_WEIGHT
    return found / found.sum(1, keepdims=True)


def is_missing(votes: np.ndarray) -> np.ndarray:
    """Return which annotations are not there: -1, or NaN among floats."""
    return np.isnan(votes) if votes.dtype.kind == "f" else votes == MISSING


def margin(probabilities: np.ndarray) -> np.ndarray:
    """Score by how close the two most probable classes are, from 0 to 1."""
    best = np.partition(probabilities, -2, axis=1)
    return (1 - best[:, -1] + best[:, -2]).astype(np.float32)


def _agreement(votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    given = (votes != MISSING).sum(1)
    same = ((votes == labels[:, None]) & (votes != MISSING)).sum(1)
    return np.where(given > 0, same / np.maximum(given, 1), np.nan).astype(np.float32)


def _distributions(confidences: ArrayLike) -> np.ndarray:
    found = np.asarray(confidences, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] < 2:
        raise MiningError(f"confidences have the shape {found.shape}: they must be (records, classes)")
    wrong = ~(np.abs(found.sum(1) - 1) <= 1e-3) | ~(found >= 0).all(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise MiningError(
            f"row {row} of the confidences sums to {found[row].sum():g} or is below 0: each must be a distribution"
        )
    return found


def _checked(annotations: ArrayLike, confidences: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    given, found = np.asarray(annotations), _distributions(confidences)
    if given.ndim != 2 or not given.shape[1] or len(given) != len(found):
        raise MiningError(
            f"annotations have the shape {given.shape}, confidences {found.shape}: they must be (records, annotators)"
            " and (records, classes) of the same records"
        )
    if given.dtype.kind == "f":
        given = np.where(np.isnan(given), MISSING, given)
    if given.dtype.kind not in "iuf" or (given != np.floor(given)).any():
        raise MiningError(
            f"annotations are {given.dtype}: they must be class indices, {MISSING} where missing"
        )
    wrong = (given < MISSING) | (given >= found.shape[1])
    if wrong.any():
        row, annotator = np.argwhere(wrong)[0]
        raise MiningError(
            f"annotator {annotator} chose {given[row, annotator]:g} for record {row}: class indices are 0 to"
            f" {found.shape[1] - 1}, and {MISSING} is missing"
        )
    return given.astype(np.int64), found
