"""Distance to labelled records: embedding distance, nearest neighbours."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances_to_nearest
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import Part, Scored, Strategy, check_choice, needs_embeddings


def embedding_distance(
    pool: Part, reference: Part, *, metric: str = "euclidean", layer: str | None = None
) -> Scored:
    """Mine far from everything that is labelled: the distance to the nearest reference record.

    Needs ``embeddings`` (N, D) in the pool and in the reference. ``metric``: ``"euclidean"`` or
    ``"cosine"``. Use it to reach parts of the data that no label covers. It fails on noise and broken
    inputs, which are far from everything, and picks the same far group again and again: coreset counts its
    own picks too.

    References
    ----------
    Hu, Mac Namee and Delany, "Off to a good start: using clustering to select the initial training set in
    active learning", FLAIRS 2010 (furthest-first).
    """
    return Scored(_distance("embedding_distance", pool, reference, metric, layer))


def nearest_neighbors(
    pool: Part, reference: Part, *, metric: str = "cosine", layer: str | None = None
) -> Scored:
    """Mine more records like these: the similarity to the nearest reference record, the seed.

    Needs ``embeddings`` (N, D) in the pool and in the reference. ``metric``: ``"cosine"``, scored by the
    similarity, or ``"euclidean"``, scored by minus the distance. Use it with a handful of seeds to find
    more of a rare class or of a kind of mistake. It fails to find anything new, by design; seeds that are
    in the pool find themselves first.

    References
    ----------
    Coleman et al., "Similarity search for efficient active learning and search of rare concepts", AAAI 2022.
    """
    distance = _distance("nearest_neighbors", pool, reference, metric, layer)
    return Scored(1 - distance if metric == "cosine" else -distance)


def _distance(strategy: str, pool: Part, reference: Part, metric: str, layer: str | None) -> np.ndarray:
    """Return the distance of each record to the nearest reference record, (N,) float32."""
    check_choice(strategy, "metric", metric, METRICS)
    vectors, base = pool.embeddings(layer, metric), reference.embeddings(layer, metric)
    check_same_size(strategy, vectors, base)
    return as_distance(squared_distances_to_nearest(vectors, base), metric)


def check_same_size(strategy: str, vectors: np.ndarray, base: np.ndarray) -> None:
    """Raise unless the embeddings of the pool and of the reference are of one size."""
    if vectors.shape[1] != base.shape[1]:
        raise MiningError(
            f"strategy {strategy!r}: the records' embeddings have {vectors.shape[1]} numbers, the reference's "
            f"{base.shape[1]}; take both from one layer of one model"
        )


STRATEGIES = (
    Strategy(
        "embedding_distance",
        embedding_distance,
        needs_embeddings,
        reference="required",
        reference_needs=needs_embeddings,
    ),
    Strategy(
        "nearest_neighbors",
        nearest_neighbors,
        needs_embeddings,
        reference="required",
        reference_needs=needs_embeddings,
    ),
)
