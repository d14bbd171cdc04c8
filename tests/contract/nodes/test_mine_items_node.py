"""Rounds of mining through the real SDK: what is chosen, and what waits."""

import copy
import uuid

import numpy as np
import pytest
from mining_samples import CLASSES, context, fields, ids, marks, mine, names, predict, predict_all
from node_samples import label, tag, upload

from alhelpers import mining
from alhelpers.dataloop import ItemMiner, reading

# ------------------------------------------------------------------------------------------- rounds


def test_rounds_go_on_until_the_pool_is_empty(dl, make_pool, progress):
    dataset, items, model, records = make_pool(23, metadata={"user": {"batch": 1, "nested": {"a": 1}}})
    config = {"strategy": "margin", "size": 10}
    given = copy.deepcopy(config)
    waiting = list(records)
    for number, count in enumerate((10, 10, 3), start=1):
        expected = mining.mine(waiting, "margin", count)
        chosen = mine(dataset, model, config, progress=progress, context=context(dl, f"run {number}"))
        assert ids(chosen) == expected.ids and progress.action == "mined"
        assert progress.message.startswith(
            f"{count} of {len(waiting)} waiting items were chosen: {count} by margin with scores from "
            f"{expected.scores[0]:.4g} to {expected.scores[-1]:.4g}"
        )
        for rank, (item, score) in enumerate(zip(chosen, expected.scores, strict=True), start=1):
            stored = dataset.items.get(item_id=item.id).metadata["user"]
            mark = stored["mining"]
            assert item.metadata["user"] == stored and mark.pop("mined_at").endswith("+00:00")
            assert mark == {
                "round": number,
                "rank": rank,
                "score": float(score),
                "strategy": "margin",
                "model_id": model.id,
                "model_name": model.name,
                "execution_id": f"run {number}",
                "pool": len(waiting),
            }
            assert stored["batch"] == 1 and stored["nested"] == {"a": 1}
        waiting = [record for record in waiting if record["id"] not in expected.ids]
        assert len(marks(dataset)) == len(items) - len(waiting)
    assert mine(dataset, model, config, progress=progress) == [] and progress.action == "wait"
    assert progress.message == f"no item of dataset {dataset.name!r} waits: nothing was chosen"
    assert config == given and len(marks(dataset)) == 23


def test_the_service_runs_without_configuration_progress_or_context(dl, make_pool):
    dataset, _, model, records = make_pool(25)
    assert ids(ItemMiner.mine_items(dataset, model)) == mining.mine(records, "margin", 20).ids
    assert "execution_id" not in next(iter(marks(dataset).values()))
    assert len(ItemMiner().mine_items(dataset, model)) == 5


def test_a_plan_chooses_as_mining_does(dl, make_pool, progress):
    dataset, _, model, records = make_pool(20)
    plan = {"cascade": [{"strategy": "margin", "keep": "2x"}, {"strategy": "coreset"}]}
    chosen = mine(dataset, model, {"plan": plan, "size": 6}, progress=progress)
    assert ids(chosen) == mining.combine(records, plan, 6).ids
    left = [record for record in records if record["id"] not in ids(chosen)]
    plan = [
        {"strategy": "mc_dropout", "options": {"score": "bald"}, "size": 5},
        {"strategy": "random", "size": 5},
    ]
    expected = mining.combine(left, plan, 10, seed=7)
    chosen = mine(dataset, model, {"plan": plan, "size": 10, "seed": 7}, progress=progress)
    assert ids(chosen) == expected.ids
    assert [item.metadata["user"]["mining"]["strategy"] for item in chosen] == list(
        expected.meta["strategies"].values()
    )
    assert "5 by mc_dropout with scores" in progress.message and "5 by random" in progress.message
    assert len(mine(dataset, model, {"plan": plan, "size": 10})) == 4


def test_nothing_is_chosen_before_enough_items_wait(dl, make_pool, progress):
    dataset, _, model, _ = make_pool(3)
    config = {"size": 2, "wait_for": 4}
    assert mine(dataset, model, config, progress=progress) == [] and progress.action == "wait"
    assert "3 items of dataset" in progress.message and "4 are needed (wait_for)" in progress.message
    assert marks(dataset) == {}
    upload(dataset, ["003.png"])
    predict(dl, dataset.items.get("/003.png"), model, fields(9))
    assert len(mine(dataset, model, config, progress=progress)) == 2 and progress.action == "mined"
    assert mine(dataset, model, config) == [] and len(mine(dataset, model, {"wait_for": 2})) == 2


@pytest.mark.parametrize("of_the_sdk", [False, True])
def test_the_pool_filter_says_what_may_be_chosen(dl, make_pool, of_the_sdk):
    dataset, items, model, records = make_pool(8)
    for item in items[:5]:
        item.metadata["user"] = {"day": 1}
        item.update()
    query = {"filter": {"$and": [{"hidden": False}, {"type": "file"}, {"metadata": {"user": {"day": 1}}}]}}
    given = dl.Filters(field="metadata.user.day", values=1) if of_the_sdk else query
    before = copy.deepcopy(given.prepare() if of_the_sdk else given)
    first = mine(dataset, model, {"size": 3}, pool_filter=given)
    assert ids(first) == mining.mine(records[:5], "margin", 3).ids
    rest = mine(dataset, model, {"size": 3}, pool_filter=given)
    assert {*ids(first), *ids(rest)} == set(ids(items[:5])) and len(rest) == 2
    assert mine(dataset, model, pool_filter=given) == []
    assert (given.prepare() if of_the_sdk else given) == before
    assert set(ids(mine(dataset, model, pool_filter={}))) == set(ids(items[5:]))


def test_the_configuration_chooses_among_what_waits(dl, make_pool, progress):
    dataset, items, model, records = make_pool(12)
    doubtful = {
        "filters": [{"left": "prediction.entropy", "op": ">", "right": 0.6}],
        "limit": 6,
        "order_by": "id",
    }
    config = {"strategy": "margin", "size": 4, "select": doubtful, "model_name": model.name}
    expected = mining.run({key: config[key] for key in ("strategy", "size", "select")}, records)
    chosen = mine(dataset, model, config, progress=progress, context=context(dl, "selecting"))
    assert ids(chosen) == expected.ids and progress.message.startswith("4 of 12 waiting items were chosen")
    assert {mark["pool"] for mark in marks(dataset).values()} == {6}
    assert ids(mine(dataset, model, config, context=context(dl, "selecting"))) == expected.ids
    none = {"size": 4, "select": {"filters": [{"left": "class_name", "op": "=", "right": "z"}]}}
    assert mine(dataset, model, none, progress=progress) == [] and progress.action == "wait"
    assert progress.message.startswith(
        "0 of 8 waiting items were chosen; none fits miner_configuration.select"
    )
    assert len(marks(dataset)) == 4


def test_folders_and_hidden_items_are_never_chosen(dl, make_pool):
    dataset, items, model, _ = make_pool(3)
    dataset.items.make_dir("/folder")
    upload(dataset, ["x.png"])
    moved = dataset.items.get("/x.png")
    moved.filename = "/.hidden/x.png"
    assert moved.update().hidden
    config = {"strategy": "random"}
    everything = {"filter": {"name": "*"}}
    assert set(ids(mine(dataset, model, config, pool_filter=everything))) == set(ids(items))


def test_pools_of_several_pages_and_queries_are_read_whole(dl, make_pool, monkeypatch):
    dataset, items, model, records = make_pool(11)
    monkeypatch.setattr(reading, "IDS_PER_QUERY", 4)
    monkeypatch.setattr(reading, "_VECTORS_PER_QUERY", 4)
    made = []

    class SmallPages(dl.Filters):
        def __init__(self, *arguments, custom_filter=None, **options):
            if custom_filter is not None:
                custom_filter["pageSize"] = 3
            super().__init__(*arguments, custom_filter=custom_filter, **options)
            self.page_size = 3
            made.append(self)

    monkeypatch.setattr(dl, "Filters", SmallPages)
    chosen = mine(dataset, model, {"strategy": "mc_dropout", "size": 9}, context=context(dl, "small"))
    assert ids(chosen) == mining.mine(records, "mc_dropout", 9).ids and made
    assert ids(mine(dataset, model, {"size": 9}, context=context(dl, "small"))) == ids(chosen)


# ------------------------------------------------------------------------------------------- what is refused


def test_missing_fields_and_predictions_are_named_and_nothing_is_marked(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png", "b.png"], CLASSES)
    model = make_model()
    with pytest.raises(ValueError, match=f"2 items.*no prediction of model {model.name!r}.*not deployed"):
        mine(dataset, model)
    with pytest.raises(ValueError, match=r"none of 2 items.*deploy the model and predict them"):
        mine(dataset, model, {"predict_missing": False})
    for item in items.values():
        predict(dl, item, model)
    with pytest.raises(mining.MissingField, match="'margin' needs confidences or logits.*confidence"):
        mine(dataset, model)
    with pytest.raises(mining.MissingField, match="'mc_dropout' needs mc_dropout"):
        mine(dataset, model, {"strategy": "mc_dropout"})
    with pytest.raises(mining.UnknownStrategy, match="'magic' is unknown.*there are: confidence, margin"):
        mine(dataset, model, {"strategy": "magic"})
    with pytest.raises(ValueError, match="size 2000 must be a whole number of items a round"):
        mine(dataset, model, {"size": 2000})
    with pytest.raises(ValueError, match=r"the platform refuses the query .*\$near.*: .*operator"):
        mine(dataset, model, pool_filter={"filter": {"name": {"$near": 1}}})
    with pytest.raises(ValueError, match="model is missing"):
        mine(dataset, None)
    with pytest.raises(ValueError, match="dataset is missing"):
        mine(None, model)
    assert marks(dataset) == {}


# ------------------------------------------------------------------------------------------- the reference


@pytest.fixture(scope="module")
def truth(dl, make_dataset, make_pool):
    """Six items of the train subset, labelled, and two others."""
    dataset, items = make_dataset(names(8), CLASSES)
    items = [items[name] for name in sorted(items)]
    for place, item in enumerate(items):
        label(dl, item, "a" if place < 5 else "b")
        tag(item, **{"train" if place < 6 else "test": True})
    return dataset, items


def test_strategies_look_at_the_labelled_items(dl, make_pool, truth, make_model):
    dataset, _, model, records = make_pool(12)
    labelled, items = truth
    reference = predict_all(dl, items, model, first_seed=100)[:6]
    other = make_model()
    predict(dl, items[0], other, fields(1))
    before = {each.id for each in items[0].annotations.list()}
    for strategy in ("embedding_distance", "coreset", "novelty"):
        left = [record for record in records if record["id"] not in marks(dataset)]
        expected = mining.mine(left, strategy, 3, reference=reference)
        chosen = mine(dataset, model, {"strategy": strategy, "size": 3}, reference_dataset=labelled)
        assert ids(chosen) == expected.ids
    assert {each.id for each in items[0].annotations.list()} == before


def test_the_configuration_chooses_among_the_labelled_items(dl, make_pool, truth):
    dataset, _, model, records = make_pool(12)
    labelled, items = truth
    reference = predict_all(dl, items, model, first_seed=100)[:5]  # these are of class a
    of_class = {"select_reference": {"filters": [{"left": "groundtruth", "op": "=", "right": "a"}]}}
    config = {"strategy": "novelty", "metric": "cosine", "size": 3} | of_class
    expected = mining.mine(records, "novelty", 3, reference=reference, metric="cosine")
    assert ids(mine(dataset, model, config, reference_dataset=labelled)) == expected.ids
    with pytest.raises(
        ValueError, match="'select_reference', which chooses among labelled items: give the node a"
    ):
        mine(dataset, model, {"strategy": "coreset"} | of_class)
    with pytest.raises(ValueError, match=f"model_name is 'another', but .* of its model, {model.name!r}"):
        mine(dataset, model, {"model_name": "another"})


def test_rare_classes_are_counted_by_the_labels(dl, make_pool, truth):
    dataset, _, model, records = make_pool(12)
    labelled, items = truth
    reference = [
        {"id": item.id, "groundtruth": "a" if place < 5 else "b"} for place, item in enumerate(items[:6])
    ]
    expected = mining.mine(records, "weighted_entropy", 5, reference=reference)
    chosen = mine(dataset, model, {"strategy": "weighted_entropy", "size": 5}, reference_dataset=labelled)
    assert ids(chosen) == expected.ids != mining.mine(records, "weighted_entropy", 5).ids


def test_the_reference_filter_and_what_it_must_find(dl, make_pool, make_dataset, truth, progress):
    dataset, _, model, records = make_pool(8)
    labelled, items = truth
    with pytest.raises(
        ValueError, match="strategy 'novelty' needs labelled items.*give the node a reference_dataset"
    ):
        mine(dataset, model, {"strategy": "novelty"})
    empty, _ = make_dataset()
    with pytest.raises(ValueError, match="strategy 'novelty' needs labelled items.*selects no item"):
        mine(dataset, model, {"strategy": "novelty"}, reference_dataset=empty)
    with pytest.raises(ValueError, match="none of 6 items of dataset"):
        mine(dataset, model, {"strategy": "coreset", "predict_missing": False}, reference_dataset=labelled)
    assert marks(dataset) == {}
    reference = predict_all(dl, items, model, first_seed=100)
    tests = {"filter": {"metadata.system.tags.test": True}}
    config = {"strategy": "embedding_distance", "size": 4, "reference_filter": tests}
    expected = mining.mine(records, "embedding_distance", 4, reference=reference[6:])
    assert ids(mine(dataset, model, config, reference_dataset=labelled)) == expected.ids
    # at the cold start there is nothing labelled yet
    mine(dataset, model, {"strategy": "coreset", "size": 2}, reference_dataset=empty, progress=progress)
    assert "holds no labelled items yet" in progress.message
    assert len(mine(dataset, model, {"strategy": "margin", "size": 2}, reference_dataset=empty)) == 2


# ------------------------------------------------------------------------------------------- feature sets


def test_embeddings_come_from_a_feature_set(dl, shared_project, make_dataset, make_model, progress):
    dataset, items = make_dataset(names(13), CLASSES)
    items = [items[name] for name in sorted(items)]
    vectors = np.random.default_rng(0).normal(size=(12, 3)).round(3)
    name = f"vectors-{uuid.uuid4().hex[:8]}"
    config = {"strategy": "typicality", "size": 5, "feature_set": name, "seed": 2}
    model = make_model()
    with pytest.raises(ValueError, match=f"feature set {name!r} is not in project.*there are: "):
        mine(dataset, model, config)
    features = shared_project.feature_sets.create(name, 3, "embeddings", "item")
    with pytest.raises(
        ValueError, match=f"none of 13 items of dataset.*has a vector in feature set {name!r}"
    ):
        mine(dataset, model, config)
    features.features.create(value=vectors.tolist(), entity=items[:12])
    records = [
        {"id": item.id, "embeddings": vector} for item, vector in zip(items[:12], vectors, strict=True)
    ]
    expected = mining.mine(records, "typicality", 5, seed=2)
    # the model has predicted nothing, and need not
    assert ids(mine(dataset, model, config, progress=progress)) == expected.ids
    assert (
        f"1 items of dataset {dataset.name!r} without a vector in {name!r} were left out" in progress.message
    )
    reference = [record for record in records if record["id"] in expected.ids]
    left = [record for record in records if record["id"] not in expected.ids]
    config |= {
        "strategy": "embedding_distance",
        "reference_filter": {"filter": {"metadata.user.mining.round": 1}},
    }
    chosen = mine(dataset, model, config, reference_dataset=dataset)
    assert ids(chosen) == mining.mine(left, "embedding_distance", 5, reference=reference).ids


def test_goals_and_numbers_of_the_items_own_metadata_choose(dl, make_pool):
    dataset, items, model, records = make_pool(12)
    rows = []
    for place, (item, row) in enumerate(zip(items, records, strict=True)):
        item.metadata["user"] = {"blur": place % 5, "camera": "ab"[place % 2], "note": [place]}
        item.update()
        # the prediction's annotation holds its class
        named = row | {"class_name": CLASSES[int(np.argmax(row["confidences"]))]}
        rows.append(named | {"metadata": {"user": {"blur": place % 5, "camera": "ab"[place % 2]}}})
    balance = [{"field": each, "weight": 1} for each in ("prediction.class_name", "metadata.user.camera")]
    goals = {"scores": [{"strategy": "margin", "weight": 2}], "diversity": 1, "balance": balance}
    config = {"plan": {"goals": goals}, "size": 6}
    expected = mining.run(config, rows)
    assert ids(mine(dataset, model, config)) == expected.ids
    left = [row for row in rows if row["id"] not in expected.ids]
    config = {"strategy": "metadata.user.blur", "size": 3}
    assert ids(mine(dataset, model, config)) == mining.run(config, left).ids
    with pytest.raises(ValueError, match="has no metadata.user.place|metadata.user.place is missing"):
        mine(dataset, model, {"strategy": "metadata.user.place", "size": 1})
