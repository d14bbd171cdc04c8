"""The story of a label-then-review round: an oracle labels, a reviewer approves, discards, or sends back."""

import pytest
from helpers_contract import MISSING, classify, get_json, not_found
from helpers_tasks import make, status_of

LABELS = ["cat", "dog"]


def oracle(dl, truth, item):
    """Label an item as the truth has it; what has no truth is thrown away."""
    label = truth.get(item.name)
    if label is None:
        return "discard"
    classify(dl, item, label)
    return "completed"


def names(pages):
    return sorted(item.name for item in pages.all())


def with_status(dl, task, status):
    filters = dl.Filters()
    value = {"id": task.id, "type": "task", "metadata": {"status": {"$eq": status}}}
    filters.add(field="metadata.system.refs", values=value, operator=dl.FiltersOperations.MATCH)
    return names(task.dataset.items.list(filters=filters))


def state(dataset, task):
    task = dataset.tasks.get(task_id=task.id)
    return task.status, task.item_status["actions"], task.item_status["remaining"]


@pytest.mark.parametrize("annotators", [["ann@example.com"], ["ann@example.com", "bob@example.com"]])
def test_label_then_review(dl, dataset, fill, annotators):
    dataset.add_labels(LABELS)
    items = fill(8)
    # 0006 and 0007 have no truth; the oracle mistakes 0000 for a dog.
    truth = {item.name: LABELS[number % 2] for number, item in enumerate(items[:6])} | {"0000.png": "dog"}

    labelling = make(dataset, assignees=annotators)
    assert state(dataset, labelling) == ("open", {"completed": 0, "discard": 0}, 8)
    for assignment in labelling.assignments.list():
        for item in assignment.get_items().all():
            status = oracle(dl, truth, item)
            assignment.set_status(status=status, operation="create", item_id=item.id)
        assert labelling.assignments.get(assignment_id=assignment.id).status == "done"
    assert state(dataset, labelling) == ("completed", {"completed": 6, "discard": 2}, 0)
    assert with_status(dl, labelling, "discard") == ["0006.png", "0007.png"]

    done = dl.Filters()
    done.add(field="metadata.system.annotationStatus", values="completed")
    review = labelling.create_qa_task(due_date=2e9, assignee_ids=["qa@example.com"], filters=done)
    assert (review.name, review.spec["type"], review.spec["parentTaskId"]) == ("label_qa", "qa", labelling.id)
    assert [action.action for action in review.available_actions] == ["approved", "discard"]
    assert names(review.get_items()) == [f"000{number}.png" for number in range(6)]
    assert state(dataset, review) == ("open", {"approved": 0, "discard": 0}, 6)

    # The reviewer finds the mistake, throws one item away, and approves the rest.
    wrong, bad, *good = sorted(review.get_items().all(), key=lambda item: item.name)
    wrong.annotations.list()[0].update_status(dl.AnnotationStatus.ISSUE)
    bad.update_status("discard", task_id=review.id)
    for item in good:
        for annotation in item.annotations.list():
            annotation.update_status(dl.AnnotationStatus.APPROVED)
        item.update_status("approved", task_id=review.id)
    assert state(dataset, review) == ("open", {"approved": 4, "discard": 1}, 1)
    assert dataset.tasks.get(task_id=review.id).issues == 1

    # The item with the issue is back with the annotator, who mends it.
    assert status_of(dataset, wrong, labelling) is None
    assert state(dataset, labelling) == ("open", {"completed": 5, "discard": 2}, 1)
    (todo,) = [item for item in labelling.get_items().all() if item.status(task_id=labelling.id) is None]
    annotation = todo.annotations.list()[0]
    annotation.label = "cat"
    annotation.status = dl.AnnotationStatus.REVIEW
    annotation.update(system_metadata=True)
    todo.update_status("completed", task_id=labelling.id)
    assert state(dataset, labelling)[0] == "completed"
    read = dataset.tasks.get(task_id=review.id)
    assert (read.issues, read.for_review) == (0, 1)

    # The reviewer is content.
    todo.annotations.list()[0].update_status(dl.AnnotationStatus.APPROVED)
    todo.update_status("approved", task_id=review.id)
    assert state(dataset, review) == ("completed", {"approved": 5, "discard": 1}, 0)
    assert with_status(dl, review, "approved") == ["0000.png", "0002.png", "0003.png", "0004.png", "0005.png"]
    approved = dl.Filters(field="metadata.system.annotationStatus", values="approved")
    assert names(dataset.items.list(filters=approved)) == with_status(dl, review, "approved")
    assert wrong.annotations.list()[0].label == "cat"


def test_a_review_takes_what_has_a_status(dl, dataset, fill):
    items = fill(3)
    labelling = make(dataset)
    items[0].update_status("completed", task_id=labelling.id)
    items[1].update_status("discard", task_id=labelling.id)
    review = labelling.create_qa_task(due_date=2e9, assignee_ids=["qa@example.com"])
    assert names(review.get_items()) == ["0000.png", "0001.png"]
    assert review.recipe_id == labelling.recipe_id and review.task_owner == labelling.creator
    assert get_json(dl, f"/annotationtasks/{review.id}")["hasParent"]


def test_a_review_of_chosen_items_and_of_a_task_that_does_not_exist(dl, dataset, fill):
    items = fill(3)
    labelling = make(dataset)
    review = dataset.tasks.create_qa_task(task=labelling, assignee_ids=["qa@example.com"], items=items[:2])
    assert review.total_items == 2
    items[0].update_status(dl.ItemStatus.APPROVED, task_id=review.id)
    assert status_of(dataset, items[0], review) == "approved"
    assert status_of(dataset, items[0], labelling) is None
    not_found(dl, lambda: make(dataset, task_type="qa", task_parent_id=MISSING))
