"""The statuses of items in tasks, and of annotations, through the real SDK."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers_contract import MISSING, annotate, fails, not_found, send
from helpers_tasks import ANN, BOB, make, refs, status_of


@pytest.fixture
def items(fill):
    return fill(4)


@pytest.fixture
def task(dataset, items):
    return make(dataset, assignees=[ANN, BOB])


def counted(dataset, task):
    task = dataset.tasks.get(task_id=task.id)
    status = task.item_status
    return (task.status, status["completed"], status["remaining"], task.progress)


# -------------------------------------------------------------------------------------------------------- setting


def test_a_status_is_written_in_both_refs_with_who_and_when(dl, dataset, items, task):
    items[0].update_status(dl.ItemStatus.COMPLETED, task_id=task.id)
    to_task, to_assignment = refs(dataset, items[0])
    assert to_task["metadata"] == to_assignment["metadata"]
    assert to_task["metadata"]["status"] == "completed"
    assert to_task["metadata"]["creator"] == dl.client_api.info()["user_email"]
    assert to_task["metadata"]["timestamp"] > task.created_at
    item = dataset.items.get(item_id=items[0].id)
    assert item.status(task_id=task.id) == item.status(assignment_id=to_assignment["id"]) == "completed"
    assert item.metadata["system"]["annotationStatus"] == ["completed"]
    item.update_status(dl.ItemStatus.DISCARDED)
    assert status_of(dataset, item, task) == "discard"
    with pytest.raises(dl.exceptions.BadRequest):
        item.status()


def test_counters_follow_every_status(dataset, items, task):
    assert counted(dataset, task) == ("open", 0, 4, 0)
    items[0].update_status("completed", task_id=task.id)
    assert counted(dataset, task) == ("open", 1, 3, 25)
    items[0].update_status("discard", task_id=task.id)
    assert counted(dataset, task) == ("open", 1, 3, 25)
    for item in items[1:]:
        item.update_status("completed", task_id=task.id)
    assert counted(dataset, task) == ("completed", 4, 0, 100)
    actions = dataset.tasks.get(task_id=task.id).item_status["actions"]
    assert actions == {"completed": 3, "discard": 1}
    items[2].update_status("completed", task_id=task.id, clear=True)
    assert counted(dataset, task) == ("open", 3, 1, 75)


def test_assignments_go_from_todo_to_done(dataset, items, task):
    assignment = task.assignments.list()[0]
    mine = list(assignment.get_items().all())
    states = [assignment.status]
    for item in mine:
        assignment.set_status(status="completed", operation="create", item_id=item.id)
        states.append(task.assignments.get(assignment_id=assignment.id).status)
    assert states == ["todo", "in progress", "done"]
    done = task.assignments.get(assignment_id=assignment.id)
    assert done.item_status == {"completed": 2, "remaining": 0, "actions": {"completed": 2, "discard": 0}}
    assert [other.status for other in task.assignments.list()] == ["done", "todo"]
    mine[0].update_status("completed", assignment_id=assignment.id, clear=True)
    assert task.assignments.get(assignment_id=assignment.id).status == "in progress"


def test_the_log_on_the_item_starts_with_the_latest(dl, dataset, items, task):
    for status, clear in (("completed", False), ("discard", False), ("discard", True), ("approved", False)):
        items[0].update_status(status, task_id=task.id, clear=clear)
    log = dataset.items.get(item_id=items[0].id).metadata["system"]["taskStatusLog"]
    assert [(entry["action"], entry["status"]["status"]) for entry in log] == [
        ("create", "approved"),
        ("delete", "discard"),
        ("create", "discard"),
        ("create", "completed"),
    ]
    latest = log[0]["status"]
    assert latest["taskId"] == task.id and latest["assignmentId"] in task.assignmentIds
    assert latest["creator"] == dl.client_api.info()["user_email"]
    assert latest["timestamp"] >= log[1]["status"]["timestamp"]


def test_the_same_status_twice_is_one_entry_and_clearing_takes_it_out_of_the_refs(dataset, items, task):
    for _ in range(2):
        items[0].update_status("completed", task_id=task.id)
    assert len(dataset.items.get(item_id=items[0].id).metadata["system"]["taskStatusLog"]) == 1
    assert counted(dataset, task)[1] == 1
    items[0].update_status("completed", task_id=task.id, clear=True)
    assert all("metadata" not in ref for ref in refs(dataset, items[0]))
    assert status_of(dataset, items[0], task) is None
    assert "annotationStatus" not in dataset.items.get(item_id=items[0].id).metadata["system"]
    items[1].update_status("completed", task_id=task.id, clear=True)  # had none: nothing to do
    assert counted(dataset, task) == ("open", 0, 4, 0)


def test_many_items_at_once(dl, dataset, items, task):
    assert task.set_status(status="completed", operation="create", item_ids=[item.id for item in items])
    assert counted(dataset, task) == ("completed", 4, 0, 100)
    assert task.set_status(status="completed", operation="delete", item_ids=[item.id for item in items[:3]])
    assert counted(dataset, task) == ("open", 1, 3, 25)
    dataset.items.update_status(status=dl.ItemStatus.DISCARDED, items=dataset.items.list())
    assert [status_of(dataset, item, task) for item in items] == ["discard"] * 4
    one = dl.Filters(field="name", values="0001.png")
    dataset.items.update_status(status=dl.ItemStatus.COMPLETED, filters=one)
    assert [status_of(dataset, item, task) for item in items].count("completed") == 1
    everything = list(dataset.items.list().all())
    dataset.items.update_status(status=dl.ItemStatus.COMPLETED, items=everything, clear=True)
    assert counted(dataset, task) == ("open", 0, 4, 0)


def test_the_answer_holds_the_items_that_were_in_the_task(dl, dataset, items, fill):
    task = make(dataset, items=items[:2])
    payload = {"operation": "create", "status": "completed"}
    body = {"itemIds": [item.id for item in items], "statusPayload": payload}
    answer = send(dl, "post", f"/assignments/items/tasks/{task.id}/status", body)
    assert set(answer) == {item.id for item in items[:2]}
    assert {entry["status"] for entry in answer.values()} == {"completed"}


# ------------------------------------------------------------------------------------------------------- refusals


def test_unknown_statuses_and_items_of_others_are_refused_and_change_nothing(dl, dataset, items, task):
    with pytest.raises(dl.exceptions.BadRequest, match="has no status 'finished'"):
        items[0].update_status("finished", task_id=task.id)
    with pytest.raises(dl.exceptions.BadRequest, match="'status' must be a non-empty string"):
        items[0].update_status("", task_id=task.id)
    assert counted(dataset, task) == ("open", 0, 4, 0)
    with pytest.raises(dl.exceptions.BadRequest, match="'operation' must be"):
        task.set_status(status="completed", operation="toggle", item_ids=[items[0].id])
    mine, theirs = task.assignments.list()
    item = next(iter(theirs.get_items().all()))
    not_found(dl, lambda: mine.set_status(status="completed", operation="create", item_id=item.id))
    assert counted(dataset, task) == ("open", 0, 4, 0)


def test_an_item_outside_the_task_gets_no_status(dl, dataset, items):
    task = make(dataset, items=items[:1])
    (assignment,) = task.assignments.list()
    fails(dl.exceptions.NotFound, "item in task", items[1].update_status, "completed", task_id=task.id)
    with pytest.raises(dl.exceptions.NotFound, match="item in assignment"):
        items[1].update_status("completed", assignment_id=assignment.id)
    not_found(
        dl,
        lambda: items[0].update_status("completed", task_id=MISSING),
        lambda: items[0].update_status("completed", assignment_id=MISSING),
    )
    fails(dl.exceptions.BadRequest, "must provide", items[1].update_status, "completed")


def test_statuses_that_the_task_no_longer_offers_stay(dl, dataset, items):
    task = make(dataset, available_actions=[dl.ItemAction("a"), dl.ItemAction("b")])
    items[0].update_status("a", task_id=task.id)
    task = dataset.tasks.get(task_id=task.id)
    task.available_actions = [dl.ItemAction("b")]
    task.update()
    assert status_of(dataset, items[0], task) == "a"
    with pytest.raises(dl.exceptions.BadRequest):
        items[1].update_status("a", task_id=task.id)


# -------------------------------------------------------------------------------------------------------- filters


def test_items_are_found_by_task_and_status(dl, dataset, items, found):
    task = make(dataset, items=items[:3])
    items[0].update_status("completed", task_id=task.id)
    items[1].update_status("discard", task_id=task.id)

    def matched(condition):
        return found("metadata.system.refs", {"id": task.id, "type": "task", **condition}, "match")

    assert found("metadata.system.refs.id", task.id) == "012"
    assert found("metadata.system.refs.type", "task") == "012"
    assert found("metadata.system.refs", []) == "3"
    assert found("metadata.system.refs.type", "task", "ne") == "3"
    assert matched({"metadata": {"status": {"$eq": "completed"}}}) == "0"
    assert matched({"metadata": {"status": {"$exists": True}}}) == "01"
    assert matched({"metadata": {"status": {"$exists": False}}}) == "2"
    assert matched({"metadata": {"timestamp": {"$gt": task.created_at}}}) == "01"
    assert matched({"metadata": {"status": {"$in": ["discard", "x"]}}}) == "1"
    assert found("metadata.system.annotationStatus", "completed") == "0"
    assert found("metadata.system.annotationStatus", ["completed", "discard"], "in") == "01"
    # A list means exactly these statuses.
    assert found("metadata.system.annotationStatus", ["completed"]) == "0"
    assert found("metadata.system.annotationStatus", ["completed", "discard"]) == ""
    assert found("id", [items[1].id, items[3].id]) == "13"
    (second,) = task.get_items(filters=dl.Filters(field="name", values="0001.png")).all()
    assert second.id == items[1].id


# ---------------------------------------------------------------------------------------------------- annotations


@pytest.fixture
def boxes(dl, items):
    return list(annotate(dl, items[0], *(dl.Box(left, 1, 4, 5, label="cat") for left in (1, 2))))


@pytest.mark.parametrize("status", ["issue", "review", "approved"])
def test_an_annotation_has_a_status(dl, items, boxes, status):
    changed = boxes[0].update_status(dl.AnnotationStatus(status))
    assert changed.status == status
    seen = items[0].annotations.get(annotation_id=boxes[0].id)
    assert (seen.status, seen.metadata["system"]["status"]) == (status, status)
    assert items[0].annotations.get(annotation_id=boxes[1].id).status is None


def test_a_cleared_annotation_has_none(dl, items, boxes):
    items[0].annotations.update_status(annotation_id=boxes[0].id, status=dl.AnnotationStatus.ISSUE)
    items[0].annotations.update_status(annotation_id=boxes[0].id, status=dl.AnnotationStatus.CLEAR)
    seen = items[0].annotations.get(annotation_id=boxes[0].id)
    assert seen.status is None and "status" not in seen.metadata["system"]
    with pytest.raises(ValueError):
        boxes[0].update_status("done")


def test_annotations_and_items_are_found_by_annotation_status(dl, dataset, items, boxes):
    boxes[0].update_status(dl.AnnotationStatus.ISSUE)
    issue = {"field": "metadata.system.status", "values": "issue"}
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, **issue)
    assert [found.id for found in dataset.annotations.list(filters=filters).all()] == [boxes[0].id]
    filters = dl.Filters()
    filters.add_join(**issue)
    assert [item.id for item in dataset.items.list(filters=filters).all()] == [items[0].id]


def test_tasks_count_items_with_issues_and_for_review(dl, dataset, items, task, boxes):
    def seen():
        task_now = dataset.tasks.get(task_id=task.id)
        mine = [a for a in task.assignments.list() if items[0].id in {i.id for i in a.get_items().all()}][0]
        assert (mine.issues, mine.for_review) == (task_now.issues, task_now.for_review)
        return task_now.issues, task_now.for_review

    assert seen() == (0, 0)
    boxes[0].update_status(dl.AnnotationStatus.ISSUE)
    boxes[1].update_status(dl.AnnotationStatus.ISSUE)
    assert seen() == (1, 0)
    boxes[0].update_status(dl.AnnotationStatus.REVIEW)
    assert seen() == (1, 0)
    boxes[1].update_status(dl.AnnotationStatus.REVIEW)
    assert seen() == (0, 1)
    boxes[0].update_status(dl.AnnotationStatus.APPROVED)
    boxes[1].delete()
    assert seen() == (0, 0)


def test_an_issue_opens_the_item_in_the_task_that_labelled_it_only_in_a_review(
    dl, dataset, items, task, boxes
):
    for item in items:
        item.update_status("completed", task_id=task.id)
    boxes[0].update_status(dl.AnnotationStatus.ISSUE)
    assert status_of(dataset, items[0], task) == "completed"
    boxes[0].update_status(dl.AnnotationStatus.CLEAR)
    review = task.create_qa_task(due_date=2e9, assignee_ids=["qa@example.com"])
    boxes[0].update_status(dl.AnnotationStatus.ISSUE)
    assert status_of(dataset, items[0], task) is None
    assert status_of(dataset, items[1], task) == "completed"
    assert counted(dataset, task) == ("open", 3, 1, 75)
    boxes[0].label = "dog"
    boxes[0].update(system_metadata=True)
    items[0].update_status("completed", task_id=task.id)
    boxes[0].update_status(dl.AnnotationStatus.REVIEW)
    assert status_of(dataset, items[0], task) == "completed"
    assert dataset.tasks.get(task_id=review.id).for_review == 1
    boxes[0].update_status(dl.AnnotationStatus.APPROVED)
    items[0].update_status("approved", task_id=review.id)
    system = dataset.items.get(item_id=items[0].id).metadata["system"]
    assert system["annotationStatus"] == ["completed", "approved"]


def test_annotators_at_the_same_time_lose_nothing(dl, dataset, fill):
    items = fill(12)
    task = make(dataset, assignees=[ANN, BOB])

    def work(item):
        for status, clear in (("completed", False), ("completed", True), ("discard", False)):
            item.update_status(status, task_id=task.id, clear=clear)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, items))
    assert counted(dataset, task) == ("completed", 12, 0, 100)
    assert dataset.tasks.get(task_id=task.id).item_status["actions"] == {"completed": 0, "discard": 12}
    assert {len(item.metadata["system"]["taskStatusLog"]) for item in dataset.items.list().all()} == {3}


def test_filters_can_name_tasks_and_assignments(dl, dataset, items, found):
    task, other = make(dataset, items=items[:2]), make(dataset, name="other", items=items[1:3])
    filters = dl.Filters()
    filters._ref_task, filters._ref_task_id = True, task.id
    assert found(filters) == "01"
    filters._ref_assignment, filters._ref_assignment_id = True, other.assignmentIds
    assert found(filters) == "012"
    filters._ref_op = "delete"
    fails(dl.exceptions.NotFound, "not emulated", dataset.items.update, filters=filters)
    assert dataset.tasks.get(task_id=task.id).total_items == 2
