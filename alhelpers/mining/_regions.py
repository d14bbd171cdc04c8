"""Regions of a base of vectors: a search for neighbours leaves out the regions that are too far away.

A region is a centre and the vectors that are nearer to it than to the other centres. By the triangle inequality, none
of its vectors is nearer to a query than the distance to the centre less the radius of the region.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Vectors of a region, on average, so that products with it are large enough to be fast; and the most regions.
_MEMBERS, _REGIONS = 1024, 64

# Vectors from which the centres are made, and steps of k-means.
_SAMPLE, _STEPS = 1024, 4

# Vectors that are compared with all centres at once.
_CHUNK = 4096

# The share of pairs that regions must leave out, for the time that they take.
_WORTH = 0.25

_UNIT_ROUNDOFF = 2.0**-24


class Regions(NamedTuple):
    """Centres, (R, D), radii, (R,), the places of a base by region, (M,), and where each region begins, (R + 1,)."""

    centres: np.ndarray
    radii: np.ndarray
    order: np.ndarray
    offsets: np.ndarray


def one_region(base: np.ndarray) -> Regions:
    """Return a region that is never left out."""
    count, size = base.shape
    return Regions(
        np.zeros((1, size), np.float32),
        np.array([np.inf], np.float32),
        np.arange(count),
        np.array([0, count]),
    )


def regions_of(base: np.ndarray, k: int) -> Regions:
    """Divide a base into regions, unless a search for k neighbours would have to look into nearly all of them."""
    count = min(_REGIONS, len(base) // max(_MEMBERS, 16 * k))
    if count < 2:
        return one_region(base)
    sample = base[np.linspace(0, len(base) - 1, _SAMPLE).astype(np.intp)]
    centres = _centres(sample, count)
    region, away = to_nearest(base, centres)
    radii = np.zeros(len(centres), dtype=np.float32)
    np.maximum.at(radii, region, away)
    order = np.argsort(region, kind="stable")
    sizes = np.bincount(region, minlength=len(centres))
    # as many vectors of the sample are as near as the k nearest of the base, in proportion
    among = np.sort(distance_bounds(sample, sample)[0], axis=1)
    reach = among[:, min(_SAMPLE - 1, -(-k * _SAMPLE // len(base)))]  # the first is the vector itself
    visited = distance_bounds(sample, centres)[0] - radii <= reach[:, None]
    if (visited @ sizes).mean() > (1 - _WORTH) * len(base):
        return one_region(base)
    return Regions(centres, radii, order, np.append(0, np.cumsum(sizes)))


def to_nearest(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre of each vector, and an upper bound of its distance, (N,)."""
    places = np.empty(len(vectors), dtype=np.intp)
    away = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        _, upper = distance_bounds(vectors[rows], centres)
        places[rows], away[rows] = upper.argmin(axis=1), upper.min(axis=1)
    return places, away


def distance_bounds(vectors: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds of the distances of all pairs, (n, m), which are as far apart as rounding errors.

    Both are centred, to keep these errors small.
    """
    lengths = np.einsum("ij,ij->i", vectors, vectors)[:, None] + np.einsum("ij,ij->i", others, others)
    squared = lengths - 2 * (vectors @ others.T)
    error = rounding(vectors.shape[1]) * lengths
    return np.sqrt(np.maximum(squared - error, 0)), np.sqrt(np.maximum(squared + error, 0))


def rounding(size: int) -> float:
    """Return the largest error of the squared distance of two vectors, relative to the sum of their squared lengths.

    The errors of products, lengths, centring and differences add up, each of D roundings or fewer: with
    S = |x|^2 + |y|^2, D S for the products, D S for the lengths, 2 D S for the differences, 16 S for the rest.
    """
    return (4 * size + 16) * _UNIT_ROUNDOFF


def _centres(sample: np.ndarray, count: int) -> np.ndarray:
    """Return centres by k-means, which starts with vectors far from each other."""
    chosen = [0]
    nearest = np.full(len(sample), np.inf)
    while len(chosen) < count:
        np.minimum(nearest, distance_bounds(sample, sample[chosen[-1:]])[0][:, 0], out=nearest)
        chosen.append(int(nearest.argmax()))
    centres = sample[chosen]
    for _ in range(_STEPS):
        region = distance_bounds(sample, centres)[0].argmin(axis=1)
        members = np.bincount(region, minlength=len(centres))
        sums = np.equal(region, np.arange(len(centres))[:, None]).astype(np.float32) @ sample
        centres = (sums[members > 0] / members[members > 0, None]).astype(np.float32)
    return centres
