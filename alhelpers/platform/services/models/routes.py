"""Routes of models and metrics."""

from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...events import Event
from ...query import search
from ...validation import require
from . import models


def create(call: Call) -> Raw:
    """Make a model."""
    return one(call, "models", models.create(call.store, require(call.body), call.user)["id"])


def query(call: Call) -> Raw:
    """List models."""
    return paged(call, "models", search(call.store, "models", require(call.body)))


def get(call: Call) -> Raw:
    """Fetch a model."""
    return one(call, "models", call.params["model_id"])


def update(call: Call) -> Raw:
    """Change a model."""
    model = call.store.get("models", call.params["model_id"])
    models.update(call.store, model, require(call.body), call.user, system=call.system)
    if call.query.get("reloadServices") == "true":
        # A deployed service holds the weights and the configuration that the model had when it started.
        for service_id in (model["metadata"]["system"].get("deploy") or {}).get("services") or []:
            call.store.emit("Service", "Restarted", service_id)
    return one(call, "models", model["id"])


def delete(call: Call) -> dict[str, Any]:
    """Delete a model."""
    models.delete(call.store, call.params["model_id"])
    return {"id": call.params["model_id"]}


def clone(call: Call) -> Raw:
    """Copy a model."""
    source = call.store.get("models", call.params["model_id"])
    return one(call, "models", models.clone(call.store, source, require(call.body), call.user)["id"])


def publish_metrics(call: Call) -> bool:
    """Store metrics."""
    models.publish_metrics(call.store, call.body)
    return True


def query_metrics(call: Call) -> Raw:
    """List metrics."""
    return paged(call, "metrics", search(call.store, "metrics", require(call.body)))


def forget_artifact(call: Call, event: Event) -> None:
    """Take a deleted item of a project's binaries out of the artifacts of its models."""
    for row in call.store.find("datasets", id=event.detail.get("dataset"), readableType="system"):
        models.forget_artifact(call.store, row.scope or "", event.id)


LISTENERS = {("Item", "Deleted"): forget_artifact}
ROUTES = [
    Route("POST", "/ml/models", create),
    Route("POST", "/ml/models/query", query),
    Route("GET", "/ml/models/{model_id}", get),
    Route("PATCH", "/ml/models/{model_id}", update),
    Route("DELETE", "/ml/models/{model_id}", delete),
    Route("POST", "/ml/models/{model_id}/clone", clone),
    Route("POST", "/ml/metrics/publish", publish_metrics),
    Route("POST", "/ml/metrics/query", query_metrics),
]
