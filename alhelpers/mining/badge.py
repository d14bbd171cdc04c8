"""BADGE: uncertain and different at once, by the gradients that labels would cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alhelpers import scores
from alhelpers.mining._strategy import Needs, Part, Picked, Strategy, needs_confidences, needs_embeddings

# Squared distances come from float32 products: below this share of the norms they are rounding.
_ROUNDING = 1e-6


def badge(
    pool: Part, reference: Part | None, size: int, rng: np.random.Generator, *, layer: str | None = None
) -> Picked:
    """Mine a batch of large and different gradients: k-means++ on gradient embeddings.

    Needs ``confidences`` or ``logits`` (N, C) and the ``embeddings`` (N, D) of the layer before the last.
    The gradient embedding of a record is ``(confidences - one-hot of the predicted class) x embedding``, of
    size C x D, long where the model is unsure. The first pick is the longest; each other is drawn in
    proportion to the squared distance to the nearest pick, which is its score. The C x D vectors are never
    made: memory is O(N). Use it when batches are large and near duplicates common. It fails where the
    embeddings are not those of the last layer, and is random, so one seed says little.

    References
    ----------
    Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds", ICLR 2020.
    """
    confidences, embeddings = pool.confidences(), pool.embeddings(layer)
    scores.margin(confidences)  # checks them as every strategy on confidences does
    errors = confidences.copy()
    errors[np.arange(len(errors)), confidences.argmax(axis=1)] -= 1
    # the product of two outer products is the product of their factors' products
    norms = np.einsum("ij,ij->i", errors, errors).astype(np.float64)
    norms *= np.einsum("ij,ij->i", embeddings, embeddings)
    nearest, places, values = norms.copy(), np.empty(size, dtype=np.intp), np.empty(size)
    taken = np.zeros(len(norms), dtype=bool)
    for pick in range(size):
        place = int(nearest.argmax()) if pick == 0 else _draw(nearest, taken, rng)
        places[pick], values[pick] = place, nearest[place]
        taken[place] = True
        shared = (errors @ errors[place]).astype(np.float64) * (embeddings @ embeddings[place])
        total = norms + norms[place]
        squared = total - 2 * shared
        squared[squared <= _ROUNDING * total] = 0
        # the first pick is measured from nothing, all later ones from the nearest pick
        nearest = squared if pick == 0 else np.minimum(nearest, squared)
        nearest[taken] = 0
    return Picked(places, values.astype(np.float32))


def _draw(weights: np.ndarray, taken: np.ndarray, rng: np.random.Generator) -> int:
    """Draw a place that is not taken, in proportion to its weight; any one where all weights are 0."""
    sums = np.cumsum(weights)
    if sums[-1] <= 0:
        return int(rng.choice(np.flatnonzero(~taken)))
    # a draw that rounds up to the whole sum would fall off the end
    last = int(np.flatnonzero(weights > 0)[-1])
    return min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), last)


def _needs(options: Mapping[str, Any]) -> Needs:
    return needs_confidences(options) + needs_embeddings(options)


STRATEGIES = (Strategy("badge", badge, _needs, picks=True),)
