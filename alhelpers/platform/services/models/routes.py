from ...api import Call, Raw, Route, fetch, one, query_all, remove
from ...events import Event
from ...validation import require
from . import models


def create(call: Call) -> Raw:
    return one(call, "models", models.create(call.store, require(call.body), call.user)["id"])


def update(call: Call) -> Raw:
    model = call.store.get("models", call.params["model_id"])
    models.update(call.store, model, require(call.body), call.user, system=call.system)
    if call.query.get("reloadServices") == "true":
        # A deployed service holds the weights and the configuration that the model had when it started.
        for service_id in (model["metadata"]["system"].get("deploy") or {}).get("services") or []:
            call.store.emit("Service", "Restarted", service_id)
    return one(call, "models", model["id"])


def clone(call: Call) -> Raw:
    source = call.store.get("models", call.params["model_id"])
    return one(call, "models", models.clone(call.store, source, require(call.body), call.user)["id"])


def publish_metrics(call: Call) -> bool:
    models.publish_metrics(call.store, call.body)
    return True


def forget_artifact(call: Call, event: Event) -> None:
    """Remove a deleted item of a project's binaries from the artifacts of its models."""
    for row in call.store.find("datasets", id=event.detail.get("dataset"), readableType="system"):
        models.forget_artifact(call.store, row.scope or "", event.id)


LISTENERS = {("Item", "Deleted"): forget_artifact}
ROUTES = [
    Route("POST", "/ml/models", create),
    Route("POST", "/ml/models/query", query_all("models")),
    Route("GET", "/ml/models/{model_id}", fetch("models", "model_id")),
    Route("PATCH", "/ml/models/{model_id}", update),
    Route("DELETE", "/ml/models/{model_id}", remove(models.delete, "model_id")),
    Route("POST", "/ml/models/{model_id}/clone", clone),
    Route("POST", "/ml/metrics/publish", publish_metrics),
    Route("POST", "/ml/metrics/query", query_all("metrics")),
]
