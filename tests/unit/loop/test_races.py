import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from torch import nn

from alhelpers import data, mining, records
from alhelpers.learners import SklearnLearner, TorchClassifier, TorchRegressor, build_network
from alhelpers.loop import CLUSTER_MARGIN, Entry, race, races
from alhelpers.loop._fields import Fields
from alhelpers.scores import confidences_from_logits
from alhelpers.training import train
from alhelpers.uncertainty import mc_dropout

COUNTS = (12, 15, 20)


@pytest.fixture(scope="module")
def digits():
    pool, test = data.load("digits")
    return pool.part(150), test.part(80)


@pytest.fixture
def trainings(monkeypatch):
    """Keep the weights before each training, the learner, and its inputs and labels."""
    kept, fit = [], TorchClassifier.fit

    def spy(learner, dataset, **options):
        before = {name: value.clone() for name, value in learner.network.state_dict().items()}
        kept.append((before, learner, torch.from_numpy(dataset.inputs()), dataset.labels()))
        return fit(learner, dataset, **options)

    monkeypatch.setattr(TorchClassifier, "fit", spy)
    return kept


def run(digits, strategy="mc_dropout", **options):
    """Run one entry."""
    entry = Entry(strategy, **{name: options.pop(name) for name in Entry._fields if name in options})
    return run_all(digits, [entry], **options)


def run_all(digits, entries, **options):
    options = {"label_counts": COUNTS, "steps": 4, "passes": 3, "augmentation": "none"} | options
    return list(race(*digits, entries, **options))


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


# ------------------------------------------------------------------------------
# one entry
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("random", "random"),
        ("margin", "margin"),
        ("badge", "badge"),
        ("embedding_distance", "embedding_distance"),
        (CLUSTER_MARGIN, "mc_dropout+typicality"),
        ([{"strategy": "entropy", "share": 0.5}, {"strategy": "random", "share": 0.5}], "entropy+random"),
    ],
)
def test_a_race_yields_a_tidy_row_for_each_number_of_labels(digits, strategy, name):
    rows = run(digits, strategy, label_counts=(12, 16), seed=3)
    assert [(row["strategy"], row["seed"], row["labels"]) for row in rows] == [(name, 3, 12), (name, 3, 16)]
    assert all(set(row) == {"strategy", "seed", "labels", "accuracy", "seconds"} for row in rows)
    assert all(0 <= row["accuracy"] <= 1 and row["seconds"] > 0 for row in rows)


def test_same_seed_same_race(digits):
    options = {"seed": 5, "augmentation": "elastic", "candidates": 60, "name": "ours"}
    first, second = (without_seconds(run(digits, CLUSTER_MARGIN, **options)) for _ in range(2))
    assert first == second
    assert {row["strategy"] for row in first} == {"ours"}


@pytest.mark.parametrize("cold_start", ["random", "typicality"])
def test_all_strategies_of_a_seed_start_with_the_same_labels_and_network(digits, trainings, cold_start):
    rows = [
        run(digits, strategy, label_counts=(12, 14), cold_start=cold_start)
        for strategy in ("random", "mc_dropout")
    ]
    assert rows[0][0]["accuracy"] == rows[1][0]["accuracy"]
    (one, _, inputs, labels), _, (other, _, others, other_labels), _ = trainings
    assert torch.equal(inputs, others)
    assert (labels == other_labels).all()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_labels_are_added_and_never_the_same_image_twice(digits, trainings):
    run(digits, CLUSTER_MARGIN)
    pictures = [[image.numpy().tobytes() for image in inputs] for _, _, inputs, _ in trainings]
    assert [len(set(of_round)) for of_round in pictures] == list(COUNTS)
    assert all(later[: len(sooner)] == sooner for sooner, later in zip(pictures, pictures[1:], strict=False))


def test_neither_test_images_nor_labels_of_unpicked_records_choose_anything(digits, trainings):
    pool, test = digits
    rows = run((pool, test))
    labelled = trainings[-1][2]
    keys = {image.numpy().tobytes() for image in labelled}
    picked = np.array([image.tobytes() in keys for image in pool.inputs()])
    hidden = data.ImageSet(pool.name, pool.images, np.where(picked, pool.labels(), 0), pool.class_names)
    assert without_seconds(run((hidden, test))) == without_seconds(rows)
    run((pool, test.part(10)))
    assert torch.equal(trainings[-1][2], labelled)


def test_the_first_round_is_what_the_parts_of_the_kit_compute_by_hand(digits):
    pool, test = digits
    (row,) = run(digits, label_counts=(12,), cold_start="random", augmentation="affine", steps=6, seed=2)
    first = mining.mine(records.from_arrays(np.arange(len(pool))), "random", 12, seed=2).ids
    network = build_network(8, 10, seed=200_012)
    recipe = {"steps": 6, "batch_size": 32, "augmentation": True, "seed": 200_012}
    train(network, pool.inputs(first), pool.labels(first), **recipe)
    right = TorchClassifier(network).predict(test).logits.argmax(1) == test.labels()
    assert row["accuracy"] == pytest.approx(right.mean())


def test_a_warm_start_trains_on_and_a_cold_one_begins_anew(digits, trainings):
    run(digits, "random", label_counts=(12, 14), warm_start=True)
    run(digits, "random", label_counts=(12, 14))
    assert trainings[0][1] is trainings[1][1]
    assert trainings[2][1] is not trainings[3][1]
    assert any((trainings[2][0][name] != trainings[3][0][name]).any() for name in trainings[2][0])


def test_every_training_starts_from_the_pretrained_layers_and_a_new_last_one(digits, trainings):
    pretrained = build_network(8, 10, seed=99)
    run(digits, "random", label_counts=(12, 14), pretrained=pretrained)
    for before, *_ in trainings:
        same = {name: torch.equal(value, before[name]) for name, value in pretrained.state_dict().items()}
        assert {name for name in same if not same[name]} == {"logits.weight", "logits.bias"}
    assert not torch.equal(trainings[0][0]["logits.weight"], trainings[1][0]["logits.weight"])


def test_candidates_are_a_random_sample_of_the_unlabelled():
    labelled = np.array([3, 7])
    few = races._candidates(40, labelled, 10, 1)
    assert len(set(few)) == 10 and not set(few) & {3, 7} and (np.diff(few) > 0).all()
    assert len(set(few) & set(races._candidates(40, labelled, 10, 2))) < 10
    every = races._candidates(40, labelled, None, 1)
    assert every.tolist() == [number for number in range(40) if number not in (3, 7)]


def test_training_on_more_labels_gets_better():
    rows = run_all(
        data.load("digits"), [Entry("random")], label_counts=(20, 300), augmentation="none", steps=100
    )
    assert rows[1]["accuracy"] > rows[0]["accuracy"]
    assert rows[1]["accuracy"] > 0.85


# ------------------------------------------------------------------------------
# what strategies see
# ------------------------------------------------------------------------------


def fields_of(digits, names, seeds=(7,), passes=4, temperature=1.0):
    models = [TorchClassifier(lambda seed: build_network(8, 10, seed=seed), seed=seed) for seed in seeds]
    plan = [{"strategy": name, "share": 1 / len(names)} for name in names]
    fields = Fields(plan, models, passes, races._cooled(temperature))
    return models, lambda rows: fields.records(digits[0].take(rows), rows, seeds)


def test_fields_are_predictions_at_the_temperature(digits):
    (model,), fields = fields_of(digits, ["mc_dropout", "badge"], temperature=2.0)
    rows = np.arange(5, 140, 2)
    table = fields(rows)
    few = digits[0].take(rows)
    prediction = model.predict(few, embeddings=True)
    samples, _ = mc_dropout(model.network, few.inputs(), 4, outputs="values", seed=7)
    expected = torch.from_numpy(samples / 2).softmax(2).numpy()
    assert table["id"].to_pylist() == rows.tolist()
    np.testing.assert_allclose(records.column(table, "mc_dropout"), expected, atol=1e-6)
    np.testing.assert_allclose(records.column(table, "embeddings"), prediction.embeddings, atol=1e-5)
    cooled = confidences_from_logits(prediction.logits / 2)
    np.testing.assert_allclose(records.column(table, "confidences"), cooled, atol=1e-6)


@pytest.mark.parametrize(
    "name, present, absent",
    [
        ("random", {"id"}, {"confidences", "embeddings", "mc_dropout"}),
        ("mc_dropout", {"mc_dropout"}, {"embeddings"}),
        ("badge", {"embeddings", "confidences"}, {"mc_dropout"}),
    ],
)
def test_only_the_fields_that_a_strategy_needs_are_computed(digits, name, present, absent):
    columns = set(fields_of(digits, [name])[1](np.arange(9)).column_names)
    assert present <= columns and not absent & columns


def test_all_members_predict_and_the_first_one_computes_the_embeddings(digits):
    seeds = [7, 8, 9]
    models, fields = fields_of(digits, ["mc_dropout", "query_by_committee", "badge"], seeds)
    table, few = fields(np.arange(30)), digits[0].part(30)
    samples = records.column(table, "mc_dropout")
    assert samples.shape == (30, 12, 10)
    for member, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        own, _ = mc_dropout(model.network, few.inputs(), 4, seed=seed)
        np.testing.assert_allclose(samples[:, 4 * member : 4 * member + 4], own, atol=1e-6)
    each = [model.predict(few, embeddings=True) for model in models]
    committee = records.column(table, "query_by_committee")
    np.testing.assert_allclose(committee, np.stack([one.confidences for one in each], axis=1), atol=1e-6)
    np.testing.assert_allclose(records.column(table, "confidences"), committee.mean(1), atol=1e-6)
    np.testing.assert_allclose(records.column(table, "embeddings"), each[0].embeddings, atol=1e-5)


# ------------------------------------------------------------------------------
# several entries
# ------------------------------------------------------------------------------


def test_entries_in_another_process_get_the_rows_that_each_gets_alone(digits, other_process):
    entries = [
        Entry(strategy, seed, name, start, members)
        for strategy, name, start, members in (
            ("random", "chance", "random", 1),
            ("query_by_committee", None, "typicality", 2),
        )
        for seed in (4, 5)
    ]
    rows = run_all(digits, entries, augmentation="elastic", warm_start=True, workers=other_process)
    names = ("chance", "query_by_committee")
    wanted = [(count, name, seed) for count in COUNTS for name in names for seed in (4, 5)]
    assert [(row["labels"], row["strategy"], row["seed"]) for row in rows] == wanted
    for place, entry in enumerate(entries):
        alone = run_all(digits, [entry], augmentation="elastic", warm_start=True)
        assert without_seconds(rows[place :: len(entries)]) == without_seconds(alone)


@pytest.mark.parametrize(
    "learner, strategy",
    [
        (TorchClassifier(lambda seed: build_network(8, 10, seed=seed), steps=3), "mc_dropout"),
        (SklearnLearner(LogisticRegression()), "badge"),
    ],
)
def test_any_learner_takes_part(digits, learner, strategy):
    rows = run(digits, strategy, learner=learner, cold_start="random")
    assert [row["labels"] for row in rows] == list(COUNTS)


def test_tables_and_learners_of_the_callers_own_take_part(digits):
    pool, test = (
        data.ArrayDataset(part.inputs().reshape(len(part), -1), part.labels(), part.class_names)
        for part in digits
    )
    learner = SklearnLearner(LogisticRegression())
    rows = run((pool, test), "margin", learner=learner, label_counts=(20, 60, 140))
    assert rows[-1]["accuracy"] > 0.7


# ------------------------------------------------------------------------------
# options
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_counts": ()}, "whole numbers from 1 on that rise"),
        ({"label_counts": (10, 10)}, r"label_counts are \[10, 10\]"),
        ({"label_counts": (10, 12.5)}, r"label_counts are \[10, 12.5\]"),
        ({"label_counts": (10, 151)}, "end with 151, but the pool holds 150"),
        ({"augmentation": "mirror"}, "augmentation is 'mirror'"),
        ({"cold_start": "margin"}, "cold_start is 'margin'"),
        ({"temperature": 0}, "temperature is 0"),
        ({"strategy": "guess"}, "guess"),
        ({"strategy": "query_by_committee"}, "members is 1, but query_by_committee needs at least 2"),
        ({"members": 0}, "members is 0: it must be at least 1"),
        ({"learner": SklearnLearner(LogisticRegression()), "network": build_network}, "exclude each other"),
        ({"workers": 0}, "workers must be a whole number"),
    ],
)
def test_wrong_options_are_named(digits, options, message):
    with pytest.raises(ValueError, match=message):
        run(digits, **options)


def test_options_are_checked_before_the_first_row(digits):
    with pytest.raises(ValueError, match="there are no entries"):
        race(*digits, [])
    with pytest.raises(ValueError, match="temperature is -1"):
        race(*digits, [Entry("random")], temperature=-1)
    with pytest.raises(
        mining.MissingField, match="needs metadata.blur, which the learner does not predict: write"
    ):
        race(*digits, [Entry("metadata.blur")])
    pool, test = digits
    numbers, same = (
        data.ArrayDataset(np.zeros((30, 2)), labels, task="regression")
        for labels in (np.arange(30.0), np.zeros(30))
    )
    for both, options, message in (
        (
            (numbers, test),
            {},
            "the task of test is 'classification': a race measures classification, multilabel, reg",
        ),
        ((numbers, numbers), {}, "the task is 'regression': pass learner="),
        ((numbers, numbers), {"temperature": 2}, "temperature is 2: it divides logits of classes"),
        ((numbers, same), {}, "the labels of the test set are all the same"),
    ):
        with pytest.raises(ValueError, match=message):
            race(*both, [Entry("random")], label_counts=[9], **options)
    with pytest.raises(ValueError, match="the test set is empty"):
        race(pool, test.take([]), [Entry("random")])
    turned = data.ImageSet("turned", test.images, test.labels(), test.class_names[::-1])
    with pytest.raises(ValueError, match=r"classes of pool are \['0', .* and those of test \['9'"):
        race(pool, turned, [Entry("random")])


def test_a_score_of_ones_own_races(digits):
    def doubt(confidence):
        return 1 - confidence

    rows = run_all(digits, [Entry(doubt), Entry("confidence", name="doubt"), Entry(doubt, members=2)])
    assert {row["strategy"] for row in rows} == {"doubt"}
    assert without_seconds(rows[::3]) == without_seconds(rows[1::3])


def test_several_labels_and_numbers_race_by_their_own_measures():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 4)).astype(np.float32)
    labels = (inputs[:, :2] > 0).astype(np.int8)
    several = data.ArrayDataset(inputs, labels, ["a", "b"], task="multilabel")
    numbers = data.ArrayDataset(inputs, inputs @ [1.0, -1.0, 0.5, 0.0], task="regression")

    def net(outputs):
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, outputs))

    for dataset, learner, strategy in (
        (several, TorchClassifier(lambda: net(2), task="multilabel", steps=80), "label_uncertainty"),
        (numbers, TorchRegressor(lambda: net(1), steps=80), "spread"),
    ):
        pool, test = dataset.take(np.arange(60)), dataset.take(np.arange(60, 90))
        entries = [Entry(strategy, 1), Entry("random", 1)]
        rows = list(race(pool, test, entries, learner=learner, label_counts=(15, 30), passes=5, workers=1))
        name = "r2" if dataset is numbers else "accuracy"
        assert all({"strategy", "seed", "labels", name, "seconds"} == set(row) for row in rows)
        assert rows[0][name] == rows[1][name], "both begin with the same labels"
        first = mining.mine(records.from_arrays(np.arange(60)), "random", 15, seed=1).ids
        (row, *_) = race(
            pool,
            test,
            [Entry("random", 1, cold_start="random")],
            learner=learner,
            label_counts=(15,),
            workers=1,
        )
        alone = learner.fresh(100_015)
        alone.fit(pool.take(np.array(first)), seed=100_015)
        predicted = alone.predict(test)
        if dataset is numbers:
            assert row[name] == pytest.approx(r2_score(test.labels(), predicted.values.reshape(-1)))
        else:
            assert row[name] == pytest.approx(((predicted.confidences > 0.5) == test.labels()).mean())
