"""Where definitions agree, the scores are those of baal, modAL, scikit-activeml and scipy; where not, how they differ.

Peers are imported inside the tests, so that one of them that does not load fails its own tests alone.
"""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from alhelpers import scores

# Peers work in float32 or float64; scores are float32 numbers of order 1.
SAME = 3e-6
SHAPES = [(60, 2), (200, 10), (9, 1000)]
SAMPLE_SHAPES = [(30, 2, 2), (200, 5, 10), (40, 20, 3), (10, 4, 100)]


def confidences_of(shape, seed=0):
    return softmax(np.random.default_rng(seed).normal(size=shape) * 3, axis=-1).astype(np.float32)


def committee_of(samples):
    """A committee as modAL has them, of learners that have predicted already."""
    from modAL.models import ActiveLearner, Committee
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Remembered(ClassifierMixin, BaseEstimator):
        def __init__(self, confidences):
            self.confidences, self.classes_ = confidences, np.arange(confidences.shape[1])

        def predict_proba(self, _):
            return self.confidences

        def predict(self, _):
            return self.confidences.argmax(axis=1)

    learners = [ActiveLearner(Remembered(samples[:, member])) for member in range(samples.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        committee = Committee(learners)
    committee.classes_ = np.arange(samples.shape[2])
    committee.n_classes_ = samples.shape[2]
    return committee


@pytest.mark.parametrize("shape", SHAPES)
def test_one_prediction_a_record_as_baal_has_it(shape):
    from baal.active import heuristics

    given = confidences_of(shape)
    np.testing.assert_allclose(
        scores.entropy(given), heuristics.Entropy().compute_score(given) / np.log(shape[1]), atol=SAME
    )
    np.testing.assert_allclose(scores.margin(given), 1 - heuristics.Margin().compute_score(given), atol=SAME)
    np.testing.assert_allclose(
        scores.least_confidence(given), 1 - heuristics.Certainty().compute_score(given), atol=SAME
    )


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_several_predictions_a_record_as_baal_has_it(shape):
    from baal.active import heuristics

    samples = confidences_of(shape)
    of_baal = np.moveaxis(samples, 1, 2)  # (N, C, T)
    log_c = np.log(shape[2])
    np.testing.assert_allclose(
        scores.bald(samples), heuristics.BALD().compute_score(of_baal) / log_c, atol=SAME
    )
    np.testing.assert_allclose(
        scores.predictive_entropy(samples), heuristics.Entropy().compute_score(of_baal) / log_c, atol=SAME
    )
    np.testing.assert_allclose(
        scores.mean_margin(samples), 1 - heuristics.Margin().compute_score(of_baal), atol=SAME
    )
    np.testing.assert_allclose(
        scores.variance(samples), heuristics.Variance().compute_score(of_baal).mean(axis=1), atol=SAME
    )


@pytest.mark.parametrize("score", ["bald", "predictive_entropy", "mean_margin", "variance"])
def test_pixels_as_baal_has_them(score):
    from baal.active import heuristics

    samples = np.moveaxis(confidences_of((3, 6, 5, 7, 4)), -1, 2)  # (N, T, C, H, W)
    of_baal, log_c = np.moveaxis(samples, 1, -1), np.log(4)  # (N, C, H, W, T)
    expected = {
        "bald": lambda: heuristics.BALD().compute_score(of_baal) / log_c,
        "predictive_entropy": lambda: heuristics.Entropy().compute_score(of_baal) / log_c,
        "mean_margin": lambda: 1 - heuristics.Margin().compute_score(of_baal),
        "variance": lambda: heuristics.Variance().compute_score(of_baal).mean(axis=1),
    }[score]()
    np.testing.assert_allclose(scores.pixel_map(samples, score=score), expected, atol=SAME)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_prediction_a_record_as_modal_has_it(shape):
    from modAL.uncertainty import classifier_entropy, classifier_margin, classifier_uncertainty

    given = confidences_of(shape)
    classifier = SimpleNamespace(predict_proba=lambda pool: given)
    np.testing.assert_allclose(
        scores.entropy(given), classifier_entropy(classifier, given) / np.log(shape[1]), atol=SAME
    )
    np.testing.assert_allclose(scores.margin(given), 1 - classifier_margin(classifier, given), atol=SAME)
    np.testing.assert_allclose(
        scores.least_confidence(given), classifier_uncertainty(classifier, given), atol=SAME
    )


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_committees_as_modal_has_them(shape):
    from modAL.disagreement import KL_max_disagreement, consensus_entropy

    samples = confidences_of(shape)
    committee, pool = committee_of(samples), np.zeros((shape[0], 1))
    np.testing.assert_allclose(
        scores.consensus_kl(samples, reduction="max"), KL_max_disagreement(committee, pool), atol=SAME
    )
    np.testing.assert_allclose(
        scores.predictive_entropy(samples), consensus_entropy(committee, pool) / np.log(shape[2]), atol=SAME
    )


def test_votes_as_modal_has_them():
    from modAL.disagreement import vote_entropy

    for shape in SAMPLE_SHAPES:
        samples = confidences_of(shape)
        found = vote_entropy(committee_of(samples), np.zeros((shape[0], 1)))
        np.testing.assert_allclose(scores.vote_entropy(samples), found / np.log(shape[2]), atol=SAME)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_prediction_a_record_as_scikit_activeml_has_it(shape):
    from skactiveml.pool import uncertainty_scores

    given = confidences_of(shape)
    for score, method, unit in [
        (scores.least_confidence, "least_confident", 1),
        (scores.margin, "margin_sampling", 1),
        (scores.entropy, "entropy", np.log(shape[1])),
    ]:
        expected = uncertainty_scores(given.astype(float), method=method) / unit
        np.testing.assert_allclose(score(given), expected, atol=SAME)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_committees_as_scikit_activeml_has_them(shape):
    from skactiveml.pool import average_kl_divergence, variation_ratios, vote_entropy

    samples = confidences_of(shape)
    votes, classes = samples.argmax(axis=2), np.arange(shape[2])
    np.testing.assert_allclose(
        scores.vote_entropy(samples), vote_entropy(votes, classes) / np.log(shape[2]), atol=SAME
    )
    np.testing.assert_allclose(scores.variation_ratio(samples), variation_ratios(votes), atol=SAME)
    # it clips confidences at eps, in place in what it is given
    members = np.moveaxis(samples.astype(float), 1, 0).copy()
    np.testing.assert_allclose(
        scores.consensus_kl(samples), average_kl_divergence(members, eps=1e-30), atol=SAME
    )


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_bald_as_scikit_activeml_has_it(shape):
    from skactiveml.pool import batch_bald

    samples = confidences_of(shape)
    members = np.moveaxis(samples.astype(float), 1, 0).copy()  # it clips in place, too
    found = batch_bald(members, batch_size=1, eps=1e-30, random_state=0)[0]
    np.testing.assert_allclose(scores.bald(samples), found / np.log(shape[2]), atol=SAME)


@pytest.mark.parametrize("shape", SAMPLE_SHAPES)
def test_entropies_and_divergences_as_scipy_has_them(shape):
    from scipy.stats import entropy

    samples = confidences_of(shape).astype(float)
    mean, log_c = samples.mean(axis=1), np.log(shape[2])
    divergences = entropy(samples, mean[:, None], axis=2)
    shares = np.stack([(samples.argmax(axis=2) == c).mean(axis=1) for c in range(shape[2])], axis=1)
    for found, expected in [
        (scores.entropy(samples[:, 0]), entropy(samples[:, 0], axis=1) / log_c),
        (scores.predictive_entropy(samples), entropy(mean, axis=1) / log_c),
        (scores.bald(samples), divergences.mean(axis=1) / log_c),
        (scores.consensus_kl(samples), divergences.mean(axis=1)),
        (scores.consensus_kl(samples, reduction="max"), divergences.max(axis=1)),
        (scores.vote_entropy(samples), entropy(shares, axis=1) / log_c),
    ]:
        np.testing.assert_allclose(found, expected, atol=SAME)


def test_where_baal_goes_wrong_the_kit_stops():
    from baal.active import heuristics

    given = confidences_of((50, 4))
    broken = given.copy()
    broken[3] = np.nan
    # one bad row, and baal takes the softmax of every row: the others' scores are no longer theirs
    found = heuristics.Entropy().compute_score(broken)
    assert np.abs(found[4:] / np.log(4) - scores.entropy(given)[4:]).max() > 0.1
    with pytest.raises(scores.ScoreError, match="row 3 of confidences holds NaN"):
        scores.entropy(broken)
