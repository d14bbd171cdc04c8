"""Routes of pipelines and their cycles, and what makes cycles move on."""

import json
from typing import Any

from ...api import Call, Raw, Route, one, render, with_id
from ...errors import bad_request, not_found
from ...events import Event
from ...query import documents, search
from ...resources import Resource, by_user
from ...store import Document
from ...validation import require
from ..exports.models import finished
from . import compositions, engine, lifecycle, models, statistics, tasks, validation


def _shown(call: Call, pipeline_id: str) -> Document:
    url = f"{call.base}/pipelines/{pipeline_id}"
    return {"url": url} | models.shown(call.store.get("pipelines", pipeline_id))


def validate(call: Call) -> Document:
    """Check a pipeline that need not be stored: its graph, and whether it could start."""
    body = require(call.body)
    pipeline = body | {
        "variables": models.checked_variables(call.store, body.get("variables") or [], "", call.user)
    }
    validation.check_drawing(pipeline)
    validation.check_settings(call.store, pipeline)
    return {"valid": True, "errors": []}


def query(call: Call) -> Document:
    """List pipelines, or (by the resource of the query) their cycles or compositions."""
    body = require(call.body)
    if body.get("resource") == "composition":
        return compositions.query(call, body)
    if body.get("resource") == "pipelineState":
        page = search(call.store, "cycles", body)
        return {"items": [_shown_cycle(call, row.id) for row in page.rows]} | page.envelope()
    page = search(call.store, "pipelines", body)
    return {"items": [_shown(call, row.id) for row in page.rows]} | page.envelope()


def update(call: Call, pipeline: Document, body: Document) -> None:
    models.update(call.store, pipeline, body, call.user)
    if pipeline["status"] == engine.INSTALLED:
        lifecycle.apply_changes(call.store, pipeline, call.user, call.clock.now())


def update_variables(call: Call, pipeline: Document) -> None:
    update(call, pipeline, {"variables": require(call.body).get("variables") or []})


def install(call: Call, pipeline: Document) -> None:
    option = (require(call.body) if call.body else {}).get("resumeOption")
    lifecycle.install(call.store, pipeline, call.user, call.clock.now(), option)


def pause(call: Call, pipeline: Document) -> None:
    body = require(call.body) if call.body else {}
    keep = body.get("keepTriggersActive")
    if keep is None:
        keep = (pipeline.get("settings") or {}).get("keepTriggersActive") is True
    lifecycle.pause(call.store, pipeline, call.user, call.clock.now(), keep_triggers=bool(keep))


def execute(call: Call, pipeline: Document) -> Any:
    """Start a cycle, or one for each item of a query."""
    body = require(call.body) if call.body else {}
    if body.get("batch") is not None:
        return _execute_batch(call, pipeline, body)
    options = require(body.get("pipeline") or {})
    inputs = options.get("input") or {}
    if not isinstance(inputs, dict):
        raise bad_request(f"'input' must be an object with the first node's inputs, got {inputs!r}")
    cycle = engine.begin(
        call.store,
        pipeline,
        call.user,
        inputs=inputs,
        node_id=_node_id(options),
        test=options.get("testMode") is True,
    )
    return _shown_cycle(call, cycle["id"])


def _execute_batch(call: Call, pipeline: Document, body: Document) -> Raw:
    batch = require(body["batch"])
    found, args = require(batch.get("query")), batch.get("args") or {}
    if not isinstance(args, dict):
        raise bad_request(f"'args' must be an object with further inputs, got {args!r}")
    done = lifecycle.batch(call.store, pipeline, call.user, found, args, _node_id(body))
    return one(call, "commands", done["id"])


def _node_id(options: Document) -> str | None:
    value = options.get("nodeId")
    if value is not None and not isinstance(value, str):
        raise bad_request(f"'nodeId' must be a node's id, got {value!r}")
    return value


def _shown_cycle(call: Call, cycle_id: str) -> Document:
    row = call.store.row("cycles", cycle_id, "pipeline execution")
    cycle = call.store.parsed(row)
    rows = call.store.find("executions", projectId=cycle["projectId"], cycle=cycle_id)
    executed = [{"_id": each.id} | json.loads(render(call, "executions", each)) for each in rows]
    url = f"{call.base}/pipelines/{cycle['pipelineId']}/executions/{cycle_id}"
    return {"url": url} | models.shown_cycle(cycle, executed)


def get_cycle(call: Call, pipeline: Document) -> Document:
    shown = _shown_cycle(call, call.params["cycle_id"])
    if shown["pipelineId"] != pipeline["id"]:
        raise not_found(f"execution of pipeline {pipeline['id']}", call.params["cycle_id"])
    return shown


def rerun(call: Call, pipeline: Document) -> Raw:
    body = require(call.body)
    options = require(body.get("pipeline") or {})
    method, start_ids = engine.check_method(options.get("method"), options.get("startNodeIds"), pipeline)
    found = require(require(body.get("batch") or {}).get("query") or {})
    cycles = documents(call.store, "cycles", found, pipelineId=pipeline["id"])
    for cycle in cycles:
        engine.rerun(call.store, pipeline, cycle, method, start_ids)
    cycle_options = {"method": method, "startNodeIds": start_ids, "pipelineId": pipeline["id"]}
    spec = {"cycleOptions": cycle_options, "query": found, "count": len(cycles)}
    return finished(call, "PipelineRerun", spec)


def on_status(call: Call, event: Event) -> None:
    for execution, status in tasks.end_waiting(call.store, event):
        engine.pass_on_again(call.store, execution, status)


PIPELINES = Resource(
    *("pipelines", "/pipelines", by_user(models.create), update, lifecycle.delete), answer=_shown
)
ROUTES = [
    *PIPELINES.routes,
    Route("POST", "/pipelines/query", query),
    Route("POST", "/pipelines/validate", validate),
    PIPELINES.at("PATCH", "variables", update_variables),
    PIPELINES.at("POST", "install", install),
    PIPELINES.at("POST", "uninstall", pause),
    PIPELINES.at("POST", "reset", by_user(lifecycle.reset)),
    PIPELINES.at("POST", "execute", execute),
    PIPELINES.at("GET", "statistics", lambda call, pipeline: statistics.count(call.store, pipeline)),
    PIPELINES.at("POST", "executions/rerun", rerun),
    PIPELINES.at("GET", "executions/{cycle_id}", get_cycle),
    Route("GET", "/compositions/{composition_id}", compositions.get),
]
LISTENERS = {
    ("Execution", "Finished"): with_id(engine.finished),
    ("Execution", "Created"): with_id(engine.restarted),
    ("Item", "statusChanged"): on_status,
    ("Task", "Deleted"): with_id(tasks.terminate_waiting),
}
