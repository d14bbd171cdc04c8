"""Uncertainty: a model and inputs become samples, several predictions of each record.

:func:`mc_dropout` asks one model many times with its dropout left on, :class:`Committee` asks several models.
Both give (N, S, C) confidences, which :mod:`alhelpers.scores` turns into scores. A committee asked with its dropout
on gives (N, K, T, C), and :func:`split_uncertainty` tells what its members and its passes disagree about.
"""

from alhelpers.uncertainty.committee import Committee, CommitteeError, CommitteeWarning, Way
from alhelpers.uncertainty.decomposition import Uncertainty, split_uncertainty
from alhelpers.uncertainty.mc_dropout import DropoutError, mc_dropout, mc_dropout_scores

__all__ = [
    "Committee",
    "CommitteeError",
    "CommitteeWarning",
    "DropoutError",
    "Uncertainty",
    "Way",
    "mc_dropout",
    "mc_dropout_scores",
    "split_uncertainty",
]
