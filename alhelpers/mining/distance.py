"""Distance to labelled records: embedding distance, nearest neighbours."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._neighbours import METRICS, as_distance, squared_to_nearest
from alhelpers.mining._pool import Pool
from alhelpers.mining._strategy import Part, Prepared, Strategy, check_same_size, needs_embeddings


def _distance(strategy: str, part: Part, base: np.ndarray, metric: str, layer: str | None) -> np.ndarray:
    """Return the distance of each record to the nearest reference record, (N,) float32."""
    vectors = part.embeddings(layer, metric)
    check_same_size(strategy, vectors, base)
    return as_distance(squared_to_nearest(vectors, base), metric)


def embedding_distance(
    part: Part, context: np.ndarray, *, metric: str = "euclidean", layer: str | None = None
) -> np.ndarray:
    """Select the records farthest from all labelled ones: the distance to the nearest reference record.

    Needs ``embeddings`` (N, D) in the pool and in the reference. ``metric``: ``"euclidean"`` or
    ``"cosine"``. Use it to reach parts of the data without labels. It fails on noise and broken
    inputs, which are far from everything, and chooses one far group again and again: coreset also considers
    its own picks.

    Source: Hu, Mac Namee and Delany, "Off to a good start: using clustering to select the initial training set in
    active learning", FLAIRS 2010 (furthest-first).
    """
    return _distance("embedding_distance", part, context, metric, layer)


def nearest_neighbors(
    part: Part, context: np.ndarray, *, metric: str = "cosine", layer: str | None = None
) -> np.ndarray:
    """Select the records most like the reference: the similarity to the nearest reference record.

    Needs ``embeddings`` (N, D) in the pool and in the reference. ``metric``: ``"cosine"``, scored by the
    similarity, or ``"euclidean"``, scored by minus the distance. Use it with a few examples as the
    reference, to find more of a rare class or of a kind of mistake. It fails to find anything new, by design;
    examples that are in the pool come first themselves.

    Source: Coleman et al., "Similarity search for efficient active learning and search of rare concepts", AAAI 2022.
    """
    distance = _distance("nearest_neighbors", part, context, metric, layer)
    return 1 - distance if metric == "cosine" else -distance


def _prepare(pool: Pool, reference: Part, seed: int, *, metric: str, layer: str | None) -> Prepared:
    return Prepared(reference.embeddings(layer, metric))


STRATEGIES = tuple(
    Strategy(run, needs_embeddings, prepare=_prepare, reference="required", choices={"metric": METRICS})
    for run in (embedding_distance, nearest_neighbors)
)
