"""How the items of a task are shared among its annotators: by workload, in batches, to several of them."""

import pytest
from helpers_contract import fails
from helpers_tasks import ANN, BOB, CID, held, make, refs, status_of


@pytest.fixture
def items(fill):
    return fill(6)


def test_a_workload_shares_unevenly(dl, dataset, fill):
    fill(10)
    units = [dl.WorkloadUnit(assignee_id=ANN, load=80), dl.WorkloadUnit(assignee_id=BOB, load=20)]
    task = dataset.tasks.create(task_name="uneven", workload=dl.Workload(units))
    assert held(task) == {ANN: 8, BOB: 2}
    loads = dl.Workload.generate([ANN, BOB, CID], loads=[50, 30, 20])
    task = dataset.tasks.create(task_name="three", workload=loads)
    assert held(task) == {ANN: 5, BOB: 3, CID: 2}


def test_without_assignees_nobody_has_the_items_yet(dataset, items):
    task = dataset.tasks.create(task_name="nobody")
    assert (task.total_items, task.assignmentIds, task.assignments.list()) == (6, [], [])
    assert refs(dataset, items[0]) == [{"id": task.id, "type": "task"}]
    items[0].update_status("completed", task_id=task.id)
    assert status_of(dataset, items[0], task) == "completed"
    assert dataset.tasks.get(task_id=task.id).item_status["remaining"] == 5


def test_fewer_items_than_assignees_and_none_at_all(dataset, fill, dl):
    fill(1)
    task = make(dataset, assignees=[ANN, BOB])
    assert [assignment.total_items for assignment in task.assignments.list()] == [1]
    task = make(dataset, filters=dl.Filters(field="dir", values="/nowhere"))
    assert (task.total_items, task.status, task.assignments.list()) == (0, "open", [])


# ------------------------------------------------------------------------------------------------ pulled in batches


def test_pulling_gives_each_allowed_annotator_a_batch(dataset, fill):
    fill(10)
    sizes = {"batch_size": 3, "max_batch_workload": 5}
    task = make(dataset, assignees=[ANN, BOB], allowed_assignees=[BOB, CID], **sizes)
    assert held(task) == {BOB: 3, CID: 3}
    assert task.total_items == 10
    system = task.metadata["system"]
    assert (system["batchSize"], system["maxBatchWorkload"]) == (3, 5)
    assert system["allowedAssignees"] == [BOB, CID]


def test_a_finished_batch_brings_the_next_one(dataset, fill):
    fill(5)
    sizes = {"batch_size": 2, "max_batch_workload": 2}
    task = dataset.tasks.create_labeling_task(name="p", assignee_ids=[ANN], **sizes)
    seen = set()
    for _ in range(3):
        (assignment,) = task.assignments.list()
        opened = {i.id for i in assignment.get_items().all() if i.status(task_id=task.id) is None}
        assert 0 < len(opened) <= 2 and not opened & seen
        seen |= opened
        task.set_status(status="completed", operation="create", item_ids=sorted(opened))
    assert len(seen) == 5
    assert dataset.tasks.get(task_id=task.id).status == "completed"


def test_one_of_the_two_sizes_of_a_batch_is_enough_but_they_must_fit(dl, project, dataset, items):
    for size, most, match in ((5, 4, r"batch_size \(5\) cannot be greater"), (-1, 5, "batchSize")):
        fails(dl.exceptions.BadRequest, match, make, dataset, batch_size=size, max_batch_workload=most)
    assert len(project.tasks.list()) == 0
    assert refs(dataset, items[0]) == []
    for options in ({"batch_size": 2}, {"max_batch_workload": 2}):
        assert held(make(dataset, assignees=[ANN, BOB], **options)) == {ANN: 2, BOB: 2}


# ------------------------------------------------------------------------------------------------------ consensus


def test_a_consensus_task_gives_items_to_several_annotators(dataset, fill):
    items = fill(4)
    task = dataset.tasks.create_consensus_task(
        name="consensus", assignee_ids=[ANN, BOB, CID], consensus_percentage=50, consensus_assignees=2
    )
    system = task.metadata["system"]
    assert (system["consensusPercentage"], system["consensusAssignees"]) == (50, 2)
    assert (system["consensusTaskType"], system["scoring"]) == ("consensus", False)
    held = [[ref["id"] for ref in refs(dataset, item) if ref["type"] == "assignment"] for item in items]
    assert sorted(map(len, held)) == [1, 1, 2, 2]
    assert all(len(set(ids)) == len(ids) for ids in held)


def test_qualification_gives_everything_to_everybody_and_honeypots_each_item_to_one(dl, dataset, fill):
    fill(3)
    task = dataset.tasks.create_qualification_task(name="exam", assignee_ids=[ANN, BOB])
    assert task.metadata["system"]["consensusTaskType"] == "qualification"
    assert [assignment.total_items for assignment in task.assignments.list()] == [3, 3]
    task = dataset.tasks.create_honeypot_task(name="pot", assignee_ids=[ANN, BOB], consensus_percentage=50)
    assert sum(assignment.total_items for assignment in task.assignments.list()) == 3


def test_an_item_of_two_annotators_is_done_when_both_have_done_it(dataset, item):
    options = {"consensus_percentage": 100, "consensus_assignees": 2, "scoring": True}
    task = make(dataset, assignees=[ANN, BOB], **options)
    ann, bob = task.assignments.list()
    ann.set_status(status="completed", operation="create", item_id=item.id)
    assert status_of(dataset, item, task) is None
    assert dataset.tasks.get(task_id=task.id).status == "open"
    bob.set_status(status="discard", operation="create", item_id=item.id)
    assert status_of(dataset, item, task) == "discard"
    assert dataset.tasks.get(task_id=task.id).status == "completed"


def test_a_consensus_of_more_than_there_are_is_refused(dl, dataset, items):
    for options, match in (
        ({"consensus_assignees": 2}, "greater than the number of assignees"),
        ({"consensus_percentage": 101}, "consensusPercentage"),
    ):
        call, given = dataset.tasks.create_consensus_task, {"name": "c", "assignee_ids": [ANN]}
        fails(dl.exceptions.BadRequest, match, call, **given, **options)
