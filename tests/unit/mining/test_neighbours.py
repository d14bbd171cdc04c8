"""Nearest neighbours against brute force by differences, which is their definition, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from alhelpers.mining import _neighbours, _regions
from alhelpers.mining._neighbours import merge, nearest, squared_distances, squared_to_nearest


def plain(vectors, base, k, own=None):
    """All distances by differences; ties to the smaller place, the own place left out."""
    squared = np.stack([squared_distances(base, vector) for vector in vectors])
    if own is not None:
        squared[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
    places = np.argsort(squared, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(squared, places, axis=1)
    missing = k - places.shape[1]
    places = np.where(np.isfinite(found), places, -1)
    return np.pad(found, ((0, 0), (0, missing)), constant_values=np.inf), np.pad(
        places, ((0, 0), (0, missing)), constant_values=-1
    )


cases = given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    base=st.integers(1, 300),
    size=st.integers(1, 9),
    spread=st.sampled_from([0, 1, 2, 5]),  # 0 is anything; small whole numbers give many ties and duplicates
)


def drawn(seed, count, base, size, spread):
    rng = np.random.default_rng(seed)
    if spread:
        return tuple(rng.integers(spread, size=(n, size)).astype(np.float32) for n in (count, base))
    return tuple((rng.normal(size=(n, size)) + rng.normal() * 100).astype(np.float32) for n in (count, base))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_neighbours, "_BLOCK", 1 << 10)
    monkeypatch.setattr(_neighbours, "_COLUMNS", 64)


@cases
@settings(max_examples=60)
def test_nearest_is_brute_force(seed, count, base, size, spread):
    vectors, others = drawn(seed, count, base, size, spread)
    for k in (20, 3, 2, 1):
        squared, places = plain(vectors, others, k)
        found = nearest(vectors, others, k)
        np.testing.assert_array_equal(found.places, places)
        np.testing.assert_array_equal(found.squared, squared)
    np.testing.assert_array_equal(squared_to_nearest(vectors, others), squared[:, 0])
    limits = np.random.default_rng(seed).permutation(squared[:, 0])
    np.testing.assert_array_equal(
        squared_to_nearest(vectors, others, limits), np.minimum(limits, squared[:, 0])
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("spread", [0, 1, 3])
@pytest.mark.parametrize("k", [1, 7, 70])
def test_nearest_in_several_blocks_is_brute_force(spread, k):
    vectors, base = drawn(5, 50, 300, 4, spread)
    own = np.arange(50) * 3 - 1  # -1 is not there
    squared, places = plain(vectors, base, k, own)
    found = nearest(vectors, base, k, own)
    np.testing.assert_array_equal(found.places, places)
    np.testing.assert_array_equal(found.squared, squared)
    np.testing.assert_array_equal(squared_to_nearest(vectors, base), plain(vectors, base, 1)[0][:, 0])


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 40), spread=st.sampled_from([0, 2]))
@settings(max_examples=30)
def test_neighbours_of_two_parts_are_those_of_the_whole(seed, cut, spread):
    vectors, base = drawn(seed, 10, 40, 3, spread)
    k = 6
    whole = nearest(vectors, base, k)
    parts = [nearest(vectors, part, k) for part in (base[:cut], base[cut:]) if len(part)]
    if cut and cut < 40:
        parts[1] = parts[1]._replace(places=np.where(parts[1].places < 0, -1, parts[1].places + cut))
    empty = parts[0]._replace(
        squared=np.full_like(whole.squared, np.inf), places=np.full_like(whole.places, -1)
    )
    for order in (parts, parts[::-1]):
        found = empty
        for part in order:
            found = merge(found, part, k)
        np.testing.assert_array_equal(found.places, whole.places)
        np.testing.assert_array_equal(found.squared, whole.squared)


def test_a_record_is_not_its_own_neighbour_but_its_duplicates_are():
    base = np.ones((5, 3), dtype=np.float32)
    found = nearest(base, base, 2, own=np.arange(5))
    assert found.places.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    np.testing.assert_array_equal(found.squared, 0)


def test_neighbours_far_from_the_origin_and_of_many_numbers_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    base, vectors = (rng.normal(size=(n, 96)).astype(np.float32) + 50 for n in (3000, 200))
    peer = NearestNeighbors(n_neighbors=12, algorithm="brute").fit(base.astype(np.float64))
    distances, places = peer.kneighbors(vectors.astype(np.float64))
    found = nearest(vectors, base, 12)
    np.testing.assert_array_equal(found.places, places)
    np.testing.assert_allclose(np.sqrt(found.squared), distances, rtol=1e-6)


def test_a_distance_depends_on_its_two_vectors_alone():
    vectors, base = drawn(1, 60, 300, 9, 0)
    whole = squared_to_nearest(vectors, base)
    alone = [squared_to_nearest(vectors[row : row + 1], base)[0] for row in range(60)]
    np.testing.assert_array_equal(whole, np.array(alone))


def test_equals_are_found_at_once(small_blocks, monkeypatch):
    measured = []
    original = _neighbours._Query._squared_distances
    monkeypatch.setattr(
        _neighbours._Query,
        "_squared_distances",
        lambda self, *pairs: measured.append(len(pairs[0])) or original(self, *pairs),
    )
    same = np.ones((64, 4), dtype=np.float32)
    assert not squared_to_nearest(same, np.repeat(same, 20, axis=0)).any()
    assert nearest(same, np.repeat(same, 20, axis=0), 3).places.tolist() == [[0, 1, 2]] * 64
    assert sum(measured) <= 2 * 64 * 64  # no more than one block of columns each, of twenty


@pytest.fixture
def small_regions(monkeypatch):
    monkeypatch.setattr(_regions, "_MEMBERS", 8)
    monkeypatch.setattr(_regions, "_SAMPLE", 64)
    monkeypatch.setattr(_regions, "_WORTH", -1)
    monkeypatch.setattr(_neighbours, "_BLOCK", 1 << 8)
    monkeypatch.setattr(_neighbours, "_COLUMNS", 16)


@pytest.mark.usefixtures("small_regions")
@pytest.mark.parametrize("spread", [0, 1, 2, 5])
@pytest.mark.parametrize("k", [1, 3, 11])
@pytest.mark.parametrize("seed", range(3))
def test_regions_of_clusters_leave_no_neighbour_out(spread, k, seed):
    vectors, base = drawn(seed, 120, 500, 4, spread)
    groups = np.random.default_rng(seed).integers(4, size=(620, 1)).astype(np.float32) * 3
    vectors, base = vectors + groups[:120], base + groups[120:]
    base[:60] = vectors[::2]  # equal vectors are at distance 0, wherever they are
    own = np.where(np.arange(120) % 2, -1, np.arange(120) // 2)
    for without in (None, own):
        squared, places = plain(vectors, base, k, without)
        found = nearest(vectors, base, k, without)
        np.testing.assert_array_equal(found.places, places)
        np.testing.assert_array_equal(found.squared, squared)


@pytest.mark.usefixtures("small_regions")
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0, 2]), resolution=st.sampled_from([0.0, 0.5]))
@settings(max_examples=30)
def test_regions_of_any_vectors_leave_no_neighbour_out(seed, spread, resolution):
    vectors, base = drawn(seed, 30, 200, 3, spread)
    squared = np.stack([squared_distances(base, vector) for vector in vectors])
    squared[squared <= resolution] = 0
    places = np.argsort(squared, axis=1, kind="stable")[:, :5]
    found = nearest(vectors, base, 5, resolution=resolution)
    np.testing.assert_array_equal(found.places, places)
    limits = squared[:, 7].copy()
    near = nearest(vectors, base, 1, limits=limits, resolution=resolution).squared[:, 0]
    np.testing.assert_array_equal(near, np.minimum(squared.min(axis=1), limits))


def test_a_base_is_divided_only_where_that_leaves_much_out():
    rng = np.random.default_rng(0)
    plain_base = rng.normal(size=(6000, 16)).astype(np.float32)
    clusters = plain_base + rng.integers(5, size=(6000, 1)).astype(np.float32) * 20
    assert len(_regions.regions_of(plain_base, 1).radii) == 1
    regions = _regions.regions_of(clusters - clusters.mean(axis=0), 1)
    assert len(regions.radii) == 5
    assert sorted(regions.order) == list(range(6000))
    assert len(_regions.regions_of(clusters[:1500], 1).radii) == 1  # too few
