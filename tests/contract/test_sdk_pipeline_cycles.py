"""Cycles of pipelines whose nodes are the platform's own: datasets and variables. No worker process is needed."""

import pytest
from helpers_contract import MISSING, classify, fails, not_found
from pipeline_samples import (
    ITEM_CREATED,
    connect,
    executed,
    install,
    label,
    node,
    pipeline,
    port,
    reread,
    run,
    statuses,
    storage,
    successes,
)

# ------------------------------------------------------------------------------------------------------- datasets


def test_an_item_goes_through_datasets(dl, project, dataset, truth, fill):
    (item,) = fill(1, remote_path="/some")
    classify(dl, item, "a")
    nodes = [storage(dataset, "raw"), storage(truth, "copy"), storage(truth, "folder", dir="/x")]
    flow = install(project, nodes)
    cycle = run(flow, {"item": item.id})
    assert cycle.status == "success" and not cycle.in_progress()
    assert statuses(cycle) == {"raw": "success", "copy": "success", "folder": "success"}
    assert len(executed(cycle)) == 3 and cycle.pipeline_id == flow.id
    (copy,) = truth.items.list().items
    assert copy.filename == "/some/0000.png" and copy.to_json()["srcItem"] == item.id
    assert [each.label for each in copy.annotations.list()] == ["a"]
    (first,) = cycle.executions[nodes[0]["id"]]
    assert first["input"] == {"item": {"item_id": item.id}, "dataset_id": dataset.id, "folder": None}
    assert first["latestStatus"]["status"] == "success" and first["_id"] == first["id"]
    assert cycle.executions[nodes[2]["id"]][0]["input"]["folder"] == "/x"
    assert first["pipeline"] == {"id": flow.id, "nodeId": nodes[0]["id"], "executionId": cycle.id}


def test_ways_to_give_an_input(dl, project, dataset, item):
    flow = install(project, [storage(dataset)])
    for given in (
        {"item": item.id},
        {"item": {"item_id": item.id, "dataset_id": dataset.id}},
        dl.FunctionIO(type=dl.PackageInputType.ITEM, name="item", value={"item_id": item.id}),
    ):
        assert run(flow, given).status == "success"
        assert flow.test(execution_input=given).wait().status == "success"


def test_a_second_clone_takes_the_place_of_the_first(dl, project, dataset, truth, item):
    flow = install(project, [storage(dataset), storage(truth)])
    run(flow, {"item": item.id})
    run(flow, {"item": item.id})
    assert truth.items.list().items_count == 1
    other = project.datasets.create("other")
    namesake = item.clone(dst_dataset_id=other.id)
    run(flow, {"item": namesake.id}, node_id=flow.nodes[1].node_id)
    assert sorted(each.name for each in truth.items.list().items) == ["0000 (1).png", "0000.png"]


def test_an_execution_that_fails(dl, project, dataset, truth):
    flow = install(project, [storage(dataset, "a"), storage(truth, "b")])
    cycle = run(flow, {"item": MISSING})
    assert cycle.status == "failed" and statuses(cycle) == {"a": "failed", "b": "pending"}
    (failed,) = executed(cycle)
    assert "item not found" in failed["latestStatus"]["message"]
    nothing = run(flow)
    assert nothing.status == "failed"
    assert "needs an item" in executed(nothing)[0]["latestStatus"]["message"]


def test_start_at_a_later_node(dl, project, dataset, truth, item):
    flow = install(project, [storage(dataset, "root"), storage(truth, "later")])
    cycle = run(flow, {"item": item.id}, node_id=flow.nodes[1].node_id)
    assert statuses(cycle) == {"root": "pending", "later": "success"} and cycle.status == "success"
    with pytest.raises(dl.exceptions.BadRequest, match="has no node 'nowhere'"):
        flow.execute(execution_input={"item": item.id}, node_id="nowhere")
    assert flow.pipeline_executions.list().items_count == 1


def test_conditions_on_connections(dl, project, dataset, truth, fill):
    one, two = fill(2)
    two.metadata["user"] = {"wanted": True}
    two.update()
    nodes = [storage(dataset, "raw"), storage(truth, "wanted")]
    flow = install(project, nodes, [connect(*nodes, condition={"metadata.user.wanted": True})])
    assert statuses(run(flow, {"item": one.id})) == {"raw": "success", "wanted": "pending"}
    assert statuses(run(flow, {"item": two.id})) == {"raw": "success", "wanted": "success"}


def test_batches_and_statistics(dl, project, dataset, truth, fill):
    fill(3, remote_path="/a")
    fill(2, remote_path="/b")
    flow = install(project, [storage(dataset, "raw"), storage(truth, "copy")])
    filters = dl.Filters(field="dir", values="/a", context={"datasets": [dataset.id]})
    command = flow.execute_batch(filters=filters)
    assert command.status == "success"
    cycles = flow.pipeline_executions.list()
    assert cycles.items_count == 3 and all(each.status == "success" for each in cycles.items)
    stats = flow.stats()
    assert [(each.status, each.count) for each in stats.pipeline_counters] == [("success", 3)]
    for each in flow.nodes:
        found = [one for cycle in cycles.items for one in cycle.executions[each.node_id]]
        assert successes(stats, each.node_id) == len(found) == 3
    for cycle in cycles.items:
        by_cycle = dl.Filters(resource="executions", field="pipeline.executionId", values=cycle.id)
        found = project.executions.list(filters=by_cycle)
        assert {each.id for each in found.items} == {each["id"] for each in executed(cycle)}
        assert all(each.pipeline_execution_id == cycle.id for each in found.items)
    assert flow.reset()
    assert flow.stats().pipeline_counters == [] and successes(flow.stats(), flow.nodes[0].node_id) == 0
    everywhere = flow.execute_batch(dl.Filters(field="dir", values="/b"), node_id=flow.nodes[1].node_id)
    assert everywhere.spec["count"] == 2
    assert successes(flow.stats(), flow.nodes[1].node_id) == 2
    nowhere = dl.Filters(context={"datasets": [MISSING]})
    not_found(dl, lambda: flow.execute_batch(filters=nowhere))


def test_a_batch_waits_for_its_pipeline(dl, project, dataset, fill):
    fill(2)
    flow = project.pipelines.create(pipeline_json=pipeline([storage(dataset)]))
    assert flow.execute_batch(dl.Filters(context={"datasets": [dataset.id]})).status == "success"
    assert {each.status for each in flow.pipeline_executions.list().items} == {"pending"}
    flow.install()
    assert [each.status for each in flow.pipeline_executions.list().items] == ["success"] * 2


def test_a_batch_that_is_too_large(dl, project, dataset, fill, monkeypatch):
    from alhelpers.platform.services.pipelines import lifecycle

    monkeypatch.setattr(lifecycle, "LARGEST_BATCH", 2)
    fill(3)
    flow = install(project, [storage(dataset)])
    with pytest.raises(dl.exceptions.BadRequest, match="finds 3 items; one batch takes at most 2"):
        flow.execute_batch(dl.Filters(context={"datasets": [dataset.id]}))
    assert flow.pipeline_executions.list().items_count == 0


def test_list_cycles(dl, project, dataset, fill):
    one, two = fill(2)
    flow = install(project, [storage(dataset)])
    first = run(flow, {"item": one.id})
    run(flow, {"item": MISSING})
    failed = dl.Filters(resource=dl.FiltersResource.PIPELINE_EXECUTION, field="status", values="failed")
    assert flow.pipeline_executions.list(filters=failed).items_count == 1
    read = flow.pipeline_executions.get(first.id)
    assert read.to_json() == first.to_json()
    other = install(project, [storage(dataset)])
    not_found(dl, lambda: other.pipeline_executions.get(first.id))
    assert other.pipeline_executions.list().items_count == 0


def test_existing_data_is_loaded_once(dl, project, dataset, truth, fill):
    fill(3)
    raw = dl.DatasetNode("raw", project.id, dataset.id, load_existing_data=True)
    flow = project.pipelines.create(name="loading")
    flow.nodes.add(raw).connect(dl.DatasetNode("copy", project.id, truth.id))
    flow = flow.update().install()
    loading = flow.nodes.get("raw").metadata["triggerToPipeline"]
    assert loading["active"] and loading["triggered"]
    assert dl.commands.get(loading["commandId"]).status == "success"
    assert flow.pipeline_executions.list().items_count == 3 and truth.items.list().items_count == 3
    flow.pause()
    flow = flow.install()
    flow.update()
    assert flow.pipeline_executions.list().items_count == 3
    again = flow.nodes.get("raw").metadata["triggerToPipeline"]
    assert again["commandId"] == loading["commandId"]
    wanted = dl.Filters(field="name", values="0001.png")
    some = project.pipelines.create(name="loading some")
    some.nodes.add(
        dl.DatasetNode("raw", project.id, dataset.id, load_existing_data=True, data_filters=wanted)
    )
    assert some.update().install().pipeline_executions.list().items_count == 1


def test_why_a_pipeline_does_not_start_is_in_its_composition(dl, project, dataset):
    too_many = label(dataset, batchSize=10, maxBatchWorkload=7)
    flow = project.pipelines.create(pipeline_json=pipeline([too_many]))
    reason = "Request failed with status code 400, Failed to create a task"
    fails(dl.exceptions.BadRequest, reason, flow.install)
    filters = dl.Filters(resource=dl.FiltersResource.COMPOSITION)
    filters.add(field="id", values=[flow.composition_id], operator=dl.FiltersOperations.IN)
    found = dl.pipelines._list(filters=filters)
    assert found["totalItemsCount"] == 1 and reason in found["items"][0]["errorText"]["message"]


# ------------------------------------------------------------------------------------------------------ variables


def test_update_variable(dl, project, dataset, truth, item):
    update = node("updateVariable", inputs=[port("target", "Dataset")], outputs=[port("target", "Dataset")])
    copy = node("storage", "copy", metadata={"variableDataset": "target"})
    variables = [{"name": "target", "type": "Dataset", "value": dataset.id}]
    flow = install(project, [copy, update], [], variables=variables)
    assert run(flow, {"item": item.id}).status == "success"
    assert truth.items.list().items_count == 0
    cycle = run(flow, {"target": truth.id}, node_id=update["id"])
    assert cycle.status == "success"
    assert dl.pipelines.get(pipeline_id=flow.id).variables[0].value == truth.id
    run(flow, {"item": item.id})
    assert truth.items.list().items_count == 1


# ------------------------------------------------------------------------------------- paused, terminated, run again


def test_rerun(dl, project, dataset, truth, fill):
    one, two = fill(2)
    nodes = [storage(dataset, "raw"), storage(truth, "copy"), storage(truth, "folder", dir="/x")]
    flow = install(project, nodes)
    cycle = run(flow, {"item": one.id})
    untouched = run(flow, {"item": two.id})
    assert cycle.rerun(method=dl.CycleRerunMethod.START_FROM_BEGINNING)
    assert len(executed(reread(flow, cycle))) == 6 and reread(flow, cycle).status == "success"
    assert cycle.rerun(dl.CycleRerunMethod.START_FROM_NODES, start_nodes_ids=[nodes[1]["id"]])
    again = reread(flow, cycle)
    assert [len(again.executions[each["id"]]) for each in nodes] == [2, 4, 4]
    assert len(executed(reread(flow, untouched))) == 3
    fails(dl.exceptions.BadRequest, "needs 'startNodeIds'", cycle.rerun, dl.CycleRerunMethod.START_FROM_NODES)
    with pytest.raises(dl.exceptions.NotFound, match="has no node 'x'"):
        cycle.rerun(dl.CycleRerunMethod.START_FROM_NODES, start_nodes_ids=["x"])
    fails(dl.exceptions.BadRequest, "cycles run again by", cycle.rerun, "somehow")


def test_rerun_from_what_has_failed(dl, project, dataset, truth, item):
    nodes = [storage(dataset, "raw"), node("storage", "copy", metadata={"variableDataset": "target"})]
    variables = [{"name": "target", "type": "Dataset", "value": truth.id}]
    flow = install(project, nodes, variables=variables)
    truth.delete(sure=True, really=True)
    cycle = run(flow, {"item": item.id})
    assert cycle.status == "failed" and statuses(cycle) == {"raw": "success", "copy": "failed"}
    ids = {each["id"] for each in executed(cycle)}
    flow.update_variables_values(target=project.datasets.create("new").id)
    flow = flow.update()
    assert flow.pipeline_executions.rerun(method=dl.CycleRerunMethod.START_FROM_FAILED_EXECUTIONS)
    cycle = reread(flow, cycle)
    assert cycle.status == "success" and {each["id"] for each in executed(cycle)} == ids
    assert successes(flow.stats(), nodes[1]["id"]) == 1
    assert project.datasets.get("new").items.list().items_count == 1


def test_a_triggers_entity_goes_to_the_port_of_its_type(dl, project, dataset, fill):
    named = storage(dataset, "raw") | {"inputs": [port("picture")]}
    flow = install(project, [named], [], {named["id"]: ITEM_CREATED})
    (item,) = fill(1)
    (cycle,) = flow.pipeline_executions.list().items
    assert executed(cycle)[0]["input"]["picture"]["item_id"] == item.id and cycle.status == "success"
    flow.execute_batch(dl.Filters(context={"datasets": [dataset.id]}))
    assert {each.status for each in flow.pipeline_executions.list().items} == {"success"}


def test_a_trigger_starts_cycles(dl, project, dataset, truth, fill):
    nodes = [storage(dataset, "raw"), storage(truth, "copy")]
    flow = install(project, nodes, None, {nodes[0]["id"]: ITEM_CREATED})
    items = fill(3)
    # The clones are new items too, but not of the dataset that the trigger's node stands for.
    assert flow.pipeline_executions.list().items_count == 3 and truth.items.list().items_count == 3
    items[0].metadata["user"] = {"seen": True}
    items[0].update()
    assert flow.pipeline_executions.list().items_count == 3
    flow.pause()
    fill(1, remote_path="/paused")
    flow.install()
    assert flow.pipeline_executions.list().items_count == 3
    flow.pause(keep_triggers_active=True)
    fill(1, remote_path="/kept")
    assert truth.items.list().items_count == 3
    flow.install()
    assert flow.pipeline_executions.list().items_count == 4 and truth.items.list().items_count == 4
