"""Weak activation: inputs that no part of the network responds to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alhelpers import scores
from alhelpers.mining._pool import Pool
from alhelpers.mining._strategy import Needs, Part, Prepared, Strategy, embeddings_field


def activation(
    part: Part, context: None, *, source: str | None = None, layer: str | None = None
) -> np.ndarray:
    """Select the records to which the network responds least: small numbers first.

    Needs ``embeddings`` (N, D), scored by minus their length, or ``logits`` (N, C), scored by their energy,
    minus the logarithm of the sum of their exponentials. ``source``: ``"embeddings"`` (of ``layer``) or
    ``"logits"``; by default the first that exists. Use it to find inputs unlike the training data. It fails
    on layers whose outputs are scaled to one length, and it does not detect confusion between known classes.

    Source: Dhamija, Guenther and Boult, "Reducing network agnostophobia", NeurIPS 2018; Liu et al., "Energy-based
    out-of-distribution detection", NeurIPS 2020.
    """
    field = embeddings_field(layer)
    if source == "logits" or not part.has(field):
        return scores.energy(part.numbers("logits"))
    return scores.activation(part.numbers(field))


def _prepare(
    pool: Pool, reference: Part | None, seed: int, *, source: str | None, layer: str | None
) -> Prepared:
    field = embeddings_field(layer)
    return Prepared(None, {"source": field if field in pool.columns else "logits"})


def _needs(options: Mapping[str, Any]) -> Needs:
    fields = {"embeddings": (embeddings_field(options["layer"]),), "logits": ("logits",)}
    if options["source"] is not None:
        return (fields[options["source"]],)
    # a layer that is given by name is not silently replaced by logits
    return ((*fields["embeddings"], *(fields["logits"] if options["layer"] is None else ())),)


STRATEGIES = (
    Strategy(activation, _needs, prepare=_prepare, choices={"source": (None, "embeddings", "logits")}),
)
