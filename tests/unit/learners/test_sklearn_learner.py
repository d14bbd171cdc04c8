"""What is particular to scikit-learn's estimators."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from alhelpers import data
from alhelpers.learners import SklearnLearner


def table(classes=(0, 2), form=np.asarray, **options):
    labels = np.resize(classes, 40)
    features = np.random.default_rng(0).normal(size=(40, 5)) + labels[:, None]
    return data.ArrayDataset(form(features), labels, ["a", "b", "c", "d"], **options)


def test_classes_that_were_never_seen_have_no_confidence():
    learner = SklearnLearner(LogisticRegression())
    learner.fit(table())
    confidences = learner.predict(table()).confidences
    assert confidences.shape == (40, 4)
    assert (confidences[:, [1, 3]] == 0).all() and (confidences[:, [0, 2]] > 0).all()
    # without names, the classes are those that the labels count up to
    plain = data.ArrayDataset(table().inputs(), table().labels())
    learner.fit(plain)
    assert learner.predict(plain).confidences.shape == (40, 3)


def test_sparse_inputs_stay_sparse_and_embeddings_are_what_goes_into_the_last_step():
    dense, sparse = table(), table(form=csr_matrix)
    learner = SklearnLearner(make_pipeline(SelectKBest(k=2), RandomForestClassifier(5)))
    for dataset in (dense, sparse):
        learner.fit(dataset, seed=1)
        found = learner.predict(dataset, embeddings=True)
        selected = learner.estimator[0].transform(dense.inputs())
        np.testing.assert_allclose(found.embeddings, selected, rtol=1e-6)


def test_the_estimator_is_copied_and_random_states_come_from_the_seeds():
    estimator = RandomForestClassifier(5, random_state=7)
    learner = SklearnLearner(estimator, seed=1)
    learner.fit(table(), seed=2)
    assert not hasattr(estimator, "classes_") and estimator.random_state == 7
    first = learner.estimator
    learner.fit(table(), seed=2)
    assert learner.estimator is not first
    assert learner.estimator.random_state == first.random_state != 7


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LinearSVC(), "LinearSVC must have fit and predict_proba.*CalibratedClassifierCV"),
        (SelectKBest(), "SelectKBest must have fit and predict_proba, or be a regressor"),
        ("forest", "str must have fit"),
    ],
)
def test_what_is_not_a_classifier_or_regressor_is_named(estimator, message):
    with pytest.raises(ValueError, match=message):
        SklearnLearner(estimator)


def test_inputs_and_outputs_that_cannot_be_used_are_named():
    learner = SklearnLearner(LogisticRegression())
    two = data.ArrayDataset({"a": np.zeros((4, 2)), "b": np.zeros((4, 1))}, np.arange(4) % 2)
    with pytest.raises(ValueError, match="inputs are a dict: an estimator takes one array"):
        learner.fit(two)
    learner.fit(table())
    with pytest.raises(ValueError, match="passes is 3, but an estimator has no dropout.*Committee"):
        learner.predict(table(), passes=3)

    class Broken(LogisticRegression):
        def predict_proba(self, inputs):
            return np.where(np.arange(len(inputs))[:, None] == 3, np.nan, super().predict_proba(inputs))

    learner = SklearnLearner(Broken())
    learner.fit(table())
    with pytest.raises(ValueError, match="the prediction of record 3 is not finite"):
        learner.predict(table())
