"""Assignments through the real SDK."""

import pytest
from helpers_contract import MISSING, get_json, not_found, refused
from helpers_tasks import ANN, BOB, CID, held, make, refs, status_of


@pytest.fixture
def items(fill):
    return fill(6)


@pytest.fixture
def task(dataset, items):
    return make(dataset, assignees=[ANN, BOB])


def test_assignments_are_found_by_what_is_known_of_them(dl, project, dataset, items, task):
    other = make(dataset, name="other", assignees=[ANN], items=items[:1])
    items[0].update_status("completed", task_id=other.id)
    both, (third,) = task.assignmentIds, other.assignmentIds

    def found(**wanted):
        return [assignment.id for assignment in project.assignments.list(**wanted)]

    assert [a.annotator for a in task.assignments.list()] == [ANN, BOB]
    assert found() == [*both, third]
    assert found(assignee_id=ANN) == [both[0], third]
    assert found(assignee_id="ANN@example.com", task_id=task.id) == [both[0]]
    assert found(status="done") == [third]
    assert found(pages_size=1, page_offset=1) == [both[1]]
    name = task.assignments.list()[1].name
    assert [a.name for a in project.assignments.list(assignment_name=name)] == [name]
    assert dl.assignments.list(project_ids=[project.id, MISSING], task_id=other.id)[0].annotator == ANN
    assert dl.assignments.list(project_ids=MISSING) == []
    make(dataset, assignees=["ann+labels@example.com"])
    assert len(project.assignments.list(assignee_id="ann+labels@example.com")) == 1


def test_the_list_is_a_page_of_items(dl, project, task):
    items = get_json(dl, f"/assignments?projects={project.id}&taskId={task.id}")["items"]
    assert [entry["annotator"] for entry in items] == [ANN, BOB]
    actions = {"completed": 0, "discard": 0}
    assert items[0]["itemStatus"] == {"completed": 0, "remaining": 3, "actions": actions}


def test_an_assignment_is_fetched_by_name_or_id(dl, project, dataset, task):
    first = task.assignments.list()[0]
    for seen in (
        task.assignments.get(assignment_id=first.id),
        project.assignments.get(assignment_name=first.name),
        dl.assignments.get(assignment_id=first.id),
        dataset.assignments.get(assignment_id=first.id),
        task.current_assignments[0],
    ):
        assert seen.to_json() == first.to_json() or seen.id == first.id
    assert first.task.id == task.id and first.dataset.id == dataset.id
    not_found(
        dl,
        lambda: project.assignments.get(assignment_id=MISSING),
        lambda: project.assignments.get(assignment_name="nothing"),
    )


def test_an_assignment_lists_its_items(dl, dataset, task):
    first, second = task.assignments.list()
    ids = {item.id for item in first.get_items().all()}
    assert len(ids) == 3 and not ids & {item.id for item in second.get_items().all()}
    some = first.get_items(filters=dl.Filters(field="id", values=sorted(ids)[:2], operator="in"))
    assert some.items_count == 2
    by_name = dataset.project.assignments.get_items(assignment_name=first.name, dataset=dataset)
    assert {item.id for item in by_name.all()} == ids


def test_an_assignment_can_be_renamed_and_described(task):
    first = task.assignments.list()[0]
    first.name = "urgent"
    first.metadata["user"] = {"room": 3}
    first.metadata["system"]["colour"] = "red"
    first.update()
    seen = task.assignments.get(assignment_id=first.id)
    assert (seen.name, seen.metadata["user"]) == ("urgent", {"room": 3})
    assert "colour" not in seen.metadata["system"]
    first.metadata["system"]["taskId"] = "else"
    first.update(system_metadata=True)
    seen = task.assignments.get(assignment_id=first.id)
    assert seen.metadata["system"]["colour"] == "red" and seen.task_id == task.id


def test_a_new_assignment_brings_its_items_into_the_task(dl, dataset, items):
    task = make(dataset, items=items[:2])
    assignment = task.assignments.create(assignee_id=BOB, task=task, items=items[2:4])
    assert (assignment.annotator, assignment.total_items) == (BOB, 2)
    made = task.create_assignment(assignment_name="third", assignee_id=CID, items=items[4:])
    assert {item.id for item in made.get_items().all()} == {item.id for item in items[4:]}
    assert held(task) == {ANN: 2, BOB: 2, CID: 2}
    assert dataset.tasks.get(task_id=task.id).total_items == 6


def test_reassigned_items_keep_their_statuses(dataset, items, task):
    first = task.assignments.list()[0]
    mine = list(first.get_items().all())
    mine[0].update_status("completed", task_id=task.id)
    new = first.reassign(assignee_id="Cid@Example.com")
    assert (new.annotator, new.total_items, new.status) == (CID, 3, "in progress")
    assert held(task) == {BOB: 3, CID: 3}
    assert {item.id for item in new.get_items().all()} == {item.id for item in mine}
    assert status_of(dataset, mine[0], task) == "completed"
    assert {ref["id"] for ref in refs(dataset, mine[0])} == {task.id, new.id}
    ids = {assignment.id for assignment in task.assignments.list()}
    assert set(dataset.tasks.get(task_id=task.id).assignmentIds) == ids


def test_reassigning_to_a_colleague_joins_the_work_and_to_the_same_annotator_changes_nothing(task):
    first = task.assignments.list()[0]
    assert first.reassign(assignee_id=ANN).id == first.id
    assert held(task) == {ANN: 3, BOB: 3}
    first, second = task.assignments.list()
    assert first.reassign(assignee_id=BOB).id == second.id
    assert held(task) == {BOB: 6}
    command = task.assignments.list()[0].reassign(assignee_id=CID, wait=False).wait()
    assert command.spec["toAssignment"] == task.assignments.list()[0].id


def test_redistributing_shares_an_assignment_and_may_keep_a_part(dl, task):
    first = task.assignments.list()[0]
    command = first.redistribute(workload=dl.Workload.generate([ANN, CID], loads=[67, 33]), wait=False).wait()
    assert [unit["assigneeId"] for unit in command.spec["workload"]] == [ANN, CID]
    assert held(task) == {ANN: 2, BOB: 3, CID: 1}
    workload = dl.Workload([dl.WorkloadUnit(BOB, 50), dl.WorkloadUnit("CID@example.com", 50)])
    shared = task.assignments.list()[0].redistribute(workload=workload)
    assert {each.annotator: each.total_items for each in shared} == {BOB: 4, CID: 2}
    assert held(task) == {BOB: 4, CID: 2}


def test_a_workload_that_makes_no_sense_is_refused(dl, task):
    first = task.assignments.list()[0]
    units = ({"assigneeId": ANN, "load": 101}, {"load": 5}, {"assigneeId": "", "load": 1})
    for workload in ([], "x", *([unit] for unit in units)):
        refused(dl, "post", f"/assignments/{first.id}/redistribute", {"workload": workload})
    assert held(task) == {ANN: 3, BOB: 3}
    not_found(dl, lambda: task.assignments.reassign(assignee_id=BOB, assignment_id=MISSING, task=task))
