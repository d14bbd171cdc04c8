"""Tasks against independent definitions: shares, counters, refs, and the events that others listen to."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from platform_client import undone

from alhelpers.platform.api import Call, run_listeners
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import LISTENERS
from alhelpers.platform.services.annotations import models as annotations
from alhelpers.platform.services.datasets import models as datasets
from alhelpers.platform.services.items import models as items
from alhelpers.platform.services.projects import models as projects
from alhelpers.platform.services.tasks import assignments, members, models, statuses, workload
from alhelpers.platform.store import Store

USER = "u@example.com"
NAMES = ["ann@x.org", "bob@x.org", "cid@x.org"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store with a dataset of a few items."""
    store = Store(tmp_path_factory.mktemp("tasks"))
    with store.transaction():
        project = projects.create(store, "p", USER)["id"]
        dataset = datasets.create(store, "d", project, USER)["id"]
        ids = [items.add_bytes(store, dataset, f"/{number}.png", b"x", USER)["id"] for number in range(6)]
    yield store, {"name": "t", "projectId": project, "datasetId": dataset}, ids
    store.close()


def shares_of(*loads):
    return [(name, load) for name, load in zip(NAMES, loads, strict=False)]


def body_for(about, ids, *loads, **more):
    given = [{"assigneeId": name, "load": load} for name, load in shares_of(*loads)]
    return about | {"workload": given, "query": {"filter": {"id": {"$in": ids}}}} | more


@given(st.integers(0, 200), st.lists(st.integers(0, 100), min_size=1, max_size=3))
def test_shares_follow_the_loads_to_within_one_item(number, loads):
    ids = [str(place) for place in range(number)]
    pieces = workload.share(ids, shares_of(*loads))
    assert [item for _, piece in pieces for item in piece] == ids
    weights = loads if sum(loads) else [1] * len(loads)
    got = {name: len(piece) for name, piece in pieces}
    for name, weight in zip(NAMES, weights, strict=False):
        assert abs(got.get(name, 0) - number * weight / sum(weights)) <= 1
    assert all(piece for _, piece in pieces)


@given(st.integers(0, 40), st.integers(1, 3), st.data())
def test_a_consensus_gives_each_item_to_different_annotators_evenly(number, people, data):
    times = data.draw(st.integers(1, people))
    ids = [str(place) for place in range(number)]
    pieces = workload.share_repeatedly(ids, shares_of(*[1] * people), times)
    assert Counter(item for _, piece in pieces for item in piece) == dict.fromkeys(ids, times)
    assert all(len(set(piece)) == len(piece) for _, piece in pieces)
    sizes = [len(piece) for _, piece in pieces]
    assert not sizes or max(sizes) - min(sizes) <= 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.integers(0, 5)),
        st.tuples(st.just("status"), st.integers(0, 5), st.sampled_from(["completed", "discard", None])),
        st.tuples(st.just("delete item"), st.integers(0, 5)),
        st.tuples(st.just("hand over"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("annotate"), st.integers(0, 5), st.sampled_from(["issue", "review", "approved"])),
    ),
    max_size=12,
)


def step(call, task, ids, action, number, *rest):
    store = call.store
    if action == "add":
        known = [ids[number]] if store.count("items", id=ids[number]) else []
        models.add_items(store, task, known, USER, shares=[(NAMES[rest[0]], 100)])
    elif action == "remove":
        models.remove_items(store, task, [ids[number]])
    elif action == "status":
        if members.of_item(store, ids[number], task["id"]):
            statuses.change(store, task, [ids[number]], rest[0], USER)
    elif action == "delete item":
        items.delete(store, [ids[number]])
    elif action == "annotate":
        if store.count("items", id=ids[number]):
            body = {"type": "class", "label": "x", "metadata": {"system": {"status": rest[0]}}}
            made = annotations.create(store, store.get("items", ids[number]), body, USER)
            store.put("annotations", made)
            store.emit("Annotation", "Created", made["id"], item=ids[number])
    else:
        for assignment in store.find_all("assignments", taskId=task["id"]):
            if assignment["annotator"] == NAMES[number]:
                assignments.share_items(store, assignment, [(NAMES[rest[0]], 100)], USER)


def check(store, task_id):
    """Compare every counter and status with what the refs of the items say."""
    task = store.get("tasks", task_id)
    inside = {}
    for row in store.find("items", type="file"):
        system = store.parsed(row)["metadata"]["system"]
        by_id = {ref["id"]: ref.get("metadata", {}).get("status") for ref in system["refs"]}
        if task_id in by_id:
            (assignment_id,) = by_id.keys() - {task_id}
            assert by_id[task_id] == by_id[assignment_id]
            marks = [each["metadata"]["system"] for each in store.find_all("annotations", itemId=row.id)]
            found = [each.get("status") for each in marks]
            review = "issue" if "issue" in found else "review" if "review" in found else None
            inside[row.id] = (assignment_id, by_id[task_id], review)
        else:
            assert system["refs"] == []
    expect(task, list(inside.values()))
    done = inside and all(status for _, status, _ in inside.values())
    assert task["status"] == ("completed" if done else "open")
    assert set(task["assignmentIds"]) == {assignment_id for assignment_id, _, _ in inside.values()}
    stored = {row.id for row in store.find("assignments", taskId=task_id)}
    assert stored == set(task["assignmentIds"])
    for assignment_id in stored:
        mine = [place for place in inside.values() if place[0] == assignment_id]
        assignment = store.get("assignments", assignment_id)
        expect(assignment, mine)
        left = [status for _, status, _ in mine].count(None)
        assert assignment["status"] == (
            "done" if not left else "todo" if left == len(mine) else "in progress"
        )


def expect(document, places):
    found = Counter(status for _, status, _ in places)
    assert document["totalItems"] == len(places)
    assert document["itemStatus"]["remaining"] == found[None]
    assert document["itemStatus"]["completed"] == len(places) - found[None]
    assert document["itemStatus"]["actions"] == {key: found[key] for key in ("completed", "discard")}
    assert document["issues"] == sum(review == "issue" for _, _, review in places)
    assert document["forReview"] == sum(review == "review" for _, _, review in places)


@example([("annotate", 5, "issue"), ("add", 5, 0)])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_counters_and_refs_agree_whatever_happens(world, steps):
    store, about, ids = world
    with undone(store):
        task = models.create(store, body_for(about, ids[:4], 50, 50), USER)
        check(store, task["id"])
        for each in steps:
            call = Call(store, "http://h", USER, {}, {}, None)
            store.events.clear()
            step(call, store.get("tasks", task["id"]), ids, *each)
            run_listeners(call, LISTENERS)
            check(store, task["id"])
        models.delete(store, store.get("tasks", task["id"]))
        assert store.count("task_items") == store.count("assignments") == store.count("tasks") == 0
        assert all(store.parsed(row)["metadata"]["system"]["refs"] == [] for row in store.find("items"))


def told(store, resource):
    events = [event for event in store.events if event.resource == resource]
    return [(event.action, event.id, event.detail.get("status")) for event in events]


def test_statuses_are_told_to_who_listens(world):
    store, about, ids = world
    with undone(store):
        task = models.create(store, body_for(about, ids[:2], 100), USER)
        (assignment_id,) = task["assignmentIds"]
        assert told(store, "Task") == [("Created", task["id"], None)]
        assert told(store, "Assignment") == [("Created", assignment_id, None)]
        store.events.clear()
        statuses.change(store, task, ids[:1], "completed", USER)
        (event,) = [event for event in store.events if event.resource == "Item"]
        assert (event.action, event.id) == ("statusChanged", ids[0])
        detail = {key: event.detail[key] for key in ("task", "assignment", "status", "previous", "user")}
        place = {"task": task["id"], "assignment": assignment_id}
        assert detail == place | {"status": "completed", "previous": None, "user": USER}
        assert told(store, "Assignment") == [("statusChanged", assignment_id, "in progress")]
        assert told(store, "Task") == []
        store.events.clear()
        statuses.change(store, task, ids[:2], "discard", USER)
        assert told(store, "Task") == [("statusChanged", task["id"], "completed")]
        assert told(store, "Item") == [("statusChanged", item_id, "discard") for item_id in ids[:2]]
        store.events.clear()
        statuses.change(store, task, ids[:1], None, USER)
        statuses.change(store, task, ids[:1], None, USER)  # already clear: nothing happens
        assert told(store, "Item") == [("statusChanged", ids[0], None)]
        assert told(store, "Task") == [("statusChanged", task["id"], "open")]
        store.events.clear()
        models.delete(store, store.get("tasks", task["id"]))
        assert told(store, "Assignment") == [("Deleted", assignment_id, None)]
        assert told(store, "Task") == [("Deleted", task["id"], None)]


def test_a_refused_status_changes_nothing(world):
    store, about, ids = world
    with undone(store):
        task = models.create(store, body_for(about, ids[:2], 100), USER)
        store.events.clear()
        with pytest.raises(ApiError) as caught:
            statuses.change(store, task, ids[:2], "nonsense", USER)
        assert caught.value.status == 400 and "completed" in caught.value.message
        with pytest.raises(ApiError) as caught:
            statuses.change(store, task, ids[3:], "completed", USER)
        assert caught.value.status == 404
        assert store.events == []


def test_an_issue_goes_back_once(world):
    store, about, ids = world
    with undone(store):
        task = models.create(store, body_for(about, ids[:1], 100), USER)
        spec = {"type": "qa", "parentTaskId": task["id"]}
        models.create(store, body_for(about, ids[:1], 100, name="q", spec=spec), USER)
        statuses.change(store, task, ids[:1], "completed", USER)
        body = {"type": "class", "label": "x", "metadata": {"system": {"status": "issue"}}}
        store.put("annotations", annotations.create(store, store.get("items", ids[0]), body, USER))
        statuses.update_tasks(store, ids[0], USER)
        assert [member["status"] for member in members.of_item(store, ids[0])] == [None, None]
        statuses.change(store, task, ids[:1], "completed", USER)
        statuses.update_tasks(store, ids[0], USER)  # the same issue still: the annotator's word stands
        assert [member["status"] for member in members.of_item(store, ids[0])] == ["completed", None]
