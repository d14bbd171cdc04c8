import functools

import numpy as np
import pytest
import torch

from alhelpers import data, learners, mining, records, training
from alhelpers.loop import race as race_module
from alhelpers.loop.race import CLUSTER_MARGIN, Entry, race
from alhelpers.scores import confidences_from_logits
from alhelpers.uncertainty import mc_dropout

COUNTS = (12, 15, 20)


@pytest.fixture(scope="module")
def digits():
    pool, test = data.load("digits")
    return pool.part(150), test.part(80)


@pytest.fixture
def trainings(monkeypatch):
    """Keep what each training got: a copy of the network before it, the network, the inputs and the labels."""
    kept, train = [], training.train

    def spy(network, inputs, labels, **recipe):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        kept.append((before, network, inputs, labels))
        return train(network, inputs, labels, **recipe)

    monkeypatch.setattr(race_module.training, "train", spy)
    return kept


@functools.cache
def _whole_digits():
    return data.load("digits")


def _run(digits, strategy="mc_dropout", **options):
    """Run one entry."""
    entry = Entry(strategy, **{name: options.pop(name) for name in Entry._fields if name in options})
    return _run_all(digits, [entry], **options)


def _run_all(digits, entries, **options):
    options = {"label_counts": COUNTS, "steps": 4, "passes": 3, "augmentation": "none"} | options
    return list(race(*digits, entries, **options))


def _without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


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
def test_a_race_gives_a_tidy_row_for_each_number_of_labels(digits, strategy, name):
    rows = _run(digits, strategy, label_counts=(12, 16), seed=3)
    assert [(row["strategy"], row["seed"], row["labels"]) for row in rows] == [(name, 3, 12), (name, 3, 16)]
    assert all(set(row) == {"strategy", "seed", "labels", "accuracy", "seconds"} for row in rows)
    assert all(0 <= row["accuracy"] <= 1 and row["seconds"] > 0 for row in rows)


def test_the_same_seed_gives_the_same_race(digits):
    options = {"seed": 5, "augmentation": "elastic", "candidates": 60, "name": "ours"}
    first, second = (_without_seconds(_run(digits, CLUSTER_MARGIN, **options)) for _ in range(2))
    assert first == second
    assert {row["strategy"] for row in first} == {"ours"}


@pytest.mark.parametrize("cold_start", ["random", "typicality"])
def test_all_strategies_of_a_seed_start_with_the_same_labels_and_network(digits, trainings, cold_start):
    rows = [
        _run(digits, strategy, label_counts=(12, 14), cold_start=cold_start)
        for strategy in ("random", "mc_dropout")
    ]
    assert rows[0][0]["accuracy"] == rows[1][0]["accuracy"]
    (one, _, inputs, labels), _, (other, _, others, other_labels), _ = trainings
    assert torch.equal(inputs, others)
    assert (labels == other_labels).all()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_labels_are_added_and_never_the_same_image_twice(digits, trainings):
    _run(digits, CLUSTER_MARGIN)
    pictures = [[image.numpy().tobytes() for image in inputs] for _, _, inputs, _ in trainings]
    assert [len(set(of_round)) for of_round in pictures] == list(COUNTS)
    assert all(later[: len(sooner)] == sooner for sooner, later in zip(pictures, pictures[1:], strict=False))


def test_neither_test_images_nor_labels_that_were_not_asked_for_choose_anything(digits, trainings):
    pool, test = digits
    rows = _run((pool, test))
    labelled = trainings[-1][2]
    keys = {image.numpy().tobytes() for image in labelled}
    asked = np.array([image.numpy().tobytes() in keys for image in learners.to_inputs(pool.images)])
    hidden = data.ImageSet(pool.name, pool.images, np.where(asked, pool.labels, 0), pool.class_names)
    assert _without_seconds(_run((hidden, test))) == _without_seconds(rows)
    _run((pool, test.part(10)))
    assert torch.equal(trainings[-1][2], labelled)


def test_the_first_round_is_what_the_parts_of_the_kit_give_by_hand(digits):
    pool, test = digits
    (row,) = _run(digits, label_counts=(12,), cold_start="random", augmentation="affine", steps=6, seed=2)
    first = mining.mine(records.from_arrays(np.arange(len(pool))), "random", 12, seed=2).ids
    network = learners.build_network(8, 10, seed=200_012)
    inputs = learners.to_inputs(pool.images)[first]
    learners.train(
        network,
        inputs,
        pool.labels[first],
        steps=6,
        batch_size=32,
        augmentation=True,
        seed=200_012,
    )
    right = learners.predict(network, learners.to_inputs(test.images)).logits.argmax(1) == test.labels
    assert row["accuracy"] == pytest.approx(right.mean())


def test_convolutions_computed_once_change_nothing(digits):
    network = learners.build_network(8, 10, seed=1)
    images = learners.to_inputs(digits[0].images)
    look = race_module._Look([network], images, ["mc_dropout", "badge"], 4, 2.0, [7])
    rows = np.arange(5, 140, 2)
    table = look.records(rows)
    prediction = learners.predict(network, images[rows])
    samples, _ = mc_dropout(network, images[rows], 4, outputs="values", seed=7)
    expected = torch.from_numpy(samples / 2).softmax(2).numpy()
    assert table["id"].to_pylist() == rows.tolist()
    np.testing.assert_allclose(records.column(table, "mc_dropout"), expected, atol=1e-6)
    np.testing.assert_allclose(records.column(table, "embeddings"), prediction.embeddings, atol=1e-5)
    cooled = confidences_from_logits(prediction.logits / 2)
    np.testing.assert_allclose(records.column(table, "confidences"), cooled, atol=1e-6)


def test_only_the_fields_that_a_strategy_needs_are_computed(digits):
    images = learners.to_inputs(digits[0].images)
    network = learners.build_network(8, 10)
    fields = {
        name: set(
            race_module._Look([network], images, [name], 2, 1.0, [0]).records(np.arange(9)).column_names
        )
        for name in ("random", "mc_dropout")
    }
    assert fields["random"] == {"id"}
    assert "mc_dropout" in fields["mc_dropout"] and "embeddings" not in fields["mc_dropout"]


def test_a_warm_start_trains_on_and_a_cold_one_begins_anew(digits, trainings):
    _run(digits, "random", label_counts=(12, 14), warm_start=True)
    _run(digits, "random", label_counts=(12, 14))
    assert trainings[0][1] is trainings[1][1]
    assert trainings[2][1] is not trainings[3][1]
    assert any((trainings[2][0][name] != trainings[3][0][name]).any() for name in trainings[2][0])


def test_every_training_starts_from_the_pretrained_layers_and_a_new_last_one(digits, trainings):
    pretrained = learners.build_network(8, 10, seed=99)
    _run(digits, "random", label_counts=(12, 14), pretrained=pretrained)
    for before, *_ in trainings:
        same = {name: torch.equal(value, before[name]) for name, value in pretrained.state_dict().items()}
        assert {name for name in same if not same[name]} == {"logits.weight", "logits.bias"}
    assert not torch.equal(trainings[0][0]["logits.weight"], trainings[1][0]["logits.weight"])


def test_no_more_candidates_than_asked_for_are_looked_at():
    labelled = np.array([3, 7])
    few = race_module._candidates(40, labelled, 10, 1)
    assert len(set(few)) == 10 and not set(few) & {3, 7} and (np.diff(few) > 0).all()
    assert len(set(few) & set(race_module._candidates(40, labelled, 10, 2))) < 10
    every = race_module._candidates(40, labelled, None, 1)
    assert every.tolist() == [number for number in range(40) if number not in (3, 7)]


def test_training_on_more_labels_gets_better():
    rows = list(
        race(*_whole_digits(), [Entry("random")], label_counts=(20, 300), augmentation="none", steps=100)
    )
    assert rows[1]["accuracy"] > rows[0]["accuracy"]
    assert rows[1]["accuracy"] > 0.85


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_counts": ()}, "whole numbers from 1 on that rise"),
        ({"label_counts": (10, 10)}, r"label_counts are \[10, 10\]"),
        ({"label_counts": (10, 151)}, "end with 151, but the pool holds 150"),
        ({"augmentation": "mirror"}, "augmentation is 'mirror'"),
        ({"cold_start": "margin"}, "cold_start is 'margin'"),
        ({"temperature": 0}, "temperature is 0"),
        ({"strategy": "guess"}, "guess"),
        ({"strategy": "query_by_committee"}, "members is 1, but query_by_committee needs at least 2"),
        ({"members": 0}, "members is 0: it must be at least 1"),
    ],
)
def test_wrong_options_are_named(digits, options, message):
    with pytest.raises(ValueError, match=message):
        _run(digits, **options)


# ------------------------------------------------------------------------------
# several entries, several members
# ------------------------------------------------------------------------------


def _racers(digits, members=1):
    """Two racers with labels of their own, and the images."""
    images = race_module._fast(learners.to_inputs(digits[0].images))
    racers = [race_module._Racer(Entry("random", seed=seed, members=members)) for seed in (1, 2)]
    for racer in racers:
        racer.labelled = np.random.default_rng(racer.entry.seed).choice(len(images), 40, replace=False)
        racer.begin_round(40, race_module._kit_network(digits[0], 0.5), None, False)
    return racers, images


def _train(racers, images, labels, augmentation):
    recipe = {"steps": 8, "batch_size": 16, "learning_rate": 6e-3}
    race_module._train(racers, images, labels, augmentation, recipe)
    return [model.state_dict() for racer in racers for model in racer.models]


@pytest.mark.parametrize("augmentation", ["none", "affine", "elastic"])
def test_networks_trained_side_by_side_become_what_each_becomes_alone(digits, augmentation):
    labels = digits[0].labels
    together = _train(*_racers(digits, members=2), labels, augmentation)
    racers, images = _racers(digits, members=2)
    alone = []
    for racer in racers:
        for model, seed in zip(racer.models, racer.seeds, strict=True):
            whole = torch.nn.Sequential(race_module.Deform(), model) if augmentation == "elastic" else model
            rows = racer.labelled
            options = {"steps": 8, "batch_size": 16, "augmentation": augmentation == "affine", "seed": seed}
            training.train(whole, images[rows], labels[rows], **options)
            alone.append(model.state_dict())
    assert len(together) == len(alone) == 4
    for one, other in zip(together, alone, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], atol=2e-4, rtol=1e-3)
    assert not torch.allclose(alone[0]["logits.weight"], alone[1]["logits.weight"], atol=0.01)


def test_a_network_that_cannot_be_batched_is_trained_one_after_another(digits, trainings):
    class OwnReLU(torch.nn.ReLU):
        pass

    def build(seed):
        network = learners.build_network(8, 10, seed=seed)
        network.relu1 = OwnReLU()
        return network

    entries = [Entry("random", seed=seed) for seed in (0, 1)]
    rows = _run_all(digits, entries, network=build)
    assert len(trainings) == 2 * len(COUNTS)
    for seed in (0, 1):
        alone = _run(digits, "random", seed=seed, network=build)
        assert _without_seconds(rows[seed::2]) == _without_seconds(alone)


def test_entries_keep_apart_and_run_side_by_side(digits):
    entries = [
        Entry(strategy, seed, name, start)
        for strategy, name, start in (("random", "chance", "random"), ("margin", None, "typicality"))
        for seed in (4, 5)
    ]
    rows = _run_all(digits, entries)
    wanted = [(count, name, seed) for count in COUNTS for name in ("chance", "margin") for seed in (4, 5)]
    assert [(row["labels"], row["strategy"], row["seed"]) for row in rows] == wanted
    # The rounding differs, and so may the class of an image of the 80, and what is picked after it.
    for place, entry in enumerate(entries):
        alone = [row["accuracy"] for row in _run_all(digits, [entry])]
        together = [row["accuracy"] for row in rows[place :: len(entries)]]
        np.testing.assert_allclose(together, alone, atol=1.5 / 80)


def test_options_are_checked_before_the_first_row_is_asked_for(digits):
    with pytest.raises(ValueError, match="there are no entries"):
        race(*digits, [])
    with pytest.raises(ValueError, match="temperature is -1"):
        race(*digits, [Entry("random")], temperature=-1)


def test_all_members_are_asked_and_the_first_is_measured(digits):
    images = learners.to_inputs(digits[0].images)
    (racer, _), _ = _racers(digits, members=3)
    each = [learners.predict(model, images).confidences for model in racer.models]
    np.testing.assert_array_equal(racer.predict(images), each[0].argmax(1))
    names = ["mc_dropout", "query_by_committee", "badge"]
    look = race_module._Look(racer.models, images, names, 4, 1.0, racer.seeds)
    table = look.records(np.arange(30))
    samples = records.column(table, "mc_dropout")
    assert samples.shape == (30, 12, 10)
    for member, (model, seed) in enumerate(zip(racer.models, racer.seeds, strict=True)):
        own, _ = mc_dropout(model, images[:30], 4, seed=seed)
        np.testing.assert_allclose(samples[:, 4 * member : 4 * member + 4], own, atol=1e-6)
    committee = records.column(table, "query_by_committee")
    np.testing.assert_allclose(committee, np.stack(each, axis=1)[:30], atol=1e-6)
    np.testing.assert_allclose(records.column(table, "confidences"), committee.mean(1), atol=1e-6)
    np.testing.assert_allclose(
        records.column(table, "embeddings"),
        learners.predict(racer.models[0], images).embeddings[:30],
        atol=1e-5,
    )


def test_a_committee_races_by_its_disagreement(digits):
    rows = _run(digits, "query_by_committee", members=2, label_counts=(12, 16))
    assert [row["labels"] for row in rows] == [12, 16]
