"""Draws that belong to an id."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from alhelpers.mining.baseline import gumbel, uniform

KINDS = {
    "strings": [f"item-{number:06d}" for number in range(20_000)],
    "numbers": list(range(20_000)),
    "long": [f"{number}-{'x' * (number % 50)}" for number in range(20_000)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_uniform_and_independent(kind):
    # Fixed ids and seeds, so this fails never or always; for others each assertion fails in less than 1 of 10^5 cases.
    ids = pa.array(KINDS[kind])
    drawn = uniform(ids, 3)
    assert len(set(drawn.tolist())) == len(ids) and 0 < drawn.min() and drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-5
    for other in (uniform(ids, 4), uniform(ids, 3, draw=1), np.roll(drawn, 1)):
        assert abs(np.corrcoef(drawn, other)[0, 1]) < 4.5 / np.sqrt(len(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_depends_on_seed_number_and_id_alone(kind):
    ids = pa.array(KINDS[kind])
    drawn = uniform(ids, 7, 2)
    order = np.random.default_rng(0).permutation(len(ids))[:50]
    np.testing.assert_array_equal(uniform(ids.take(pa.array(order)), 7, 2), drawn[order])
    np.testing.assert_array_equal(uniform(ids.slice(100, 30), 7, 2), drawn[100:130])
    np.testing.assert_array_equal(
        np.concatenate([uniform(ids[k : k + 1], 7, 2) for k in range(20)]), drawn[:20]
    )


def test_seeds_of_any_size_differ():
    ids = pa.array(["a", "b"])
    drawn = [tuple(uniform(ids, seed)) for seed in (0, 1, 2**64 - 1, 2**64, 2**64 + 1, 2**200)]
    assert len(set(drawn)) == len(drawn)


def test_the_noise_is_gumbels():
    assert stats.kstest(gumbel(pa.array(KINDS["strings"]), 1), "gumbel_r").pvalue > 1e-5


def test_draws_stay_the_same_in_every_version():
    assert uniform(pa.array(["item-1", "item-2"]), 3).tolist() == [0.9462481322674632, 0.20178199436870242]
    assert uniform(pa.array([1, 2]), 2**70, 4).tolist() == [0.6054871839221796, 0.46966758421908167]
