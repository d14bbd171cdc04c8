"""One code, three ways: called in a notebook, run by a pipeline from the manifest, and by the SDK's local runner."""

import json
import uuid

import pytest

from alhelpers import data
from alhelpers.configurations import shipped
from alhelpers.dataloop import DataSplitter, ItemMiner, ModelComparer, ModelCreator, node_context, steps
from alhelpers.dataloop.app import write_codebase
from alhelpers.dataloop.data_split import DEFAULT_CONFIG, split_dataset
from alhelpers.notebook.flow import wait_until

MANIFEST = shipped("dataloop.json")
MODULES = {module["name"]: module for module in MANIFEST["components"]["modules"]}
SUBSETS = {name: shipped(f"{name}_subset_filter.json") for name in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def stage(dl):
    """A project with the kit's app, a labelled dataset in subsets, an unlabelled one, and a trained model, deployed."""
    project = dl.projects.create(f"three-ways-{uuid.uuid4().hex[:8]}")
    pool, _ = data.load("digits", seed=0)
    truth = steps.get_or_create_dataset(project, "truth", pool.class_names)
    steps.upload(truth, pool.part(90), labelled=True)
    split_dataset(truth, {"train": 60, "validation": 20, "test": 20}, seed=0)
    raw = steps.get_or_create_dataset(project, "raw", pool.class_names)
    steps.upload(raw, pool.part(30, start=90), labelled=False)
    model = steps.base_model(project, truth, "digits", steps=60)
    model.deploy()
    return project, truth, raw, project.models.get(model_id=model.id)


@pytest.fixture(scope="module")
def codebase(tmp_path_factory):
    """The published code, with the file in which the SDK's local runner looks the modules up."""
    folder = write_codebase(tmp_path_factory.mktemp("app") / "code")
    (folder / "package.json").write_text(
        json.dumps({"name": "kit", "modules": MANIFEST["components"]["modules"]})
    )
    return folder


def by_the_local_runner(project, codebase, module_name, inputs):
    """Run a node as the SDK does it on a developer's machine: entry point, class and inputs come from the manifest."""
    module = MODULES[module_name]
    (function,) = module["functions"]
    mock = {"inputs": [{"name": name, "value": value} for name, value in inputs.items()]}
    (codebase / "mock.json").write_text(json.dumps(mock))
    return project.packages.test_local_package(
        cwd=str(codebase),
        module_name=module_name,
        function_name=function["name"],
        class_name=module["className"],
        entry_point=module["entryPoint"],
    )


def by_a_pipeline(dl, project, module_name, inputs, config):
    """Run a node as the only one of an installed pipeline; give its execution and what it returned."""
    template = shipped("active_learning_pipeline_with_mining.json")
    (node,) = [each for each in template["nodes"] if each["namespace"].get("moduleName") == module_name]
    node["metadata"]["customNodeConfig"] = config
    for port in node["inputs"]:
        port.pop("variableName", None)
    name = f"{module_name} {uuid.uuid4().hex[:6]}"
    drawing = {"name": name, "nodes": [node], "connections": [], "variables": []}
    drawing["startNodes"] = [{"nodeId": node["id"], "type": "root", "id": "start"}]
    flow = project.pipelines.create(pipeline_json=drawing).install()
    cycle = flow.execute(execution_input=inputs)
    wait_until(
        lambda: not flow.pipeline_executions.get(cycle.id).in_progress(), name, seconds=120, every=0.05
    )
    ((execution,),) = flow.pipeline_executions.get(cycle.id).executions.values()
    flow.pause()
    assert execution["latestStatus"]["status"] == "success", execution["latestStatus"]
    return execution


class Progress:
    action = None

    def update(self, action=None, **_):
        self.action = action


def test_data_split(dl, stage, codebase):
    project, truth, raw, _ = stage
    item = sorted(raw.items.list().all(), key=lambda item: item.name)[0]
    config = DEFAULT_CONFIG | {"itemMetadata": False}
    progress = Progress()
    DataSplitter.data_split(item, progress, node_context(project, config, name="split"))
    execution = by_a_pipeline(dl, project, "data-split", {"item": item.id}, config)
    assert execution["action"] == progress.action
    returned = by_the_local_runner(project, codebase, "data-split", {"item": {"item_id": item.id}})
    assert returned.id == execution["output"] == item.id
    assert returned.metadata["system"]["tags"] == {progress.action: True}


def test_create_new_model(dl, stage, codebase):
    project, truth, _, base = stage
    config = {"name": "Create New Model", "modelName": "{base_model.name}_{datetime}"}
    rest = {"train_subset": SUBSETS["train"], "validation_subset": SUBSETS["validation"]}
    rest |= {"model_configuration": {"steps": 7}}
    direct, _ = ModelCreator.create_new_model(
        base, truth, **rest, context=node_context(project, config, "create")
    )
    entities = {"base_model": base.id, "dataset": truth.id}
    execution = by_a_pipeline(dl, project, "create-new-model", entities | rest, config)
    new, old = execution["output"]
    piped = project.models.get(model_id=new)
    local, given = by_the_local_runner(
        project,
        codebase,
        "create-new-model",
        {"base_model": {"model_id": base.id}, "dataset": {"dataset_id": truth.id}} | rest,
    )
    assert old == given.id == base.id
    made = [project.models.get(model_id=model.id) for model in (direct, piped, local)]
    assert len({model.id for model in made}) == len({model.name for model in made}) == 3
    for model in made:
        assert model.name.startswith(f"{base.name}_") and model.status == "pre-trained"
        assert model.configuration == base.configuration | {"steps": 7}
        assert model.metadata["system"]["subsets"] == made[0].metadata["system"]["subsets"]
        assert model.dataset_id == truth.id and model.labels == base.labels


def test_compare_models(dl, stage, codebase):
    from alhelpers.dataloop.adapter import DigitClassifier

    project, truth, _, base = stage
    new = DigitClassifier(model_entity=(model := clone(stage))).train_model(model)
    for model in (base, new):
        DigitClassifier(model_entity=model).evaluate_model(model, truth, steps.subset_filter("test"))
    config = {"precision_recall": {"min_delta": 0.001, "test_filter": SUBSETS["test"]}}
    found = []

    def reasons():
        found.append(project.models.get(model_id=new.id).metadata["user"].pop("compare"))

    progress = Progress()
    winner = ModelComparer.compare_models(base, new, progress, None, config, truth)
    reasons()
    entities = {"previous_model": base.id, "new_model": new.id, "dataset": truth.id}
    rest = {"compare_config": config}
    execution = by_a_pipeline(dl, project, "compare-models", entities | rest, {"name": "Compare Models"})
    reasons()
    inputs = {"previous_model": {"model_id": base.id}, "new_model": {"model_id": new.id}}
    local = by_the_local_runner(
        project, codebase, "compare-models", inputs | {"dataset": {"dataset_id": truth.id}} | rest
    )
    reasons()
    assert found[0] == found[1] == found[2] and found[0]["action"] == progress.action == execution["action"]
    assert winner.id == local.id == execution["output"]


def clone(stage):
    _, truth, _, base = stage
    new, _ = ModelCreator.create_new_model(
        base, truth, SUBSETS["train"], SUBSETS["validation"], {"steps": 60}
    )
    return new


def test_mine_items(dl, stage, codebase):
    project, truth, raw, model = stage
    config = {"strategy": "margin", "size": 5}

    def ranked():
        items = [item for item in raw.items.list().all() if "mining" in item.metadata["user"]]
        items.sort(key=lambda item: item.metadata["user"]["mining"]["rank"])
        for item in items:
            del item.metadata["user"]["mining"]
            item.update()
        return [item.id for item in items]

    progress = Progress()
    direct = ItemMiner.mine_items(raw, model, None, config, None, progress)
    assert [item.id for item in direct] == ranked() and progress.action == "mined"
    inputs = {"pool_filter": {}, "miner_configuration": config}
    execution = by_a_pipeline(
        dl,
        project,
        "mine-items",
        inputs | {"dataset": raw.id, "model": model.id, "reference_dataset": truth.id},
        {"name": "Mine Items"},
    )
    piped = ranked()
    assert execution["action"] == "mined" and execution["output"] == piped
    local = by_the_local_runner(
        project,
        codebase,
        "mine-items",
        inputs
        | {"dataset": {"dataset_id": raw.id}, "model": {"model_id": model.id}}
        | {"reference_dataset": {"dataset_id": truth.id}},
    )
    assert [item.id for item in local] == ranked() == piped == [item.id for item in direct]
