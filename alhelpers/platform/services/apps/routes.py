from functools import partial

from ...api import Call, Raw, Route, one, paged, render
from ...errors import not_found
from ...query import search
from ...resources import Resource, by_user, everywhere
from ...store import Document
from ...validation import require
from . import models


def query_dpks(call: Call) -> Raw:
    body = require(call.body)
    body = body | {"filter": {"$and": [body.get("filter") or {}, {"latest": True}]}}
    return paged(call, "dpks", search(call.store, "dpks", body))


def query_revisions(call: Call) -> Raw:
    return paged(call, "dpks", search(call.store, "dpks", require(call.body), name=call.params["dpk_id"]))


def shown(call: Call, dpk_id: str) -> Raw:
    return one(call, "dpks", models.by_id(call.store, dpk_id)["id"])


def get_revision(call: Call) -> Raw:
    name = models.by_id(call.store, call.params["dpk_id"])["name"]
    version = call.params["version"]
    for row in call.store.find("dpks", name=name, version=version):
        return one(call, "dpks", row.id)
    raise not_found(f"version of dpk {name!r}", version)


def update_dpk(call: Call) -> Raw:
    dpk = models.update(call.store, models.by_id(call.store, call.params["dpk_id"]), require(call.body))
    text = render(call, "dpks", call.store.row("dpks", dpk["id"]))
    return Raw(f'{{"message":"dpk {dpk["id"]} is updated","dpk":{text}}}')


def activate(call: Call, app: Document, *, active: bool) -> None:
    models.activate(call.store, app, active=active)


APPS = Resource(
    *("apps", "/apps", by_user(models.install), by_user(models.update_app), models.uninstall, everywhere),
    methods=("PUT",),
)
ROUTES = [
    *Resource("dpks", "/app-registry", by_user(models.publish), answer=shown).routes,
    Route("POST", "/app-registry/query", query_dpks),
    Route("POST", "/app-registry/{dpk_id}/revisions", query_revisions),
    Route("GET", "/app-registry/{dpk_id}/revisions/{version}", get_revision),
    Route("PATCH", "/app-registry/{dpk_id}", update_dpk),
    Route(
        "DELETE", "/app-registry/{id}", lambda call: {"name": models.delete(call.store, call.params["id"])}
    ),
    *APPS.routes,
    APPS.at("POST", "activate", partial(activate, active=True)),
    APPS.at("POST", "deactivate", partial(activate, active=False)),
]
