"""Routes of dpks, apps, and the packages that older parts of the SDK still ask for."""

from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...errors import not_found
from ...query import search
from ...store import merge, now, require
from . import models


def publish(call: Call) -> Raw:
    """Publish a dpk."""
    return one(call, "dpks", models.publish(call.store, require(call.body), call.user)["id"])


def query_dpks(call: Call) -> Raw:
    """List dpks, each in its latest revision."""
    body = require(call.body)
    body = body | {"filter": {"$and": [body.get("filter") or {}, {"latest": True}]}}
    return paged(call, "dpks", search(call.store, "dpks", body))


def query_revisions(call: Call) -> Raw:
    """List the revisions of a dpk, by its name."""
    scope = ("name = ?", (call.params["dpk_id"],))
    return paged(call, "dpks", search(call.store, "dpks", require(call.body), scope))


def get_dpk(call: Call) -> Raw:
    """Fetch a dpk."""
    return one(call, "dpks", models.by_id(call.store, call.params["dpk_id"])["id"])


def get_revision(call: Call) -> Raw:
    """Fetch one revision of a dpk."""
    name = models.by_id(call.store, call.params["dpk_id"])["name"]
    version = call.params["version"]
    for row in call.store.select("dpks", "name = ? AND type = ?", (name, version)):
        return one(call, "dpks", row.id)
    raise not_found(f"version of dpk {name!r}", version)


def delete_dpk(call: Call) -> dict[str, Any]:
    """Delete a dpk with its revisions."""
    name = models.by_id(call.store, call.params["dpk_id"])["name"]
    call.store.delete("dpks", "name = ?", name)
    return {"name": name}


def install(call: Call) -> Raw:
    """Install a dpk."""
    return one(call, "apps", models.install(call.store, require(call.body), call.user)["id"])


def query_apps(call: Call) -> Raw:
    """List apps."""
    return paged(call, "apps", search(call.store, "apps", require(call.body)))


def get_app(call: Call) -> Raw:
    """Fetch an app."""
    return one(call, "apps", call.params["app_id"])


def update_app(call: Call) -> Raw:
    """Change an app; a new dpkVersion brings that revision in."""
    app = call.store.get("apps", call.params["app_id"])
    body = require(call.body)
    fixed = {key: app[key] for key in ("id", "projectId", "dpkName", "creator", "createdAt", "status")}
    version = body.get("dpkVersion", app["dpkVersion"])
    body = {key: value for key, value in body.items() if key not in ("dpk", "url")}
    app = merge(app, body) | fixed | {"updatedAt": now()}
    app["dpk"] = models.revision(call.store, app["dpkName"], version)
    call.store.put("apps", app)
    return one(call, "apps", app["id"])


def uninstall(call: Call) -> dict[str, Any]:
    """Uninstall an app; the models that it made stay."""
    call.store.row("apps", call.params["app_id"])
    call.store.delete("apps", "id = ?", call.params["app_id"])
    return {"id": call.params["app_id"]}


def free_name(call: Call) -> dict[str, Any]:
    """Suggest a package name: the one asked for."""
    return {"name": call.params["name"]}


ROUTES = [
    Route("POST", "/app-registry", publish),
    Route("POST", "/app-registry/query", query_dpks),
    Route("POST", "/app-registry/{dpk_id}/revisions", query_revisions),
    Route("GET", "/app-registry/{dpk_id}", get_dpk),
    Route("GET", "/app-registry/{dpk_id}/revisions/{version}", get_revision),
    Route("DELETE", "/app-registry/{dpk_id}", delete_dpk),
    Route("POST", "/apps", install),
    Route("POST", "/apps/query", query_apps),
    Route("GET", "/apps/{app_id}", get_app),
    Route("PUT", "/apps/{app_id}", update_app),
    Route("DELETE", "/apps/{app_id}", uninstall),
    Route("GET", "/piper-misc/naming/packages/{name}", free_name),
    Route("GET", "/packages/{dpk_id}", get_dpk),
]
