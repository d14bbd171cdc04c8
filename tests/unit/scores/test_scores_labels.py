"""Scores of labels that do not exclude each other, against their definitions in plain Python and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import entr

from alhelpers import scores

OVER = {"mean": np.mean, "max": np.max}


def binary_entropy(p):
    p = np.asarray(p, dtype=np.float64)
    return (entr(p) + entr(1 - p)) / np.log(2)


PLAIN = {
    "entropy": binary_entropy,
    "margin": lambda p: 1 - np.abs(2 * np.asarray(p, dtype=np.float64) - 1),
    "confidence": lambda p: 1 - np.maximum(p, 1 - np.asarray(p, dtype=np.float64)),
}
probabilities = st.floats(0, 1, width=32)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("score", PLAIN)
@pytest.mark.parametrize("labels", [1, 3, 63, 64, 130])
def test_each_label_by_its_definition(score, over, labels):
    values = np.random.default_rng(labels).beta(0.4, 0.4, size=(300, labels)).astype(np.float32)
    values[0], values[1], values[2] = 0, 1, 0.5
    expected = OVER[over](PLAIN[score](values), axis=1)
    found = scores.label_uncertainty(values, score, over)
    assert found.dtype == np.float32 and found.shape == (300,)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    assert found[:2].tolist() == [0, 0] and found[2] == (0.5 if score == "confidence" else 1)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("labels", [1, 5, 70])
def test_bald_of_each_label_by_its_definition(over, labels):
    samples = np.random.default_rng(labels).beta(0.5, 0.5, size=(200, 6, labels)).astype(np.float32)
    samples[0], samples[1, :3], samples[1, 3:] = samples[0, :1], 0, 1
    each = binary_entropy(samples.mean(axis=1, dtype=np.float64)) - binary_entropy(samples).mean(axis=1)
    found = scores.label_bald(samples, over)
    np.testing.assert_allclose(found, OVER[over](each, axis=1), rtol=1e-5, atol=2e-6)
    assert found[0] < 1e-6 and found[1] == 1  # all agree; each is certain of the opposite of the others


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=probabilities))
def test_a_label_and_its_opposite_are_as_uncertain_and_the_order_of_labels_does_not_count(values):
    for score in PLAIN:
        found = scores.label_uncertainty(values, score, "max")
        opposite = scores.label_uncertainty(1 - values.astype(np.float64), score, "max")
        np.testing.assert_allclose(found, opposite, atol=1e-6)
        np.testing.assert_array_equal(found, scores.label_uncertainty(values[:, ::-1], score, "max"))
        assert (scores.label_uncertainty(values, score, "mean") <= found + 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 4)),
        elements=probabilities,
    )
)
def test_disagreement_is_at_most_the_uncertainty_of_the_mean(samples):
    total = scores.label_uncertainty(samples.mean(axis=1).clip(0, 1), "entropy", "mean")
    found = scores.label_bald(samples, "mean")
    assert (found >= 0).all() and (found <= total + 1e-5).all()


@pytest.mark.parametrize("labels", [2, 63, 64, 200])
def test_no_bit_of_a_score_depends_on_the_records_beside_it(labels):
    rows = np.random.default_rng(1).random((40, 6, labels), dtype=np.float32)
    for score in (lambda each: scores.label_uncertainty(each[:, 0]), scores.label_bald):
        together = score(rows)
        for size in (1, 2, 7, 39):
            pieces = [score(rows[start : start + size]) for start in range(0, 40, size)]
            np.testing.assert_array_equal(np.concatenate(pieces), together)


def test_mistakes_are_named():
    values = np.full((50_000, 4), 0.5)
    for wrong, problem in ((1.5, "holds 1.5, which is not from 0 to 1; logits"), (-0.1, "holds -0.1, which"),
                           (np.nan, "holds NaN or infinity"), (np.inf, "holds NaN or infinity")):  # fmt: skip
        broken = values.copy()
        broken[[40_003, 49_000], 2] = wrong
        with pytest.raises(scores.ScoreError, match=f"row 40003 of confidences {problem}") as error:
            scores.label_uncertainty(broken)
        assert error.value.row == 40_003
        with pytest.raises(scores.ScoreError, match=f"row 40003 of samples {problem}"):
            scores.label_bald(np.stack([values, broken], axis=1))
    with pytest.raises(
        scores.ScoreError, match="score must be 'entropy' or 'margin' or 'confidence', got 'x'"
    ):
        scores.label_uncertainty(values, "x")
    with pytest.raises(scores.ScoreError, match="over must be 'mean' or 'max', got 'sum'"):
        scores.label_bald(values[:, None], over="sum")
    for shape in ((4,), (4, 0), (2, 2, 2)):
        with pytest.raises(
            scores.ScoreError, match=r"confidences must have shape \(N, C\) and at least 1 label"
        ):
            scores.label_uncertainty(np.zeros(shape))
    for shape in ((4, 3), (4, 1, 3), (4, 2, 0)):
        with pytest.raises(scores.ScoreError, match="at least 2 passes or members and at least 1 label"):
            scores.label_bald(np.zeros(shape))
    assert scores.label_uncertainty(np.empty((0, 3))).shape == (0,)


def test_scores_of_one_class_name_the_way_out_for_sigmoids():
    with pytest.raises(
        scores.ScoreError, match="sums to 1.5, not 1; score labels .* by label_uncertainty; logits"
    ):
        scores.entropy([[0.9, 0.6]])
    with pytest.raises(scores.ScoreError, match="sums to 3.5, not 1; logits"):
        scores.entropy([[3.0, 0.5]])
