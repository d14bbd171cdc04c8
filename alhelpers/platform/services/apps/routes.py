"""Routes of dpks and apps."""

from typing import Any

from ...api import Call, Raw, Route, one, paged, render
from ...errors import not_found
from ...query import search
from ...validation import require
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
    return paged(call, "dpks", search(call.store, "dpks", require(call.body), name=call.params["dpk_id"]))


def get_dpk(call: Call) -> Raw:
    """Fetch a dpk."""
    return one(call, "dpks", models.by_id(call.store, call.params["dpk_id"])["id"])


def get_revision(call: Call) -> Raw:
    """Fetch one revision of a dpk."""
    name = models.by_id(call.store, call.params["dpk_id"])["name"]
    version = call.params["version"]
    for row in call.store.find("dpks", name=name, version=version):
        return one(call, "dpks", row.id)
    raise not_found(f"version of dpk {name!r}", version)


def update_dpk(call: Call) -> Raw:
    """Change what a dpk says about itself."""
    dpk = models.update(call.store, models.by_id(call.store, call.params["dpk_id"]), require(call.body))
    text = render(call, "dpks", call.store.row("dpks", dpk["id"]))
    return Raw(f'{{"message":"dpk {dpk["id"]} is updated","dpk":{text}}}')


def delete_dpk(call: Call) -> dict[str, Any]:
    """Delete a dpk with its revisions."""
    return {"name": models.delete(call.store, call.params["dpk_id"])}


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
    models.update_app(call.store, app, require(call.body), call.user)
    return one(call, "apps", app["id"])


def resume(call: Call) -> Raw:
    """Let a paused app work again."""
    models.activate(call.store, call.store.get("apps", call.params["app_id"]), active=True)
    return one(call, "apps", call.params["app_id"])


def pause(call: Call) -> Raw:
    """Let an app rest."""
    models.activate(call.store, call.store.get("apps", call.params["app_id"]), active=False)
    return one(call, "apps", call.params["app_id"])


def uninstall(call: Call) -> dict[str, Any]:
    """Uninstall an app; the models that it made stay."""
    models.uninstall(call.store, call.params["app_id"])
    return {"id": call.params["app_id"]}


ROUTES = [
    Route("POST", "/app-registry", publish),
    Route("POST", "/app-registry/query", query_dpks),
    Route("POST", "/app-registry/{dpk_id}/revisions", query_revisions),
    Route("GET", "/app-registry/{dpk_id}", get_dpk),
    Route("GET", "/app-registry/{dpk_id}/revisions/{version}", get_revision),
    Route("PATCH", "/app-registry/{dpk_id}", update_dpk),
    Route("DELETE", "/app-registry/{dpk_id}", delete_dpk),
    Route("POST", "/apps", install),
    Route("POST", "/apps/query", query_apps),
    Route("GET", "/apps/{app_id}", get_app),
    Route("PUT", "/apps/{app_id}", update_app),
    Route("POST", "/apps/{app_id}/activate", resume),
    Route("POST", "/apps/{app_id}/deactivate", pause),
    Route("DELETE", "/apps/{app_id}", uninstall),
]
