"""Tasks through the real SDK: made, filled, shared, found, changed and deleted."""

import datetime
import json

import pytest
from helpers_contract import MISSING, classify, fails, not_found, refused
from helpers_tasks import ANN, BOB, CID, make, refs, status_of


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
    answer = dl.client_api.gen_request(req_type="get", path=f"/annotationtasks/{task.id}")[1].json()
    written = task.to_json()
    assert written == {key: answer[key] for key in written}
    assert answer["metadata"]["user"] == {"batch": 3}
    assert (answer["priority"], answer["hasParent"]) == (3, False)
    assert dl.tasks.get(task_id=task.id).name == "label"


@pytest.mark.parametrize("wait", [True, False])
def test_making_a_task_is_a_command_that_says_which_task(dl, dataset, items, wait):
    made = make(dataset, wait=wait)
    if wait:
        assert isinstance(made, dl.Task)
    else:
        command = made.wait()
        assert command.status == "success"
        assert dataset.tasks.get(task_id=command.spec["createdTaskId"]).name == "label"
        assert command.spec["createTaskPayload"]["name"] == "label"


def test_filters_items_and_limit_say_which_items(dl, dataset, fill):
    cats, dogs = fill(3, remote_path="/cats"), fill(2, remote_path="/dogs")
    by_filter = make(dataset, name="cats", filters=dl.Filters(field="dir", values="/cats"))
    assert {item.id for item in by_filter.get_items().all()} == {item.id for item in cats}
    by_items = make(dataset, name="dogs", items=dogs)
    assert {item.id for item in by_items.get_items().all()} == {item.id for item in dogs}
    pages = dataset.items.list(filters=dl.Filters(field="dir", values="/dogs"))
    assert make(dataset, name="pages", items=pages).total_items == 2
    assert make(dataset, name="one", items=cats[0]).total_items == 1
    assert make(dataset, name="limit", limit=4).total_items == 4
    query = dl.Filters(field="dir", values="/dogs").prepare()
    assert make(dataset, name="query", query=query).total_items == 2
    labeling = dataset.tasks.create_labeling_task(name="labeling", assignee_ids=[ANN, BOB], limit=4)
    assert (labeling.name, labeling.total_items, len(labeling.assignments.list())) == ("labeling", 4, 2)


def test_an_annotated_filter_takes_the_annotated_items_only(dl, dataset, items):
    classify(dl, items[2], "x")
    task = make(dataset, filters=dl.Filters(field="annotated", values=True))
    assert [item.id for item in task.get_items().all()] == [items[2].id]


def test_a_workload_shares_unevenly(dl, dataset, fill):
    fill(10)
    units = [dl.WorkloadUnit(assignee_id=ANN, load=80), dl.WorkloadUnit(assignee_id=BOB, load=20)]
    task = dataset.tasks.create(task_name="uneven", workload=dl.Workload(units))
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {ANN: 8, BOB: 2}
    loads = dl.Workload.generate([ANN, BOB, CID], loads=[50, 30, 20])
    task = dataset.tasks.create(task_name="three", workload=loads)
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {ANN: 5, BOB: 3, CID: 2}


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


# ------------------------------------------------------------------------------------------------ pulled in batches


def test_pulling_gives_each_allowed_annotator_a_batch(dataset, fill):
    fill(10)
    task = make(
        dataset, assignees=[ANN, BOB], batch_size=3, max_batch_workload=5, allowed_assignees=[BOB, CID]
    )
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {BOB: 3, CID: 3}
    assert task.total_items == 10
    system = task.metadata["system"]
    assert (system["batchSize"], system["maxBatchWorkload"]) == (3, 5)
    assert system["allowedAssignees"] == [BOB, CID]


def test_a_finished_batch_brings_the_next_one(dataset, fill):
    fill(5)
    task = dataset.tasks.create_labeling_task(
        name="p", assignee_ids=[ANN], batch_size=2, max_batch_workload=2
    )
    seen = set()
    for _ in range(3):
        (assignment,) = task.assignments.list()
        opened = {i.id for i in assignment.get_items().all() if i.status(task_id=task.id) is None}
        assert 0 < len(opened) <= 2 and not opened & seen
        seen |= opened
        task.set_status(status="completed", operation="create", item_ids=sorted(opened))
    assert len(seen) == 5
    assert dataset.tasks.get(task_id=task.id).status == "completed"


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"max_batch_workload": 2}])
def test_one_of_the_two_sizes_of_a_batch_is_enough(dataset, items, options):
    task = make(dataset, assignees=[ANN, BOB], **options)
    assert [each.total_items for each in task.assignments.list()] == [2, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 5, "max_batch_workload": 4}, "batch_size (5) cannot be greater"),
        ({"batch_size": -1, "max_batch_workload": 5}, "batchSize"),
    ],
)
def test_a_pulling_task_that_cannot_work_is_refused(dl, project, dataset, items, options, words):
    with pytest.raises(dl.exceptions.BadRequest) as caught:
        make(dataset, **options)
    assert words in str(caught.value)
    assert len(project.tasks.list()) == 0
    assert refs(dataset, items[0]) == []


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
    task = dataset.tasks.create(
        task_name="both",
        assignee_ids=[ANN, BOB],
        consensus_percentage=100,
        consensus_assignees=2,
        scoring=True,
    )
    ann, bob = task.assignments.list()
    ann.set_status(status="completed", operation="create", item_id=item.id)
    assert status_of(dataset, item, task) is None
    assert dataset.tasks.get(task_id=task.id).status == "open"
    bob.set_status(status="discard", operation="create", item_id=item.id)
    assert status_of(dataset, item, task) == "discard"
    assert dataset.tasks.get(task_id=task.id).status == "completed"


def test_a_consensus_of_more_than_there_are_is_refused(dl, dataset, items):
    with pytest.raises(dl.exceptions.BadRequest, match="greater than the number of assignees"):
        dataset.tasks.create_consensus_task(name="c", assignee_ids=[ANN], consensus_assignees=2)
    with pytest.raises(dl.exceptions.BadRequest, match="consensusPercentage"):
        dataset.tasks.create_consensus_task(name="c", assignee_ids=[ANN], consensus_percentage=101)


# -------------------------------------------------------------------------------------------------------- finding


def test_tasks_are_found_by_what_is_known_of_them(dl, project, dataset, items):
    early = datetime.datetime(2031, 1, 1).timestamp()
    late = datetime.datetime(2032, 1, 1).timestamp()
    first = make(dataset, name="first", assignees=[ANN], due_date=early)
    second = make(dataset, name="first_qa", assignees=[BOB], due_date=late, items=items[:1])
    items[0].update_status("completed", task_id=second.id)

    def names(**wanted):
        return [task.name for task in project.tasks.list(**wanted)]

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
    assert names(pages_size=1) == ["first"]
    assert names(pages_size=1, page_offset=1) == ["first_qa"]
    assert [task.id for task in project.tasks.list(project_ids=[project.id])] == [first.id, second.id]
    assert dl.tasks.list(project_ids=MISSING) == []


def test_a_dataset_lists_its_own_tasks(project, dataset, items):
    make(dataset, name="mine")
    other = project.datasets.create("other")
    make(other, name="theirs")
    assert [task.name for task in dataset.tasks.list()] == ["mine"]
    assert [task.name for task in other.tasks.list()] == ["theirs"]
    assert [task.name for task in project.tasks.list()] == ["mine", "theirs"]


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
    assert [task.name for task in project.tasks.list(filters=wanted).all()] == ["t1", "t3"]


def test_a_task_is_fetched_by_name_or_id(dl, project, dataset, items):
    task = make(dataset)
    assert project.tasks.get(task_name="label").id == task.id
    assert dataset.tasks.get(task_name="label").id == task.id
    for missing in (MISSING, "no-id"):
        with pytest.raises(dl.exceptions.NotFound):
            project.tasks.get(task_id=missing)
    not_found(dl, lambda: project.tasks.get(task_name="nothing"))
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
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {ANN: 2, BOB: 2}
    task.add_items(filters=dl.Filters(), workload=dl.Workload.generate([BOB, CID]))
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {ANN: 2, BOB: 3, CID: 1}


def test_added_items_go_to_the_first_assignees_when_nobody_is_named(dataset, items):
    task = make(dataset, assignees=[ANN, BOB], items=items[:2])
    task.add_items(items=items)
    assert {a.annotator: a.total_items for a in task.assignments.list()} == {ANN: 3, BOB: 3}


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
    not_found(
        dl,
        lambda: project.tasks.get(task_id=task.id),
        lambda: dl.assignments.get(assignment_id=assignment.id),
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


def test_a_deleted_dataset_takes_its_tasks_along(dl, project, dataset, items):
    task = make(dataset)
    other = project.datasets.create("other")
    kept = make(other, name="kept")
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
