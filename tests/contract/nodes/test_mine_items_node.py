"""Rounds of mining through the real SDK: what is chosen, what waits, and what a round that died leaves behind."""

import copy
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers_execution import succeeded, until
from node_samples import label, tag, upload
from pipeline_samples import code, executed, node, pipeline, port

from alhelpers import mining
from alhelpers.dataloop import ItemMiner, mine_items, reading, steps
from alhelpers.dataloop.app import write_codebase

CLASSES = ["a", "b", "c"]


def fields(seed, embedding=4, passes=3):
    """A prediction's fields, as an adapter stores them."""
    rng = np.random.default_rng(seed)
    return {
        "class_names": CLASSES,
        "confidences": rng.dirichlet(np.ones(3)).tolist(),
        "embeddings": rng.normal(size=embedding).tolist(),
        "mc_dropout": rng.dirichlet(np.ones(3), passes).tolist(),
    }


def predict(dl, item, model, prediction=None, **info):
    """Upload a prediction as a model's adapter does; it gives the fields back."""
    best = CLASSES[int(np.argmax(prediction["confidences"]))] if prediction else "a"
    confidence = max(prediction["confidences"]) if prediction else 0.5
    info = {"name": model.name, "model_id": model.id, "confidence": confidence} | info
    annotation = dl.Annotation.new(
        annotation_definition=dl.Classification(label=best), metadata={"user": {"model": info}}
    )
    if prediction:
        annotation.metadata["user"]["prediction"] = prediction
    item.annotations.upload(annotation)
    return prediction


def predict_all(dl, items, model, first_seed=0, **options):
    """Predict items; give the records that follow from it."""
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(
            lambda pair: predict(dl, pair[1], model, fields(first_seed + pair[0], **options)),
            enumerate(items),
        )
        return [{"id": item.id} | prediction for item, prediction in zip(items, made, strict=True)]


def names(count, start=0):
    return [f"{number:03}.png" for number in range(start, start + count)]


@pytest.fixture(scope="module")
def make_pool(dl, make_dataset, make_model):
    """Make a dataset of predicted items, its model, and the records that its predictions are."""

    def make(count, metadata=None, **options):
        dataset, items = make_dataset(names(count), CLASSES, metadata)
        model = make_model()
        items = [items[name] for name in sorted(items)]
        return dataset, items, model, predict_all(dl, items, model, **options)

    return make


def ids(items):
    return [item.id for item in items]


def marks(dataset):
    """The marks in a dataset, by item."""
    found = {item.id: item.metadata.get("user", {}).get("mining") for item in dataset.items.list().all()}
    return {item_id: mark for item_id, mark in found.items() if mark}


def context(dl, execution_id):
    return dl.Context(execution_dict={"id": execution_id}, sdk=dl)


def mine(dataset, model, config=None, **more):
    return ItemMiner.mine_items(dataset, model, miner_configuration=config, **more)


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


# ------------------------------------------------------------------------------------------- what dies


@pytest.fixture
def die(dl, monkeypatch):
    """Run a round, under the id "first", that dies when it comes to mark the item after a rank."""

    def run(rank, dataset, model, config):
        def write_mark(item, mark):
            if mark["rank"] > rank:
                raise KeyboardInterrupt
            return write(item, mark)

        write = mine_items.write_mark
        with monkeypatch.context() as patched:
            patched.setattr(mine_items, "write_mark", write_mark)
            with pytest.raises(KeyboardInterrupt):
                mine(dataset, model, config, context=context(dl, "first"))
        return set(marks(dataset))

    return run


def test_a_round_that_died_is_taken_up_again(dl, make_pool, die, progress):
    dataset, _, model, records = make_pool(25)
    config = {"strategy": "mc_dropout", "options": {"score": "bald"}, "size": 10}
    expected = mining.mine(records, "mc_dropout", 10, score="bald").ids
    assert die(3, dataset, model, config) == set(expected[:3])
    again = mine(dataset, model, config, context=context(dl, "first"), progress=progress)
    assert ids(again) == expected and set(marks(dataset)) == set(expected)
    assert [item.metadata["user"]["mining"]["rank"] for item in again] == list(range(1, 11))
    assert {(mark["round"], mark["pool"]) for mark in marks(dataset).values()} == {(1, 25)}
    before = marks(dataset)
    # what is done is done: another try changes nothing, and another round takes none of it
    assert ids(mine(dataset, model, config, context=context(dl, "first"), progress=progress)) == expected
    assert progress.action == "mined" and marks(dataset) == before
    following = mine(dataset, model, config, context=context(dl, "second"))
    assert not set(ids(following)) & set(expected)
    assert {item.metadata["user"]["mining"]["round"] for item in following} == {2}
    assert ids(mine(dataset, model, config, context=context(dl, "first"))) == expected


KILLED = """
import os, signal, sys
import dtlpy as dl
from alhelpers.dataloop import ItemMiner, mine_items

write, calls = mine_items.write_mark, []

def write_mark(item, mark):
    calls.append(item)
    if len(calls) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(item, mark)

mine_items._PARALLEL_UPDATES, mine_items.write_mark = 1, write_mark
dataset, model = dl.datasets.get(dataset_id=sys.argv[1]), dl.models.get(model_id=sys.argv[2])
context = dl.Context(execution_dict={"id": "killed"}, sdk=dl)
ItemMiner.mine_items(dataset, model, miner_configuration={"size": 10}, context=context)
"""


def test_a_process_that_is_killed_leaves_a_round_that_can_be_taken_up(dl, make_pool):
    dataset, _, model, records = make_pool(25)
    expected = mining.mine(records, "margin", 10).ids
    command = [sys.executable, "-c", KILLED, dataset.id, model.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(marks(dataset)) == 3 and set(marks(dataset)) < set(expected)
    again = mine(dataset, model, {"size": 10}, context=context(dl, "killed"))
    assert ids(again) == expected and set(marks(dataset)) == set(expected)
    assert [item.metadata["user"]["mining"]["rank"] for item in again] == list(range(1, 11))


def test_a_round_of_all_that_waits_takes_no_more_when_it_is_run_again(dl, make_pool, die):
    dataset, _, model, records = make_pool(6)
    tagged = die(4, dataset, model, {"size": 10})
    late = list(upload(dataset, names(5, start=10)).values())
    predict_all(dl, [dataset.items.get(f"/{name}") for name in names(5, start=10)], model, first_seed=50)
    config = {"size": 10, "wait_for": 50}
    again = mine(dataset, model, config, context=context(dl, "first"))
    assert len(late) == 11 and tagged < set(ids(again)) and len(again) == 6
    assert len(mine(dataset, model, {"size": 10})) == 5


def test_a_round_that_died_leaves_alone_what_another_took_meanwhile(dl, make_pool, die):
    dataset, _, model, records = make_pool(30)
    tagged = die(3, dataset, model, {"size": 10})
    other = mine(dataset, model, {"size": 10}, context=context(dl, "second"))
    again = mine(dataset, model, {"size": 10}, context=context(dl, "first"))
    assert len(again) == len(set(ids(again))) == 10 and tagged <= set(ids(again))
    assert not set(ids(again)) & set(ids(other)) and len(marks(dataset)) == 20


def test_items_that_go_meanwhile_are_dropped(dl, make_pool, monkeypatch, progress):
    dataset, _, model, records = make_pool(9)
    expected = mining.mine(records, "margin", 5).ids
    run, write = mine_items.choose, mine_items.write_mark

    def choose(*arguments):
        choice = run(*arguments)
        dataset.items.delete(item_id=expected[0])
        mark = {"round": 7, "rank": 1, "score": 0.0, "strategy": "random", "pool": 1}
        write(dataset.items.get(item_id=expected[1]), mark)
        return choice

    def write_mark(item, mark):
        if item.id == expected[2]:
            dataset.items.delete(item_id=item.id)
        return write(item, mark)

    monkeypatch.setattr(mine_items, "choose", choose)
    monkeypatch.setattr(mine_items, "write_mark", write_mark)
    chosen = mine(dataset, model, {"size": 5}, progress=progress)
    assert ids(chosen) == expected[3:] and progress.action == "mined"
    assert "2 chosen items were deleted meanwhile" in progress.message
    assert "1 chosen items were taken by another round meanwhile" in progress.message
    assert marks(dataset)[expected[1]]["round"] == 7


def test_a_mark_that_is_refused_says_how_to_go_on(dl, make_pool, monkeypatch):
    dataset, _, model, records = make_pool(4)
    write = mine_items.write_mark

    def write_mark(item, mark):
        if mark["rank"] == 2:
            raise dl.exceptions.BadRequest("400", "no")
        return write(item, mark)

    monkeypatch.setattr(mine_items, "write_mark", write_mark)
    with pytest.raises(RuntimeError, match="could not be marked: run this same execution again"):
        mine(dataset, model, context=context(dl, "first"))
    monkeypatch.undo()
    assert len(marks(dataset)) == 3
    again = mine(dataset, model, context=context(dl, "first"))
    assert ids(again) == mining.mine(records, "margin", 4).ids


# ------------------------------------------------------------------------------------------- on the platform

ADAPTER = '''
import dtlpy as dl

from alhelpers.dataloop.predictions import to_annotations


class Grey(dl.BaseModelAdapter):
    """As sure of "a" as an image is dark, and of "b" as it is light."""

    def load(self, local_path, **kwargs):
        pass

    def predict(self, batch, **kwargs):
        if self.configuration.get("broken"):
            raise RuntimeError("the weights are lost")
        tilt, fields = self.configuration.get("tilt", 0), {"class_names": ["a", "b"]}
        lights = [min(float(image.mean()) / 255 + tilt, 1.0) for image in batch]
        predictions = [fields | {"confidences": [1 - x, x], "embeddings": [x, 1.0]} for x in lights]
        return [to_annotations(prediction, self.model_entity) for prediction in predictions]
'''
MODULES = {module["name"]: module for module in steps.config("dataloop.json")["components"]["modules"]}
(MINE_ITEMS,) = MODULES["mine-items"]["functions"]


@pytest.fixture(scope="module")
def deployed(dl, shared_project, tmp_path_factory):
    """Install an app with the node and an adapter; give its name, and a function that makes its models."""
    folder = write_codebase(tmp_path_factory.mktemp("app") / "code")
    (folder / "adapter.py").write_text(ADAPTER)
    manifest = steps.config("dataloop.json") | {"name": f"miner-{uuid.uuid4().hex[:8]}"}
    adapter = MODULES["digit-classifier"] | {
        "name": "adapter",
        "className": "Grey",
        "entryPoint": "adapter.py",
    }
    grey = {"name": "grey", "moduleName": "adapter", "status": "trained", "labels": ["a", "b"]}
    components = manifest["components"]
    manifest["components"] = {
        "modules": [adapter, MODULES["mine-items"]],
        "computeConfigs": components["computeConfigs"],
        "models": [components["models"][0] | grey | {"configuration": {"batch_size": 16}}],
    }
    dpk = dl.Dpk.from_json(manifest, client_api=dl.client_api, project=shared_project)
    app = shared_project.apps.install(dpk=shared_project.dpks.publish(dpk=dpk, local_path=str(folder)))

    def make_model(**configuration):
        model = shared_project.models.create(
            model_name=f"grey-{uuid.uuid4().hex[:8]}",
            app=app,
            dpk_model_name="grey",
            labels=["a", "b"],
            output_type="class",
            configuration={"batch_size": 16} | configuration,
        )
        model.deploy()
        return dl.models.get(model_id=model.id)

    return manifest["name"], make_model


def owners(item):
    """Which models have predicted an item; None for what people have labelled."""
    return [
        each.metadata.get("user", {}).get("model", {}).get("model_id") for each in item.annotations.list()
    ]


def test_after_an_update_of_the_model_what_waits_is_predicted_again(dl, deployed, make_dataset, progress):
    _, make = deployed
    dataset, items = make_dataset(names(12), ["a", "b"])
    old, new = make(), make(tilt=0.46)
    first = mine(dataset, old, {"size": 2}, progress=progress)
    # items are the lighter the later they were made; the lightest, 11 of 255, is the least certain
    assert [item.name for item in first] == ["011.png", "010.png"]
    assert f"12 items of dataset {dataset.name!r} were predicted first" in progress.message
    label(dl, items["000.png"], "a")
    second = mine(dataset, new, {"size": 3}, progress=progress)
    assert [item.name for item in second] == ["009.png", "008.png", "007.png"]
    assert f"10 items of dataset {dataset.name!r} were predicted first" in progress.message
    assert sorted(map(str, owners(items["000.png"]))) == sorted(["None", new.id])
    assert all(owners(items[name]) == [new.id] for name in names(9, start=1))
    assert all(owners(item) == [old.id] for item in first)
    third = mine(dataset, new, {"size": 3}, progress=progress)
    assert [item.name for item in third] == ["006.png", "005.png", "004.png"]
    assert "predicted first" not in progress.message


def test_what_is_labelled_is_predicted_too_and_keeps_all_predictions(dl, deployed, make_dataset, progress):
    _, make = deployed
    dataset, _ = make_dataset(names(4), ["a", "b"])
    labelled, items = make_dataset(["x.png", "y.png"], ["a", "b"])
    old, new = make(), make(tilt=0.5)
    for item in items.values():
        label(dl, item, "a")
        predict(dl, item, old, fields(1))
        tag(item, train=True)
    config = {"strategy": "embedding_distance", "size": 1}
    (chosen,) = mine(dataset, new, config, reference_dataset=labelled, progress=progress)
    assert chosen.name == "003.png"
    assert f"2 items of dataset {labelled.name!r} were predicted first" in progress.message
    assert all(sorted(map(str, owners(item))) == sorted(["None", old.id, new.id]) for item in items.values())


def test_a_model_that_fails_or_is_not_deployed_leaves_no_mark(dl, deployed, make_dataset, make_model):
    _, make = deployed
    dataset, items = make_dataset(names(3), ["a", "b"])
    old = make_model()
    for item in items.values():
        predict(dl, item, old, fields(1))
    with pytest.raises(ValueError, match="is not deployed: run model.deploy"):
        mine(dataset, make_model())
    assert all(owners(item) == [old.id] for item in items.values())
    broken = make(broken=True)
    with pytest.raises(
        RuntimeError, match=r"(?s)could not predict 3 items.*the weights are lost.*Nothing was chosen"
    ):
        mine(dataset, broken)
    assert marks(dataset) == {}
    broken.configuration["broken"] = False
    broken.update()
    assert len(mine(dataset, broken)) == 3


def test_the_platform_runs_the_node_and_each_item_goes_its_way(dl, deployed, make_dataset, shared_project):
    app_name, make = deployed
    dataset, items = make_dataset(names(7), ["a", "b"])
    model = make()
    ports = [port(each["name"], each["type"]) for each in MINE_ITEMS["input"]]
    root = node(
        "custom",
        "Mine Items",
        ports,
        [port("items", "Item[]", actions=["mined", "wait"])],
        dpkName=app_name,
        namespace={"functionName": "mine_items", "moduleName": "mine-items"},
    )
    following = code("Look", "return item", also=["progress"])
    description = pipeline([root, following])
    description["connections"][0]["action"] = "mined"
    flow = shared_project.pipelines.create(pipeline_json=description).install()

    def run(config):
        cycle = flow.execute(
            {
                "dataset": dataset.id,
                "model": model.id,
                "pool_filter": {"filter": {"$and": [{"hidden": False}, {"type": "file"}]}},
                "miner_configuration": config,
            }
        )
        until(lambda: not flow.pipeline_executions.get(cycle.id).in_progress())
        cycle = flow.pipeline_executions.get(cycle.id)
        done = executed(cycle)
        assert cycle.status == "success", [each["latestStatus"].get("message") for each in done]
        (mined,) = cycle.executions[root["id"]]
        return mined, [each["output"] for each in cycle.executions.get(following["id"], [])]

    mined, looked_at = run({"strategy": "margin", "size": 5})
    found = marks(dataset)
    assert mined["action"] == "mined" and len(mined["output"]) == 5
    assert {mark["execution_id"] for mark in found.values()} == {mined["id"]}
    assert sorted(found, key=lambda item_id: found[item_id]["rank"]) == mined["output"]
    assert [dataset.items.get(item_id=item_id).name for item_id in mined["output"]] == names(7)[:1:-1]
    assert sorted(looked_at) == sorted(mined["output"])
    mined, looked_at = run({"wait_for": 3})
    assert mined["action"] == "wait" and mined["output"] == [] and looked_at == []
    assert len(marks(dataset)) == 5
    (service,) = [each for each in shared_project.services.list().all() if each.module_name == "mine-items"]
    execution = service.execute(
        execution_input={"dataset": dataset.id, "model": model.id, "miner_configuration": None},
        function_name="mine_items",
        project_id=shared_project.id,
    )
    assert len(succeeded(dl, execution).output) == 2
