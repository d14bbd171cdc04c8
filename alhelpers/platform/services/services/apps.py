"""The services and triggers that installed apps bring, and what becomes of them with their app."""

from datetime import datetime

from ...errors import ApiError, bad_request
from ...store import Document, Store
from ...validation import require
from ..apps.models import components
from ..triggers import models as triggers
from . import models


def install(store: Store, app: Document, user: str, moment: datetime) -> None:
    """Make or update the services and triggers of an app's manifest; cron triggers count from `moment`."""
    try:
        for component in components(app, "services"):
            require(component, "name")
            _install_one(store, app, component, user)
        for component in components(app, "triggers"):
            require(component, "name")
            _install_trigger(store, app, component, user, moment)
    except ApiError as error:
        raise ApiError(424, f"error installing an app: Validation Failed: {error.message}") from error


def _install_trigger(store: Store, app: Document, component: Document, user: str, moment: datetime) -> None:
    """Make a trigger of one of the app's services, which it names as 'services.<name>'."""
    name = str(component.get("namespace") or "").removeprefix("services.")
    known = [service for service in of_app(store, app) if name in ("", service["name"])]
    if not known:
        raise bad_request(
            f"trigger {component['name']!r} is for {component.get('namespace')!r}, which is not a service of the app"
        )
    spec = dict(require(component.get("spec")))
    spec["operation"] = (
        {"type": "function"} | require(spec.get("operation") or {}) | {"serviceId": known[0]["id"]}
    )
    link = {"id": app["id"], "dpkName": app["dpkName"], "componentName": component["name"]}
    for trigger in store.find_all("triggers", projectId=app["projectId"]):
        if trigger.get("app") == link:
            triggers.update(store, trigger, {"spec": spec}, user, moment)
            return
    body = {key: component[key] for key in ("name", "type", "active") if key in component}
    triggers.create(store, body | {"projectId": app["projectId"], "spec": spec, "app": link}, user, moment)


def _install_one(store: Store, app: Document, component: Document, user: str) -> None:
    name = component["name"]
    existing = store.find_one("services", projectId=app["projectId"], name=name)
    if existing is not None and (existing.get("app") or {}).get("id") != app["id"]:
        raise ApiError(424, f"a service named {name!r} exists in the project already")
    config = {key: value for key, value in component.items() if key in models.SETTINGS}
    named = models.config_of(app["dpk"], component.get("computeConfig"))
    module = config.pop("moduleName", None)
    settings = {"runtime": models.RUNTIME | {"concurrency": 1}} | named | config
    place = {"module": module, "app": app, "component": name}
    models.ensure(store, app["projectId"], name, app["dpk"], user, **place, **settings)


def of_app(store: Store, app: Document) -> list[Document]:
    """List the services of an app: those of its manifest, and those of its models and nodes."""
    found = store.find_all("services", projectId=app["projectId"])
    return [service for service in found if (service.get("app") or {}).get("id") == app["id"]]
