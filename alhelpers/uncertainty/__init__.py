"""Uncertainty: several predictions of each record, its samples, from a model and inputs.

:func:`mc_dropout` predicts many times with one model whose dropout stays on, :class:`Committee` with several models.
Both return (N, S, C) confidences, from which :mod:`alhelpers.scores` computes scores. A committee with dropout on
returns (N, K, T, C), and :func:`split_uncertainty` separates the disagreement of its members and of its passes. Boxes
that several passes found are joined object by object by :func:`merge_boxes`.
"""

from typing import Any

from alhelpers.uncertainty.boxes import BoxSamples, merge_boxes
from alhelpers.uncertainty.committee import Committee
from alhelpers.uncertainty.decomposition import Uncertainty, split_uncertainty
from alhelpers.uncertainty.errors import CommitteeError, CommitteeWarning
from alhelpers.uncertainty.mc_dropout import DropoutError, mc_dropout, mc_dropout_scores

__all__ = [
    "BoxSamples",
    "Committee",
    "CommitteeError",
    "CommitteeWarning",
    "DropoutError",
    "Uncertainty",
    "mc_dropout",
    "mc_dropout_scores",
    "merge_boxes",
    "split_uncertainty",
]


def __getattr__(name: str) -> Any:
    if name == "Way":
        raise ImportError(
            "alhelpers.uncertainty.Way is gone: members are trained in processes, and Committee.threads is the number"
            " of threads of each"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
