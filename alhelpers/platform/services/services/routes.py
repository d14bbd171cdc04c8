from collections.abc import Callable
from functools import partial

from ...api import Call, Raw, Route, one
from ...events import Event
from ...resources import Resource, by_user
from ...store import Document
from ...validation import require
from ..exports import models as commands
from ..models.routes import MODELS
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


def revisions(call: Call, service: Document) -> list[Document]:
    found = call.store.find_all("service_revisions", serviceId=service["id"])
    return [revision | {"id": service["id"]} for revision in found]


def restart(call: Call, service: Document) -> Document:
    call.store.emit("Service", "Restarted", service["id"])
    return {"id": service["id"]}


def free_name(call: Call) -> Document:
    """Return a name for a package, a service or a trigger, if it can be one."""
    if call.params["kind"] == "packages":
        packages.check_name(call.params["name"])
    return {"name": require(dict(call.params), "name")["name"]}


def of_model(name: str, operate: Callable[..., Document], kind: str = "executions", **options: str) -> Route:
    """Build the route that answers with what an operation of a model makes: an execution, or a service."""

    def action(call: Call, model: Document) -> Raw:
        return one(call, kind, operate(call.store, model, _optional(call), call.user, **options)["id"])

    return MODELS.at("POST", name, action)


def embed_datasets(call: Call, model: Document) -> Raw:
    count = ml.embed_datasets(call.store, model, _optional(call), call.user)
    return commands.finished(call, "EmbedDatasets", {"modelId": model["id"], "count": count})


def _optional(call: Call) -> Document:
    return {} if call.body is None else require(call.body)


def record_model_result(call: Call, event: Event) -> None:
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
    for service in apps.of_app(call.store, call.store.get("apps", event.id)):
        models.activate(call.store, service, call.user, active=event.action == "Resumed")


def remove_all(call: Call, event: Event) -> None:
    for row in list(call.store.find("services", projectId=event.id)):
        models.delete(call.store, row.id)
    call.store.delete("executions", projectId=event.id)
    call.store.delete("packages", projectId=event.id)


SERVICES = Resource("services", "/services", create, by_user(models.update), models.delete)
ROUTES = [
    of_model("train", ml.train),
    of_model("evaluate", ml.evaluate),
    of_model("predict", ml.run_on_items, operation=ml.PREDICT),
    of_model("embed", ml.run_on_items, operation=ml.EMBED),
    MODELS.at("POST", "embed/datasets", embed_datasets),
    of_model("deploy", ml.deploy, "services"),
    *SERVICES.routes,
    SERVICES.at("GET", "revisions", revisions),
    SERVICES.at("POST", "stop", by_user(partial(models.activate, active=False))),
    SERVICES.at("POST", "resume", by_user(partial(models.activate, active=True))),
    SERVICES.at("POST", "restart", restart),
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
