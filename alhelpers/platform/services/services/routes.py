"""Routes of deployed services."""

from typing import Any

from ...api import Call, Raw, Route, one
from ...errors import bad_request
from ...store import require
from . import models


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
    rows = call.store.select("service_revisions", "parent = ?", (call.params["service_id"],), "ORDER BY id")
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


ROUTES = [
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
