"""Tasks in pipelines: items wait in them for people, and go on when they are answered. No worker process is needed."""

import pytest
from pipeline_samples import (
    connect,
    executed,
    install,
    label,
    port,
    reread,
    run,
    statuses,
    storage,
    successes,
)


@pytest.fixture
def labelling(project, dataset, truth):
    """Install raw -> task -> truth."""

    def make(action="completed", **metadata):
        nodes = [storage(dataset, "raw"), label(dataset, **metadata), storage(truth, "truth")]
        nodes[1]["outputs"] = [port(actions=sorted({"completed", "discard", action}))]
        return install(project, nodes, [connect(*nodes[:2]), connect(*nodes[1:], action=action)])

    return make


def task_of(project):
    (task,) = project.tasks.list()
    return task


def set_status(item, task, status="completed", *, clear=False):
    item.update_status(status=status, task_id=task.id, clear=clear)


def test_an_item_waits_in_its_task(dl, project, truth, labelling, fill):
    one, two = fill(2)
    flow = labelling()
    task = task_of(project)
    assert task.name == "Label" and task.spec["type"] == "annotation"
    for name in ("Label", f"Label ({flow.name})"):
        assert project.tasks.get(task_name=name).id == task.id
    (made,) = project.compositions.get(composition_id=flow.composition_id)["tasks"]
    assert made["state"] == {"taskId": task.id}
    cycle, other = run(flow, {"item": one.id}), run(flow, {"item": two.id})
    assert cycle.status == "in-progress" and cycle.in_progress()
    assert statuses(cycle) == {"raw": "success", "Label": "in-progress", "truth": "pending"}
    assert {item.id for item in task.get_items().items} == {one.id, two.id}
    set_status(one, task)
    set_status(two, task, "discard")
    assert statuses(reread(flow, cycle)) == dict.fromkeys(("raw", "Label", "truth"), "success")
    assert statuses(reread(flow, other)) == {"raw": "success", "Label": "success", "truth": "pending"}
    assert reread(flow, other).status == "success"
    assert [item.name for item in truth.items.list().items] == ["0000.png"]


@pytest.mark.parametrize(("repeatable", "count"), [(True, 4), (False, 3)])
def test_repeatable_tasks(project, labelling, item, repeatable, count):
    flow = labelling(repeatable=repeatable)
    cycle, task = run(flow, {"item": item.id}), task_of(project)
    set_status(item, task)
    set_status(item, task, clear=True)
    set_status(item, task)
    cycle = reread(flow, cycle)
    assert cycle.status == "success" and len(executed(cycle)) == count


def test_an_item_that_comes_again_is_open_again(dl, project, labelling, item):
    flow = labelling()
    task = task_of(project)
    first = run(flow, {"item": item.id})
    set_status(item, task)
    second = run(flow, {"item": item.id})
    assert reread(flow, first).status == "success" and second.status == "in-progress"
    assert project.tasks.get(task_id=task.id).item_status.get("completed", 0) == 0
    set_status(item, task)
    assert reread(flow, second).status == "success"
    assert [len(executed(reread(flow, each))) for each in (first, second)] == [3, 3]


def test_a_task_outlives_its_node(dl, project, labelling, fill):
    fill(1)
    flow = labelling()
    task = task_of(project)
    flow.nodes.remove("Label")
    flow = flow.update()
    assert [each.name for each in flow.nodes] == ["raw", "truth"] and flow.connections == []
    assert project.tasks.get(task_id=task.id).id == task.id
    flow.delete()
    assert project.tasks.get(task_id=task.id).id == task.id


def test_a_deleted_task_holds_nobody(dl, project, truth, labelling, fill):
    one, two = fill(2)
    flow = labelling()
    cycle, task = run(flow, {"item": one.id}), task_of(project)
    task.delete()
    assert reread(flow, cycle).status == "terminated"
    again = run(flow, {"item": two.id})
    assert again.status == "in-progress" and task_of(project).id != task.id
    set_status(two, task_of(project))
    assert reread(flow, again).status == "success" and truth.items.list().items_count == 1


CONSENSUS = {
    "consensusTaskType": "consensus",
    "consensusAssignees": 2,
    "workload": [{"assigneeId": name, "load": 50} for name in ("ann@x.com", "bob@x.com")],
}


@pytest.mark.parametrize("percentage", [100, 50])
def test_consensus(project, labelling, truth, fill, percentage):
    """An item leaves by the action consensus_done when all its annotators have set a status."""
    flow = labelling("consensus_done", consensusPercentage=percentage, **CONSENSUS)
    task = task_of(project)
    assert [action.action for action in task.available_actions] == ["completed", "discard"]
    items = fill(4)
    cycles = [run(flow, {"item": item.id}) for item in items]
    assignments = task.assignments.list()
    has = {each.annotator: {item.id for item in each.get_items().all()} for each in assignments}
    both = has["ann@x.com"] & has["bob@x.com"]
    assert len(both) == 4 * percentage // 100
    assert has["ann@x.com"] | has["bob@x.com"] == {item.id for item in items}
    for assignment in assignments:
        # The first of two cannot end it alone.
        shared = [cycle for cycle in cycles if cycle_item(cycle) in both]
        assert {reread(flow, cycle).status for cycle in shared} == {"in-progress"}
        for item in assignment.get_items().all():
            item.update_status(status="completed", assignment_id=assignment.id)
    assert {reread(flow, cycle).status for cycle in cycles} == {"success"}
    assert truth.items.list().items_count == len(both)


def cycle_item(cycle):
    (execution,) = next(iter(cycle.executions.values()))
    return execution["input"]["item"]["item_id"]


def test_a_consensus_that_is_set_at_once_counts_once(project, labelling, item):
    flow = labelling(**CONSENSUS)
    cycle = run(flow, {"item": item.id})
    set_status(item, task_of(project))
    assert reread(flow, cycle).status == "success"
    assert project.executions.list().items_count == 3


def test_label_then_review(dl, project, dataset, truth, fill):
    items = fill(4)
    nodes = [
        storage(dataset, "raw"),
        label(dataset, "Label"),
        label(dataset, "Review", taskType="qa"),
        storage(truth, "truth"),
    ]
    ways = [
        connect(nodes[0], nodes[1]),
        connect(nodes[1], nodes[2], action="completed"),
        connect(nodes[2], nodes[3], action="approved"),
        connect(nodes[2], nodes[1], action="discard"),
    ]
    flow = install(project, nodes, ways)
    tasks = {each.name: each for each in project.tasks.list()}
    assert tasks["Review"].spec["type"] == "qa"
    flow.execute_batch(dl.Filters(context={"datasets": [dataset.id]}))
    for item in items:
        set_status(item, tasks["Label"])
    set_status(items[0], tasks["Review"], "discard")
    for item in items[1:]:
        set_status(item, tasks["Review"], "approved")
    assert truth.items.list().items_count == 3
    # The rejected one went back to the labellers, where its status is gone.
    set_status(items[0], tasks["Label"])
    set_status(items[0], tasks["Review"], "approved")
    assert truth.items.list().items_count == 4
    assert {each.status for each in flow.pipeline_executions.list().items} == {"success"}
    assert successes(flow.stats(), nodes[1]["id"]) == 5


def test_the_sdks_task_node(dl, project, dataset, truth, fill, item):
    recipe = dataset.recipes.list()[0]
    shares = [dl.WorkloadUnit("Ann@example.com", 50), dl.WorkloadUnit("ben@example.com", 50)]
    places = (project.id, dataset.id, recipe.title, recipe.id)
    task_node = dl.TaskNode("Label", *places, "ann@example.com", shares, priority=dl.TaskPriority.HIGH)
    flow = project.pipelines.create(name="built")
    flow.nodes.add(task_node).connect(dl.DatasetNode("truth", project.id, truth.id))
    flow = flow.update().install()
    task = task_of(project)
    assert [each.action for each in task.available_actions] == ["complete", "discard"]
    assert task.priority == 3 and task.recipe_id == recipe.id and task.task_owner == "ann@example.com"
    more = fill(5, remote_path="/more")
    for each in (item, *more):
        run(flow, {"item": each.id})
    shares = {each.annotator: each.total_items for each in task.assignments.list()}
    assert shares == {"ann@example.com": 3, "ben@example.com": 3}
    set_status(item, task, "complete")
    assert truth.items.list().items_count == 1


def test_work_waits_while_a_pipeline_is_paused(project, truth, labelling, fill):
    one, two = fill(2)
    flow = labelling()
    cycle, other, task = run(flow, {"item": one.id}), run(flow, {"item": two.id}), task_of(project)
    flow.pause()
    set_status(one, task)
    assert statuses(reread(flow, cycle))["truth"] == "pending" and reread(flow, cycle).in_progress()
    flow = flow.install(resume_option="resumeExistingCycles")
    assert reread(flow, cycle).status == "success" and truth.items.list().items_count == 1
    assert task_of(project).id == task.id
    flow.pause()
    flow.install(resume_option="terminateExistingCycles")
    assert reread(flow, other).status == "terminated"
    set_status(two, task)
    assert truth.items.list().items_count == 1


def test_terminate_an_execution(dl, project, labelling, item):
    flow = labelling()
    cycle = run(flow, {"item": item.id})
    (waiting,) = cycle.executions[flow.nodes.get("Label").node_id]
    dl.executions.get(execution_id=waiting["id"]).terminate()
    cycle = reread(flow, cycle)
    assert cycle.status == "terminated" and statuses(cycle)["Label"] == "terminated"
