"""Committees of scikit-learn estimators."""

import numpy as np
import pandas
import pytest
import torch
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from alhelpers.uncertainty import Committee, CommitteeError, CommitteeWarning
from alhelpers.uncertainty._torch import derived_seed


def forest():
    return RandomForestClassifier(n_estimators=3, max_depth=3)


def blobs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 4)) + 2 * np.eye(4)[labels]).astype(np.float32), labels


@pytest.mark.parametrize("folds", ["leave_one_out", "bootstrap", "disjoint", "all"])
def test_each_member_is_the_estimator_fitted_on_its_rows(folds):
    inputs, labels = blobs()
    committee = Committee(forest, members=3).fit(inputs, labels, folds, seed=4)
    samples = committee.predict(inputs)
    assert samples.shape == (60, 3, 3) and samples.dtype == np.float32
    for member, rows in enumerate(committee.rows):
        alone = forest().set_params(random_state=derived_seed(4, member) % 2**32)
        expected = alone.fit(inputs[rows], labels[rows]).predict_proba(inputs)
        np.testing.assert_allclose(samples[:, member], expected, atol=1e-6)
    assert not np.array_equal(samples[:, 0], samples[:, 1])


def test_tensors_are_taken_and_the_seed_decides():
    inputs, labels = blobs()
    samples = [
        Committee(forest, members=2)
        .fit(torch.from_numpy(inputs), torch.from_numpy(labels), seed=seed)
        .predict(torch.from_numpy(inputs))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_every_random_state_inside_an_estimator_is_set():
    committee = Committee(lambda: make_pipeline(StandardScaler(), forest()), members=2).fit(*blobs(), seed=9)
    states = [model.get_params()["randomforestclassifier__random_state"] for model in committee.models]
    assert states == [derived_seed(9, member) % 2**32 for member in range(2)]


def test_an_estimator_without_a_random_state_differs_by_its_fold():
    inputs, labels = blobs()
    samples = Committee(GaussianNB, members=2).fit(inputs, labels).predict(inputs)
    assert not np.array_equal(samples[:, 0], samples[:, 1])


def test_a_class_that_a_member_has_not_seen_has_a_confidence_of_zero():
    inputs, _ = blobs(10)
    labels = np.array([0] * 5 + [1] + [3] * 4)  # the committee has four classes, and none of 2
    with pytest.warns(CommitteeWarning, match="class 1"):
        committee = Committee(LogisticRegression, members=2).fit(inputs, labels, allow_missing=True)
    samples = committee.predict(inputs)
    assert samples.shape == (10, 2, 4)
    unseen = next(member for member, rows in enumerate(committee.rows) if 1 not in labels[rows])
    assert (samples[:, unseen, 1] == 0).all() and (samples[:, 1 - unseen, 1] > 0).all()
    assert (samples[:, :, 2] == 0).all()
    np.testing.assert_allclose(samples.sum(axis=2), 1, atol=1e-6)


def test_a_function_of_the_callers_fits_them():
    inputs, labels = blobs()
    seeds = []

    def weighted(model, rows, targets, seed, weight):
        seeds.append(seed)
        model.fit(rows, targets, sample_weight=np.full(len(rows), weight))

    committee = Committee(GaussianNB, members=2).fit(inputs, labels, train=weighted, weight=2.0)
    assert len(set(seeds)) == 2 and committee.predict(inputs).shape == (60, 2, 3)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.coo_array, pandas.DataFrame])
def test_sparse_matrices_and_data_frames_are_taken(form):
    inputs, labels = blobs()
    expected = Committee(GaussianNB, members=2).fit(inputs, labels).predict(inputs)
    design = GaussianNB if form is pandas.DataFrame else LogisticRegression
    samples = Committee(design, members=2).fit(form(inputs), labels).predict(form(inputs))
    assert samples.shape == expected.shape
    if form is pandas.DataFrame:
        np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize(
    "labels, classes",
    [
        (np.array(["b", "c", "a"] * 20), ["a", "b", "c"]),
        (np.array(["b", "c", "a"] * 20, dtype=object), ["a", "b", "c"]),
        (np.arange(60) % 3 == 0, [False, True]),
    ],
)
def test_texts_and_truth_values_are_classes_in_their_order(labels, classes):
    inputs, numbers = blobs()
    committee = Committee(GaussianNB, members=2).fit(inputs, labels)
    assert committee.class_names == classes
    indices = np.searchsorted(classes, labels.tolist())
    expected = Committee(GaussianNB, members=2).fit(inputs, indices)
    assert expected.class_names is None
    np.testing.assert_array_equal(committee.predict(inputs), expected.predict(inputs))


def test_saving_names_the_way_out(tmp_path):
    committee = Committee(forest, members=2).fit(*blobs())
    with pytest.raises(CommitteeError, match="RandomForestClassifier, which only a pickle .* fit again"):
        committee.save(tmp_path / "committee")
    assert not list(tmp_path.iterdir())
    Committee(lambda: nn.Linear(4, 3), members=2).fit(*blobs(), steps=1).save(tmp_path / "torch")
    with pytest.raises(CommitteeError, match="only torch models are saved and loaded: fit it again"):
        Committee(forest, members=2).load(tmp_path / "torch")


def test_errors_are_named():
    inputs, labels = blobs()
    with pytest.raises(CommitteeError, match="steps: options of torch's training"):
        Committee(forest, members=2).fit(inputs, labels, steps=3)
    with pytest.raises(CommitteeError, match="patience: options of torch's training"):
        Committee(forest, members=2).fit(inputs, labels, patience=3)
    committee = Committee(forest, members=2).fit(inputs, labels)
    with pytest.raises(CommitteeError, match="passes are for torch members"):
        committee.predict(inputs, passes=3)
    with pytest.raises(CommitteeError, match="same model or weights twice"):
        same = forest()
        Committee(lambda: same, members=2).fit(inputs, labels)
    mixed = iter([forest(), nn.Linear(4, 3)])
    with pytest.raises(CommitteeError, match="build made a RandomForestClassifier and a Linear"):
        Committee(lambda: next(mixed), members=2).fit(inputs, labels)


def test_confidences_that_are_not_finite_are_named():
    class Broken(GaussianNB):
        def predict_proba(self, inputs):
            known = super().predict_proba(inputs)
            known[1] = np.nan
            return known

    committee = Committee(Broken, members=2).fit(*blobs())
    with pytest.raises(CommitteeError, match="member 0 returns confidences that are not finite for record 1"):
        committee.predict(blobs()[0])
