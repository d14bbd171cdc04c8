"""Triggers: created, changed and listed through the SDK; fired by events, and by a clock that nobody waits for."""

import pytest
from helpers_contract import MISSING, classify, get_json, install, make_service, not_found
from pipeline_samples import node, pipeline

from alhelpers.platform.launcher import call

WEEK = 7 * 24 * 3600


@pytest.fixture
def service(dl, project):
    """A paused service: only that executions are created matters here, so that no worker starts for them."""
    service = make_service(dl, project, install(dl, project).dpk.id, f"counted-{project.id}")
    service.pause()
    return service


def fired(project, trigger):
    found = [each for each in project.executions.list().items if each.trigger_id == trigger.id]
    return sorted(found, key=lambda each: each.id)


def function_trigger(service, **fields):
    return service.triggers.create(name="t", function_name="run", **fields)


# -------------------------------------------------------------------------------------------------------- entities


def test_create_get_update_delete(dl, project, service):
    filters = dl.Filters(field="dir", values="/a")
    options = {"actions": ["Created", "Updated"], "execution_mode": "Always"}
    trigger = function_trigger(service, filters=filters, **options)
    assert trigger.active and trigger.type == "Event" and trigger.resource == "Item"
    assert trigger.function_name == "run" and trigger.service_id == service.id
    assert trigger.filters == filters.prepare(query_only=True)["filter"]
    assert project.triggers.get(trigger_id=trigger.id).to_json() == trigger.to_json()
    assert project.triggers.get(trigger_name="t").id == trigger.id
    assert [each.id for each in service.triggers.list().items] == [trigger.id]
    trigger.active, trigger.actions = False, ["Deleted"]
    changed = trigger.update()
    assert changed.active is False and changed.actions == ["Deleted"] and changed.updated_by
    assert trigger.delete() is True
    get = project.triggers.get
    not_found(dl, lambda: get(trigger_id=trigger.id), lambda: get(trigger_name="t"))


def test_cron_triggers(dl, project, service):
    fields = {"start_at": "2020-01-01T00:00:00Z", "end_at": "2020-06-01T00:00:00Z", "cron": "0 0 * * *"}
    trigger = function_trigger(service, trigger_type=dl.TriggerType.CRON, inputs={"x": 1}, **fields)
    read = project.triggers.get(trigger_id=trigger.id)
    assert {key: getattr(read, key) for key in fields} == fields and read.input == {"x": 1}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"trigger_type": "Cron", "cron": "every monday"}, "'cron' must be an expression"),
        ({"trigger_type": "Cron", "cron": None}, "'cron' must be an expression"),
        ({"trigger_type": "Cron", "cron": "0 0 * * *", "start_at": "soon"}, "'startAt' must be an ISO date"),
        ({"resource": "Weather"}, "'resource' is one of"),
        ({"actions": ["Eaten"]}, "'actions' are out of"),
        ({"execution_mode": "Twice"}, "'executionMode' is"),
        ({"filters": {"$and": 3}}, "needs a list|must be"),
        ({"webhook_id": "w", "service_id": None}, "not emulated offline"),
    ],
)
def test_what_is_refused(dl, project, service, fields, match):
    given = {"service_id": service.id} | fields
    with pytest.raises(dl.exceptions.BadRequest, match=match):
        project.triggers.create(name="t", function_name="run", project_id=project.id, **given)
    assert project.triggers.list().items_count == 0


def test_services_that_do_not_exist_and_templates_are_refused(dl, project, service):
    not_found(dl, lambda: project.triggers.create(name="t", service_id=MISSING, function_name="run"))
    trigger = function_trigger(service)
    with pytest.raises(dl.exceptions.NotFound, match="not emulated offline: templates of triggers"):
        trigger.clone(project_id=project.id)
    assert project.triggers.name_validation("a-name") is None


# ---------------------------------------------------------------------------------------------------------- events


def test_items(dl, project, service, dataset, fill):
    filters = dl.Filters(field="dir", values="/a")
    once = function_trigger(service, filters=filters, inputs={"also": 1})
    (item,) = fill(1, remote_path="/a")
    fill(1, remote_path="/b")
    (execution,) = fired(project, once)
    assert execution.input == {"item": {"item_id": item.id, "dataset_id": dataset.id}, "also": 1}
    assert execution.service_id == service.id and execution.function_name == "run"


def test_once_and_always(dl, project, service, dataset, fill):
    once = function_trigger(service, actions=["Updated"])
    always = function_trigger(service, actions=["Updated", "Deleted"], execution_mode="Always")
    (item,) = fill(1)
    for value in (1, 2):
        item.metadata["user"] = {"value": value}
        item = item.update()
    assert len(fired(project, once)) == 1 and len(fired(project, always)) == 2
    item.delete()
    assert len(fired(project, always)) == 3


def test_an_inactive_trigger_sleeps(project, service, fill):
    trigger = function_trigger(service, active=False)
    fill(1)
    assert fired(project, trigger) == []
    trigger.active = True
    trigger.update()
    fill(1, remote_path="/later")
    assert len(fired(project, trigger)) == 1


def test_other_projects_and_system_files_do_not_count(dl, project, service, dataset, fill):
    trigger = function_trigger(service)
    elsewhere = dl.projects.create(f"other-{project.id}")
    elsewhere.datasets.create("images").items.upload(__file__)
    fill(1)
    project.datasets._get_binaries_dataset().items.upload(__file__)
    assert len(fired(project, trigger)) == 1
    elsewhere.delete(sure=True, really=True)


def test_annotations_and_datasets(dl, project, service, dataset, fill):
    notes = function_trigger(service, resource="Annotation", filters={"label": "wanted"})
    sets = function_trigger(service, resource="Dataset")
    (item,) = fill(1)
    for name in ("wanted", "other"):
        classify(dl, item, name)
    (execution,) = fired(project, notes)
    wanted = next(each for each in item.annotations.list() if each.label == "wanted")
    assert execution.input == {"annotation": {"annotation_id": wanted.id, "dataset_id": dataset.id}}
    made = project.datasets.create("made")
    assert [each.input for each in fired(project, sets)] == [{"dataset": {"dataset_id": made.id}}]


def test_item_statuses(dl, project, service, dataset, item):
    options = {"actions": ["Created", "Updated", "Deleted"], "execution_mode": "Always"}
    trigger = function_trigger(service, resource="ItemStatus", **options)
    task = dataset.tasks.create("label", assignee_ids=["me@example.com"])
    tasks = project.triggers.list().items_count
    item.update_status("completed", task_id=task.id)
    item.update_status("discard", task_id=task.id)
    item.update_status("discard", task_id=task.id, clear=True)
    found = fired(project, trigger)
    assert len(found) == 3 and tasks == 1
    context = dl.Context(event_context=get_json(dl, f"/executions/{found[0].id}")["event"], sdk=dl)
    assert context.item_status == "completed" and context.task_id == task.id
    assert context.item_status_operation == "create" and context.event.resource_id == item.id


# ----------------------------------------------------------------------------------------------------------- clock


def test_a_cron_trigger_fires_when_its_time_comes(dl, platform, project, service):
    trigger = function_trigger(service, trigger_type="Cron", cron="0 9 * * 1", inputs={"x": 1})
    assert fired(project, trigger) == []
    platform.advance_clock(WEEK)
    (execution,) = fired(project, trigger)
    assert execution.input == {"x": 1}
    platform.advance_clock(4 * WEEK)
    assert len(fired(project, trigger)) == 2, "what was missed is not made up for"
    trigger.active = False
    trigger.update()
    platform.advance_clock(WEEK)
    assert len(fired(project, trigger)) == 2


def test_a_cron_trigger_has_a_beginning_and_an_end(dl, platform, project, service):
    past = function_trigger(service, trigger_type="Cron", cron="* * * * *", end_at="2020-01-01T00:00:00Z")
    future = function_trigger(service, trigger_type="Cron", cron="* * * * *", start_at="2999-01-01T00:00:00Z")
    platform.advance_clock(WEEK)
    assert fired(project, past) == fired(project, future) == []


def test_a_cron_trigger_of_a_pipeline(dl, platform, project, dataset):
    raw = node("storage", "raw", metadata={"datasetId": dataset.id})
    update = node("updateVariable", inputs=[], outputs=[])
    weekly = {update["id"]: {"type": "Cron", "spec": {"cron": "0 9 * * 1"}}}
    flow = project.pipelines.create(pipeline_json=pipeline([raw, update], [], weekly)).install()
    platform.advance_clock(WEEK)
    (cycle,) = flow.pipeline_executions.list().items
    assert {each.name: each.status for each in cycle.nodes} == {"raw": "pending", "updateVariable": "success"}
    flow.pause()
    platform.advance_clock(WEEK)
    assert flow.pipeline_executions.list().items_count == 1


def test_the_clock_only_moves_ahead(platform):
    for seconds in (-1, "1", None, True, 1e300):
        with pytest.raises(ConnectionError, match=r"refused \(400\)"):
            call(platform, "POST", "/local/clock", {"seconds": seconds})
