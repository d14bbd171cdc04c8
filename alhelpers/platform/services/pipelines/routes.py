"""Routes of pipelines. They are stored, read and changed; running them is not emulated."""

from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...errors import not_emulated
from ...query import search
from ...store import require
from . import models


def create(call: Call) -> Raw:
    """Store a pipeline."""
    return one(call, "pipelines", models.create(call.store, require(call.body), call.user)["id"])


def query(call: Call) -> Raw:
    """List pipelines."""
    return paged(call, "pipelines", search(call.store, "pipelines", require(call.body)))


def get(call: Call) -> Raw:
    """Fetch a pipeline."""
    return one(call, "pipelines", call.params["pipeline_id"])


def update(call: Call) -> Raw:
    """Change a pipeline."""
    pipeline = call.store.get("pipelines", call.params["pipeline_id"])
    models.update(call.store, pipeline, require(call.body), call.user)
    return one(call, "pipelines", pipeline["id"])


def update_variables(call: Call) -> Raw:
    """Change the variables of a pipeline."""
    pipeline = call.store.get("pipelines", call.params["pipeline_id"])
    models.update(call.store, pipeline, {"variables": require(call.body).get("variables") or []}, call.user)
    return one(call, "pipelines", pipeline["id"])


def delete(call: Call) -> dict[str, Any]:
    """Delete a pipeline."""
    call.store.row("pipelines", call.params["pipeline_id"])
    call.store.delete("pipelines", "id = ?", call.params["pipeline_id"])
    return {"id": call.params["pipeline_id"]}


def run(call: Call) -> None:
    """Refuse to run a pipeline."""
    call.store.row("pipelines", call.params["pipeline_id"])
    raise not_emulated(
        "running pipelines; run the nodes' functions in this process, each with"
        " dl.Context(execution_dict={'pipeline': {'id': ..., 'nodeId': ...}}, sdk=dl)"
    )


ROUTES = [
    Route("POST", "/pipelines", create),
    Route("POST", "/pipelines/query", query),
    Route("GET", "/pipelines/{pipeline_id}", get),
    Route("PATCH", "/pipelines/{pipeline_id}", update),
    Route("PATCH", "/pipelines/{pipeline_id}/variables", update_variables),
    Route("DELETE", "/pipelines/{pipeline_id}", delete),
    Route("POST", "/pipelines/{pipeline_id}/{action:install|uninstall|reset|execute}", run),
    Route("GET", "/pipelines/{pipeline_id}/{action:statistics}", run),
]
