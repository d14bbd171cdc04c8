"""Tasks through the real SDK: made, filled, shared, found, changed and deleted."""

import datetime
import json

import pytest
from helpers_contract import MISSING, classify, fails, get_json, not_found, refused, send
from helpers_tasks import ANN, BOB, CID, held, make, refs, status_of


@pytest.fixture
def items(fill):
    return fill(6)


# ------------------------------------------------------------------------------------------------------- creating


def test_a_task_holds_the_items_of_its_query_shared_among_lower_cased_assignees(dl, project, dataset, items):
    due = datetime.datetime(2031, 5, 17).timestamp()
    task = make(dataset, assignees=["Ann@Example.com", BOB], due_date=due)
    assert (task.name, task.status, task.total_items, task.progress) == ("label", "open", 6, 0)
    assert (task.project_id, task.dataset_id) == (project.id, dataset.id)
    assert task.recipe_id == dataset.get_recipe_ids()[0]
    assert task.spec == {"type": "annotation"}
    assert task.due_date == due * 1000
    assert task.priority == dl.TaskPriority.MEDIUM
    assert [action.action for action in task.available_actions] == ["completed", "discard"]
    assert task.task_owner == task.creator == dl.client_api.info()["user_email"]
    assert json.loads(task.query) == {**dl.Filters().prepare(), "sort": {}}
    assert {item.id for item in task.get_items().all()} == {item.id for item in items}
    assignments = task.assignments.list()
    assert [assignment.annotator for assignment in assignments] == [ANN, BOB]
    assert [assignment.id for assignment in assignments] == task.assignmentIds
    assert [assignment.total_items for assignment in assignments] == [3, 3]
    assert {assignment.status for assignment in assignments} == {"todo"}
    for assignment in assignments:
        belongs = (assignment.task_id, assignment.dataset_id, assignment.project_id)
        assert belongs == (task.id, dataset.id, project.id)
    parts = [[item.id for item in assignment.get_items().all()] for assignment in assignments]
    assert sorted(parts[0] + parts[1]) == sorted(item.id for item in items)


def test_an_item_in_a_task_refers_to_the_task_and_to_its_assignment(dataset, items):
    task = make(dataset)
    (assignment,) = task.assignments.list()
    assert refs(dataset, items[0]) == [
        {"id": task.id, "type": "task"},
        {"id": assignment.id, "type": "assignment"},
    ]
    assert dataset.items.get(item_id=items[0].id).status(task_id=task.id) is None


def test_a_task_is_what_the_platform_says_it_is(dl, dataset, items):
    task = make(dataset, metadata={"user": {"batch": 3}}, priority=dl.TaskPriority.HIGH)
    again = dataset.tasks.get(task_id=task.id)
    assert again.to_json() == task.to_json()
    answer = get_json(dl, f"/annotationtasks/{task.id}")
    written = task.to_json()
    assert written == {key: answer[key] for key in written}
    assert answer["metadata"]["user"] == {"batch": 3}
    assert (answer["priority"], answer["hasParent"]) == (3, False)
    assert dl.tasks.get(task_id=task.id).name == "label"


def test_making_a_task_is_a_command_that_names_the_task(dl, dataset, items):
    assert isinstance(make(dataset, wait=True), dl.Task)
    command = make(dataset, wait=False).wait()
    assert command.status == "success"
    assert dataset.tasks.get(task_id=command.spec["createdTaskId"]).name == "label"
    assert command.spec["createTaskPayload"]["name"] == "label"


def test_filters_items_and_limit_say_which_items(dl, dataset, fill):
    cats, dogs = fill(3, remote_path="/cats"), fill(2, remote_path="/dogs")
    in_cats, in_dogs = (dl.Filters(field="dir", values=folder) for folder in ("/cats", "/dogs"))
    for wanted, expected in (
        ({"filters": in_cats}, cats),
        ({"items": dogs}, dogs),
        ({"items": dataset.items.list(filters=in_dogs)}, dogs),
        ({"items": cats[0]}, cats[:1]),
        ({"query": in_dogs.prepare()}, dogs),
    ):
        task = make(dataset, **wanted)
        assert {item.id for item in task.get_items().all()} == {item.id for item in expected}
        assert task.total_items == len(expected)
    assert make(dataset, limit=4).total_items == 4
    labeling = dataset.tasks.create_labeling_task(name="labeling", assignee_ids=[ANN, BOB], limit=4)
    assert (labeling.name, labeling.total_items, len(labeling.assignments.list())) == ("labeling", 4, 2)


def test_an_annotated_filter_takes_the_annotated_items_only(dl, dataset, items):
    classify(dl, items[2], "x")
    task = make(dataset, filters=dl.Filters(field="annotated", values=True))
    assert [item.id for item in task.get_items().all()] == [items[2].id]


def test_custom_statuses_replace_the_default_ones(dl, dataset, items):
    actions = [dl.ItemAction("discard"), dl.ItemAction("to-check", display_name="To check", color="#123456")]
    task = make(dataset, available_actions=actions)
    assert [action.to_json() for action in task.available_actions] == [action.to_json() for action in actions]
    items[0].update_status("to-check", task_id=task.id)
    assert status_of(dataset, items[0], task) == "to-check"
    assert dataset.tasks.get(task_id=task.id).item_status["actions"] == {"discard": 0, "to-check": 1}


def test_an_existing_task_is_found_instead_of_made_twice(dl, project, dataset, items):
    wanted = dl.Filters(resource=dl.FiltersResource.TASK, field="name", values="once")
    first = make(dataset, name="once", check_if_exist=wanted)
    second = make(dataset, name="once", check_if_exist=wanted)
    assert first.id == second.id
    assert len(project.tasks.list()) == 1


def test_other_projects_do_not_count_as_existing(dl, dataset, items):
    make(dataset, name="everywhere")
    wanted = dl.Filters(resource=dl.FiltersResource.TASK, field="name", values="everywhere")
    other = dl.projects.create(f"other-{dataset.id}")
    try:
        task = make(other.datasets.create("d"), name="everywhere", check_if_exist=wanted)
        assert task.project_id == other.id
    finally:
        other.delete(sure=True, really=True)


@pytest.mark.parametrize("given", ["1924905600000", "2030-12-31T00:00:00Z"])
def test_a_due_date_may_be_text(dl, dataset, items, given):
    task = make(dataset)
    send(dl, "patch", f"/annotationtasks/{task.id}", {"dueDate": given})
    assert dataset.tasks.get(task_id=task.id).due_date == 1924905600000
    refused(dl, "patch", f"/annotationtasks/{task.id}", {"dueDate": "soon"}, "'dueDate' must be")


# -------------------------------------------------------------------------------------------------------- finding


def test_tasks_are_found_by_what_is_known_of_them(dl, project, dataset, items):
    early = datetime.datetime(2031, 1, 1).timestamp()
    late = datetime.datetime(2032, 1, 1).timestamp()
    first = make(dataset, name="first", assignees=[ANN], due_date=early)
    second = make(dataset, name="first_qa", assignees=[BOB], due_date=late, items=items[:1])
    items[0].update_status("completed", task_id=second.id)

    def names(**wanted):
        return sorted(task.name for task in project.tasks.list(**wanted))

    assert names() == ["first", "first_qa"]
    assert names(task_name="first") == ["first"]
    assert names(task_name="irst") == []
    assert names(status="open") == ["first"]
    assert names(status="completed") == ["first_qa"]
    middle = datetime.datetime(2031, 6, 1).timestamp() * 1000
    assert names(min_date=middle) == ["first_qa"]
    assert names(max_date=middle) == ["first"]
    assert names(min_date=early * 1000 - 1, max_date=early * 1000 + 1) == ["first"]
    assert names(creator=dl.client_api.info()["user_email"]) == ["first", "first_qa"]
    assert names(creator="nobody@example.com") == []
    assert names(recipe=dataset.recipes.list()[0]) == ["first", "first_qa"]
    assert names(recipe=MISSING) == []
    assert names(assignments=second.assignments.list()) == ["first_qa"]
    assert names(assignments=[first.assignmentIds[0], second.assignmentIds[0]]) == ["first", "first_qa"]
    assert names(pages_size=1) == ["first_qa"]  # the newest first
    assert names(pages_size=1, page_offset=1) == ["first"]
    assert [task.id for task in project.tasks.list(project_ids=[project.id])] == [second.id, first.id]
    assert dl.tasks.list(project_ids=MISSING) == []


def test_a_query_gives_pages_of_tasks(dl, project, dataset, items):
    for number in range(5):
        make(dataset, name=f"t{number}", items=items[:1])
    filters = dl.Filters(resource=dl.FiltersResource.TASK)
    filters.page_size = 2
    filters.sort_by(field="name", value=dl.FiltersOrderByDirection.DESCENDING)
    pages = project.tasks.query(filters=filters)
    assert (pages.items_count, pages.total_pages_count) == (5, 3)
    assert [task.name for page in pages for task in page] == ["t4", "t3", "t2", "t1", "t0"]
    wanted = dl.Filters(resource=dl.FiltersResource.TASK, field="name", values=["t1", "t3"], operator="in")
    assert [task.name for task in project.tasks.list(filters=wanted).all()] == ["t3", "t1"]


def test_a_task_is_fetched_by_name_or_id(dl, project, dataset, items):
    task = make(dataset)
    assert project.tasks.get(task_name="label").id == task.id
    assert dataset.tasks.get(task_name="label").id == task.id
    get = project.tasks.get
    not_found(
        dl, lambda: get(task_id=MISSING), lambda: get(task_id="1" * 12), lambda: get(task_name="nothing")
    )
    fails(dl.exceptions.BadRequest, "not an id", get, task_id="no-id")
    make(dataset)
    fails(dl.exceptions.NotFound, "More than one", project.tasks.get, task_name="label")


# ------------------------------------------------------------------------------------------------------- changing


def test_a_task_can_be_changed(dl, project, dataset, items):
    task = make(dataset)
    task.name = "renamed"
    task.due_date = 2_000_000_000_000
    task.priority = dl.TaskPriority.LOW
    task.metadata["user"] = {"note": "hard ones"}
    task.description = "be exact"
    task.available_actions.append(dl.ItemAction("maybe"))
    task.task_owner = "Boss@example.com"
    changed = task.update()
    for seen in (changed, project.tasks.get(task_id=task.id)):
        assert (seen.name, seen.due_date, seen.priority) == ("renamed", 2_000_000_000_000, 1)
        assert seen.metadata["user"] == {"note": "hard ones"}
        assert seen.description == {"content": "be exact"}
        assert [action.action for action in seen.available_actions] == ["completed", "discard", "maybe"]
        assert seen.task_owner == "boss@example.com"
        assert seen.updated_at > seen.created_at
    items[0].update_status("maybe", task_id=task.id)
    assert status_of(dataset, items[0], task) == "maybe"


def test_only_what_people_set_can_be_changed_or_taken_away(dataset, items):
    task = make(dataset)
    task.status, task.total_items, task.progress, task.assignmentIds = "completed", 99, 100, ["x"]
    task.metadata["system"]["batchSize"] = 99
    changed = task.update()
    assert (changed.status, changed.total_items, changed.progress) == ("open", 6, 0)
    assert len(changed.assignmentIds) == 1
    assert "batchSize" not in changed.metadata["system"]
    task = make(dataset, metadata={"user": {"a": 1}})
    del task.metadata["user"]
    assert "user" not in task.update().metadata


# ---------------------------------------------------------------------------------------------- adding and removing


def test_items_are_added_once_and_shared_as_asked(dl, dataset, items):
    task = make(dataset, items=items[:2])
    task.add_items(items=items[1:4], assignee_ids=[BOB])
    task = dataset.tasks.get(task_id=task.id)
    assert task.total_items == 4
    assert held(task) == {ANN: 2, BOB: 2}
    task.add_items(filters=dl.Filters(), workload=dl.Workload.generate([BOB, CID]))
    assert held(task) == {ANN: 2, BOB: 3, CID: 1}


def test_added_items_go_to_the_first_assignees_when_nobody_is_named(dataset, items):
    task = make(dataset, assignees=[ANN, BOB], items=items[:2])
    task.add_items(items=items)
    assert held(task) == {ANN: 3, BOB: 3}


def test_adding_is_a_command(dl, dataset, items):
    task = make(dataset, items=items[:2])
    command = task.add_items(items=items[2], wait=False, limit=1)
    assert "addToTaskPayload" in command.wait().spec
    assert dataset.tasks.get(task_id=task.id).total_items == 3
    added = dataset.tasks.add_items(task_id=task.id, query=dl.Filters().prepare())
    assert added.total_items == 6


def test_a_completed_task_with_new_items_is_open_again(dataset, items):
    task = make(dataset, items=items[:1])
    items[0].update_status("completed", task_id=task.id)
    assert dataset.tasks.get(task_id=task.id).status == "completed"
    task.add_items(items=items[1])
    task = dataset.tasks.get(task_id=task.id)
    assert (task.status, task.total_items, task.progress) == ("open", 2, 50)


def test_removed_items_are_out_of_the_task_and_its_assignments(dl, dataset, items):
    task = make(dataset, assignees=[ANN, BOB])
    assert task.remove_items(items=items[:2]) is True
    task = dataset.tasks.get(task_id=task.id)
    assert task.total_items == 4
    assert refs(dataset, items[0]) == []
    assert sum(assignment.total_items for assignment in task.assignments.list()) == 4
    command = task.remove_items(filters=dl.Filters(), wait=False).wait()
    assert command.spec == {"removeFromTaskId": task.id, "removeItemsCount": 4, "totalItemsCount": 4}
    task = dataset.tasks.get(task_id=task.id)
    assert (task.total_items, task.assignmentIds, task.assignments.list()) == (0, [], [])
    assert task.get_items().items_count == 0


def test_items_with_a_status_stay_in_the_task(dl, dataset, items):
    task = make(dataset)
    items[0].update_status("completed", task_id=task.id)
    command = task.remove_items(filters=dl.Filters(), wait=False).wait()
    assert (command.spec["removeItemsCount"], command.spec["totalItemsCount"]) == (5, 6)
    assert [item.id for item in task.get_items().all()] == [items[0].id]


def test_an_item_may_be_in_several_tasks(dl, dataset, items):
    first, second = make(dataset, name="first"), make(dataset, name="second", items=items[:1])
    items[0].update_status("completed", task_id=first.id)
    item = dataset.items.get(item_id=items[0].id)
    assert (item.status(task_id=first.id), item.status(task_id=second.id)) == ("completed", None)
    assert len(item.metadata["system"]["refs"]) == 4
    with pytest.raises(dl.exceptions.BadRequest):
        item.update_status("completed")


# ------------------------------------------------------------------------------------------------------- deleting


def test_a_deleted_task_leaves_no_trace_on_its_items(dl, project, dataset, items):
    task, kept = make(dataset), make(dataset, name="kept", items=items[:1])
    assignment = task.assignments.list()[0]
    assert task.delete() is True
    get_assignment = dl.assignments.get
    not_found(
        dl, lambda: project.tasks.get(task_id=task.id), lambda: get_assignment(assignment_id=assignment.id)
    )
    assert [ref["id"] for ref in refs(dataset, items[0])] == [kept.id, kept.assignmentIds[0]]
    assert refs(dataset, items[1]) == []
    assert dataset.tasks.delete(task_name="kept") is True
    assert project.tasks.list() == [] and project.assignments.list() == []
    task = make(dataset)
    command = task.delete(wait=False).wait()
    assert command.spec["deleteTaskId"] == task.id
    not_found(dl, task.delete)


def test_a_deleted_item_leaves_its_tasks(dl, dataset, items):
    task = make(dataset, assignees=[ANN, BOB])
    for item in items[:5]:
        item.update_status("completed", task_id=task.id)
    items[5].delete()
    task = dataset.tasks.get(task_id=task.id)
    assert (task.total_items, task.status) == (5, "completed")
    dataset.items.delete(filters=dl.Filters())
    task = dataset.tasks.get(task_id=task.id)
    assert (task.total_items, task.status, task.assignments.list()) == (0, "open", [])


def test_a_dataset_lists_its_own_tasks_and_takes_them_along_when_it_is_deleted(dl, project, dataset, items):
    other = project.datasets.create("other")
    task, kept = make(dataset), make(other, name="kept")
    assert [found.id for found in dataset.tasks.list()] == [task.id]
    assert [found.id for found in other.tasks.list()] == [kept.id]
    assert [found.id for found in project.tasks.list()] == [kept.id, task.id]
    dataset.delete(sure=True, really=True)
    assert [found.id for found in project.tasks.list()] == [kept.id]
    not_found(dl, lambda: project.tasks.get(task_id=task.id))


def test_a_copy_of_an_item_is_in_none_of_its_tasks(dataset, items):
    task = make(dataset)
    items[0].update_status("completed", task_id=task.id)
    copy = items[0].clone(remote_filepath="/copy.png")
    system = dataset.items.get(item_id=copy.id).metadata["system"]
    assert system["refs"] == []
    assert not {"taskStatusLog", "annotationStatus"} & system.keys()
    assert dataset.tasks.get(task_id=task.id).get_items().items_count == 6


def test_nobody_writes_refs_by_hand(dl, dataset, items):
    task = make(dataset, items=items[:2])
    before = refs(dataset, items[0])
    item = dataset.items.get(item_id=items[0].id)
    item.metadata["system"]["refs"] = []
    item.metadata["system"]["mine"] = True
    item.update(system_metadata=True)
    assert refs(dataset, items[0]) == before
    assert dataset.items.get(item_id=item.id).metadata["system"]["mine"] is True
    dataset.items.update(
        filters=dl.Filters(), system_update_values={"refs": [{"id": "x"}]}, system_metadata=True
    )
    assert refs(dataset, items[0]) == before
    assert refs(dataset, items[5]) == []
    assert task.get_items().items_count == 2


def test_an_overwritten_item_stays_in_its_task(dataset, items, fill):
    task = make(dataset)
    items[0].update_status("completed", task_id=task.id)
    before = dataset.items.get(item_id=items[0].id).metadata["system"]
    again = fill(6, overwrite=True, item_metadata={"user": {"again": True}})
    after = dataset.items.get(item_id=items[0].id).metadata["system"]
    assert again[0].id == items[0].id
    assert after["refs"] == before["refs"] and after["taskStatusLog"] == before["taskStatusLog"]
    assert dataset.tasks.get(task_id=task.id).total_items == 6


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "'name' must be a non-empty string"),
        ({"datasetId": None}, "'datasetId' must be a non-empty string"),
        ({"query": "{"}, "'query' is not valid JSON"),
        ({"query": '{"filter": {"x": {"$nonsense": 1}}}'}, "$nonsense"),
        ({"query": 5}, "'query' must be a filter"),
        ({"spec": {"type": "dance"}}, "'spec' must have a 'type'"),
        ({"dueDate": "tomorrow"}, "'dueDate' must be a time in milliseconds"),
        ({"priority": 4}, "'priority' must be"),
        ({"limit": -1}, "'limit' must be a whole number"),
        ({"workload": [{"assigneeId": 5, "load": 1}]}, "e-mail address"),
        ({"workload": {"ann": 1}}, "'workload' must be a list"),
        ({"availableActions": [{"name": "x"}]}, "'availableActions' must be a list"),
        ({"metadata": {"system": {"allowedAssignees": "ann"}}}, "allowedAssignees"),
        ({"description": 5}, "'description' must be"),
        ({"checkIfExist": {"query": {"filter": {"x": {"$nonsense": 1}}}}}, "$nonsense"),
    ],
)
def test_what_makes_no_task_is_refused_with_a_reason(dl, project, dataset, items, change, words):
    body = {"name": "t", "projectId": project.id, "datasetId": dataset.id, "query": {"filter": {}}} | change
    refused(dl, "post", "/annotationtasks", body, words)
    assert project.tasks.list() == [] and refs(dataset, items[0]) == []


@pytest.mark.parametrize("field", ["projectId", "datasetId", "recipeId"])
def test_a_task_needs_things_that_exist(dl, project, dataset, field):
    body = {"name": "t", "projectId": project.id, "datasetId": dataset.id} | {field: MISSING}
    refused(dl, "post", "/annotationtasks", body, MISSING, status=404)


def test_calls_for_tasks_that_do_not_exist_are_not_found(dl, project, dataset, items):
    not_found(
        dl,
        lambda: dataset.tasks.delete(task_id=MISSING),
        lambda: dataset.tasks.add_items(task_id=MISSING, items=items),
        lambda: dataset.tasks.remove_items(task_id=MISSING, items=items),
        lambda: dataset.tasks.set_status("completed", "create", MISSING, [items[0].id]),
        lambda: dataset.tasks.get_items(task_id=MISSING),
    )


def test_items_of_another_dataset_do_not_enter_a_task(dl, project, dataset, items):
    other = project.datasets.create("elsewhere")
    task = make(other, items=items)
    assert task.total_items == 0
    task.add_items(items=items)
    assert other.tasks.get(task_id=task.id).total_items == 0
    assert refs(dataset, items[0]) == []
