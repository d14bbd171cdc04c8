"""Picks of a model and a data set: equal to what a few lines by hand choose, whatever is read in parts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn

from alhelpers import data, mining
from alhelpers.learners import SklearnLearner, TorchClassifier
from alhelpers.loop import pick, picking
from alhelpers.uncertainty import Committee

SHAPE = (3, 6, 6)


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    ).eval()


def pictures(count, seed=0, labels=False):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    given = rng.integers(0, 3, count) if labels else None
    return data.ImageSet(f"s{seed}", images, given, ["cat", "dog", "fox"])


class Files:
    """A data set like a folder: read in parts, of which some cannot be read; some rows have labels."""

    def __init__(self, pool, labelled=None, broken=()):
        self.pool, self.labelled, self.broken = pool, labelled, broken
        self.read = 0

    @property
    def ids(self):
        return self.pool.ids

    @property
    def unlabelled(self):
        return self

    def __len__(self):
        return len(self.pool)

    def take(self, rows):
        return Files(self.pool.take(rows), broken=[0] if set(rows) & set(self.broken) else [])

    def inputs(self, rows):
        if self.broken:
            raise ValueError("it is broken")
        return self.pool.inputs(rows)

    def chunks(self, size):
        for start in range(0, len(self.pool), size):
            rows = np.arange(start, min(start + size, len(self.pool)))
            self.read += len(rows)
            bad = [row for row in rows if row in self.broken]
            problems = [data_problem(self.pool.ids[row]) for row in bad]
            yield self.pool.take(np.setdiff1d(rows, bad)), problems


def data_problem(id):
    return (str(id), "unreadable", "it is broken")


def by_hand(network, dataset, score, size):
    """Return ids and scores, best first, ties by id."""
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(dataset.inputs())).softmax(1).numpy().astype(np.float64)
    if score == "entropy":
        values = -(probabilities * np.log(probabilities)).sum(1) / np.log(3)
    else:
        ordered = np.sort(probabilities, axis=1)
        values = 1 - (ordered[:, -1] - ordered[:, -2])
    order = sorted(range(len(values)), key=lambda row: (-np.float32(values[row]), dataset.ids[row]))[:size]
    return [dataset.ids[row] for row in order], values[order]


@pytest.mark.parametrize("strategy", ["entropy", "margin"])
@pytest.mark.parametrize("rows", [7, 1024])
def test_picks_are_those_of_a_few_lines_by_hand(strategy, rows, monkeypatch):
    monkeypatch.setattr(picking, "_ROWS", rows)
    network, pool = build(), pictures(40)
    for dataset in (pool, Files(pool)):
        chosen = pick(TorchClassifier(network), dataset, 9, strategy=strategy)
        ids, scores = by_hand(network, pool, strategy, 9)
        assert chosen.ids == ids and chosen.meta["problems"] == []
        np.testing.assert_allclose(chosen.scores, scores, rtol=1e-4)


def test_large_inputs_are_read_in_smaller_parts(monkeypatch):
    network, pool = build(), pictures(40)
    monkeypatch.setattr(picking, "_BYTES", 3 * 108 * 4)
    sizes = []
    learner = TorchClassifier(network)
    predict = learner.predict
    monkeypatch.setattr(
        learner, "predict", lambda chunk, **o: sizes.append(len(chunk)) or predict(chunk, **o)
    )
    for dataset in (pool, Files(pool, broken=[0, 1])):
        sizes.clear()
        chosen = pick(learner, dataset, 9)
        assert max(sizes) == 3 and len(chosen) == 9


def test_large_predictions_go_through_files_and_the_picks_stay(monkeypatch):
    learner, pool, labelled = TorchClassifier(build()), pictures(50), pictures(12, 1, labels=True)
    few = [pick(learner, pool, 8, strategy=name, reference=labelled) for name in ("badge", "novelty")]
    monkeypatch.setattr(picking, "_IN_MEMORY", 0)
    monkeypatch.setattr(picking, "_ROWS", 7)
    for name, before in zip(("badge", "novelty"), few, strict=True):
        chosen = pick(learner, pool, 8, strategy=name, reference=labelled)
        assert chosen.ids == before.ids
        np.testing.assert_allclose(chosen.scores, before.scores, rtol=1e-4)


def test_what_cannot_be_read_is_listed_and_never_picked():
    pool = pictures(30)
    broken = [3, 4, 29]
    files = Files(pool, broken=broken)
    chosen = pick(TorchClassifier(build()), files, 100, strategy="entropy")
    left = pool.take(np.setdiff1d(np.arange(30), broken))
    assert chosen.ids == by_hand(build(), left, "entropy", 27)[0] and chosen.meta["size"] == 27
    reason = {"kind": "unreadable", "reason": "it is broken"}
    assert chosen.meta["problems"] == [{"id": pool.ids[row], **reason} for row in broken]
    assert files.read == 30


def test_samples_plans_and_options_are_those_of_mining():
    learner, pool = TorchClassifier(build()), pictures(30)
    records = learner.predict(pool, passes=6, embeddings=True, seed=4).to_records(pool.ids)
    chosen = pick(learner, pool, 5, strategy="mc_dropout", passes=6, seed=4, score="bald")
    assert chosen.ids == mining.mine(records, "mc_dropout", 5, score="bald").ids
    plan = {"cascade": [{"strategy": "margin", "keep": "3x"}, {"strategy": "coreset"}]}
    chosen = pick(learner, pool, 5, strategy=plan, seed=4)
    assert chosen.ids == mining.combine(records, plan, 5, seed=4).ids
    committee = Committee(TorchClassifier(build), members=3)
    chosen = pick(committee, pool, 5, strategy="query_by_committee")
    expected = committee.predict(pool).to_records(pool.ids)
    assert chosen.ids == mining.mine(expected, "query_by_committee", 5).ids


def test_only_the_fields_that_a_strategy_needs_are_predicted(monkeypatch):
    asked = []
    learner = TorchClassifier(build())
    predict = learner.predict
    monkeypatch.setattr(learner, "predict", lambda *a, **o: asked.append(o) or predict(*a, **o))
    pool, labelled = pictures(9), pictures(6, 1, labels=True)
    for name in ("random", "entropy", "badge", "mc_dropout"):
        pick(learner, Files(pool, labelled), 2, strategy=name, passes=3)
    assert [(each["passes"], each["embeddings"]) for each in asked] == [(0, False), (0, True), (3, False)]
    asked.clear()
    pick(learner, Files(pool, labelled), 2, strategy="novelty")
    assert [each["passes"] for each in asked] == [0, 0], "the labelled rows, and the pool"


def test_the_labelled_rows_of_a_data_set_are_the_reference():
    learner, pool, labelled = TorchClassifier(build()), pictures(25), pictures(9, 1, labels=True)
    of_both = [learner.predict(each, embeddings=True).to_records(each.ids) for each in (pool, labelled)]
    chosen = pick(learner, Files(pool, labelled), 5, strategy="embedding_distance")
    expected = mining.mine(of_both[0], "embedding_distance", 5, reference=of_both[1])
    assert chosen.ids == expected.ids and chosen.meta["reference"] == 9
    counted = pick(learner, Files(pool, labelled), 5, strategy="weighted_entropy").meta
    assert counted["class_counts"] == np.bincount(labelled.labels(), minlength=3).tolist()
    assert counted["classes_counted"] == "ground truth of the reference"
    assert pick(learner, pool, 5, strategy="weighted_entropy").meta["reference"] is None


def test_progress_counts_every_row_once():
    seen = []
    files = Files(pictures(30), pictures(5, 1, labels=True), broken=[2])
    pick(TorchClassifier(build()), files, 3, strategy="novelty", progress=lambda *at: seen.append(at))
    # the labelled rows, which this stand-in does not read in parts, then the pool; then mining reports
    assert seen[:2] == [(5, 35), (35, 35)] and all(done <= total for done, total in seen)


def nan_network():
    network = build()
    with torch.no_grad():
        network[-1].bias[0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"size": 0}, mining.MiningError, "size must be a whole number of at least 1, got 0"),
        ({"strategy": "entropi"}, mining.UnknownStrategy, "did you mean 'entropy'"),
        ({"scor": 1}, mining.UnknownOption, "strategy 'entropy' has no option 'scor'"),
        (
            {"strategy": {"strategy": "margin"}, "over": 1},
            mining.UnknownOption,
            "option 'over' is for a single",
        ),
        (
            {"strategy": "novelty"},
            mining.MissingField,
            "'novelty' compares with labelled records, and there are none",
        ),
        (
            {"strategy": "query_by_committee"},
            mining.MissingField,
            "pass several members, such as .*Committee",
        ),
        (
            {"dataset": "photos/"},
            mining.MiningError,
            r"dataset is a str: pass a data set, such as data.folder",
        ),
        ({"dataset": pictures(4).take([])}, mining.PoolExhausted, "the pool is empty: pass a data set"),
        (
            {"dataset": Files(pictures(4), broken=range(4))},
            mining.PoolExhausted,
            "none of 4 records can be used",
        ),
        ({"learner": TorchClassifier(nan_network())}, ValueError, "record s0-00000 are not finite"),
    ],
)
def test_what_is_wrong_is_named(change, error, message):
    given = {"learner": TorchClassifier(build()), "dataset": pictures(8), "size": 2} | change
    with pytest.raises(error, match=message):
        pick(**given)


def test_a_score_of_ones_own_gets_the_fields_that_it_names():
    learner, pool = TorchClassifier(build()), pictures(20)
    records = learner.predict(pool, embeddings=True).to_records(pool.ids)

    def far_out(embeddings, confidence, power=1):
        return (np.abs(embeddings).sum(1) * (1 - confidence)) ** power

    for options in ({}, {"power": 2}):
        chosen = pick(learner, pool, 4, strategy=far_out, **options)
        expected = mining.mine(records, far_out, 4, **options)
        assert chosen.ids == expected.ids and chosen.meta["strategy"] == "far_out"
    plan = [{"strategy": far_out, "size": 2}, {"strategy": "entropy", "size": 2}]
    assert pick(learner, pool, 4, strategy=plan).ids == mining.combine(records, plan, 4).ids

    def of_boxes(detections):
        return np.zeros(len(detections))

    with pytest.raises(
        mining.MissingField, match="'of_boxes' needs detections, which the learner does not predict"
    ):
        pick(learner, pool, 4, strategy=of_boxes)


@pytest.mark.parametrize("kind", [str, object, "category"])
def test_metadata_of_the_rows_are_scores_and_goals(monkeypatch, kind):
    learner, pool, labelled = TorchClassifier(build()), pictures(30), pictures(6, 1, labels=True)
    monkeypatch.setattr(picking, "_ROWS", 7)
    rng = np.random.default_rng(5)
    known = pd.DataFrame({"blur": rng.random(30), "weather": rng.choice(["sun", "rain"], 30)})
    broken = [0, 11]
    left = np.setdiff1d(np.arange(30), broken)
    best = [pool.ids[row] for row in left[np.argsort(-known["blur"].to_numpy()[left])][:4]]
    for metadata in (known, {"blur": known["blur"].tolist()}):
        chosen = pick(learner, Files(pool, labelled, broken), 4, strategy="metadata.blur", metadata=metadata)
        assert chosen.ids == best
    monkeypatch.setattr(learner, "predict", None)  # which a number of the records does not need
    assert len(pick(learner, pool, 30, strategy="metadata.blur", metadata=known)) == 30
    monkeypatch.undo()
    plan = {"goals": {"scores": [{"strategy": "margin", "weight": 1}]}}
    known["weather"] = known["weather"].astype(kind)
    plan["goals"]["balance"] = [{"field": "metadata.weather", "weight": 2}]
    table = learner.predict(pool).to_records(pool.ids)
    table = table.append_column("metadata", pa.array(known.to_dict("records")))
    assert pick(learner, pool, 8, strategy=plan, metadata=known).ids == mining.combine(table, plan, 8).ids


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            None,
            r"'metadata.blur' needs metadata.blur, .*: pass it in metadata=\{'blur': one value for each row\}$",
        ),
        ({"sharp": [1.0] * 8}, r"one value for each row\}, which has: sharp"),
        ({"blur": [1.0] * 7}, "metadata 'blur' has 7 values for 8 rows of the data set"),
        ({"blur": [1.0] * 7 + ["a"]}, "metadata 'blur' cannot be stored: .*; pass values of one kind"),
        ({"blur": ["a"] * 8}, "metadata.blur must be a number in each record"),
        ({"blur": [1.0] * 7 + [None]}, "record 's0-00007' cannot be scored .* missing or NaN"),
    ],
)
def test_metadata_that_does_not_fit_is_named(metadata, message):
    with pytest.raises((mining.MiningError, ValueError), match=message):
        pick(TorchClassifier(build()), pictures(8), 2, strategy="metadata.blur", metadata=metadata)


def test_values_of_a_regression_are_metadata_beside_that_of_the_rows():
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(size=(40, 4)), rng.normal(size=40)
    learner = SklearnLearner(LinearRegression())
    learner.fit(data.arrays(inputs, targets, task="regression"))
    pool = data.arrays(inputs, task="regression")
    values = learner.predict(pool).values
    blur = rng.random(40)

    def weighed(value, own):
        return value * own

    weighed.columns = ["metadata.value", "metadata.blur"]
    chosen = pick(learner, pool, 5, strategy=weighed, metadata={"blur": blur})
    assert chosen.ids == np.argsort(-(values * blur), kind="stable")[:5].tolist()
    for options in ({}, {"metadata": {"blur": blur}}):
        chosen = pick(learner, pool, 5, strategy="metadata.value", **options)
        assert chosen.ids == np.argsort(-values, kind="stable")[:5].tolist()
    chosen = pick(learner, pool, 5, strategy="metadata.value", metadata={"value": blur})
    assert chosen.ids == np.argsort(-blur)[:5].tolist()
    with pytest.raises(
        mining.MissingField, match="'entropy' needs confidences, and the learner is of a regression"
    ):
        pick(learner, pool, 5, strategy="entropy")
    with pytest.raises(mining.MissingField, match="'metadata.value' needs metadata, which only a regression"):
        pick(TorchClassifier(build()), pictures(9), 2, strategy="metadata.value")
