"""Disagreement of several predictions: query by committee, MC dropout, spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from alhelpers import scores
from alhelpers.mining._pool import SAMPLES
from alhelpers.mining._strategy import Part, Strategy

_DROPOUT: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "margin": scores.mean_margin,
    "bald": scores.bald,
    "predictive_entropy": scores.predictive_entropy,
    "variance": scores.variance,
    "variation_ratio": scores.variation_ratio,
}


def query_by_committee(
    part: Part, context: None, *, score: str = "vote_entropy", reduction: str = "mean"
) -> np.ndarray:
    """Select the records about which the members of a committee disagree.

    Needs ``query_by_committee`` (N, K, C), the members' confidences. ``score``: ``"vote_entropy"``, how evenly
    the members' votes are spread over the classes, or ``"consensus_kl"``, their KL divergence from the mean
    prediction, of which ``reduction`` takes the ``"mean"`` or the ``"max"``. Use it when models are cheap to
    train. It fails when the members differ too little (with the same first weights) or are too weak (each
    trained on a small part of the labels); votes of few members tie often, which consensus_kl avoids.

    Source: Seung, Opper and Sompolinsky, "Query by committee", COLT 1992; Dagan and Engelson, ICML 1995; McCallum and
    Nigam, ICML 1998.
    """
    samples = part.numbers("query_by_committee")
    return (
        scores.vote_entropy(samples) if score == "vote_entropy" else scores.consensus_kl(samples, reduction)
    )


def mc_dropout(part: Part, context: None, *, score: str = "margin") -> np.ndarray:
    """Select the records whose class is uncertain over several passes with dropout.

    Needs ``mc_dropout`` (N, T, C), the confidences of the passes. ``score``: ``"margin"`` of the mean
    prediction (measured best), ``"bald"`` (the disagreement of the passes), ``"predictive_entropy"``
    (entropy of the mean), ``"variance"`` (of each confidence over the passes) or ``"variation_ratio"`` (the
    share of passes that vote against the majority). Use it when there is only one model, with dropout. It fails
    with few passes (scores are noise and votes tie) and with dropout so weak that the passes agree on
    everything.

    Source: Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017.
    """
    return _DROPOUT[score](part.numbers("mc_dropout"))


def spread(part: Part, context: None, *, reduction: str = "mean") -> np.ndarray:
    """Select the records whose predicted numbers vary most over passes or members: the score of a regression.

    Needs ``mc_dropout`` (N, T, O) or ``query_by_committee`` (N, K, O): the O numbers that each pass or member
    predicts. The score is their variance, in squared units; ``reduction`` takes the ``"mean"`` or the ``"sum"``
    over the O numbers. Use it for regression. It fails where the noise is in the data and not in the model,
    which the passes agree on, and if the numbers have different units: divide each by its scale first.

    Source: Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016; Burbidge, Rowland and King, "Active
    learning for regression based on query by committee", IDEAL 2007.
    """
    return scores.regression_variance(part.samples(), reduction)


STRATEGIES = (
    Strategy(
        query_by_committee,
        lambda options: (("query_by_committee",),),
        choices={"score": ("vote_entropy", "consensus_kl"), "reduction": ("mean", "max")},
    ),
    Strategy(mc_dropout, lambda options: (("mc_dropout",),), choices={"score": tuple(_DROPOUT)}),
    Strategy(spread, lambda options: (SAMPLES,), choices={"reduction": ("mean", "sum")}),
)
