"""The decision between two learners: equal to that on their predictions, and what is refused."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from alhelpers import data
from alhelpers.learners import SklearnLearner
from alhelpers.loop import compare_models


def blobs(count, seed, **options):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    inputs = draw.normal(0, 1, (count, 2)) + 2 * labels[:, None]
    return data.arrays(inputs, labels, ["low", "middle", "high"], **options)


@pytest.fixture(scope="module")
def learners():
    labelled = blobs(60, 0)
    both = SklearnLearner(DummyClassifier()), SklearnLearner(LogisticRegression())
    for learner in both:
        learner.fit(labelled)
    return both


def test_the_better_model_wins_with_the_difference_of_the_accuracies(learners):
    test = blobs(200, 1)
    found = compare_models(*learners, test, {"accuracy": {"min_confidence": 0.95}})
    right = [learner.predict(test).confidences.argmax(1) == test.labels() for learner in learners]
    assert found.action == "update model"
    assert (found.previous, found.new) == pytest.approx(tuple(each.mean() for each in right))
    interval = found.metrics[0]["interval"]
    assert 0 < interval["low"] < found.difference < interval["high"]
    back = compare_models(*learners[::-1], test)
    assert back.action == "discard" and back.difference == pytest.approx(-found.difference)
    assert "old" in str(back) and "new" in str(back)


def test_texts_and_numbers_are_ids(learners):
    named = blobs(50, 2, ids=[f"photo-{number}" for number in range(50)])
    counted = blobs(50, 2)
    assert compare_models(*learners, named).difference == compare_models(*learners, counted).difference


def test_average_precision_uses_all_confidences(learners):
    found = compare_models(*learners, blobs(100, 3), {"precision_recall": {}})
    assert found.better and 0 < found.previous < found.new <= 1


def test_wrong_test_sets_and_configurations_are_named(learners):
    with pytest.raises(ValueError, match="class names None"):
        compare_models(*learners, data.ArrayDataset(np.zeros((3, 2)), [0, 1, 2]))
    with pytest.raises(ValueError, match="for regression"):
        compare_models(*learners, data.ArrayDataset(np.zeros((3, 2)), [0.0, 1, 2], task="regression"))
    with pytest.raises(ValueError, match="no labels"):
        compare_models(*learners, data.ArrayDataset(np.zeros((3, 2)), class_names=["low", "middle", "high"]))
    with pytest.raises(ValueError, match="class names of the data set are a, b, c"):
        compare_models(*learners, data.ArrayDataset(np.zeros((3, 2)), [0, 1, 2], ["a", "b", "c"]))
    with pytest.raises(ValueError, match="acuracy"):
        compare_models(*learners, blobs(10, 0), {"acuracy": {}})
