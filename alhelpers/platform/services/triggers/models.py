"""Triggers: an event or a time, and the function or pipeline that it starts."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

from ... import dql
from ...errors import bad_request
from ...store import Document, Row, Store, now, signed
from ...validation import merge, require

EVENT, CRON = "Event", "Cron"
# How often a trigger starts again what has led to it: a ring of pipelines must end.
MAX_ROUNDS = 50
ONCE, ALWAYS = "Once", "Always"
RESOURCES = ("Item", "Dataset", "Annotation", "Task", "Assignment", "ItemStatus", "Model")
ACTIONS = ("Created", "Updated", "Deleted", "statusChanged", "Clone")
FIXED = {"id", "url", "projectId", "creator", "createdAt", "updatedAt", "updatedBy", "type"}


def create(store: Store, body: Document, user: str, moment: datetime) -> Document:
    """Make a trigger; `moment` is the time on the platform's clock, from which a cron trigger counts."""
    require(body, "projectId", "name")
    store.row("projects", body["projectId"])
    trigger = {
        "id": store.new_id(),
        "name": body["name"],
        "projectId": body["projectId"],
        "type": body.get("type") or EVENT,
        "active": body.get("active", True) is not False,
        "scope": body.get("scope") or "project",
        "global": False,
        "special": False,
        "spec": checked_spec(store, body.get("type") or EVENT, body.get("spec")),
        **signed(user),
    }
    if body.get("app"):
        trigger["app"] = body["app"]
    _schedule_next(trigger, moment)
    store.put("triggers", trigger)
    store.emit("Trigger", "Changed", trigger["id"])
    return trigger


def update(store: Store, trigger: Document, body: Document, user: str, moment: datetime) -> None:
    """Change a trigger; one that is activated again does not catch up on what it missed."""
    changes = {key: value for key, value in body.items() if key not in FIXED and value is not None}
    if "active" in changes and not isinstance(changes["active"], bool):
        raise bad_request(f"'active' must be true or false, got {changes['active']!r}")
    spec = changes.pop("spec", None)
    merge(trigger, changes)
    if spec is not None:
        if not isinstance(spec, dict):
            raise bad_request(f"'spec' must be an object, got {spec!r}")
        trigger["spec"] = checked_spec(store, trigger["type"], {**trigger["spec"], **spec})
    _schedule_next(trigger, moment)
    store.put("triggers", trigger | {"updatedAt": now(), "updatedBy": user})
    store.emit("Trigger", "Changed", trigger["id"])


def delete(store: Store, trigger_id: str) -> None:
    """Delete a trigger, with the record of what it has fired for."""
    store.row("triggers", trigger_id)
    store.delete("trigger_log", triggerId=trigger_id)
    store.delete("triggers", id=trigger_id)
    store.emit("Trigger", "Changed", trigger_id)


def checked_spec(store: Store, kind: Any, spec: Any) -> Document:
    """Check a trigger's specification, and return it with its defaults."""
    if kind not in (EVENT, CRON):
        raise bad_request(f"a trigger's 'type' is 'Event' or 'Cron', got {kind!r}")
    if not isinstance(spec, dict):
        raise bad_request(f"a trigger needs a 'spec', got {spec!r}")
    if not isinstance(spec.get("input") or {}, dict):
        raise bad_request(f"a trigger's 'input' is an object with values by name, got {spec['input']!r}")
    operation = checked_operation(store, spec.get("operation"))
    checked = checked_cron(spec) if kind == CRON else checked_event(spec)
    return checked | {"operation": operation, "input": spec.get("input") or {}}


def checked_event(spec: Document) -> Document:
    resource = spec.get("resource") or "Item"
    actions = spec.get("actions") or ["Created"]
    actions = actions if isinstance(actions, list) else [actions]
    mode = str(spec.get("executionMode") or ONCE).capitalize()
    if resource not in RESOURCES:
        raise bad_request(f"a trigger's 'resource' is one of {', '.join(RESOURCES)}; got {resource!r}")
    if not all(action in ACTIONS for action in actions):
        raise bad_request(f"a trigger's 'actions' are out of {', '.join(ACTIONS)}; got {actions!r}")
    if mode not in (ONCE, ALWAYS):
        raise bad_request(f"a trigger's 'executionMode' is 'Once' or 'Always', got {mode!r}")
    condition = read_filter(spec.get("filter"))
    dql.parse(condition)
    return {"filter": condition, "resource": resource, "executionMode": mode, "actions": actions}


def checked_cron(spec: Document) -> Document:
    cron = spec.get("cron")
    try:
        CronSim(cron if isinstance(cron, str) else "", datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise bad_request(
            f"'cron' must be an expression such as '0 9 * * 1', got {cron!r}: {error}"
        ) from error
    for name in ("startAt", "endAt"):
        _moment(name, spec.get(name))
    return {"cron": cron, "startAt": spec.get("startAt"), "endAt": spec.get("endAt")}


def checked_operation(store: Store, operation: Any) -> Document:
    operation = require(operation)
    kind = operation.get("type")
    if kind == "function":
        store.row("services", require(operation, "serviceId", "functionName")["serviceId"])
    elif kind == "pipeline":
        store.row("pipelines", require(operation, "id")["id"])
    else:
        raise bad_request(
            "a trigger's operation is of type 'function' or 'pipeline', others are not emulated offline;"
            f" got {kind!r}"
        )
    return operation


def read_filter(value: Any) -> Any:
    """Read a filter that the SDK sends as an object, or as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise bad_request(f"a filter is an object or its JSON, got {value!r}") from error
    value = value or {}
    return value["filter"] if isinstance(value, dict) and isinstance(value.get("filter"), dict) else value


def conjuncts(condition: Any) -> list[Any]:
    """List the conditions of a filter that must all hold."""
    both = condition.get("$and") if isinstance(condition, dict) and len(condition) == 1 else None
    return both if isinstance(both, list) else [condition] if condition else []


def _moment(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise bad_request(f"{name!r} must be an ISO date and time, got {value!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def listening(store: Store, project_id: str, resource: str, action: str) -> Iterator[Document]:
    return _for_event(store.find("triggers", projectId=project_id, type=EVENT), store, resource, action)


def awaited(store: Store, resource: str, action: str) -> bool:
    """Return whether any trigger, of any project, listens for an event."""
    return any(True for _ in _for_event(store.find("triggers", type=EVENT), store, resource, action))


def _for_event(rows: Iterator[Row], store: Store, resource: str, action: str) -> Iterator[Document]:
    for row in list(rows):
        trigger = store.parsed(row)
        spec = trigger["spec"]
        if trigger["active"] and spec["resource"] == resource and action in spec["actions"]:
            yield trigger


def matches(trigger: Document, document: Document) -> bool:
    condition = trigger["spec"]["filter"]
    return not condition or dql.compile_filter(dql.parse(condition))(document)


def may_fire(store: Store, trigger: Document, document_id: str) -> bool:
    """Return whether a trigger may fire for an entity, and record it: in mode 'Once' only the first time."""
    if trigger["spec"]["executionMode"] == ALWAYS:
        return True
    if store.find_one("trigger_log", triggerId=trigger["id"], entityId=document_id) is not None:
        return False
    store.put("trigger_log", {"id": store.new_id(), "triggerId": trigger["id"], "entityId": document_id})
    return True


def follow(store: Store, trigger: Document) -> str | None:
    """Note that what follows in the transaction is caused by a trigger; return why it must not, if it is in a ring.

    A cause is where a chain of triggers began, and which are in it.
    """
    cause = store.cause or {"origin": store.new_id(), "triggers": []}
    if trigger["id"] not in cause["triggers"]:
        store.cause = cause | {"triggers": [*cause["triggers"], trigger["id"]]}
        return None
    place = {"triggerId": trigger["id"], "entityId": cause["origin"]}
    found = store.find_one("trigger_log", **place) or place | {"id": store.new_id(), "rounds": 0}
    store.put("trigger_log", found | {"rounds": found["rounds"] + 1})
    if found["rounds"] < MAX_ROUNDS:
        return None
    return (
        f"the trigger {trigger['name']!r} is in a ring: what it starts has fired it {MAX_ROUNDS} times already."
        " Give it a filter that ends the ring, or let what it starts write elsewhere"
    )


def _schedule_next(trigger: Document, moment: datetime) -> None:
    """Compute when a cron trigger fires next; never while it is inactive, or after its end."""
    trigger.pop("nextAt", None)
    if trigger["type"] != CRON or not trigger["active"]:
        return
    spec = trigger["spec"]
    start, end = _moment("startAt", spec["startAt"]), _moment("endAt", spec["endAt"])
    following = next(CronSim(spec["cron"], max(start, moment) if start else moment), None)
    if following is not None and (end is None or following <= end):
        trigger["nextAt"] = following.isoformat()


def scheduled(store: Store) -> list[tuple[datetime, str]]:
    """List when which cron triggers will fire, soonest first."""
    found = [(store.parsed(row).get("nextAt"), row.id) for row in store.find("triggers", type=CRON)]
    return sorted((datetime.fromisoformat(at), trigger_id) for at, trigger_id in found if at)


def take_due(store: Store, trigger_id: str, moment: datetime) -> Document | None:
    """Schedule a cron trigger anew and return it, or None if it is not due; it fires once for all that it missed."""
    trigger = store.find_one("triggers", id=trigger_id)
    if trigger is None or not trigger.get("nextAt") or datetime.fromisoformat(trigger["nextAt"]) > moment:
        return None
    _schedule_next(trigger, moment)
    store.put("triggers", trigger)
    return trigger
