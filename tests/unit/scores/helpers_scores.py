"""The scores by name, and random predictions, that the tests of several files use."""

import math

import numpy as np
from scipy.special import softmax

from alhelpers import scores

CONFIDENCE_SCORES = {name: getattr(scores, name) for name in ("least_confidence", "margin", "entropy")}
VECTOR_SCORES = {name: getattr(scores, name) for name in ("activation", "energy")}
SAMPLE_SCORES = {
    "predictive_entropy": scores.predictive_entropy,
    "mean_margin": scores.mean_margin,
    "bald": scores.bald,
    "variance": scores.variance,
    "variation_ratio": scores.variation_ratio,
    "vote_entropy": scores.vote_entropy,
    "consensus_kl": scores.consensus_kl,
    "consensus_kl_max": lambda samples: scores.consensus_kl(samples, reduction="max"),
}


def confidences_of(seed, shape, axis=-1):
    """Random confidences; the first record's are exact zeros and ones."""
    rng = np.random.default_rng(seed)
    values = softmax(rng.normal(size=shape) * 2, axis=axis).astype(np.float32)
    first = np.moveaxis(values, axis, -1)[0]
    first[:] = np.eye(shape[axis])[rng.integers(shape[axis], size=first.shape[:-1])]
    return values


def plain_entropy(row):
    """The entropy of a row divided by log C, in plain Python."""
    return -sum(p * math.log(p) for p in row if p > 0) / math.log(len(row))
