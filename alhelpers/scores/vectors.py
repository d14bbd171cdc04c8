"""Scores of vectors: the norm of activations, and the energy of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores import _kernels
from alhelpers.scores._blocks import map_vectors, numbers
from alhelpers.scores.logits import warn_of_confidences


def activation(vectors: ArrayLike) -> np.ndarray:
    """Score by minus the Euclidean norm of a layer's activations.

    Parameters
    ----------
    vectors : array_like of shape (N, D)
        Embeddings or other activations.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        At most 0, the score of a layer without any activation.

    Raises
    ------
    ScoreError
        If the shape is not (N, D) or a row holds a number that is not finite; the message names the row.

    References
    ----------
    Dhamija, Guenther and Boult, "Reducing network agnostophobia", NeurIPS 2018.
    """
    return map_vectors(vectors, "vectors", _kernels.activation)


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

    Warns
    -----
    UserWarning
        If the logits are confidences already.

    References
    ----------
    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020.
    """
    given = numbers(logits, "logits")
    energies = map_vectors(given, "logits", _kernels.energy)
    warn_of_confidences(given, axis=1)
    return energies
