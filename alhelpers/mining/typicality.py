"""Typicality: for the first labels, when there is no model yet."""

from __future__ import annotations

import heapq

import numpy as np
import pyarrow as pa

from alhelpers.mining._neighbours import as_distance, distinct, nearest
from alhelpers.mining._pool import Pool, Readable, check_enough
from alhelpers.mining._strategy import Part, Picked, Strategy, check_same_size, needs_embeddings
from alhelpers.mining.baseline import uniform

# The size of the sample of a larger pool; k-means on more records would take hours.
_MAX_RECORDS = 100_000

# As in the paper: k-means up to this number of clusters, mini-batch k-means above.
_EXACT_CLUSTERS = 50


def _density(members: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return 1 / (mean distance to the nearest others) of the members of one cluster; 0 if all are equal."""
    first, group = distinct(members)
    if len(first) < 2:
        return np.zeros(len(members), dtype=np.float32)
    points = members[first]  # copies of one record do not make a dense region
    found = nearest(points, points, min(n_neighbors, len(points) - 1), own=np.arange(len(points)))
    density = 1 / (as_distance(found.squared, "euclidean").mean(axis=1) + 1e-5)
    return density.astype(np.float32)[group]


def typicality(
    pool: Pool,
    reference: Part | None,
    size: int,
    seed: int,
    *,
    n_neighbors: int = 20,
    max_clusters: int = 500,
    layer: str | None = None,
) -> Picked:
    """Select the most typical record of each cluster without labels (TypiClust).

    Needs ``embeddings`` (N, D), in the reference too where there is one. Pool and reference are divided by
    k-means into as many clusters as there will be labels, ``max_clusters`` at most; the largest clusters
    with the fewest labels come first, and of each the densest record; copies of what is picked or labelled
    come last in it. The score is the typicality, 1 / (mean distance to the ``n_neighbors`` nearest in the
    cluster, of which equal ones count once), and 0 without others; the selection is ordered by it. Of a pool of
    more than 100,000 records a random sample of that size is used. Use it for the first labels, on embeddings
    that were learnt without labels, or on a few principal components of the pixels (the directions in which
    they vary most). It fails later, as uncertainty is better once a model is good, and in embeddings without
    clusters.

    Source: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low
    budgets", ICML 2022.
    """
    count = sum(map(len, pool.ids()))
    check_enough(size, count)
    sample = _sample(pool, max(_MAX_RECORDS, size), seed)
    points, labelled = sample.embeddings(layer), 0
    if reference is not None:
        base = reference.embeddings(layer)
        check_same_size("typicality", points, base)
        points, labelled = np.concatenate([points, base]), len(base)
    clusters = min(size + labelled, max_clusters, len(points))
    cluster = _clusters(points, clusters, int(np.random.default_rng(seed).integers(2**31)))
    density = np.empty(len(points), dtype=np.float32)
    for number in range(clusters):
        members = np.flatnonzero(cluster == number)
        density[members] = _density(points[members], n_neighbors)
    order = np.roll(np.arange(len(points)), labelled)  # the labelled ones first
    copies = np.ones(len(points), dtype=bool)
    copies[order[distinct(points[order])[0]]] = False
    places = _pick_from_clusters(cluster, density, copies, len(sample), clusters, size)
    ids = sample.ids.take(pa.array(places)).to_pylist()
    pool.report(size, size)
    return Picked(ids, density[places], count, {"clusters": clusters, "sample": len(sample)})


def _sample(pool: Pool, max_records: int, seed: int) -> Part:
    """Return a random sample of at most max_records, in the order of their ids."""
    drawn = np.concatenate([uniform(ids, seed) for ids in pool.ids()])
    limit = np.partition(drawn, max_records - 1)[max_records - 1] if len(drawn) > max_records else 1.0
    table = pa.concat_tables(pool.map(_sample_part, (seed, limit)))
    return Part(table.sort_by("id").combine_chunks())


def _sample_part(part: Readable, drawing: tuple[int, float]) -> pa.Table:
    """Return the records whose random number is at most the limit; a task."""
    seed, limit = drawing
    records = Part.of(part)
    if limit == 1:
        return records.table
    return records.table.filter(pa.array(uniform(records.ids, seed) <= limit))


def _clusters(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Divide points into clusters; (N,) numbers of the clusters."""
    # imported here, as it takes a second and other strategies do not need it
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    if count == len(points):
        return np.arange(count)
    exact = count <= _EXACT_CLUSTERS
    method = (KMeans if exact else MiniBatchKMeans)(count, n_init=3, random_state=seed)
    # several threads add up floats in the order in which they finish: one gives the same clusters every time
    with threadpool_limits(limits=1):
        return method.fit(points).labels_


def _pick_from_clusters(
    cluster: np.ndarray, density: np.ndarray, copies: np.ndarray, pool_size: int, count: int, size: int
) -> np.ndarray:
    """Pick the densest records of the clusters with the fewest labels, the largest clusters first; (size,)."""
    # copies come last in their cluster; the pool is in the order of the ids: ties go by it
    ranked = np.lexsort((-density[:pool_size], copies[:pool_size]))
    members: list[list[int]] = [[] for _ in range(count)]
    for place in ranked[::-1].tolist():  # the best last, where pop takes it from
        members[cluster[place]].append(place)
    labels = np.bincount(cluster[pool_size:], minlength=count)
    sizes = np.bincount(cluster, minlength=count)
    queue = [(int(labels[number]), -int(sizes[number]), number) for number in range(count) if members[number]]
    heapq.heapify(queue)
    places = []
    while len(places) < size:
        labelled, negative_size, number = heapq.heappop(queue)
        places.append(members[number].pop())
        if members[number]:
            heapq.heappush(queue, (labelled + 1, negative_size, number))
    return np.array(places)


STRATEGIES = (
    Strategy(
        typicality,
        needs_embeddings,
        kind="together",
        reference="optional",
        counts=("n_neighbors", "max_clusters"),
    ),
)
