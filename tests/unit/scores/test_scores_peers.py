"""Where definitions agree, the scores are those of baal, modAL, scikit-activeml and scipy; where not, it is said."""

import importlib
import warnings

import numpy as np
import pytest
from helpers_scores import CONFIDENCE_SCORES, confidences_of
from scipy.stats import entropy as scipy_entropy

from alhelpers import scores


def imported(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(module)


@pytest.fixture(scope="module")
def baal():
    return imported("baal.active.heuristics")


@pytest.fixture(scope="module")
def skactiveml():
    return imported("skactiveml.pool")


@pytest.fixture(scope="module")
def modal():
    return imported("modAL.uncertainty"), imported("modAL.disagreement")


class Committee:
    """What modAL needs of a committee, with given predictions."""

    def __init__(self, samples):
        self.samples, self.classes_ = samples, np.arange(samples.shape[2])

    def __len__(self):
        return self.samples.shape[1]

    def __iter__(self):
        return iter(range(len(self)))

    def vote(self, _):
        return self.samples.argmax(axis=2)

    def vote_proba(self, _):
        return self.samples


# Few classes, whose blocks are transposed, and many.
SHAPES = [(300, 10), (50, 130), (40, 131)]
SAMPLE_SHAPES = [(200, 5, 10), (60, 20, 3), (30, 4, 70), (20, 3, 301)]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_prediction(shape, baal, modal, skactiveml):
    given = confidences_of(1, shape)
    exact = given.astype(np.float64)
    log_c = np.log(shape[1])
    entropy, margin, least = scores.entropy(given), scores.margin(given), scores.least_confidence(given)
    modal_uncertainty, _ = modal
    for theirs in (
        scipy_entropy(exact, axis=1),
        baal.Entropy().get_uncertainties(exact),
        modal_uncertainty._proba_entropy(exact),
        skactiveml.uncertainty_scores(exact, method="entropy"),
    ):  # in nats there
        np.testing.assert_allclose(entropy * log_c, theirs, atol=5e-6)
    for theirs in (
        1 - baal.Margin().get_uncertainties(exact),  # low means pick there
        1 - modal_uncertainty._proba_margin(exact),
        skactiveml.uncertainty_scores(exact, method="margin_sampling"),
    ):
        np.testing.assert_allclose(margin, theirs, atol=1e-6)
    for theirs in (
        1 - baal.Certainty().get_uncertainties(exact),
        modal_uncertainty._proba_uncertainty(exact),
        skactiveml.uncertainty_scores(exact, method="least_confident"),
    ):
        np.testing.assert_allclose(least, theirs, atol=1e-6)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_several_predictions(shape, baal, modal, skactiveml):
    given = confidences_of(2, shape)[1:]  # without exact zeros, which peers clip
    exact = given.astype(np.float64)
    exact /= exact.sum(axis=2, keepdims=True)
    log_c, committee = np.log(shape[2]), Committee(exact)
    passes_last = np.moveaxis(exact, 1, 2)
    _, disagreement = modal
    np.testing.assert_allclose(
        scores.bald(given) * log_c, baal.BALD().get_uncertainties(passes_last), atol=5e-6
    )
    np.testing.assert_allclose(
        scores.variance(given), baal.Variance().get_uncertainties(passes_last), atol=1e-6
    )
    np.testing.assert_allclose(
        scores.predictive_entropy(given) * log_c, baal.Entropy().get_uncertainties(passes_last), atol=5e-6
    )
    votes = exact.argmax(axis=2)
    for theirs in (
        disagreement.vote_entropy(committee, exact),
        skactiveml.vote_entropy(votes, np.arange(shape[2])),
    ):
        np.testing.assert_allclose(scores.vote_entropy(given) * log_c, theirs, atol=5e-6)
    np.testing.assert_allclose(scores.variation_ratio(given), skactiveml.variation_ratios(votes), atol=1e-6)
    np.testing.assert_allclose(
        scores.consensus_kl(given, "max"), disagreement.KL_max_disagreement(committee, exact), atol=5e-6
    )
    # scikit-activeml clips confidences to 1e-7, in place
    theirs = skactiveml.average_kl_divergence(np.moveaxis(exact, 1, 0).copy())
    np.testing.assert_allclose(scores.consensus_kl(given), theirs, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 63, 64, 65, 129, 300])
def test_ties_and_odd_numbers_of_classes(classes):
    """Coarse confidences, so that the best two and the votes are tied in many rows."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(4, np.full(classes, 1 / classes), size=(200, 6))
    samples = (counts / 4).astype(np.float32)
    single = samples[:, 0]
    ordered = np.sort(single, axis=1)
    np.testing.assert_array_equal(scores.margin(single), 1 - (ordered[:, -1] - ordered[:, -2]))
    np.testing.assert_array_equal(scores.least_confidence(single), 1 - ordered[:, -1])
    votes = samples.argmax(axis=2)
    shares = np.array([np.bincount(row, minlength=classes) for row in votes]) / 6
    np.testing.assert_allclose(scores.variation_ratio(samples), 1 - shares.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        scores.vote_entropy(samples), scipy_entropy(shares, axis=1) / np.log(classes), atol=1e-6
    )
    weights = rng.uniform(size=classes)
    np.testing.assert_allclose(
        scores.weighted_entropy(single, weights),
        scores.entropy(single) * weights[single.argmax(axis=1)],
        rtol=1e-5,
    )


@pytest.mark.parametrize(("passes", "classes"), [(300, 2), (300, 70), (256, 300)])
def test_many_votes_are_counted(passes, classes):
    samples = confidences_of(4, (7, passes, classes))
    shares = np.array([np.bincount(row, minlength=classes) for row in samples.argmax(axis=2)]) / passes
    np.testing.assert_allclose(scores.variation_ratio(samples), 1 - shares.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        scores.vote_entropy(samples), scipy_entropy(shares, axis=1) / np.log(classes), atol=2e-6
    )


@pytest.mark.parametrize("score", CONFIDENCE_SCORES.values())
@pytest.mark.parametrize("classes", [10, 65, 500])
def test_a_score_does_not_depend_on_the_neighbours(score, classes):
    given = confidences_of(5, (3000, classes))
    whole = score(given)
    np.testing.assert_array_equal(whole[1001:1008], score(given[1001:1008]))
    np.testing.assert_array_equal(whole[::-1], score(given[::-1]))


@pytest.mark.parametrize("classes", [70, 300])
def test_a_bad_row_among_many_classes_is_named(classes):
    given = confidences_of(6, (3000, classes))
    for value, problem in [(np.nan, "NaN"), (np.inf, "infinity"), (-0.5, "negative"), (2, "sums")]:
        broken = given.copy()
        broken[2345, 5] = value
        with pytest.raises(scores.ScoreError, match=f"row 2345 of confidences .*{problem}"):
            scores.entropy(broken)
    samples = confidences_of(7, (50, 4, classes))
    samples[31, 2, 8] = np.nan
    with pytest.raises(scores.ScoreError, match="row 31 of samples, sample 2, holds NaN"):
        scores.bald(samples)


@pytest.mark.parametrize("name", ["bald", "predictive_entropy", "mean_margin", "variance"])
def test_pixels_and_their_means(name, baal):
    samples = np.moveaxis(confidences_of(8, (3, 6, 5, 7, 4)), -1, 2)  # (N, T, C, H, W)
    passes_last = np.moveaxis(samples, 1, -1)
    theirs = {
        "bald": lambda: baal.BALD().compute_score(passes_last) / np.log(4),
        "predictive_entropy": lambda: baal.Entropy().compute_score(passes_last) / np.log(4),
        "mean_margin": lambda: 1 - baal.Margin().compute_score(passes_last),
        "variance": lambda: baal.Variance().compute_score(passes_last).mean(axis=1),
    }[name]()
    maps = scores.pixel_map(samples, score=name)
    np.testing.assert_allclose(maps, theirs, atol=3e-6)
    np.testing.assert_allclose(scores.over_pixels(maps), theirs.mean(axis=(1, 2)), atol=3e-6)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_bald_is_the_first_step_of_batch_bald(shape, skactiveml):
    samples = confidences_of(9, shape)
    members = np.moveaxis(samples.astype(np.float64), 1, 0).copy()  # it clips confidences in place, too
    theirs = skactiveml.batch_bald(members, batch_size=1, eps=1e-30, random_state=0)[0]
    np.testing.assert_allclose(scores.bald(samples), theirs / np.log(shape[2]), atol=3e-6)


def test_where_baal_goes_wrong_the_kit_stops(baal):
    given = confidences_of(10, (50, 4))
    broken = given.copy()
    broken[3] = np.nan
    # after one bad row baal takes the softmax of every row, so the scores of the others are no longer theirs
    theirs = baal.Entropy().compute_score(broken)
    assert np.abs(theirs[4:] / np.log(4) - scores.entropy(given)[4:]).max() > 0.1
    with pytest.raises(scores.ScoreError, match="row 3 of confidences holds NaN"):
        scores.entropy(broken)
