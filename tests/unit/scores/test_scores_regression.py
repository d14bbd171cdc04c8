"""The variance of predicted numbers."""

import numpy as np
import pytest

from alhelpers import scores


@pytest.mark.parametrize("shape", [(5, 2), (40, 20), (7, 3, 4), (3000, 10, 8)])
def test_variance_equals_its_definition(shape):
    samples = np.random.default_rng(0).normal(5, 3, size=shape)
    samples.flags.writeable = False
    by_output = samples.reshape(*shape[:2], -1).var(axis=1)
    found = scores.regression_variance(samples)
    assert found.dtype == np.float32 and found.shape == shape[:1]
    np.testing.assert_allclose(found, by_output.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(scores.regression_variance(samples, "sum"), by_output.sum(axis=1), rtol=1e-5)


def test_one_record_by_hand():
    assert scores.regression_variance([[1, 3]]).tolist() == [1.0]  # ddof 0
    assert scores.regression_variance([[[1, 0], [3, 4]]]).tolist() == [2.5]
    assert scores.regression_variance([[[1, 0], [3, 4]]], "sum").tolist() == [5.0]
    assert scores.regression_variance(np.array([[250, 2]], dtype=np.uint8)).tolist() == [124.0**2]
    assert scores.regression_variance(np.array([[2**32 - 2, 0]], dtype=np.uint32)).tolist() == [2.0**62]
    assert scores.regression_variance(np.array([[6e4, -6e4]], dtype=np.float16)).tolist() == [60_000.0**2]


def test_large_and_nearly_equal_numbers_are_distinguished():
    samples = 1e9 + np.random.default_rng(1).normal(size=(50, 10))
    np.testing.assert_allclose(scores.regression_variance(samples), samples.var(axis=1), rtol=1e-5)
    assert scores.regression_variance(np.full((3, 5), 1e9)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 0), (4, 1, 2), (2, 2, 2, 2)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(scores.ScoreError, match=r"samples must have shape \(N, T\) or \(N, T, D\)"):
        scores.regression_variance(np.zeros(shape))


def test_other_mistakes_are_named():
    samples = np.zeros((20_000, 20))
    samples[17_003, 4] = np.inf
    with pytest.raises(scores.ScoreError, match="row 17003 of samples holds NaN or infinity") as error:
        scores.regression_variance(samples)
    assert error.value.row == 17_003
    with pytest.raises(scores.ScoreError, match='reduction must be "mean" or "sum", got \'max\''):
        scores.regression_variance(samples, "max")
    with pytest.raises(
        scores.ScoreError, match="row 1 of samples has a variance beyond float32; divide"
    ) as error:
        scores.regression_variance([[0.0, 1.0], [1e25, -1e25]])
    assert error.value.row == 1
    assert scores.regression_variance(np.empty((0, 3))).shape == (0,)
