from collections.abc import Callable
from functools import partial

from ...api import Call, Handler, Raw, Route, one
from ...events import Event
from ...resources import Resource, by_user
from ...store import Document
from ...validation import require
from ..exports import models as commands
from ..packages import models as packages
from . import apps, ml, models


def create(call: Call, body: Document) -> Document:
    require(body, "name", "projectId", "packageId")
    package = models.package_by_id(call.store, body["packageId"], body.get("packageRevision"))
    module = models.module_of(package, body.get("moduleName"))
    body = models.compute_config(package, module) | {
        key: each for key, each in body.items() if each is not None
    }
    body |= {"moduleName": module["name"], "packageName": package.get("name")}
    body["packageRevision"] = body.get("packageRevision") or package.get("version")
    return models.create(call.store, body, call.user)


def revisions(call: Call) -> list[Document]:
    call.store.row("services", call.params["service_id"])
    found = call.store.find_all("service_revisions", serviceId=call.params["service_id"])
    return [revision | {"id": call.params["service_id"]} for revision in found]


def activate(call: Call, *, active: bool) -> Raw:
    models.activate(
        call.store, call.store.get("services", call.params["service_id"]), call.user, active=active
    )
    return one(call, "services", call.params["service_id"])


def restart(call: Call) -> Document:
    call.store.row("services", call.params["service_id"])
    call.store.emit("Service", "Restarted", call.params["service_id"])
    return {"id": call.params["service_id"]}


def free_name(call: Call) -> Document:
    """Return a name for a package, a service or a trigger, if it can be one."""
    if call.params["kind"] == "packages":
        packages.check_name(call.params["name"])
    return {"name": require(dict(call.params), "name")["name"]}


def of_model(kind: str, operate: Callable[..., Document], **options: str) -> Handler:
    """Build the handler that answers with what an operation of a model makes: an execution, or a service."""

    def handler(call: Call) -> Raw:
        model = call.store.get("models", call.params["model_id"])
        return one(call, kind, operate(call.store, model, _optional(call), call.user, **options)["id"])

    return handler


def embed_datasets(call: Call) -> Raw:
    model = call.store.get("models", call.params["model_id"])
    count = ml.embed_datasets(call.store, model, _optional(call), call.user)
    return commands.finished(call, "EmbedDatasets", {"modelId": model["id"], "count": count})


def _optional(call: Call) -> Document:
    return {} if call.body is None else require(call.body)


def record_model_result(call: Call, event: Event) -> None:
    """Record in a model how its training or evaluation ended."""
    execution = call.store.get("executions", event.id)
    if execution.get("model"):
        ml.record_result(call.store, execution, call.user)


def undeploy(call: Call, event: Event) -> None:
    ml.undeploy(call.store, event.detail["service"], call.user)


def remove_of_model(call: Call, event: Event) -> None:
    for service in models.of_model(call.store, event.detail["project"], event.id):
        models.delete(call.store, service["id"])


def install_app(call: Call, event: Event) -> None:
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
    for service in apps.of_app(call.store, event.detail["app"]):
        models.delete(call.store, service["id"])


def set_app_active(call: Call, event: Event) -> None:
    """Pause or resume the services of an app."""
    for service in apps.of_app(call.store, call.store.get("apps", event.id)):
        models.activate(call.store, service, call.user, active=event.action == "Resumed")


def remove_all(call: Call, event: Event) -> None:
    """Delete the services of a project, and their executions."""
    for row in list(call.store.find("services", projectId=event.id)):
        models.delete(call.store, row.id)
    call.store.delete("executions", projectId=event.id)
    call.store.delete("packages", projectId=event.id)


ROUTES = [
    Route("POST", "/ml/models/{model_id}/train", of_model("executions", ml.train)),
    Route("POST", "/ml/models/{model_id}/evaluate", of_model("executions", ml.evaluate)),
    Route(
        "POST", "/ml/models/{model_id}/predict", of_model("executions", ml.run_on_items, operation=ml.PREDICT)
    ),
    Route("POST", "/ml/models/{model_id}/embed", of_model("executions", ml.run_on_items, operation=ml.EMBED)),
    Route("POST", "/ml/models/{model_id}/embed/datasets", embed_datasets),
    Route("POST", "/ml/models/{model_id}/deploy", of_model("services", ml.deploy)),
    *Resource("services", "/services", create, by_user(models.update), models.delete).routes,
    Route("GET", "/services/{service_id}/revisions", revisions),
    Route("POST", "/services/{service_id}/stop", partial(activate, active=False)),
    Route("POST", "/services/{service_id}/resume", partial(activate, active=True)),
    Route("POST", "/services/{service_id}/restart", restart),
    Route("GET", "/piper-misc/naming/{kind:packages|services|triggers}/{name}", free_name),
]
LISTENERS = {
    ("Execution", "Finished"): record_model_result,
    ("Service", "Deleted"): undeploy,
    ("Model", "Deleted"): remove_of_model,
    ("App", "Created"): install_app,
    ("App", "Updated"): install_app,
    ("App", "Deleted"): remove_app,
    ("App", "Paused"): set_app_active,
    ("App", "Resumed"): set_app_active,
    ("Project", "Deleted"): remove_all,
}
