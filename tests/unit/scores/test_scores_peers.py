"""Where definitions agree, the scores are those of baal, modAL, scikit-activeml and scipy; where not, it is said."""

import importlib
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_scores import confidences_of
from scipy.stats import entropy as scipy_entropy

from alhelpers import scores


def imported(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(module)


@pytest.fixture(scope="module")
def peers():
    return SimpleNamespace(
        baal=imported("baal.active.heuristics"),
        skactiveml=imported("skactiveml.pool"),
        modal=imported("modAL.uncertainty"),
        disagreement=imported("modAL.disagreement"),
    )


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
def test_one_prediction(shape, peers):
    given = confidences_of(1, shape)
    exact = given.astype(np.float64)
    nats = scores.entropy(given) * np.log(shape[1])
    margin, least = scores.margin(given), scores.least_confidence(given)
    for ours, theirs in (
        (nats, scipy_entropy(exact, axis=1)),
        (nats, peers.baal.Entropy().get_uncertainties(exact)),
        (nats, peers.modal._proba_entropy(exact)),
        (nats, peers.skactiveml.uncertainty_scores(exact, method="entropy")),
        (margin, 1 - peers.baal.Margin().get_uncertainties(exact)),  # low means pick there
        (margin, 1 - peers.modal._proba_margin(exact)),
        (margin, peers.skactiveml.uncertainty_scores(exact, method="margin_sampling")),
        (least, 1 - peers.baal.Certainty().get_uncertainties(exact)),
        (least, peers.modal._proba_uncertainty(exact)),
        (least, peers.skactiveml.uncertainty_scores(exact, method="least_confident")),
    ):
        np.testing.assert_allclose(ours, theirs, atol=5e-6 if ours is nats else 1e-6)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_several_predictions(shape, peers):
    given = confidences_of(2, shape)[1:]  # without exact zeros, which peers clip
    exact = given.astype(np.float64)
    exact /= exact.sum(axis=2, keepdims=True)
    log_c, committee, votes = np.log(shape[2]), Committee(exact), exact.argmax(axis=2)
    passes_last = np.moveaxis(exact, 1, 2)
    baal, disagreement, skactiveml = peers.baal, peers.disagreement, peers.skactiveml
    vote_entropy = scores.vote_entropy(given) * log_c
    # scikit-activeml clips confidences to 1e-7, in place
    average_kl = skactiveml.average_kl_divergence(np.moveaxis(exact, 1, 0).copy())
    for ours, theirs, atol in (
        (scores.bald(given) * log_c, baal.BALD().get_uncertainties(passes_last), 5e-6),
        (scores.variance(given), baal.Variance().get_uncertainties(passes_last), 1e-6),
        (scores.predictive_entropy(given) * log_c, baal.Entropy().get_uncertainties(passes_last), 5e-6),
        (vote_entropy, disagreement.vote_entropy(committee, exact), 5e-6),
        (vote_entropy, skactiveml.vote_entropy(votes, np.arange(shape[2])), 5e-6),
        (scores.variation_ratio(given), skactiveml.variation_ratios(votes), 1e-6),
        (scores.consensus_kl(given, "max"), disagreement.KL_max_disagreement(committee, exact), 5e-6),
        (scores.consensus_kl(given), average_kl, 1e-5),
    ):
        np.testing.assert_allclose(ours, theirs, atol=atol)


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


@pytest.mark.parametrize("name", ["bald", "predictive_entropy", "mean_margin", "variance"])
def test_pixels_and_their_means(name, peers):
    samples = np.moveaxis(confidences_of(8, (3, 6, 5, 7, 4)), -1, 2)  # (N, T, C, H, W)
    passes_last = np.moveaxis(samples, 1, -1)
    theirs = {
        "bald": lambda: peers.baal.BALD().compute_score(passes_last) / np.log(4),
        "predictive_entropy": lambda: peers.baal.Entropy().compute_score(passes_last) / np.log(4),
        "mean_margin": lambda: 1 - peers.baal.Margin().compute_score(passes_last),
        "variance": lambda: peers.baal.Variance().compute_score(passes_last).mean(axis=1),
    }[name]()
    maps = scores.pixel_map(samples, score=name)
    np.testing.assert_allclose(maps, theirs, atol=3e-6)
    np.testing.assert_allclose(scores.over_pixels(maps), theirs.mean(axis=(1, 2)), atol=3e-6)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_bald_is_the_first_step_of_batch_bald(shape, peers):
    samples = confidences_of(9, shape)
    members = np.moveaxis(samples.astype(np.float64), 1, 0).copy()  # it clips confidences in place, too
    theirs = peers.skactiveml.batch_bald(members, batch_size=1, eps=1e-30, random_state=0)[0]
    np.testing.assert_allclose(scores.bald(samples), theirs / np.log(shape[2]), atol=3e-6)


def test_where_baal_goes_wrong_the_kit_stops(peers):
    given = confidences_of(10, (50, 4))
    broken = given.copy()
    broken[3] = np.nan
    # after one bad row baal takes the softmax of every row, so the scores of the others are no longer theirs
    theirs = peers.baal.Entropy().compute_score(broken)
    assert np.abs(theirs[4:] / np.log(4) - scores.entropy(given)[4:]).max() > 0.1
    with pytest.raises(scores.ScoreError, match="row 3 of confidences holds NaN"):
        scores.entropy(broken)
