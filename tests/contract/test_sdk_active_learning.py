"""The kit's Active Learning template, run for real: predicted, labelled, reviewed, split, trained, compared."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from helpers_contract import classify, fails, tagged
from helpers_execution import until
from pipeline_samples import executed, statuses, successes

from alhelpers import data

CONFIGS = Path(__file__).parents[2] / "pipeline_configs"
TEMPLATES = ["active_learning_pipeline.json", "active_learning_pipeline_with_mining.json"]
ITEMS = 50
# So that a test and a validation item are sure to be among fifty.
SHARES = {"train": 60, "validation": 20, "test": 20}
WEEK = 7 * 24 * 3600


def read(name):
    return json.loads((CONFIGS / name).read_text())


@pytest.mark.parametrize("place", [0, 1])
def test_the_manifest_brings_the_templates(place):
    manifest = read("dataloop.json")
    templates = [read(name) for name in TEMPLATES]
    assert manifest["components"]["pipelineTemplates"] == templates
    template = templates[place]
    modules = {each["name"]: each for each in manifest["components"]["modules"]}
    for node in template["nodes"]:
        if node["type"] != "custom":
            continue
        assert node["dpkName"] == manifest["name"]
        (function,) = modules[node["namespace"]["moduleName"]]["functions"]
        assert function["name"] == node["namespace"]["functionName"]
        for side, declared in (("inputs", "input"), ("outputs", "output")):
            ports = {port["name"]: port["type"] for port in node[side]}
            assert ports == {each["name"]: each["type"] for each in function[declared]}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_asks_for_what_it_needs(dl, project, dataset, name):
    template = read(name)
    flow = project.pipelines.create(pipeline_json=template)
    fails(dl.exceptions.BadRequest, "'Raw Data' of type storage must have a datasetId", flow.install)
    flow.update_variables_values(**{"Raw Dataset": dataset.id, "Ground Truth Dataset": dataset.id})
    flow = flow.update()
    assert flow.validate()["valid"]
    fails(dl.exceptions.BadRequest, "'Predict Model' of type ml must have a model", flow.install)
    assert project.triggers.list().items_count == 0 and project.tasks.list() == []


@pytest.fixture
def story(dl, project):
    """The pipeline, installed, with an untrained model."""
    from alhelpers.dataloop import steps
    from alhelpers.dataloop.app import install_app

    pool, _ = data.load("digits", seed=0)
    raw, truth = (steps.get_or_create_dataset(project, name, pool.class_names) for name in ("raw", "truth"))
    install_app(project)
    (model,) = project.models.list().items
    flow = project.pipelines.create(pipeline_json=read("active_learning_pipeline.json"))
    values = {"Raw Dataset": raw.id, "Ground Truth Dataset": truth.id}
    values |= {"Best Model": model.id, "Model Configuration": {"steps": 40}}
    flow.update_variables_values(**values)
    for group in flow.nodes.get("Model Data Split").metadata["customNodeConfig"]["groups"]:
        group["distribution"] = SHARES[group["name"]]
    flow = flow.update().install()
    return flow, raw, truth, model, pool.part(ITEMS)


def upload(dataset, images):
    """Upload images without labels; return the items, and their true labels by id."""
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.DataFrame(data.write_folder(images, folder, labelled=False))
        rows["remote_path"] = "/"
        columns = ["local_path", "remote_path"]
        items = list(dataset.items.upload(rows[columns], raise_on_error=True, return_as_list=True))
    items.sort(key=lambda item: item.name)
    labels = [images.class_names[label] for label in images.labels()]
    return items, {item.id: label for item, label in zip(items, labels, strict=True)}


def test_the_whole_story(dl, platform, project, story):
    flow, raw, truth, base, images = story
    ids = {node.name: node.node_id for node in flow.nodes}
    tasks = {task.name: task for task in project.tasks.list()}
    assert project.triggers.list().items_count == 2
    assert dl.models.get(model_id=base.id).status == "deployed"

    def count(name):
        return successes(flow.stats(), ids[name])

    # Every raw item is predicted, and waits for an annotator.
    items, labels = upload(raw, images)
    until(lambda: dl.tasks.get(task_id=tasks["Labeling Task"].id).total_items == ITEMS)
    assert count("Predict Model") == ITEMS
    assert all(item.annotated for item in raw.items.list().items)

    def annotate(item):
        item.annotations.delete(filters=dl.Filters(resource=dl.FiltersResource.ANNOTATION))
        classify(dl, item, labels[item.id])
        item.update_status("completed", task_id=tasks["Labeling Task"].id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(annotate, items))
    review = dl.tasks.get(task_id=tasks["Review Task"].id)
    assert review.total_items == ITEMS and review.spec["type"] == "qa"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: item.update_status("approved", task_id=review.id), items))

    # What is approved is split, and collected in the ground truth.
    until(lambda: truth.items.list().items_count == ITEMS)
    until(lambda: count("Ground Truth") == ITEMS)
    counts = [truth.items.list(tagged(dl, subset)).items_count for subset in SHARES]
    assert sum(counts) == ITEMS and all(counts)
    for copy in truth.items.list().items:
        (annotation,) = copy.annotations.list()
        assert annotation.label == labels[copy.to_json()["srcItem"]]
    cycles = flow.pipeline_executions.list(dl.Filters(resource=dl.FiltersResource.PIPELINE_EXECUTION))
    assert cycles.items_count == ITEMS and {cycle.status for cycle in cycles.items} == {"success"}

    # On Monday a new model learns from it, is better, and takes the place of the old one.
    platform.advance_clock(WEEK)
    cycles = flow.pipeline_executions.list().all()
    (cycle,) = [each for each in cycles if ids["Create New Model"] in each.executions]
    until(lambda: not flow.pipeline_executions.get(cycle.id).in_progress())
    cycle = flow.pipeline_executions.get(cycle.id)
    assert cycle.status == "success", [each["latestStatus"].get("message") for each in executed(cycle)]
    done = executed(cycle)
    assert len(done) == 6 and {each["latestStatus"]["status"] for each in done} == {"success"}
    assert statuses(cycle)["Raw Data"] == "pending" and statuses(cycle)["Update Variables"] == "success"
    (compared,) = cycle.executions[ids["Compare Models"]]
    assert compared["action"] == "update model"
    variables = {each.name: each.value for each in dl.pipelines.get(pipeline_id=flow.id).variables}
    newest = dl.models.get(model_id=variables["Best Model"])
    assert newest.id != base.id and newest.status == "deployed"
    assert len(newest.metadata["system"]["deploy"]["services"]) == 1
    assert {model.id for model in project.models.list().all()} == {base.id, newest.id}
