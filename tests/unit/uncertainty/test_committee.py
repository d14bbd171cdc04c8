import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from alhelpers import data, parallel, protocols, scores
from alhelpers.learners import SklearnLearner, TorchClassifier, build_network
from alhelpers.training import train
from alhelpers.uncertainty import Committee, CommitteeError, CommitteeWarning
from alhelpers.uncertainty._committee_folds import stratified_folds as _folds
from alhelpers.uncertainty._torch import derived_seed

torch.set_num_threads(1)


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def blobs(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 4)) + 3 * np.eye(4)[labels]).astype(np.float32), labels


def weights_of(model):
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()])


class Recorder:
    """A train function that remembers what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, inputs, labels, seed, **options):
        self.calls.append((weights_of(model).clone(), inputs.clone(), labels.clone(), seed, options))


def test_members_learn_and_disagree_more_between_the_classes():
    inputs, labels = blobs(120)
    committee = Committee(build, members=4).fit(inputs, labels, seed=1, steps=80, learning_rate=1e-2)
    samples = committee.predict(inputs)
    assert samples.shape == (120, 4, 3) and samples.dtype == np.float32
    np.testing.assert_allclose(samples.sum(axis=2), 1, atol=1e-5)
    assert (samples.mean(axis=1).argmax(axis=1) == labels).mean() > 0.9
    far, between = np.eye(4)[:1] * 6, np.array([[1.5, 1.5, 0.0, 0.0]])
    assert np.diff(scores.bald(committee.predict(np.concatenate([far, between]))))[0] > 0


def test_each_member_leaves_its_own_fold_out():
    inputs, labels = blobs(31)
    inputs[:, 0] = np.arange(31)  # the number of each record
    recorder = Recorder()
    Committee(build, members=5).fit(inputs, labels, train=recorder)
    left_out = [set(range(31)) - set(call[1][:, 0].int().tolist()) for call in recorder.calls]
    assert sorted(row for fold in left_out for row in fold) == list(range(31))
    assert {len(fold) for fold in left_out} == {6, 7}
    for _, rows, targets, _, _ in recorder.calls:
        np.testing.assert_array_equal(labels[rows[:, 0].int()], targets)


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_stratified_and_even(seed):
    classes = np.random.default_rng(seed).integers(4, size=103)
    fold = _folds(classes, 5, seed)
    assert np.ptp(np.bincount(fold)) <= 1
    for k in range(4):
        assert np.ptp(np.bincount(fold[classes == k], minlength=5)) <= 1
    assert not np.array_equal(fold, _folds(classes, 5, seed + 100))


def test_without_folds_all_members_see_all_data_from_other_starts():
    inputs, labels = blobs(12)
    recorder = Recorder()
    Committee(build, members=3).fit(inputs, labels, folds=False, train=recorder, depth=3)
    starts = [call[0] for call in recorder.calls]
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[1], starts[2])
    assert len({call[3] for call in recorder.calls}) == 3
    assert all(torch.equal(call[1], torch.from_numpy(inputs)) for call in recorder.calls)
    assert all(call[4] == {"depth": 3} for call in recorder.calls)


def test_same_seed_same_committee_and_global_state_untouched():
    inputs, labels = blobs()
    random_state = torch.get_rng_state()
    first, again, other = (
        Committee(build, members=2).fit(inputs, labels, seed=seed, steps=5).predict(inputs)
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), random_state)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_saved_and_loaded(tmp_path):
    inputs, labels = blobs()
    large = Committee(build, members=12).fit(inputs, labels, train=Recorder())
    large.save(tmp_path / "committee")
    committee = Committee(build, members=11).fit(inputs, labels, steps=3)
    committee.save(tmp_path / "committee")
    loaded = Committee(build, members=11).load(tmp_path / "committee")
    np.testing.assert_array_equal(loaded.predict(inputs), committee.predict(inputs))
    state = torch.load(tmp_path / "committee" / "member_0.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    with pytest.raises(CommitteeError, match="holds 11 members, this committee has 3"):
        Committee(build, members=3).load(tmp_path / "committee")
    with pytest.raises(CommitteeError, match="does not fit the model that build makes"):
        Committee(lambda: nn.Linear(4, 3), members=11).load(tmp_path / "committee")


def test_predict_restores_modes_and_ignores_batches():
    inputs, labels = blobs()
    committee = Committee(build, members=2).fit(inputs, labels, steps=3)
    modes = [module.training for model in committee.models for module in model.modules()]
    before = inputs.copy()
    np.testing.assert_allclose(committee.predict(inputs, batch_size=7), committee.predict(inputs), atol=1e-6)
    assert [module.training for model in committee.models for module in model.modules()] == modes
    np.testing.assert_array_equal(inputs, before)


@pytest.mark.parametrize(
    "folds, members, sizes, message",
    [
        (True, 2, [5, 4, 1], r'class 2 \(it has 1\) with folds="leave_one_out": label at least two'),
        (
            "disjoint",
            4,
            [5, 4, 3],
            r'class 2 \(it has 3\) with folds="disjoint": label at least one .* a member',
        ),
        ("bootstrap", 20, [5, 4, 1], r'class 2 \(it has 1\) with folds="bootstrap": take another seed'),
    ],
)
def test_a_member_that_does_not_see_a_class_is_reported_or_refused(folds, members, sizes, message):
    inputs, labels = np.zeros((sum(sizes), 4), dtype=np.float32), np.repeat([0, 1, 2], sizes)
    committee = Committee(build, members=members)
    with pytest.raises(CommitteeError, match=r"member \d+ trains without any record of " + message):
        committee.fit(inputs, labels, folds, train=Recorder(), allow_missing=False)
    assert committee.models == []
    with pytest.warns(CommitteeWarning, match=message):
        committee.fit(inputs, labels, folds, train=Recorder())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        committee.fit(inputs, labels, folds=False, train=Recorder())


def test_bootstrap_draws_as_many_records_with_replacement():
    inputs, labels = blobs(600)
    committee = Committee(build, members=8).fit(inputs, labels, "bootstrap", seed=2, train=Recorder())
    again = Committee(build, members=8).fit(inputs, labels, "bootstrap", seed=2, train=Recorder())
    for rows, expected in zip(committee.rows, again.rows, strict=True):
        assert len(rows) == 600
        np.testing.assert_array_equal(rows, expected)
        # 1 - 1/e are drawn, with a standard deviation of 0.0126: eight within 0.07 fail once in a million seeds
        assert abs(len(np.unique(rows)) / 600 - (1 - np.exp(-1))) < 0.07
    assert len({tuple(rows) for rows in committee.rows}) == 8


def test_disjoint_folds_are_the_folds_that_leave_one_out_leaves_out():
    inputs, labels = blobs(31)
    alone = Committee(build).fit(inputs, labels, "disjoint", seed=3, train=Recorder())
    left_out = Committee(build).fit(inputs, labels, seed=3, train=Recorder())
    for own, rest in zip(alone.rows, left_out.rows, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([own, rest])), np.arange(31))
    np.testing.assert_array_equal(np.sort(np.concatenate(alone.rows)), np.arange(31))


def test_a_patience_needs_records_to_validate_on():
    inputs, labels = blobs(30)
    for folds in ("disjoint", "all"):
        with pytest.raises(
            CommitteeError, match=f'member 0 has no records to validate it on with folds="{folds}"'
        ):
            Committee(build, members=2).fit(inputs, labels, folds, patience=2)
    Committee(build, members=2).fit(
        inputs, labels, "all", patience=2, steps=3, validation=(torch.zeros(3, 4), [0, 1, 2])
    )
    with pytest.raises(ValueError, match="patience is 0"):
        Committee(build, members=2).fit(inputs, labels, patience=0)


@pytest.mark.parametrize("members", [1, 0, 2.0, True])
def test_too_few_members(members):
    with pytest.raises(CommitteeError, match="members must be a whole number of at least 2"):
        Committee(build, members=members)


def test_errors_are_named():
    inputs, labels = blobs(4)
    for folds in ("leave_one_out", "disjoint"):
        with pytest.raises(CommitteeError, match="4 records cannot be cut into 5 folds"):
            Committee(build).fit(inputs, labels, folds)
    model = build()
    with pytest.raises(CommitteeError, match="same model or weights twice"):
        Committee(lambda: model, members=2).fit(inputs, labels, False)
    with pytest.raises(
        CommitteeError, match="folds must be one of leave_one_out, bootstrap, disjoint, all, got 'kfold'"
    ):
        Committee(build).fit(inputs, labels, "kfold")
    with pytest.raises(CommitteeError, match="call fit or load before predict"):
        Committee(build).predict(inputs)
    with pytest.raises(CommitteeError, match="call fit or load before save"):
        Committee(build).save("nowhere")
    for bad in (labels[:3], labels + 0.5, labels - 1):
        with pytest.raises(CommitteeError, match="labels must be 4 class indices"):
            Committee(build, members=2).fit(inputs, bad)
    with pytest.raises(CommitteeError, match="no labelled record"):
        Committee(build, members=2).fit(inputs[:0], labels[:0], folds=False)
    with pytest.raises(CommitteeError, match="build must return a torch.nn.Module"):
        Committee(lambda: 3, members=2).fit(inputs, labels, folds=False)
    committee = Committee(build, members=2).fit(inputs, labels, folds=False, train=Recorder())
    with pytest.raises(CommitteeError, match="member 0 returns logits that are not finite for record 1"):
        committee.predict(np.array([[0, 0, 0, 0], [np.nan, 0, 0, 0]], dtype=np.float32))
    with pytest.raises(CommitteeError, match="at least one record"):
        committee.predict(inputs[:0])
    with pytest.raises(CommitteeError, match="batch_size"):
        committee.predict(inputs, batch_size=0)


@pytest.mark.parametrize("short, name", [(True, "leave_one_out"), (False, "all")])
def test_true_and_false_are_short_names(short, name):
    inputs, labels = blobs(20)
    rows = [
        Committee(build, members=3).fit(inputs, labels, folds, train=Recorder()).rows
        for folds in (short, name)
    ]
    for one, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_member_keeps_the_weights_of_its_best_evaluation():
    inputs, labels = blobs(60)
    labels = np.random.default_rng(0).permutation(labels)  # nothing to learn: the loss outside grows soon
    options = {"steps": 60, "evaluations": 20, "learning_rate": 0.05}
    committee = Committee(build, members=3).fit(inputs, labels, patience=2, **options)
    for member, history in enumerate(committee.histories):
        best = int(np.argmin(history.validation_loss))
        assert len(history.steps) == best + 3 < 20
        outside = np.setdiff1d(np.arange(60), committee.rows[member])
        own = committee.predict(inputs[outside])[np.arange(len(outside)), member, labels[outside]]
        assert -np.log(own).mean() == pytest.approx(history.validation_loss[best], rel=1e-4)


def test_a_damaged_file_is_named_and_the_committee_kept(tmp_path):
    inputs, labels = blobs(30)
    committee = Committee(build, members=2).fit(inputs, labels, steps=1)
    committee.save(tmp_path)
    before = committee.predict(inputs)
    for damage in (b"", b"no weights"):
        (tmp_path / "member_1.pt").write_bytes(damage)
        with pytest.raises(CommitteeError, match=r"member_1\.pt is damaged, or was not written"):
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


# ------------------------------------------------------------------------------
# processes
# ------------------------------------------------------------------------------


def convolutional(seed):
    return build_network(8, 10, seed=seed)


def test_members_of_another_process_have_the_weights_that_each_gets_alone(other_process):
    digits = load_digits()
    inputs, labels = digits.images[:200, None].astype(np.float32) / 16, digits.target[:200]
    options = {"seed": 4, "steps": 15, "augmentation": True, "patience": 9}
    committee = Committee(convolutional, members=3)
    committee.fit(inputs, labels, workers=other_process, **options)
    here = Committee(convolutional, members=3).fit(inputs, labels, workers=1, **options)
    assert committee.threads == here.threads == 1
    with parallel.limited_threads(1):
        for member, (model, rows) in enumerate(zip(committee.models, committee.rows, strict=True)):
            seed = derived_seed(4, member)
            alone, outside = convolutional(seed), np.setdiff1d(np.arange(200), rows)
            validation = torch.from_numpy(inputs[outside]), labels[outside]
            options |= {"seed": seed, "validation": validation}
            history = train(alone, torch.from_numpy(inputs[rows]), labels[rows], **options)
            assert torch.equal(weights_of(model), weights_of(alone))
            assert torch.equal(weights_of(model), weights_of(here.models[member]))
            assert history == committee.histories[member] and not model.training


def test_estimators_of_another_process_are_the_same(other_process):
    inputs, labels = blobs()
    assert Committee(build, members=2).fit(inputs, labels, steps=1, threads=2).threads == 2
    samples = [
        Committee(LogisticRegression, members=2).fit(inputs, labels, workers=workers).predict(inputs)
        for workers in (1, other_process)
    ]
    np.testing.assert_array_equal(*samples)


def test_functions_of_the_callers_run_in_this_process_unless_workers_are_passed(monkeypatch, other_process):
    inputs, labels = blobs()
    monkeypatch.setattr(parallel, "_side_by_side", None)
    calls, recorder = [], Recorder()
    Committee(build, members=2).fit(inputs, labels, steps=2, progress=lambda *call: calls.append(call))
    Committee(build, members=2).fit(inputs, labels, train=recorder)
    assert calls == [(1, 2), (2, 2)] * 2 and len(recorder.calls) == 2
    Committee(build, members=2).fit(inputs, labels, train=recorder, workers=other_process)
    assert len(recorder.calls) == 2


def test_options_that_went_are_named():
    with pytest.raises(ImportError, match="Way is gone: members are trained in processes"):
        from alhelpers.uncertainty import Way  # noqa: F401
    with pytest.raises(TypeError, match="batched"):
        Committee(build, members=2).fit(*blobs(), batched=True)


# ------------------------------------------------------------------------------
# learners
# ------------------------------------------------------------------------------


def of_learners(members=3, **options):
    return Committee(TorchClassifier(build, **{"steps": 6, "evaluations": 3} | options), members)


def blobs_set(count=60, seed=0):
    return data.ArrayDataset(*blobs(count, seed), ["a", "b", "c"])


def test_a_committee_of_learners_is_a_learner_whose_members_are_trained_on_their_folds(other_process):
    dataset, calls = blobs_set(), []
    committee = of_learners()
    assert isinstance(committee, protocols.Learner)
    start = [learner.predict(dataset).logits for learner in committee.models]
    assert not np.array_equal(start[0], start[1])
    history = committee.fit(dataset, seed=5, workers=other_process, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert history.steps == [2, 4, 6]
    np.testing.assert_allclose(history.loss, np.mean([each.loss for each in committee.histories], axis=0))
    for member, (learner, rows) in enumerate(zip(committee.models, committee.rows, strict=True)):
        alone = of_learners().models[member]
        alone.fit(dataset.take(rows), seed=derived_seed(5, member))
        assert torch.equal(weights_of(alone.network), weights_of(learner.network))


def test_predictions_of_a_committee_of_learners(tmp_path):
    dataset = blobs_set()
    committee = of_learners()
    committee.fit(dataset, folds="bootstrap")
    predictions = committee.predict(dataset, embeddings=True)
    each = [learner.predict(dataset, embeddings=True) for learner in committee.models]
    np.testing.assert_array_equal(predictions.samples, np.stack([one.confidences for one in each], axis=1))
    np.testing.assert_allclose(predictions.confidences, predictions.samples.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(predictions.embeddings, each[0].embeddings)
    nested = committee.predict(dataset, passes=4, seed=8)
    assert nested.samples.shape == (60, 3, 4, 3)
    own = committee.models[1].predict(dataset, passes=4, seed=derived_seed(8, 1)).samples
    np.testing.assert_array_equal(nested.samples[:, 1], own)
    columns = nested.to_records(dataset.ids).column_names
    assert {"mc_dropout", "query_by_committee", "class_name"} <= set(columns)


def test_a_committee_of_learners_is_saved_and_loaded(tmp_path):
    dataset = blobs_set()
    of_learners(12).save(tmp_path)
    committee = of_learners()
    committee.fit(dataset)
    committee.save(tmp_path)
    other = committee.fresh(9)
    fresh = other.predict(dataset).samples
    assert not np.array_equal(fresh, of_learners().predict(dataset).samples)
    np.testing.assert_array_equal(fresh, committee.fresh(9).predict(dataset).samples)
    np.testing.assert_array_equal(
        other.load(tmp_path).predict(dataset).samples, committee.predict(dataset).samples
    )
    with pytest.raises(CommitteeError, match="holds 3 members, this committee has 4"):
        of_learners(4).load(tmp_path)
    (tmp_path / "member_1" / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="damaged"):
        other.load(tmp_path)
    np.testing.assert_array_equal(other.predict(dataset).samples, committee.predict(dataset).samples)


def test_regressors_are_combined():
    inputs, _ = blobs()
    dataset = data.ArrayDataset(inputs, inputs.sum(axis=1), task="regression")
    committee = Committee(SklearnLearner(DecisionTreeRegressor()), 3)
    committee.fit(dataset, folds="bootstrap")
    predictions = committee.predict(dataset)
    assert predictions.samples.shape == (60, 3)
    np.testing.assert_allclose(predictions.values, predictions.samples.mean(axis=1), rtol=1e-5, atol=1e-5)


def test_data_sets_are_for_learners_and_arrays_for_models():
    with pytest.raises(CommitteeError, match="a committee of learners is fitted to a data set"):
        of_learners().fit(*blobs())
    with pytest.raises(CommitteeError, match="the options of the training belong to its learner"):
        of_learners().fit(blobs_set(), steps=3)
    with pytest.raises(CommitteeError, match=r"such as Committee\(TorchClassifier\(build\)\)"):
        Committee(build).fit(blobs_set())
