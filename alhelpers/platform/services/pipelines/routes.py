"""Routes of pipelines and their cycles, and what makes cycles move on."""

import json
from typing import Any

from ...api import Call, Raw, Route, one, render
from ...errors import bad_request, not_found
from ...events import Event
from ...query import Page, everything, search
from ...store import Document
from ...validation import require
from ..exports.models import finished
from . import engine, lifecycle, models, statistics, tasks, validation


def _pipeline(call: Call) -> Document:
    return call.store.get("pipelines", call.params["pipeline_id"])


def _answer(call: Call, pipeline_id: str) -> Raw:
    row = call.store.row("pipelines", pipeline_id)
    return Raw(json.dumps({"url": f"{call.base}/pipelines/{row.id}"} | models.shown(json.loads(row.doc))))


def _page(call: Call, page: Page, documents: list[Document]) -> Document:
    return {"items": documents} | page.envelope()


def create(call: Call) -> Raw:
    return _answer(call, models.create(call.store, require(call.body), call.user)["id"])


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
    """List pipelines, or (resource 'pipelineState') their cycles."""
    body = require(call.body)
    if body.get("resource") == "pipelineState":
        page = search(call.store, "cycles", body)
        return _page(call, page, [_shown_cycle(call, row.id) for row in page.rows])
    page = search(call.store, "pipelines", body)
    documents = [
        {"url": f"{call.base}/pipelines/{row.id}"} | models.shown(call.store.parsed(row)) for row in page.rows
    ]
    return _page(call, page, documents)


def get(call: Call) -> Raw:
    return _answer(call, call.params["pipeline_id"])


def update(call: Call) -> Raw:
    pipeline = _pipeline(call)
    models.update(call.store, pipeline, require(call.body), call.user)
    _follow(call, pipeline)
    return _answer(call, pipeline["id"])


def update_variables(call: Call) -> Raw:
    pipeline = _pipeline(call)
    models.update(call.store, pipeline, {"variables": require(call.body).get("variables") or []}, call.user)
    _follow(call, pipeline)
    return _answer(call, pipeline["id"])


def _follow(call: Call, pipeline: Document) -> None:
    if pipeline["status"] == engine.INSTALLED:
        lifecycle.apply_changes(call.store, pipeline, call.user, call.clock.now())


def delete(call: Call) -> Document:
    pipeline = _pipeline(call)
    lifecycle.delete(call.store, pipeline)
    return {"id": pipeline["id"]}


def composition(call: Call) -> Document:
    for pipeline in call.store.find_all("pipelines"):
        if pipeline.get("compositionId") == call.params["composition_id"]:
            return models.composition(pipeline)
    raise not_found("composition", call.params["composition_id"])


def install(call: Call) -> Raw:
    pipeline = _pipeline(call)
    option = (require(call.body) if call.body else {}).get("resumeOption")
    lifecycle.install(call.store, pipeline, call.user, call.clock.now(), option)
    return _answer(call, pipeline["id"])


def pause(call: Call) -> Raw:
    pipeline = _pipeline(call)
    body = require(call.body) if call.body else {}
    keep = body.get("keepTriggersActive")
    if keep is None:
        keep = (pipeline.get("settings") or {}).get("keepTriggersActive") is True
    lifecycle.pause(call.store, pipeline, call.user, call.clock.now(), keep_triggers=bool(keep))
    return _answer(call, pipeline["id"])


def reset(call: Call) -> Raw:
    pipeline = _pipeline(call)
    lifecycle.reset(call.store, pipeline, call.user)
    return _answer(call, pipeline["id"])


def count(call: Call) -> Document:
    return statistics.count(call.store, _pipeline(call))


def execute(call: Call) -> Any:
    """Start a cycle, or one for each item of a query."""
    pipeline = _pipeline(call)
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
    executed = [json.loads(render(call, "executions", each)) for each in rows]
    url = f"{call.base}/pipelines/{cycle['pipelineId']}/executions/{cycle_id}"
    return {"url": url} | models.shown_cycle(cycle, executed)


def get_cycle(call: Call) -> Document:
    _pipeline(call)
    shown = _shown_cycle(call, call.params["cycle_id"])
    if shown["pipelineId"] != call.params["pipeline_id"]:
        raise not_found(f"execution of pipeline {call.params['pipeline_id']}", call.params["cycle_id"])
    return shown


def rerun(call: Call) -> Raw:
    """Run the cycles of a query again."""
    pipeline = _pipeline(call)
    body = require(call.body)
    options = require(body.get("pipeline") or {})
    method, start_ids = engine.check_method(options.get("method"), options.get("startNodeIds"), pipeline)
    found = require(require(body.get("batch") or {}).get("query") or {})
    rows = everything(call.store, "cycles", found, pipelineId=pipeline["id"])
    for row in rows:
        engine.rerun(call.store, pipeline, json.loads(row.doc), method, start_ids)
    cycle_options = {"method": method, "startNodeIds": start_ids, "pipelineId": pipeline["id"]}
    spec = {"cycleOptions": cycle_options, "query": found, "count": len(rows)}
    return finished(call, "PipelineRerun", spec)


def on_finished(call: Call, event: Event) -> None:
    engine.finished(call.store, event.id)


def on_created(call: Call, event: Event) -> None:
    engine.restarted(call.store, event.id)


def on_status(call: Call, event: Event) -> None:
    for execution, status in tasks.end_waiting(call.store, event):
        engine.pass_on_again(call.store, execution, status)


def on_task_deleted(call: Call, event: Event) -> None:
    tasks.terminate_waiting(call.store, event.id)


ROUTES = [
    Route("POST", "/pipelines", create),
    Route("POST", "/pipelines/query", query),
    Route("POST", "/pipelines/validate", validate),
    Route("GET", "/pipelines/{pipeline_id}", get),
    Route("PATCH", "/pipelines/{pipeline_id}", update),
    Route("PATCH", "/pipelines/{pipeline_id}/variables", update_variables),
    Route("DELETE", "/pipelines/{pipeline_id}", delete),
    Route("POST", "/pipelines/{pipeline_id}/install", install),
    Route("POST", "/pipelines/{pipeline_id}/uninstall", pause),
    Route("POST", "/pipelines/{pipeline_id}/reset", reset),
    Route("POST", "/pipelines/{pipeline_id}/execute", execute),
    Route("GET", "/pipelines/{pipeline_id}/statistics", count),
    Route("POST", "/pipelines/{pipeline_id}/executions/rerun", rerun),
    Route("GET", "/pipelines/{pipeline_id}/executions/{cycle_id}", get_cycle),
    Route("GET", "/compositions/{composition_id}", composition),
]
LISTENERS = {
    ("Execution", "Finished"): on_finished,
    ("Execution", "Created"): on_created,
    ("Item", "statusChanged"): on_status,
    ("Task", "Deleted"): on_task_deleted,
}
