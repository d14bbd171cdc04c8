"""Nearest neighbours, shared by the strategies on embeddings."""

from __future__ import annotations

import numpy as np

METRICS = ("euclidean", "cosine")

# Elements of a float32 buffer that stays in the processor's cache.
_CHUNK_ELEMENTS = 1 << 16


def squared_distances(vectors: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of each vector to one, (N,) float32.

    By differences, not by the cheaper expansion into products: equal vectors are at exactly 0, and memory
    stays N.
    """
    result = np.empty(len(vectors), dtype=np.float32)
    step = max(1, _CHUNK_ELEMENTS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        difference = vectors[start : start + step] - center
        np.einsum("ij,ij->i", difference, difference, out=result[start : start + step])
    return result


def squared_distances_to_nearest(vectors: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of each vector to the nearest one of a base, (N,) float32."""
    # imported here: it takes a second, which other strategies need not pay
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(base)
    places = nearest.kneighbors(vectors, return_distance=False)[:, 0]
    result = np.empty(len(vectors), dtype=np.float32)
    step = max(1, _CHUNK_ELEMENTS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        # again by differences: the search finds the right neighbour, but not that equal vectors are at 0
        difference = vectors[start : start + step] - base[places[start : start + step]]
        np.einsum("ij,ij->i", difference, difference, out=result[start : start + step])
    return result


def as_distance(squared: np.ndarray, metric: str) -> np.ndarray:
    """Turn squared Euclidean distances (for the cosine, of unit vectors) into distances of the metric, float32."""
    return (squared / 2 if metric == "cosine" else np.sqrt(squared)).astype(np.float32)
