"""What members learn from, what they may be, and what they can be asked."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from alhelpers.training import train
from alhelpers.uncertainty import (
    Committee,
    CommitteeError,
)
from alhelpers.uncertainty._torch import derived_seed

torch.set_num_threads(1)


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def blobs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 4)) + 3 * np.eye(4)[labels]).astype(np.float32), labels


def nothing(model, inputs, labels, seed, **options):
    """Train not at all."""


# -------------------------------------------------------------------------------------------------------- folds


@pytest.mark.parametrize("short, name", [(True, "leave_one_out"), (False, "all")])
def test_true_and_false_are_short_names(short, name):
    inputs, labels = blobs(20)
    rows = [
        Committee(build, members=3).fit(inputs, labels, folds, train=nothing).rows for folds in (short, name)
    ]
    for one, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_folds_are_named():
    inputs, labels = blobs(4)
    labels[:] = 0
    with pytest.raises(CommitteeError, match="folds must be one of leave_one_out, .* got 'kfold'"):
        Committee(build).fit(inputs, labels, "kfold")
    with pytest.raises(CommitteeError, match="4 records cannot be cut into 5 folds"):
        Committee(build).fit(inputs, labels, "disjoint")
    with pytest.raises(CommitteeError, match="same model or weights twice"):
        model = build()
        Committee(lambda: model, members=2).fit(inputs, labels)


# ----------------------------------------------------------------------------------------------- early stopping


@pytest.mark.parametrize("batched", [True, False])
def test_a_member_keeps_the_weights_of_its_best_look(batched):
    inputs, labels = blobs(60)
    labels = np.random.default_rng(0).permutation(labels)  # nothing to learn: the loss outside grows soon
    options = {"steps": 60, "evaluations": 20, "learning_rate": 0.05}
    committee = Committee(build, members=3).fit(inputs, labels, patience=2, batched=batched, **options)
    for member, history in enumerate(committee.histories):
        best = int(np.argmin(history.validation_loss))
        assert len(history.steps) == best + 3 < 20
        outside = np.setdiff1d(np.arange(60), committee.rows[member])
        own = committee.predict(inputs[outside])[np.arange(len(outside)), member, labels[outside]]
        assert -np.log(own).mean() == pytest.approx(history.validation_loss[best], rel=1e-4)


def test_patience_without_validation_is_named():
    inputs, labels = blobs(30)
    with pytest.raises(ValueError, match="no validation data"):
        train(build(), torch.from_numpy(inputs), labels, patience=2)


# ----------------------------------------------------------------------------------------------------- estimators


def test_estimators_start_from_the_members_seeds():
    inputs, labels = blobs(60)
    committee = Committee(lambda: DecisionTreeClassifier(random_state=1), members=3).fit(
        inputs, labels, seed=7
    )
    expected = [derived_seed(7, member) % 2**32 for member in range(3)]
    assert [model.random_state for model in committee.models] == expected


def test_what_estimators_cannot_do_is_named(tmp_path):
    inputs, labels = blobs(30)
    committee = Committee(LogisticRegression, members=2).fit(inputs, labels)
    with pytest.raises(CommitteeError, match="a pickle runs code when it is read: keep the labelled records"):
        committee.save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(CommitteeError, match="passes are for torch members"):
        committee.predict(inputs, passes=3)
    with pytest.raises(CommitteeError, match="steps: options of torch's training"):
        Committee(LogisticRegression, members=2).fit(inputs, labels, steps=4)
    Committee(build, members=2).fit(inputs, labels, steps=1).save(tmp_path)
    with pytest.raises(CommitteeError, match="LogisticRegression, and only torch models are saved"):
        Committee(LogisticRegression, members=2).load(tmp_path)


# ------------------------------------------------------------------------------------------------------- artifacts


def test_a_damaged_file_is_named_and_the_committee_kept(tmp_path):
    inputs, labels = blobs(30)
    committee = Committee(build, members=2).fit(inputs, labels, steps=1)
    committee.save(tmp_path)
    before = committee.predict(inputs)
    for damage in (b"", b"no weights"):
        (tmp_path / "member_1.pt").write_bytes(damage)
        with pytest.raises(CommitteeError, match=r"member_1\.pt is damaged, or no weights"):
            committee.load(tmp_path)
    np.testing.assert_array_equal(committee.predict(inputs), before)


def test_a_committee_is_kept_as_the_artifacts_of_a_model(dl, project, tmp_path):
    inputs, labels = blobs(30)
    committee = Committee(build, members=3).fit(inputs, labels, steps=3)
    committee.save(tmp_path / "saved")
    entry = {"name": "committee", "moduleName": "main", "labels": ["a", "b", "c"], "outputType": "class"}
    manifest = {
        "name": f"committee-{project.id}",
        "displayName": "Committee",
        "version": "1.0.0",
        "scope": "project",
        "context": {"project": project.id},
        "components": {
            "modules": [{"name": "main", "entryPoint": "main.py", "className": "Main", "functions": []}],
            "models": [entry],
        },
    }
    dpk = project.dpks.publish(dpk=dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project))
    project.apps.install(dpk=dpk)
    model = project.models.get(model_name="committee")
    model.artifacts.upload(filepath=str(tmp_path / "saved" / "*"))
    dl.models.get(model_id=model.id).artifacts.download(local_path=str(tmp_path / "down"))
    loaded = Committee(build, members=3).load(tmp_path / "down")
    np.testing.assert_array_equal(loaded.predict(inputs), committee.predict(inputs))
