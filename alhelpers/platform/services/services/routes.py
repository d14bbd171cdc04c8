"""Routes of deployed services."""

from typing import Any

from ...api import Call, Raw, Route, one
from ...errors import bad_request
from ...events import Event
from ...validation import require
from ..exports import models as commands
from . import apps, ml, models


def create(call: Call) -> Raw:
    """Make a service of a package."""
    body = require(call.body, "name", "projectId", "packageId")
    package = models.package_by_id(call.store, body["packageId"], body.get("packageRevision"))
    module = models.module_of(package, body.get("moduleName"))
    body = models.compute_config(package, module) | {
        key: each for key, each in body.items() if each is not None
    }
    body |= {"moduleName": module["name"], "packageName": package.get("name")}
    body["packageRevision"] = body.get("packageRevision") or package.get("version")
    return one(call, "services", models.create(call.store, body, call.user)["id"])


def get(call: Call) -> Raw:
    """Fetch a service."""
    return one(call, "services", call.params["service_id"])


def update(call: Call) -> Raw:
    """Change a service; it restarts with its next execution."""
    service = call.store.get("services", call.params["service_id"])
    models.update(call.store, service, require(call.body), call.user)
    return one(call, "services", service["id"])


def delete(call: Call) -> dict[str, Any]:
    """Delete a service."""
    models.delete(call.store, call.params["service_id"])
    return {"id": call.params["service_id"]}


def revisions(call: Call) -> list[dict[str, Any]]:
    """List the revisions of a service, oldest first."""
    call.store.row("services", call.params["service_id"])
    rows = call.store.find("service_revisions", serviceId=call.params["service_id"])
    return [call.store.parsed(row) | {"id": call.params["service_id"]} for row in rows]


def pause(call: Call) -> Raw:
    """Let a service rest: executions wait until it is resumed."""
    return _activate(call, active=False)


def resume(call: Call) -> Raw:
    """Let a service work again."""
    return _activate(call, active=True)


def _activate(call: Call, *, active: bool) -> Raw:
    models.activate(
        call.store, call.store.get("services", call.params["service_id"]), call.user, active=active
    )
    return one(call, "services", call.params["service_id"])


def restart(call: Call) -> dict[str, Any]:
    """Make a service anew with its next execution."""
    call.store.row("services", call.params["service_id"])
    call.store.emit("Service", "Restarted", call.params["service_id"])
    return {"id": call.params["service_id"]}


def free_name(call: Call) -> dict[str, Any]:
    """Check a service's name."""
    name = call.params["name"]
    if not name.strip():
        raise bad_request("a service needs a name")
    return {"name": name}


def train(call: Call) -> Raw:
    """Train a model."""
    model = call.store.get("models", call.params["model_id"])
    return one(call, "executions", ml.train(call.store, model, _optional(call), call.user)["id"])


def evaluate(call: Call) -> Raw:
    """Evaluate a model."""
    model = call.store.get("models", call.params["model_id"])
    return one(call, "executions", ml.evaluate(call.store, model, _optional(call), call.user)["id"])


def predict(call: Call) -> Raw:
    """Predict or embed items with a deployed model."""
    model, operation = call.store.get("models", call.params["model_id"]), call.params["operation"]
    execution = ml.run_on_items(call.store, model, operation, _optional(call), call.user)
    return one(call, "executions", execution["id"])


def embed_datasets(call: Call) -> Raw:
    """Embed whole datasets with a deployed model."""
    model = call.store.get("models", call.params["model_id"])
    count = ml.embed_datasets(call.store, model, _optional(call), call.user)
    return commands.finished(call, "EmbedDatasets", {"modelId": model["id"], "count": count})


def deploy(call: Call) -> Raw:
    """Make a service that predicts with a model."""
    model = call.store.get("models", call.params["model_id"])
    return one(call, "services", ml.deploy(call.store, model, _optional(call), call.user)["id"])


def _optional(call: Call) -> dict[str, Any]:
    return {} if call.body is None else require(call.body)


# ----------------------------------------------------------------------------------------- what others tell us


def settle_model(call: Call, event: Event) -> None:
    """Write down in a model how its training or evaluation ended."""
    execution = call.store.get("executions", event.id)
    if execution.get("model"):
        ml.settle(call.store, execution, call.user)


def undeploy(call: Call, event: Event) -> None:
    """Take a deleted service out of its model."""
    ml.undeploy(call.store, event.detail["service"], call.user)


def remove_of_model(call: Call, event: Event) -> None:
    """Delete the services of a deleted model: they have nothing to work with."""
    for service in models.of_model(call.store, event.detail["project"], event.id):
        models.delete(call.store, service["id"])


def install_app(call: Call, event: Event) -> None:
    """Make or renew the services and triggers of an app."""
    app = call.store.get("apps", event.id)
    apps.install(call.store, app, call.user, call.clock.now())
    if event.detail.get("versionChanged"):
        # Services of the app's models and nodes follow its version too.
        for service in apps.of_app(call.store, app):
            if service["packageId"] != app["dpk"]["id"]:
                body = {"packageId": app["dpk"]["id"], "packageRevision": app["dpkVersion"]}
                body["app"] = service["app"] | {"dpkVersion": app["dpkVersion"]}
                models.update(call.store, service, body, call.user)


def remove_app(call: Call, event: Event) -> None:
    """Delete the services of an app."""
    for service in apps.of_app(call.store, event.detail["app"]):
        models.delete(call.store, service["id"])


def rest_app(call: Call, event: Event) -> None:
    """Let the services of an app rest, or work again."""
    for service in apps.of_app(call.store, call.store.get("apps", event.id)):
        models.activate(call.store, service, call.user, active=event.action == "Resumed")


def remove_all(call: Call, event: Event) -> None:
    """Delete the services of a project, and what they ran."""
    for row in list(call.store.find("services", projectId=event.id)):
        models.delete(call.store, row.id)
    call.store.delete("executions", projectId=event.id)
    call.store.delete("packages", projectId=event.id)


ROUTES = [
    Route("POST", "/ml/models/{model_id}/train", train),
    Route("POST", "/ml/models/{model_id}/evaluate", evaluate),
    Route("POST", "/ml/models/{model_id}/{operation:predict|embed}", predict),
    Route("POST", "/ml/models/{model_id}/embed/datasets", embed_datasets),
    Route("POST", "/ml/models/{model_id}/deploy", deploy),
    Route("POST", "/services", create),
    Route("GET", "/services/{service_id}", get),
    Route("PATCH", "/services/{service_id}", update),
    Route("DELETE", "/services/{service_id}", delete),
    Route("GET", "/services/{service_id}/revisions", revisions),
    Route("POST", "/services/{service_id}/stop", pause),
    Route("POST", "/services/{service_id}/resume", resume),
    Route("POST", "/services/{service_id}/restart", restart),
    Route("GET", "/piper-misc/naming/services/{name}", free_name),
]
LISTENERS = {
    ("Execution", "Finished"): settle_model,
    ("Service", "Deleted"): undeploy,
    ("Model", "Deleted"): remove_of_model,
    ("App", "Created"): install_app,
    ("App", "Updated"): install_app,
    ("App", "Deleted"): remove_app,
    ("App", "Paused"): rest_app,
    ("App", "Resumed"): rest_app,
    ("Project", "Deleted"): remove_all,
}
