"""Mining with a deployed model: what is predicted first, and the node in a pipeline of the platform."""

import uuid

import pytest
from helpers_execution import succeeded, until
from mining_samples import fields, marks, mine, names, predict
from node_samples import label, tag
from pipeline_samples import code, executed, node, pipeline, port

from alhelpers.configurations import shipped
from alhelpers.dataloop.app import write_codebase

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
MODULES = {module["name"]: module for module in shipped("dataloop.json")["components"]["modules"]}
(MINE_ITEMS,) = MODULES["mine-items"]["functions"]


@pytest.fixture(scope="module")
def deployed(dl, shared_project, tmp_path_factory):
    """Install an app with the node and an adapter; give its name, and a function that makes its models."""
    folder = write_codebase(tmp_path_factory.mktemp("app") / "code")
    (folder / "adapter.py").write_text(ADAPTER)
    manifest = shipped("dataloop.json") | {"name": f"miner-{uuid.uuid4().hex[:8]}"}
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
