"""Uncertainty: a model and inputs become samples, several predictions of each record.

:func:`mc_dropout` asks one model many times with its dropout left on, :class:`Committee` asks several models.
Both give (N, S, C) confidences, which :mod:`alhelpers.scores` turns into scores.
"""

from alhelpers.uncertainty.committee import Committee, CommitteeError, CommitteeWarning
from alhelpers.uncertainty.mc_dropout import DropoutError, mc_dropout, mc_dropout_scores

__all__ = [
    "Committee",
    "CommitteeError",
    "CommitteeWarning",
    "DropoutError",
    "mc_dropout",
    "mc_dropout_scores",
]
