import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers_scores import CONFIDENCE_SCORES, SAMPLE_SCORES, VECTOR_SCORES, confidences_of, plain_entropy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from alhelpers import scores

# Definitions, in plain Python, of one record.


def plain_margin(row):
    first, second = sorted(row, reverse=True)[:2]
    return 1 - (first - second)


def plain_mean(record):
    return [sum(column) / len(record) for column in zip(*record, strict=True)]


def plain_votes(record):
    shares = [0.0] * len(record[0])
    for row in record:
        shares[list(row).index(max(row))] += 1 / len(record)
    return shares


def plain_kls(record):
    consensus = plain_mean(record)
    return [sum(p * math.log(p / q) for p, q in zip(row, consensus, strict=True) if p > 0) for row in record]


def plain_variance(record):
    mean = plain_mean(record)
    each = [sum((row[c] - mean[c]) ** 2 for row in record) / len(record) for c in range(len(mean))]
    return sum(each) / len(each)


PLAIN = {
    "least_confidence": lambda row: 1 - max(row),
    "margin": plain_margin,
    "entropy": plain_entropy,
    "predictive_entropy": lambda record: plain_entropy(plain_mean(record)),
    "mean_margin": lambda record: plain_margin(plain_mean(record)),
    "bald": lambda record: (
        plain_entropy(plain_mean(record)) - sum(plain_entropy(row) for row in record) / len(record)
    ),
    "variance": plain_variance,
    "variation_ratio": lambda record: 1 - max(plain_votes(record)),
    "vote_entropy": lambda record: plain_entropy(plain_votes(record)),
    "consensus_kl": lambda record: sum(plain_kls(record)) / len(record),
    "consensus_kl_max": lambda record: max(plain_kls(record)),
    "activation": lambda row: -math.sqrt(sum(v * v for v in row)),
    "energy": lambda row: -math.log(sum(math.exp(v) for v in row)),
}


SHAPES = {
    **dict.fromkeys(CONFIDENCE_SCORES, [(7, 2), (50, 3), (40, 10), (9, 1000)]),
    **dict.fromkeys(SAMPLE_SCORES, [(7, 2, 2), (30, 5, 10), (20, 20, 3), (5, 3, 200)]),
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in SHAPES for shape in SHAPES[name]])
def test_scores_equal_their_definition(name, shape):
    predictions = confidences_of(1, shape)
    expected = [PLAIN[name](record.tolist()) for record in predictions]
    found = (CONFIDENCE_SCORES | SAMPLE_SCORES)[name](predictions)
    assert found.dtype == np.float32 and found.shape == (shape[0],)
    np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("name", VECTOR_SCORES)
def test_vector_scores_equal_their_definition(name):
    vectors = np.random.default_rng(3).normal(size=(40, 12)).astype(np.float32)
    expected = [PLAIN[name](row.tolist()) for row in vectors]
    np.testing.assert_allclose(VECTOR_SCORES[name](vectors), expected, rtol=2e-6)


def test_consensus_kl_mean_is_bald_in_nats():
    samples = confidences_of(5, (200, 8, 6))
    np.testing.assert_allclose(scores.consensus_kl(samples), scores.bald(samples) * np.log(6), atol=2e-6)


def test_energy_and_softmax_survive_large_logits():
    logits = np.array([[1000.0, 999.0], [-1000.0, -1001.0]])
    np.testing.assert_allclose(scores.energy(logits), -logsumexp(logits, axis=1), rtol=1e-6)
    np.testing.assert_allclose(scores.confidences_from_logits(logits), softmax(logits, axis=1), rtol=1e-5)


def test_known_values_and_directions():
    certain, torn, unsure = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]
    rows = [certain, torn, unsure]
    np.testing.assert_allclose(scores.least_confidence(rows), [0, 0.5, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(scores.margin(rows), [0, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(scores.entropy(rows), [0, np.log(2) / np.log(3), 1], rtol=1e-6)
    agree, disagree = [certain, certain], [certain, [0.0, 1.0, 0.0]]
    for score in SAMPLE_SCORES.values():
        found = score([agree, disagree])
        assert found[0] == 0 and found[1] > 0.1


def test_weighted_entropy_puts_rare_classes_first():
    rows = np.array([[0.6, 0.4], [0.4, 0.6]])
    weights = scores.rarity([90, 8])
    np.testing.assert_allclose(weights, [100 / (2 * 91), 100 / (2 * 9)], rtol=1e-6)
    found = scores.weighted_entropy(rows, weights)
    np.testing.assert_allclose(found, scores.entropy(rows) * weights, rtol=1e-6)
    assert found[1] > found[0]
    np.testing.assert_allclose(scores.rarity([7, 7, 7]), 1, rtol=1e-6)
    assert (scores.weighted_entropy(rows, [0, 0]) == 0).all()


@pytest.mark.parametrize("classes", [2, 5, 100])
def test_rows_sum_to_one_up_to_their_rounding(classes):
    rows = np.full((4, classes), 1 / classes)
    for total, right in ((1.0009, True), (0.9991, True), (1.0011, False), (0.9989, False)):
        rows[2] = total / classes
        for score in CONFIDENCE_SCORES.values():
            if right:
                assert np.isfinite(score(rows)).all()
            else:
                with pytest.raises(scores.ScoreError, match=f"row 2 of confidences sums to {total}"):
                    score(rows)


@pytest.mark.parametrize("name", CONFIDENCE_SCORES)
@pytest.mark.parametrize("shape", [(30_000, 3), (3000, 70), (3000, 300)])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan, 0.5, 0.5], "NaN"),
        ([np.inf, 0.0, 0.0], "infinity"),
        ([0.2, 0.2, 0.2], "sums to 0.6"),
        ([3.0, -1.0, -1.0], "negative number -1"),
        ([4.0, 1.0, 2.0], "confidences_from_logits"),
    ],
)
def test_a_bad_row_is_named_wherever_it_is(name, shape, values, message):
    confidences = confidences_of(7, shape)
    confidences[2345] = [*values, *[0] * (shape[1] - 3)]
    with pytest.raises(scores.ScoreError, match=f"row 2345 of confidences .*{message}") as error:
        CONFIDENCE_SCORES[name](confidences)
    assert error.value.row == 2345


@pytest.mark.parametrize("name", SAMPLE_SCORES)
@pytest.mark.parametrize("classes", [3, 70, 300])
def test_a_bad_sample_is_named(name, classes):
    samples = confidences_of(8, (6, 4, classes))
    samples[4, 2, 1] = np.nan
    with pytest.raises(ValueError, match="row 4 of samples, sample 2, holds NaN"):
        SAMPLE_SCORES[name](samples)


@pytest.mark.parametrize("score", [scores.activation, scores.energy, scores.confidences_from_logits])
def test_vectors_that_are_not_finite_are_named(score):
    vectors = np.ones((20, 4))
    vectors[11, 2] = np.inf
    with pytest.raises(ValueError, match="row 11 of"):
        score(vectors)


BAD_WEIGHTS = [[1.0], [1.0, np.nan], [1.0, -1.0], [[1.0, 1.0]]]
BAD_COUNTS = [[], [-1, 2], [np.nan, 1], [[1, 2]]]
BAD_ROWS = [["a", "b"], [1j, 0], [True, False], [None, 1.0]]
BAD_SAMPLES = [np.full(shape, 1 / shape[-1]) for shape in [(4, 3), (4, 1, 3), (4, 3, 1), (2, 2, 2, 2)]]


@pytest.mark.parametrize(
    ("score", "given", "message"),
    [
        *((scores.weighted_entropy, ([[0.5, 0.5]], w), "weights must be 2 finite") for w in BAD_WEIGHTS),
        *((scores.rarity, (counts,), "class_counts must be one count per class") for counts in BAD_COUNTS),
        *((scores.entropy, ([row],), "array of real numbers") for row in BAD_ROWS),
        *((scores.entropy, (np.ones(s),), "confidences must have shape") for s in [(3,), (3, 1), (2, 2, 2)]),
        *((s, (x,), "samples must have shape") for s in SAMPLE_SCORES.values() for x in BAD_SAMPLES),
        (scores.consensus_kl, (np.full((1, 2, 2), 0.5), "median"), "got 'median'"),
    ],
)
def test_other_mistakes_are_named(score, given, message):
    with pytest.raises(scores.ScoreError, match=message):
        score(*given)


@pytest.mark.parametrize("score", [*CONFIDENCE_SCORES.values(), *VECTOR_SCORES.values()])
def test_no_record_gives_no_score(score):
    found = score(np.empty((0, 3)))
    assert found.shape == (0,) and found.dtype == np.float32


LAYOUTS = [
    np.asfortranarray,
    lambda given: np.repeat(given, 2, 0)[::2],
    lambda given: given[::-1][::-1],
    list,
]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f2", ">f4", ">f8", "longdouble", "u1", "i8", ">i4"]),
    layout=st.sampled_from(LAYOUTS),
    classes=st.sampled_from([2, 5, 70]),
)
def test_arrays_of_every_type_and_layout_are_read_and_not_changed(seed, dtype, layout, classes):
    samples = confidences_of(seed, (6, 3, classes))
    if dtype.endswith(("1", "i8", "i4")):
        samples = np.eye(classes)[samples.argmax(axis=2)]  # whole numbers are votes
    samples = samples.astype(dtype)
    exact, before = samples.astype(np.float64), samples.copy()
    samples.flags.writeable = False
    atol = 2e-3 if "f2" in dtype else 3e-6  # rows of float16 do not sum to exactly 1
    for name, score in SAMPLE_SCORES.items():
        expected = [PLAIN[name](record) for record in exact.tolist()]
        np.testing.assert_allclose(score(layout(samples)), expected, atol=atol)
    for name, score in CONFIDENCE_SCORES.items():
        expected = [PLAIN[name](row) for row in exact[:, 0].tolist()]
        np.testing.assert_allclose(score(layout(samples[:, 0])), expected, atol=atol)
        if dtype == "f8":
            nullable = pd.DataFrame(exact[:, 0]).astype("Float64")
            np.testing.assert_array_equal(score(nullable), score(exact[:, 0]))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("score", CONFIDENCE_SCORES.values())
def test_masked_and_missing_values_are_named(score):
    rows = np.full((4, 2), 0.5)
    np.testing.assert_array_equal(score(np.ma.array(rows, mask=False)), score(rows))
    with pytest.raises(
        scores.ScoreError, match="row 2 of confidences is masked; leave the record out"
    ) as error:
        score(np.ma.array(rows, mask=[[0, 0], [0, 0], [0, 1], [1, 1]]))
    assert error.value.row == 2
    frame = pd.DataFrame(rows).astype("Float64")
    frame.iloc[3, 1] = pd.NA
    with pytest.raises(scores.ScoreError, match="row 3 of confidences holds NaN"):
        score(frame)


HALF = np.full((3, 2), 0.5)
MASK = [[0, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("score", "given"),
    [
        (lambda votes: scores.vote_entropy_from_votes(votes, 2), np.ma.array([[0, 1]] * 3, mask=MASK)),
        (lambda weights: scores.weighted_entropy(HALF, weights), np.ma.array([1, 2], mask=[0, 1])),
        (scores.rarity, np.ma.array([1, 2], mask=[0, 1])),
        (lambda labels: scores.calibrate(np.zeros((3, 2)), labels), np.ma.array([0, 1, 1], mask=[0, 1, 0])),
        (lambda regions: scores.over_regions(HALF[:, None], regions), np.ma.array(MASK, mask=MASK)[:, None]),
        (scores.over_pixels, np.ma.array(HALF, mask=MASK)[:, None]),
        (scores.regression_variance, np.ma.array(HALF, mask=MASK)),
        (scores.energy, np.ma.array(HALF, mask=MASK)),
    ],
)
def test_a_mask_is_never_left_out_of_account(score, given):
    with pytest.raises(scores.ScoreError, match="row 1 of .* is masked"):
        score(given)


@given(
    st.lists(
        st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=3, max_size=3), min_size=1, max_size=5
    )
)
def test_activations_of_every_size_have_their_norm(rows):
    vectors = np.array(rows, dtype=np.float32)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    with np.errstate(over="ignore"):
        expected = -norms.astype(np.float32)
    np.testing.assert_allclose(scores.activation(vectors), expected, rtol=1e-6)


@pytest.mark.parametrize("use", [scores.confidences_from_logits, scores.energy])
@pytest.mark.parametrize("shape", [(40, 3), (5000, 200)])
def test_confidences_given_as_logits_are_warned_of(use, shape):
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    confidences = scores.confidences_from_logits(logits)
    with pytest.warns(
        UserWarning, match="the logits are confidences already: none is negative and all rows sum"
    ):
        use(confidences)
    confidences[-1, :2] += [0.5, 0.25]  # one record is enough to show that they are logits
    for honest in (logits, confidences, np.empty((0, 3)), np.log(softmax(logits, axis=1))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(honest)


@pytest.mark.parametrize("score", CONFIDENCE_SCORES.values())
@pytest.mark.parametrize("shape", [(30_001, 5), (3000, 65), (3000, 500)])
def test_neither_layout_nor_chunks_change_a_score(score, shape):
    confidences = confidences_of(11, shape)
    whole = score(confidences)
    np.testing.assert_array_equal(score(np.asfortranarray(confidences)), whole)
    for rows in (np.s_[::2], np.s_[::-1], np.s_[1001:1008], np.s_[-10_001:-9901]):
        np.testing.assert_array_equal(score(confidences[rows]), whole[rows])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.0, 0.1, 1.0, 5.0, 50.0]))
def test_algebra(seed, sharpness):
    rng = np.random.default_rng(seed)
    n, s, c = rng.integers(2, 7, size=3)
    samples = softmax(rng.normal(size=(n, s, c)) * sharpness, axis=-1).astype(np.float32)
    records, members, classes = rng.permutation(n), rng.permutation(s), rng.permutation(c)
    for name, score in SAMPLE_SCORES.items():
        found = score(samples)
        upper = np.log(s) if name.startswith("consensus_kl") else 1
        assert (found >= 0).all() and (found <= upper + 1e-5).all()
        np.testing.assert_array_equal(found[records], score(samples[records]))
        np.testing.assert_allclose(found, score(samples[:, members]), atol=1e-5)
        if sharpness:  # equal confidences are voted for by position
            np.testing.assert_allclose(found, score(samples[:, :, classes]), atol=1e-5)
    for score in CONFIDENCE_SCORES.values():
        found = score(samples[:, 0])
        assert (found >= 0).all() and (found <= 1).all()
        np.testing.assert_allclose(found, score(samples[:, 0][:, classes]), atol=1e-5)
    same = np.repeat(samples[:, :1], 3, axis=1)
    np.testing.assert_allclose(scores.mean_margin(same), scores.margin(samples[:, 0]), atol=1e-6)


def test_the_module_imports_numpy_only():
    code = (
        "import sys, alhelpers, alhelpers.scores\n"
        "heavy = {'torch', 'dtlpy', 'IPython', 'papermill', 'pandas', 'pyarrow', 'scipy', 'sklearn'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
