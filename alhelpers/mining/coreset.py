"""Coreset: cover the embeddings with few records."""

from __future__ import annotations

import numpy as np

from alhelpers.mining._neighbours import METRICS, as_distance, squared_distances, squared_distances_to_nearest
from alhelpers.mining._strategy import Part, Picked, Strategy, check_choice, needs_embeddings
from alhelpers.mining.distance import check_same_size


def coreset(
    pool: Part,
    reference: Part | None,
    size: int,
    rng: np.random.Generator,
    *,
    metric: str = "euclidean",
    layer: str | None = None,
) -> Picked:
    """Mine a cover: each pick is the record farthest from all picks and from the reference (k-center greedy).

    Needs ``embeddings`` (N, D), in the reference too where there is one; without, the record nearest to the
    mean is the first. The score is the distance at which a record was picked, which never grows; ties go to
    the smaller id. ``metric``: ``"euclidean"`` or ``"cosine"``. Memory is O(N), time O(N x size x D). Use
    it for large batches and behind an uncertainty score in a cascade. It fails on outliers, which it picks
    first, and where embeddings do not tell classes apart, as in the first rounds.

    References
    ----------
    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    check_choice("coreset", "metric", metric, METRICS)
    vectors = pool.embeddings(layer, metric)
    if reference is None:
        nearest = np.full(len(vectors), np.inf, dtype=np.float32)
        place = int(squared_distances(vectors, vectors.mean(axis=0)).argmin())
    else:
        base = reference.embeddings(layer, metric)
        check_same_size("coreset", vectors, base)
        nearest = squared_distances_to_nearest(vectors, base)
        place = int(nearest.argmax())
    places = np.empty(size, dtype=np.intp)
    squared = np.empty(size, dtype=np.float32)
    for pick in range(size):
        places[pick], squared[pick] = place, nearest[place]
        np.minimum(nearest, squared_distances(vectors, vectors[place]), out=nearest)
        nearest[place] = -1  # below the 0 of what equals a pick, so that none comes twice
        place = int(nearest.argmax())  # the first of equals: the pool is in the order of the ids
    if reference is None:
        # the first had nothing to be far from: it stands for the distance that was left to cover after it
        squared[0] = squared[1] if size > 1 else max(nearest[place], 0)
    return Picked(places, as_distance(squared, metric))


STRATEGIES = (
    Strategy(
        "coreset",
        coreset,
        needs_embeddings,
        reference="optional",
        reference_needs=needs_embeddings,
        picks=True,
    ),
)
