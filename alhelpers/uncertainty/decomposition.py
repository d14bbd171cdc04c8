"""Where the uncertainty of a committee of MC-dropout models comes from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alhelpers import scores


class Uncertainty(NamedTuple):
    """Parts of each record's uncertainty, (N,) float32 each, all divided by log C.

    ``total`` = ``aleatoric`` + ``passes`` + ``members``.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    passes: np.ndarray
    members: np.ndarray


def split_uncertainty(samples: ArrayLike) -> Uncertainty:
    """Split the entropy of the mean prediction into parts due to the data, the passes and the members.

    With p(k, t) the confidences of member k in pass t, H the entropy divided by log C, and means over the
    indices that are left out::

        total     = H(mean p)                                  all of it
        aleatoric = mean H(p(k, t))                            each pass alone is unsure: more labels do not help
        passes    = mean over k of H(p(k)) - mean H(p(k, t))   BALD inside each member: passes disagree
        members   = H(mean p) - mean over k of H(p(k))         BALD between the members' means: members disagree

    The two disagreements are the chain rule of mutual information, I(y; member, pass) = I(y; member) +
    I(y; pass | member); none of them is negative, and together with the aleatoric part they are the total.

    Parameters
    ----------
    samples : array_like of shape (N, K, T, C)
        Confidences of K members in T passes each, K and T at least 2; the last axis sums to 1. See
        ``Committee.predict(inputs, passes=T)``.

    Returns
    -------
    Uncertainty
        total, aleatoric, passes, members.

    Raises
    ------
    ScoreError
        If the samples have another shape, or a record's confidences are not valid.

    References
    ----------
    Houlsby et al., "Bayesian active learning for classification and preference learning", arXiv:1112.5745, for
    BALD; Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning", ICML 2018; Cover and Thomas,
    "Elements of information theory", 2.5, for the chain rule.
    """
    given = np.asarray(samples)
    if given.ndim != 4 or min(given.shape[1:]) < 2:
        raise scores.ScoreError(
            f"samples must be of shape (N, K, T, C) with K, T and C at least 2, got {given.shape}"
        )
    scores.predictive_entropy(given.reshape(len(given), -1, given.shape[-1]))  # checks every confidence
    each, of_members, total = np.empty((3, len(given)))
    records = max(_NUMBERS // given[0].size, 1) if len(given) else 1
    for start in range(0, len(given), records):
        block = slice(start, start + records)
        few = given[block].astype(np.float64)
        means = few.mean(axis=2)
        each[block] = _entropy(few).mean(axis=(1, 2))
        of_members[block] = _entropy(means).mean(axis=1)
        total[block] = _entropy(means.mean(axis=1))
    # rounding alone can make a difference of equals negative
    parts = (total, each, np.maximum(of_members - each, 0), np.maximum(total - of_members, 0))
    return Uncertainty(*(part.astype(np.float32) for part in parts))


_NUMBERS = 2**20  # at one time in double precision


def _entropy(confidences: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis, divided by its log length."""
    logs = np.log(np.maximum(confidences, np.finfo(np.float32).tiny))  # 0 log 0 is 0
    return -(confidences * logs).sum(axis=-1) / np.log(confidences.shape[-1])
