"""Pipelines as documents: created from JSON, validated, changed, installed, paused; their variables and context."""

import pytest
from helpers_contract import MISSING, fails, get_json, not_found, refused
from pipeline_samples import ITEM_CREATED, connect, node, pipeline, port


def template():
    split = node("code", "Split", inputs=[], outputs=[], metadata={"customNodeConfig": {"groups": []}})
    split["id"] = "node-1"
    return pipeline([split], name="flow", variables=[{"name": "best_model", "type": "Model", "value": "m"}])


@pytest.fixture
def flow(project):
    return project.pipelines.create(pipeline_json=template())


@pytest.fixture
def storage(dataset):
    """Make a storage node of the test's dataset."""

    def make(name="data", **metadata):
        return node("storage", name, metadata={"datasetId": dataset.id} | metadata)

    return make


def check_invalid(dl, project, match, body):
    """Check that a pipeline is refused when it is created, validated, and when another one becomes like it."""
    fails(dl.exceptions.BadRequest, match, project.pipelines.create, pipeline_json=body)
    fails(dl.exceptions.BadRequest, match, project.pipelines.validate, pipeline_json=body)
    assert project.pipelines.list().items_count == 0
    empty = project.pipelines.create(name="empty")
    refused(dl, "patch", f"/pipelines/{empty.id}", body)
    assert dl.pipelines.get(pipeline_id=empty.id).to_json()["nodes"] == []
    empty.delete()


# ------------------------------------------------------------------------------------------------------ documents


def test_create_get_list(dl, project, flow):
    assert flow.status == "Created"
    assert dl.pipelines.get(pipeline_id=flow.id).name == "flow"
    assert project.pipelines.get(pipeline_name="flow").id == flow.id
    assert project.pipelines.list().items_count == 1
    with pytest.raises(dl.exceptions.BadRequest, match="'flow' exists in project"):
        project.pipelines.create(pipeline_json=template())
    flow.delete()
    get = project.pipelines.get
    not_found(dl, lambda: get(pipeline_id=flow.id), lambda: get(pipeline_name="flow"))


def test_to_json_is_what_the_platform_says(dl, project, flow):
    stored, shown = get_json(dl, f"/pipelines/{flow.id}"), dl.pipelines.get(pipeline_id=flow.id).to_json()
    keys = "id name projectId creator status createdAt updatedAt updatedBy url variables startNodes".split()
    for key in (*keys, "compositionId", "orgId"):
        assert shown[key] == stored[key], key
    assert project.compositions.get(composition_id=flow.composition_id)["status"] == "Created"


def test_pipelines_that_cannot_be_installed(dl, project, storage):
    empty = project.pipelines.create(name="empty")
    assert empty.nodes == [] and empty.connections == [] and empty.variables == []
    fails(dl.exceptions.BadRequest, "has no nodes", empty.install)
    one, other = storage("a"), storage("b", triggerToPipeline={"active": True})
    made = project.pipelines.create(pipeline_json=pipeline([one, other]))
    fails(dl.exceptions.BadRequest, "its input port may not be connected", made.install)


def test_variables_and_changes(dl, project, flow):
    (variable,) = flow.variables
    assert variable.id and variable.reference == flow.id
    variable.value = "other"
    flow.variables.append(dl.entities.Variable({"name": "config", "type": "Json", "value": {"epochs": 2}}))
    flow.nodes[0].metadata["customNodeConfig"]["groups"] = [{"name": "train", "distribution": 80}]
    flow.update()
    read = dl.pipelines.get(pipeline_id=flow.id)
    values = {each.name: each.value for each in read.variables}
    assert values == {"best_model": "other", "config": {"epochs": 2}}
    assert read.variables[0].id == variable.id and read.variables[1].creator
    assert read.nodes[0].metadata["customNodeConfig"]["groups"][0]["distribution"] == 80
    assert len(read.nodes) == 1
    read.update_variables_values(best_model="third")
    assert read.update().variables[0].value == "third"
    read.variables.append(dl.entities.Variable({"name": "config", "type": "Json", "value": {}}))
    fails(dl.exceptions.BadRequest, "must be different", read.update)


def test_rename_and_settings(dl, project, flow):
    flow.name = "renamed"
    assert flow.update().name == "renamed"
    settings = dl.PipelineSettings(default_resume_option=dl.PipelineResumeOption.TERMINATE_EXISTING_CYCLES)
    read = project.pipelines.update_settings(flow, settings)
    assert read.settings.default_resume_option == "terminateExistingCycles"


def test_the_context_of_a_node(dl, flow):
    context = dl.Context(execution_dict={"pipeline": {"id": flow.id, "nodeId": "node-1"}}, sdk=dl)
    assert context.pipeline.name == "flow"
    assert context.node.metadata["customNodeConfig"] == {"groups": []}


# ----------------------------------------------------------------------------------------------------- validation


def test_connections_that_are_refused(dl, project, storage):
    # Ports of different types.
    one, other = storage("a"), node("storage", "b", inputs=[port("dataset", "Dataset")])
    begin = "Invalid input specified, Failed to (create|update) pipeline: "
    match = f"{begin}connection source and target ports must be of the same type"
    check_invalid(dl, project, match, pipeline([one, other], [connect(one, other)]))
    # An action that the port does not have.
    one, other = storage("a"), storage("b")
    one["outputs"] = [port(actions=["completed", "discard"])]
    match = "connection action do not includes in port actions"
    check_invalid(dl, project, match, pipeline([one, other], [connect(one, other, action="approved")]))
    # Two roots.
    one, other = storage("a"), storage("b")
    body = pipeline([one, other])
    body["startNodes"].append({"nodeId": other["id"], "type": "root"})
    check_invalid(dl, project, "Invalid input specified, Pipeline may only include 1 root node", body)
    # Cycles without a way out.
    one, other, third = storage("first"), storage("second"), storage("third")
    ring = [connect(one, other), connect(other, third), connect(third, other)]
    check_invalid(
        dl, project, 'Infinite Loop detected for node "second"', pipeline([one, other, third], ring)
    )
    check_invalid(
        dl, project, 'Infinite Loop detected for node "first"', pipeline([one], [connect(one, one)])
    )
    # A condition that is not a filter.
    body = pipeline([storage("a"), storage("b")])
    body["connections"][0]["condition"] = "{nonsense"
    check_invalid(dl, project, "condition is a filter as JSON", body)


def test_valid_pipelines(dl, project, storage):
    # A list may meet an input for one item.
    one, other = node("code", "a", outputs=[port("items", "Item[]")]), storage("b")
    assert project.pipelines.create(pipeline_json=pipeline([one, other])).id
    # A cycle may have a way out: another action, or a condition.
    one, other = storage("a"), storage("b")
    other["outputs"] = [port(actions=["again", "done"])]
    body = pipeline([one, other], [connect(one, other), connect(other, one, action="again")])
    assert project.pipelines.create(pipeline_json=body).id
    filtered = [connect(one, other), connect(other, one, action="again", condition={"annotated": True})]
    assert project.pipelines.create(pipeline_json=pipeline([one, other], filtered)).id
    body = pipeline([storage("a"), storage("b")])
    assert project.pipelines.validate(body)["valid"] is True
    made = project.pipelines.create(pipeline_json=body)
    assert made.validate()["valid"] is True


CODE = {"id": "a", "type": "code"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"connections": [{"src": {"nodeId": "x", "portId": "y"}, "tgt": {}}]}, "which is not there"),
        ({"connections": ["a"]}, "needs a JSON object"),
        ({"startNodes": [{"nodeId": "x", "type": "root"}]}, "is not a node of the pipeline"),
        ({"nodes": [{"id": "a"}]}, "'type' must be a non-empty string"),
        ({"variables": [{"name": "a"}]}, "'type' must be a non-empty string"),
        ({"nodes": [CODE | {"namespace": "b"}]}, "'namespace' of node 'a' must be an object"),
        ({"nodes": [CODE | {"inputs": [{"name": "b", "type": "c", "actions": "d"}]}]}, "a list"),
        ({"nodes": [CODE | {"metadata": {"repeatable": 1}}]}, "must be true or false"),
        (
            {"nodes": [{"id": "a", "type": "task"}, {"id": "a", "type": "task"}]},
            "ids of a pipeline.s nodes must be different",
        ),
    ],
)
def test_broken_documents(dl, project, storage, change, match):
    check_invalid(dl, project, match, pipeline([storage()]) | change)


def test_what_is_missing_shows_when_it_starts(dl, project, storage):
    broken = project.pipelines.create(pipeline_json=pipeline([node("storage", "Raw")]))
    for attempt in (broken.install, broken.validate):
        fails(dl.exceptions.BadRequest, "'Raw' of type storage must have a datasetId", attempt)
    assert dl.pipelines.get(pipeline_id=broken.id).status == "Created"
    variable = {"name": "D", "type": "Dataset", "value": "$var(D__dataset)"}
    unfilled = node("storage", "Raw", metadata={"variableDataset": "D"})
    gone = node("storage", metadata={"datasetId": MISSING})
    for nodes, variables, match in (
        ([node("task", "Label"), gone], [], "'Label' of type task must have a datasetId"),
        ([unfilled], [variable], "'Raw' of type storage must have a datasetId"),
        ([gone], [], "there is no dataset"),
        ([storage(variableDataset="Raw Dataset")], [], "uses the variable 'Raw Dataset'"),
    ):
        body = pipeline(nodes, variables=variables)
        fails(dl.exceptions.BadRequest, match, project.pipelines.validate, body)


# ------------------------------------------------------------------------------------------------- life of a pipeline


def test_install_and_pause(dl, project, storage):
    made = project.pipelines.create(pipeline_json=pipeline([storage()]))
    fails(dl.exceptions.BadRequest, "is not installed", made.execute)
    made = made.install()
    assert made.status == dl.CompositionStatus.INSTALLED
    assert project.compositions.get(composition_id=made.composition_id)["status"] == "Installed"
    made.pause()
    assert dl.pipelines.get(pipeline_id=made.id).status == dl.CompositionStatus.UNINSTALLED
    fails(dl.exceptions.BadRequest, "resumeOption", made.install, resume_option="perhaps")


def test_triggers_come_with_the_installation(dl, project, storage):
    one, cron = storage("a"), storage("b")
    every = {"type": "Cron", "spec": {"cron": "0 9 * * 1"}}
    triggers = {one["id"]: ITEM_CREATED, cron["id"]: every}
    body = pipeline([one, cron], [], triggers)
    made = project.pipelines.create(pipeline_json=body)
    assert made.triggers.list().items_count == 0
    made = made.install()
    found = made.triggers.list()
    assert found.items_count == 2 and project.triggers.list().items_count == 2
    assert {each.type for each in found.items} == {"Event", "Cron"}
    assert all(each.active and each.pipeline_id == made.id for each in found.items)
    made.pause(keep_triggers_active=True)
    assert all(each.active for each in made.triggers.list().items)
    made.pause()
    assert not any(each.active for each in made.triggers.list().items)
    made.install()
    again = made.triggers.list().items
    assert all(each.active for each in again)
    assert {each.id for each in again} == {each.id for each in found.items}
    made.delete()
    assert project.triggers.list().items_count == 0


def test_triggers_follow_an_installed_pipeline(dl, project, dataset):
    made = project.pipelines.create(name="built")
    made.nodes.add(dl.DatasetNode(name="data", project_id=project.id, dataset_id=dataset.id))
    wanted = dl.Filters(field="metadata.user.wanted", values=True)
    made.nodes[0].add_trigger(filters=wanted)
    made = made.update().install()
    (trigger,) = made.triggers.list().items
    assert trigger.resource == "Item" and trigger.actions == ["Created"]
    conditions = wanted.prepare(query_only=True)["filter"]["$and"]
    assert trigger.filters == {"$and": [*conditions, {"datasetId": dataset.id}]}
    made.nodes[0].add_trigger(trigger_type=dl.TriggerType.CRON, cron="*/5 * * * *")
    made = made.update()
    (trigger,) = made.triggers.list().items
    assert trigger.type == "Cron" and trigger.cron == "*/5 * * * *"
    made.start_nodes[0].pop("trigger")
    made.update()
    assert made.triggers.list().items_count == 0
