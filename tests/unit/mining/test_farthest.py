import numpy as np
import pytest

from alhelpers.mining import _farthest, coreset, mine
from alhelpers.mining._neighbours import squared_distances


def clustered(rng, count, size):
    centres = rng.normal(size=(5, size)) * 4
    return (rng.normal(size=(count, size)) + centres[rng.integers(5, size=count)]).astype(np.float32)


def isotropic(rng, count, size):
    return rng.normal(size=(count, size)).astype(np.float32)


def in_a_grid(rng, count, size):
    """Many equal vectors and equal distances."""
    return rng.integers(3, size=(count, size)).astype(np.float32)


def far_from_the_origin(rng, count, size):
    """Products of float32 say little about their distances."""
    return isotropic(rng, count, size) + 1000


def greedy(vectors, first, size):
    """Places and squared distances of the picks, from the distances of all vectors to each pick."""
    squared = np.full(len(vectors), np.inf, dtype=np.float32)
    places, found = [first], [np.inf]
    while len(places) < size:
        squared = np.minimum(squared, squared_distances(vectors, vectors[places[-1]]))
        squared[places] = -1
        places.append(int(squared.argmax()))
        found.append(squared[places[-1]])
    return places, np.array(found, dtype=np.float32)


@pytest.mark.parametrize("size", [2, 20])
@pytest.mark.parametrize("made", [clustered, isotropic, in_a_grid, far_from_the_origin])
@pytest.mark.parametrize(("active", "candidates"), [(1 << 18, 1 << 24), (400, 1 << 24), (100, 4000)])
def test_picks_and_scores_are_those_of_all_distances(made, size, active, candidates, monkeypatch):
    monkeypatch.setattr(_farthest, "_ACTIVE", active)
    monkeypatch.setattr(_farthest, "_CENTRES", 8)
    monkeypatch.setattr(coreset, "_CANDIDATES", candidates)
    vectors = made(np.random.default_rng(size), 3000, size)
    rows = [{"id": f"{place:04d}", "embeddings": vector} for place, vector in enumerate(vectors)]
    found = mine(rows, "coreset", 150)
    places, squared = greedy(vectors, int(found.ids[0]), 150)
    assert found.ids == [f"{place:04d}" for place in places]
    np.testing.assert_array_equal(found.scores[1:], np.sqrt(squared[1:]))


def test_a_vector_that_is_near_enough_waits():
    rng = np.random.default_rng(0)
    vectors, centres = isotropic(rng, 500, 4), isotropic(rng, 200, 4)
    squared, seen = np.full(500, np.inf, dtype=np.float32), np.zeros(500, dtype=np.int32)
    _farthest.refresh(vectors, centres, squared, seen, np.arange(0, 500, 2), 0.5)
    away = np.array([squared_distances(centres, vector) for vector in vectors])
    nearest = [each[:count].min(initial=np.inf) for each, count in zip(away, seen, strict=True)]
    np.testing.assert_array_equal(squared, np.array(nearest, dtype=np.float32))
    assert not seen[1::2].any() and ((squared < 0.5) | (seen == 200))[::2].all()
    _farthest.refresh(vectors, centres, squared, seen, np.arange(500))
    np.testing.assert_array_equal(squared, away.min(axis=1))
