"""What is particular to scikit-learn's estimators."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
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


class Reversed(LogisticRegression):
    """Lists its classes from the last to the first, and its columns too."""

    def fit(self, inputs, labels):
        super().fit(inputs, labels)
        self.sorted_classes_, self.classes_ = self.classes_, self.classes_[::-1]
        return self

    def predict_proba(self, inputs):
        listed, self.classes_ = self.classes_, self.sorted_classes_
        try:
            return super().predict_proba(inputs)[:, ::-1]
        finally:
            self.classes_ = listed


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (3, 1)])
def test_the_order_of_classes_is_that_of_the_data_set(classes):
    dataset = table(classes)
    expected = np.zeros((40, 4))
    peer = LogisticRegression().fit(dataset.inputs(), dataset.labels())
    expected[:, peer.classes_] = peer.predict_proba(dataset.inputs())
    for estimator in (LogisticRegression(), Reversed()):
        learner = SklearnLearner(estimator)
        learner.fit(dataset)
        found = learner.predict(dataset)
        np.testing.assert_allclose(found.confidences, expected, atol=1e-6)
        assert found.class_names == ("a", "b", "c", "d")
    other = data.ArrayDataset(dataset.inputs(), class_names=["b", "a", "c", "d"])
    with pytest.raises(
        ValueError, match="names of the data set are b, a, c, d, but .* fitted on are a, b, c, d"
    ):
        learner.predict(other)


def test_texts_tables_and_bools_are_learnt_as_by_scikit_learn():
    texts = np.array(["a red house", "a blue car", "red roses", "blue water"] * 5)
    frame = pd.DataFrame({7: np.tile(list("rbrb"), 5), 0: np.arange(20.0)})
    encoded = make_pipeline(make_column_transformer((OneHotEncoder(), [0])), LogisticRegression())
    labels = np.tile([True, False], 10)
    for inputs, estimator in (
        (TfidfVectorizer().fit_transform(texts), LogisticRegression()),
        (frame, encoded),
    ):
        learner = SklearnLearner(estimator)
        learner.fit(data.ArrayDataset(inputs, labels, ["no", "yes"]))
        found = learner.predict(data.ArrayDataset(inputs).take(np.arange(19, -1, -1)), embeddings=True)
        peer = estimator.fit(inputs, labels).predict_proba(inputs)
        np.testing.assert_allclose(found.confidences, peer[::-1], atol=1e-6)
        assert len(found.embeddings) == 20
    with pytest.raises(ValueError, match="inputs are no numbers that could be embeddings.*into a pipeline"):
        whole = SklearnLearner(_Constant([0.5, 0.5]))
        whole.fit(data.ArrayDataset(frame, labels))
        whole.predict(data.ArrayDataset(frame), embeddings=True)
    with pytest.raises(ValueError, match="labels hold 'red' .*for record 0"):
        learner.fit(data.ArrayDataset(frame, ["red", "blue"] * 10))


class _Constant(ClassifierMixin, BaseEstimator):
    """Predicts the same confidences for every row."""

    def __init__(self, row=(0.5, 0.5)):
        self.row = row

    def fit(self, inputs, labels):
        self.classes_ = np.arange(len(self.row))
        return self

    def predict_proba(self, inputs):
        return np.tile(self.row, (len(inputs), 1))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            [0.9, 0.3],
            "confidences of record 0 are from 0 on and sum to 1.2: predict_proba of _Constant must",
        ),
        ([1.5, -0.5], "confidences of record 0 are from -0.5 on and sum to 1: "),
    ],
)
def test_confidences_that_are_no_probabilities_are_named(row, message):
    learner = SklearnLearner(_Constant(row))
    with pytest.raises(ValueError, match="has no classes_.*fit the learner first"):
        learner.predict(table())
    learner.fit(table((0, 1)))
    with pytest.raises(ValueError, match=message):
        learner.predict(table((0, 1)))


@pytest.mark.parametrize("form", [np.asarray, csr_matrix, pd.DataFrame])
def test_numbers_that_are_not_finite_name_their_record(form):
    broken = table().inputs().copy()
    broken[7, 1] = np.nan
    dataset = data.ArrayDataset(form(broken), table().labels(), ids=[f"i{row}" for row in range(40)])
    learner = SklearnLearner(LogisticRegression())
    message = "inputs of record i7 are not finite, which the estimator refuses: replace them"
    with pytest.raises(ValueError, match=message):
        learner.fit(dataset)
    learner.fit(table())
    with pytest.raises(ValueError, match=message):
        learner.predict(dataset)
    if form is np.asarray:  # some estimators know what to do with NaN
        learner = SklearnLearner(HistGradientBoostingClassifier(max_iter=2))
        learner.fit(dataset)
        assert np.isfinite(learner.predict(dataset).confidences).all()
    numbers = np.where(np.arange(40) == 3, np.inf, 1.0)
    for labels, reason in (
        (numbers, "label of record 3 is inf"),
        (["x"] * 40, "labels are <U1, but a regressor"),
    ):
        with pytest.raises(ValueError, match=reason):
            SklearnLearner(LinearRegression()).fit(
                data.ArrayDataset(table().inputs(), labels, task="regression")
            )


# ------------------------------------------------------------------------------
# estimators that were fitted elsewhere
# ------------------------------------------------------------------------------


def test_a_fitted_estimator_predicts_as_it_is_and_is_never_changed():
    dataset = table((0, 1, 2, 3))
    inputs = dataset.inputs()
    estimator = RandomForestClassifier(5, random_state=0).fit(dataset.inputs(), dataset.labels())
    before = estimator.predict_proba(inputs)
    learner = SklearnLearner(estimator)
    np.testing.assert_allclose(learner.predict(dataset).confidences, before, atol=1e-6)
    with pytest.raises(ValueError, match="has no classes_.*fit the learner first"):
        learner.fresh(0).predict(dataset)
    learner.fit(table((0, 1)))
    assert learner.estimator is not estimator
    np.testing.assert_array_equal(estimator.predict_proba(inputs), before)
    regressor = LinearRegression().fit(inputs, inputs[:, 0])
    found = SklearnLearner(regressor).predict(data.ArrayDataset(inputs, task="regression"))
    np.testing.assert_allclose(found.values, inputs[:, 0], atol=1e-5)
    assert found.task == "regression"


@pytest.mark.parametrize(
    ("labels", "names", "columns"),
    [
        (["cat", "ant", "bee"], ["bee", "cat", "ant", "dog"], {"ant": 2, "bee": 0, "cat": 1}),
        ([5, 7, 3], ["3", "5", "7"], {3: 0, 5: 1, 7: 2}),
        ([0, 2, 1], ["2", "1", "0"], {0: 0, 1: 1, 2: 2}),  # whole numbers are places
        ([0.0, 1.0], ["a", "b"], {0.0: 0, 1.0: 1}),
        ([True, False], ["no", "yes"], {False: 0, True: 1}),
        ([True, False], ["True", "False"], {False: 1, True: 0}),
        (["cat", "ant", "bee"], None, {"ant": 0, "bee": 1, "cat": 2}),
        ([5, 7, 3], None, {3: 0, 5: 1, 7: 2}),
    ],
)
def test_the_classes_of_a_fitted_estimator_are_looked_up_among_the_class_names(labels, names, columns):
    inputs = table().inputs()
    estimator = LogisticRegression().fit(inputs, np.resize(labels, 40))
    found = SklearnLearner(estimator).predict(data.ArrayDataset(inputs, class_names=names))
    expected = np.zeros((40, len(names or columns)))
    for column, label in enumerate(estimator.classes_.tolist()):
        expected[:, columns[label]] = estimator.predict_proba(inputs)[:, column]
    np.testing.assert_allclose(found.confidences, expected, atol=1e-6)
    assert found.class_names == tuple(names or map(str, columns))


def test_a_class_that_the_data_set_does_not_name_is_refused():
    inputs = table().inputs()
    for labels, names, message in (
        (
            ["ant", "bee", "emu"],
            ["ant", "bee"],
            "knows the class 'emu', which is none of .*names: ant, bee; give",
        ),
        ([0, 1, 2], ["a", "b"], "knows the class 0, which is none of"),
        ([True, False], ["a", "b", "c"], "knows the class False"),
    ):
        learner = SklearnLearner(LogisticRegression().fit(inputs, np.resize(labels, 40)))
        with pytest.raises(ValueError, match=message):
            learner.predict(data.ArrayDataset(inputs, class_names=names))


def test_a_single_class_to_learn_is_named():
    with pytest.raises(
        ValueError, match="all 40 records are of the class 'c': label at least one of another"
    ):
        SklearnLearner(LogisticRegression()).fit(table((2,)))
    with pytest.raises(ValueError, match=r"labels have the shape \(40, 2\), .*task='multilabel'"):
        SklearnLearner(LogisticRegression()).fit(data.ArrayDataset(table().inputs(), np.zeros((40, 2), int)))


# ------------------------------------------------------------------------------
# texts, categories
# ------------------------------------------------------------------------------

TEXTS = np.array(["a red house", "a blue car", "red roses", "blue water", "old red car"] * 4)


@pytest.mark.parametrize("form", [np.asarray, lambda texts: texts.astype(object), pd.Series])
def test_texts_go_to_a_pipeline_as_they_are(form):
    labels = np.array([1, 0, 1, 0, 1] * 4)
    dataset = data.ArrayDataset(form(TEXTS), labels, ["blue", "red"])
    learner = SklearnLearner(make_pipeline(TfidfVectorizer(), LogisticRegression()))
    learner.fit(dataset)
    peer = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, labels)
    found = learner.predict(dataset, embeddings=True)
    np.testing.assert_allclose(found.confidences, peer.predict_proba(TEXTS), atol=1e-6)
    np.testing.assert_allclose(found.embeddings, peer[0].transform(TEXTS).toarray(), atol=1e-6)


def test_embeddings_that_would_fill_the_memory_are_refused(monkeypatch):
    learner = SklearnLearner(make_pipeline(TfidfVectorizer(), LogisticRegression()))
    dataset = data.ArrayDataset(TEXTS, np.array([1, 0, 1, 0, 1] * 4))
    learner.fit(dataset)
    monkeypatch.setattr("alhelpers.learners.sklearn_learner._MOST_EMBEDDINGS", 4 * 20 * 7 - 1)
    with pytest.raises(
        ValueError, match=r"embeddings of 20 records with 7 numbers each .*such as TruncatedSVD"
    ):
        learner.predict(dataset, embeddings=True)
    assert learner.predict(dataset).embeddings is None
    monkeypatch.setattr("alhelpers.learners.sklearn_learner._MOST_EMBEDDINGS", 4 * 20 * 7)
    assert learner.predict(dataset, embeddings=True).embeddings.shape == (20, 7)


def test_gradient_boosting_takes_the_categories_of_a_data_frame():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"kind": pd.Categorical(draw.choice(list("xyz"), 90)), "size": draw.normal(size=90)})
    labels = (frame["kind"] == "y").to_numpy()
    frame.loc[3, "size"] = np.nan  # which gradient boosting takes
    dataset = data.ArrayDataset(frame, labels, ["other", "y"])
    learner = SklearnLearner(HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, random_state=0))
    learner.fit(dataset.take(np.arange(60)))
    found = learner.predict(dataset.take(np.arange(60, 90))).confidences
    state = learner.estimator.random_state
    peer = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, random_state=state)
    peer.fit(frame[:60], labels[:60])
    np.testing.assert_allclose(found, peer.predict_proba(frame[60:]), atol=1e-6)
    assert ((found[:, 1] > 0.5) == labels[60:]).all()
    encoder = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    refused = SklearnLearner(make_pipeline(encoder, LogisticRegression()))
    with pytest.raises(ValueError, match="inputs of record 3 are not finite"):
        refused.fit(dataset)
