"""BADGE: uncertain and diverse records, by the gradients that their labels would cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from alhelpers import scores
from alhelpers.mining._pool import Pool, Readable, best_places
from alhelpers.mining._rounds import Rounds, State
from alhelpers.mining._strategy import (
    Needs,
    Part,
    Picked,
    Strategy,
    naming_record,
    needs_confidences,
    needs_embeddings,
)
from alhelpers.mining.baseline import gumbel

# Squared distances come from float32 products: below this share of the norms they are rounding errors.
_ROUNDING = 1e-6

# Puts records at distance 0 behind all others, whatever their noise.
_PENALTY = 1e6

# The number of candidates of a part for each draw, and the number of draws in the first round.
_CANDIDATES, _FIRST_DRAWS = 8, 8


class _Gradients(NamedTuple):
    """Gradient embeddings of records, as the two factors of which they are the outer products."""

    errors: np.ndarray
    embeddings: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, part: Part, layer: str | None) -> _Gradients:
        """Compute the gradients of a part."""
        confidences, embeddings = part.confidences(), part.embeddings(layer)
        if len(part):
            scores.margin(confidences)  # checks them
        errors = confidences.copy()
        errors[np.arange(len(errors)), confidences.argmax(axis=1)] -= 1
        # the inner product of outer products is the product of the factors' inner products
        lengths = np.einsum("ij,ij->i", errors, errors).astype(np.float64)
        lengths *= np.einsum("ij,ij->i", embeddings, embeddings)
        return cls(errors, embeddings, lengths)

    def take(self, places: np.ndarray) -> _Gradients:
        """Return those of some records."""
        return _Gradients(*(values[places] for values in self))

    def squared_to(self, other: _Gradients, place: int) -> np.ndarray:
        """Return the squared distances to one of the others, (N,) float64."""
        shared = np.einsum("ij,j->i", self.errors, other.errors[place]).astype(np.float64)
        shared *= np.einsum("ij,j->i", self.embeddings, other.embeddings[place])
        total = self.lengths + other.lengths[place]
        squared = total - 2 * shared
        squared[squared <= _ROUNDING * total] = 0
        return squared


def badge(pool: Pool, reference: Part | None, size: int, seed: int, *, layer: str | None = None) -> Picked:
    """Select a batch of large and diverse gradients: k-means++ on gradient embeddings.

    Needs ``confidences`` or ``logits`` (N, C) and the ``embeddings`` (N, D) of the layer before the last.
    A gradient embedding is how a label would change the last layer, if it were the predicted class:
    ``(confidences - 1 for the predicted class) x embedding``, of size C x D, and long if the model is
    uncertain. The first pick is the longest; each other is drawn in proportion to the squared distance to the
    nearest pick, which is its score. The C x D vectors are never computed: memory grows with N alone. Use it
    when batches are large and near duplicates common. It fails if the embeddings are not what the last layer
    takes in, and is random, so compare several seeds.

    Source: Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds", ICLR 2020; Yellott,
    "The relationship between Luce's choice axiom, Thurstone's theory ...", 1977 (drawing by Gumbel noise).
    """
    rounds = Rounds(pool, size)
    draws = 1  # the first pick is the longest gradient, without noise
    while len(rounds.ids) < size:
        begun = len(rounds.ids)
        _run_round(rounds, draws, seed, layer)
        draws = min(max(_FIRST_DRAWS, 2 * (len(rounds.ids) - begun)), size - len(rounds.ids))
    return Picked(rounds.ids, np.array(rounds.squared, dtype=np.float32), rounds.count)


# A draw in proportion to weights is the record with the largest log weight + Gumbel noise, and the noise depends on the
# id and the number of the draw. So the draws to come are known up to weights that only shrink: in a round each part
# returns, for several draws, the records that are ahead as candidates, and the key of the next one. Candidates are
# drawn as long as the best of them is ahead of all other records.


class _Context(NamedTuple):
    """The context of the tasks."""

    new: list[_Gradients]  # the picks of the last round, one row each
    first: int  # the number of the first draw
    draws: int
    seed: int
    layer: str | None


class _Candidates(NamedTuple):
    """The distances in a part, the records that are ahead, and the key of the next one for each draw."""

    squared: np.ndarray | None
    places: np.ndarray
    ids: pa.Array
    gradients: _Gradients
    next: np.ndarray


def _run_round(rounds: Rounds, draws: int, seed: int, layer: str | None) -> None:
    """Run a round, and draw as many candidates as are certain."""
    begun = len(rounds.ids)
    sent = rounds.run(_round_of_part, _Context(rounds.new, begun, draws, seed, layer))
    ids = pa.concat_arrays([part.ids for part in sent])
    parts = np.repeat(np.arange(len(sent)), [len(part.ids) for part in sent])
    places = np.concatenate([part.places for part in sent])
    gradients = _Gradients(*map(np.concatenate, zip(*(part.gradients for part in sent), strict=True)))
    squared = gradients.lengths.copy()
    if begun:
        squared = np.concatenate([part.squared[part.places] for part in sent])
    left = np.max([part.next for part in sent], axis=0)
    for draw in range(draws):
        keys = _keys(squared, ids, seed, begun + draw)
        best = int(best_places(keys, ids, 1)[0])
        if keys[best] < left[draw]:
            break
        new = gradients.take(np.array([best]))
        rounds.pick(ids[best].as_py(), squared[best], parts[best], places[best], new)
        away = gradients.squared_to(gradients, best)
        # after the first pick, distances are to the nearest pick
        squared = np.minimum(squared, away) if begun + draw else away
        squared[best] = -1
    rounds.pool.report(len(rounds.ids), rounds.size)


def _keys(squared: np.ndarray, ids: pa.Array, seed: int, draw: int) -> np.ndarray:
    """Return keys of which the largest is drawn, (N,) float64; the picks come last."""
    if draw == 0:
        return squared
    keys = gumbel(ids, seed, draw)
    positive = squared > 0
    keys[positive] += np.log(squared[positive])
    keys[~positive] -= _PENALTY  # records equal to picks are drawn last
    keys[squared < 0] = -np.inf
    return keys


def _round_of_part(item: tuple[Readable, State], context: _Context) -> _Candidates:
    """Compute the distances to the new picks, and return the records that are ahead in the next draws; a task."""
    part, state = item
    records = Part.of(part)
    with naming_record(records.ids, "badge"):
        gradients = _Gradients.of(records, context.layer)
    squared = state.squared
    for new in context.new:
        away = gradients.squared_to(new, 0)
        squared = away if squared is None else np.minimum(squared, away)
    if squared is None:
        squared = gradients.lengths
    else:
        squared[state.taken] = -1
    count = min(_CANDIDATES + 1, len(records))
    ahead, left = [], np.full(context.draws, -np.inf)
    for draw in range(context.draws):
        keys = _keys(squared, records.ids, context.seed, context.first + draw)
        best = best_places(keys, records.ids, count)
        ahead.append(best[:_CANDIDATES])
        if count > _CANDIDATES:
            left[draw] = keys[best[-1]]
    places = np.unique(np.concatenate(ahead)).astype(np.intp)
    ids = records.ids.take(pa.array(places))
    return _Candidates(squared if context.new else None, places, ids, gradients.take(places), left)


def _needs(options: Mapping[str, Any]) -> Needs:
    return needs_confidences(options) + needs_embeddings(options)


STRATEGIES = (Strategy(badge, _needs, kind="together"),)
