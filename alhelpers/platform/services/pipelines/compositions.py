"""Compositions: what the platform has made for an app or a pipeline."""

from collections.abc import Iterator
from typing import Any

from ... import dql
from ...api import Call
from ...errors import ApiError
from ...query import cut
from ...store import Document
from ...validation import unknown_id
from ..services.apps import of_app
from . import engine, graph, tasks, validation

SHOWN = ("projectId", "name", "status", "creator", "createdAt", "updatedAt")


def get(call: Call) -> Document:
    wanted = call.params["composition_id"]
    for composition in _all(call, wanted):
        return composition
    raise unknown_id("composition", wanted)


def query(call: Call, body: Document) -> Document:
    holds = dql.compile_filter(dql.parse(body.get("filter")))
    return cut([composition for composition in _all(call) if holds(composition)], body)


def _all(call: Call, only: str | None = None) -> Iterator[Document]:
    """Yield the compositions of all apps and pipelines, or the one with an id."""
    for kind, build in (("apps", _of_app), ("pipelines", _of_pipeline)):
        for owner in call.store.find_all(kind):
            if "compositionId" in owner and only in (None, owner["compositionId"]):
                yield build(call, owner)


def _shown(owner: Document, **made: Any) -> Document:
    empty = {"spec": [], "models": [], "tasks": [], "errorText": None}
    return {"id": owner["compositionId"]} | {key: owner[key] for key in SHOWN} | empty | made


def _of_app(call: Call, app: Document) -> Document:
    models = call.store.find_all("models", projectId=app["projectId"])
    own = [model for model in models if (model.get("app") or {}).get("id") == app["id"]]
    return _shown(
        app,
        spec=[{"name": each["name"], "state": {"serviceId": each["id"]}} for each in of_app(call.store, app)],
        models=[{"name": model["name"], "modelId": model["id"]} for model in own],
    )


def _of_pipeline(call: Call, pipeline: Document) -> Document:
    """Return the tasks of a pipeline, or what keeps it from starting."""
    names = {node["id"]: graph.label(node) for node in graph.nodes(pipeline)}
    made = [
        {"nodeId": node_id, "name": names.get(node_id), "state": {"taskId": task_id}}
        for node_id, task_id in (pipeline.get("taskIds") or {}).items()
    ]
    error = None if pipeline["status"] == engine.INSTALLED else _problem(call, pipeline)
    return _shown(pipeline, tasks=made, pipelineId=pipeline["id"], errorText=error and {"message": error})


def _problem(call: Call, pipeline: Document) -> str | None:
    try:
        validation.check_settings(call.store, pipeline)
        for node in graph.nodes(pipeline):
            if node["type"] == graph.TASK:
                tasks.check(call.store, pipeline, node, call.user)
    except ApiError as error:
        return error.message
    return None
