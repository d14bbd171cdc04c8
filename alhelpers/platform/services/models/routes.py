from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...events import Event
from ...query import search
from ...resources import Resource, by_user, everywhere
from ...store import Document
from ...validation import require
from . import models


def update(call: Call, model: Document, body: Document) -> None:
    models.update(call.store, model, body, call.user, system=call.system)
    if call.query.get("reloadServices") == "true":
        # A deployed service holds the weights and the configuration that the model had when it started.
        for service_id in (model["metadata"]["system"].get("deploy") or {}).get("services") or []:
            call.store.emit("Service", "Restarted", service_id)


def clone(call: Call, source: Document) -> Raw:
    return one(call, "models", models.clone(call.store, source, require(call.body), call.user)["id"])


def query_metrics(call: Call) -> Raw:
    # The samples of a curve come in the order in which they were published.
    body = {"sort": {"id": "ascending"}} | require(call.body)
    return paged(call, "metrics", search(call.store, "metrics", body))


def publish_metrics(call: Call) -> bool:
    models.publish_metrics(call.store, call.body)
    return True


def precision_recall(call: Call) -> Any:
    return models.precision_recall(call.store, require(call.body, "modelId", "datasetId"))


def forget_artifact(call: Call, event: Event) -> None:
    """Remove a deleted item of a project's binaries from the artifacts of its models."""
    for row in call.store.find("datasets", id=event.detail.get("dataset"), readableType="system"):
        models.forget_artifact(call.store, row.scope or "", event.id)


LISTENERS = {("Item", "Deleted"): forget_artifact}
MODELS = Resource("models", "/ml/models", by_user(models.create), update, models.delete, everywhere)
ROUTES = [
    *MODELS.routes,
    MODELS.at("POST", "clone", clone),
    Route("POST", "/ml/metrics/publish", publish_metrics),
    Route("POST", "/ml/metrics/precisionRecall", precision_recall),
    Route("POST", "/ml/metrics/query", query_metrics),
]
