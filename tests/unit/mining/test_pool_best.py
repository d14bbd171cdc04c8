"""The best records of a part, whatever is guessed about their scores."""

import numpy as np
import pyarrow as pa
import pytest

from alhelpers.mining._pool import best_places

KINDS = {
    "all different": lambda count, rng: rng.permutation(count),
    "many equal": lambda count, rng: rng.integers(5, size=count),
    "all equal": lambda count, rng: np.zeros(count),
    "few high": lambda count, rng: np.where(rng.random(count) < 0.002, 1 + rng.random(count), 0),
    "rising": lambda count, rng: np.arange(count),
    "high where nobody looks": lambda count, rng: (np.arange(count) % 16 != 0) * rng.random(count),
    "high where all look": lambda count, rng: (np.arange(count) % 16 == 0) * rng.random(count),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "count, size", [(1, 1), (40, 40), (5_000, 0), (5_000, 7), (20_000, 100), (20_000, 3_000)]
)
def test_best_places_are_those_of_sorting_all(kind, count, size):
    rng = np.random.default_rng(count + size)
    scores, order = KINDS[kind](count, rng).astype(np.float32), rng.permutation(count)
    ids = pa.array([f"item-{number:06d}" for number in order])
    assert best_places(scores, ids, size).tolist() == np.lexsort((order, -scores))[:size].tolist()
