"""Tasks, assignments and item statuses through the real SDK."""

import datetime
import json

import pytest

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
def items(fill):
    return fill(6)


def make(dataset, name="label", assignees=(ANN,), **options):
    return dataset.tasks.create(task_name=name, assignee_ids=list(assignees), **options)


def statuses(dataset, task):
    return [item.status(task_id=task.id) for item in dataset.items.list().all()]


def test_a_task_holds_the_items_of_its_query_shared_among_lower_cased_assignees(dl, project, dataset, items):
    due = datetime.datetime(2031, 5, 17).timestamp()
    task = make(dataset, assignees=["Ann@Example.com", BOB], due_date=due)
    assert (task.name, task.status, task.total_items) == ("label", "open", 6)
    assert (task.project_id, task.dataset_id) == (project.id, dataset.id)
    assert task.recipe_id == dataset.get_recipe_ids()[0]
    assert task.spec == {"type": "annotation"}
    assert task.due_date == due * 1000
    assert task.priority == dl.TaskPriority.MEDIUM
    assert [action.action for action in task.available_actions] == ["completed", "discard"]
    assert task.task_owner == task.creator == dl.client_api.info()["user_email"]
    assignments = task.assignments.list()
    assert [assignment.annotator for assignment in assignments] == [ANN, BOB]
    assert [assignment.id for assignment in assignments] == task.assignmentIds
    assert [assignment.total_items for assignment in assignments] == [3, 3]
    assert {assignment.status for assignment in assignments} == {"todo"}
    assert all(
        (assignment.task_id, assignment.dataset_id, assignment.project_id)
        == (task.id, dataset.id, project.id)
        for assignment in assignments
    )
    assert json.loads(task.query) == {**dl.Filters().prepare(), "sort": {}}
    assert {item.id for item in task.get_items().all()} == {item.id for item in items}
    parts = [[item.id for item in assignment.get_items().all()] for assignment in assignments]
    assert sorted(parts[0] + parts[1]) == sorted(item.id for item in items)
