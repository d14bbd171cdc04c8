"""Estimators that predict several labels, or several numbers, a record."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from alhelpers import data, mining
from alhelpers.learners import SklearnLearner
from alhelpers.uncertainty import Committee

ROWS = np.random.default_rng(0).normal(size=(60, 4))
LABELS = np.stack([ROWS[:, 0] > 0, ROWS[:, 1] > 0.5, ROWS[:, 2] + ROWS[:, 3] > 0], axis=1).astype(int)
NAMES = ["a", "b", "c"]

ESTIMATORS = {
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
    "one an output": MultiOutputClassifier(LogisticRegression()),
    "a forest": RandomForestClassifier(4, random_state=0),
    "neighbours": KNeighborsClassifier(),
    "a chain": ClassifierChain(LogisticRegression(), order=[0, 1, 2]),
    "a network": MLPClassifier([8], max_iter=2000, random_state=0),
    "a pipeline": make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression())),
}
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def dataset(labels=LABELS, names=NAMES, task="multilabel"):
    return data.ArrayDataset(ROWS, labels, names, task=task)


def by_hand(estimator):
    """The probability that each label is 1."""
    found = estimator.predict_proba(ROWS)
    return np.stack([table[:, 1] for table in found], axis=1) if isinstance(found, list) else found


@every_estimator
def test_each_label_has_its_own_confidence(estimator):
    learner = SklearnLearner(estimator)
    learner.fit(dataset())
    found = learner.predict(dataset())
    assert found.task == "multilabel" and found.class_names == ("a", "b", "c")
    np.testing.assert_allclose(found.confidences, by_hand(learner.estimator), atol=1e-6)
    assert ((found.confidences > 0.5) == LABELS).mean() > 0.85
    doubt = 1 - np.abs(2 * found.confidences - 1)
    picked = mining.mine(found.to_records(range(60)), "label_uncertainty", 5, score="margin")
    np.testing.assert_allclose(picked.scores, np.sort(doubt.mean(axis=1))[:-6:-1], atol=1e-6)


@every_estimator
def test_one_that_was_fitted_elsewhere_predicts_several_labels(estimator):
    from sklearn.base import clone

    fitted = clone(estimator).fit(ROWS, LABELS)
    found = SklearnLearner(fitted).predict(dataset(None))
    np.testing.assert_allclose(found.confidences, by_hand(fitted), atol=1e-6)
    shown = SklearnLearner(fitted)
    if isinstance(fitted, MLPClassifier):  # nothing in it tells
        with pytest.raises(ValueError, match="sum to .*with several labels a record, .*task='multilabel'"):
            shown.predict(dataset(None, task="classification"))
    else:
        again = shown.predict(dataset(None, task="classification"))
        assert again.task == "multilabel"
        np.testing.assert_array_equal(again.confidences, found.confidences)
    with pytest.raises(ValueError, match=r"confidences of shape \(60, 3\) for 2 labels"):
        SklearnLearner(fitted).predict(dataset(None, ["a", "b"]))


def test_a_label_that_no_record_has_is_named_or_has_no_confidence():
    labels = LABELS.copy()
    labels[:, 1] = 0
    learner = SklearnLearner(RandomForestClassifier(4))
    learner.fit(dataset(labels))
    confidences = learner.predict(dataset()).confidences
    assert (confidences[:, 1] == 0).all() and confidences[:, [0, 2]].any()
    refused = SklearnLearner(MultiOutputClassifier(LogisticRegression()))
    with pytest.raises(
        ValueError, match="no record has the label 'b': add at least one with it, or leave it out"
    ):
        refused.fit(dataset(labels))
    labels[:, 1] = 1
    with pytest.raises(ValueError, match="every record has the label 'b': add at least one without it"):
        refused.fit(dataset(labels))
    learner.fit(dataset(labels))
    assert (learner.predict(dataset()).confidences[:, 1] == 1).all()


def test_what_is_not_several_labels_is_named():
    with pytest.raises(ValueError, match=r"the labels of record 4 are \[0, 3, 0\]: each must be 0 or 1"):
        wrong = LABELS.copy()
        wrong[4] = [0, 3, 0]
        SklearnLearner(RandomForestClassifier()).fit(dataset(wrong))
    classes = np.stack([np.arange(60) % 3, np.arange(60) % 2], axis=1)
    of_classes = SklearnLearner(RandomForestClassifier(2).fit(ROWS, classes))
    with pytest.raises(ValueError, match="predicts one of 0, 1, 2 for an output: several labels"):
        of_classes.predict(dataset(None, ["a", "b"]))

    class Broken(DummyClassifier):
        def predict_proba(self, inputs):
            return np.full((len(inputs), 3), 1.5)

    learner = SklearnLearner(Broken())
    learner.fit(dataset())
    with pytest.raises(ValueError, match="confidences of record 0 are from 1.5 to 1.5: .*Broken must return"):
        learner.predict(dataset())


@pytest.mark.parametrize(
    ("design", "outputs"),
    [
        (LinearRegression(), 1),
        (LinearRegression(), 2),
        (RandomForestRegressor(3), 1),
        (RandomForestRegressor(3), 2),
        (MultiOutputRegressor(SVR()), 2),
    ],
)
def test_regressions_of_one_and_of_several_numbers(design, outputs):
    numbers = ROWS @ np.arange(4.0 * outputs).reshape(4, outputs)
    learner = SklearnLearner(design)
    learner.fit(dataset(numbers, None, "regression"), seed=1)
    values = learner.predict(dataset(None, None, "regression")).values
    assert values.shape == ((60,) if outputs == 1 else (60, 2))
    np.testing.assert_allclose(values, learner.estimator.predict(ROWS).reshape(values.shape), rtol=1e-5)


def test_committees_of_several_labels_and_of_numbers():
    committee = Committee(SklearnLearner(RandomForestClassifier(4)), 3)
    committee.fit(dataset(), folds="bootstrap", workers=1)
    found = committee.predict(dataset())
    assert found.task == "multilabel" and found.samples.shape == (60, 3, 3)
    for member, rows in enumerate(committee.rows):
        alone = RandomForestClassifier(4, random_state=committee.models[member].estimator.random_state)
        expected = by_hand(alone.fit(ROWS[rows], LABELS[rows]))
        np.testing.assert_allclose(found.samples[:, member], expected, atol=1e-6)
    np.testing.assert_allclose(found.confidences, found.samples.mean(axis=1), atol=1e-6)
    numbers = np.stack([ROWS[:, 0], ROWS[:, 1] ** 2], axis=1)
    of_numbers = Committee(SklearnLearner(RandomForestRegressor(4)), 3)
    of_numbers.fit(dataset(numbers, None, "regression"), workers=1)
    found = of_numbers.predict(dataset(None, None, "regression"))
    assert found.samples.shape == (60, 3, 2) and found.values.shape == (60, 2)
    spread = found.samples.astype(np.float64).var(axis=1).mean(axis=1)
    picked = mining.mine(found.to_records(range(60)), "spread", 6)
    assert list(picked.ids) == np.argsort(-spread, kind="stable")[:6].tolist()
