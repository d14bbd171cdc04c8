"""Routes of packages; a list of them comes with the other queries about what runs (``/query/faas``)."""

from ...api import Call, Raw, Route, one, remove
from ...store import Document
from ...validation import require
from ..apps import models as apps
from . import models


def create(call: Call) -> Raw:
    return one(call, "packages", models.create(call.store, require(call.body), call.user)["id"])


def get(call: Call) -> Raw:
    """Fetch a package, or the dpk of that id: a model names its code by one or the other."""
    package_id = call.params["package_id"]
    if call.store.count("packages", id=package_id):
        return one(call, "packages", package_id)
    return one(call, "dpks", apps.by_id(call.store, package_id, "package")["id"])


def update(call: Call) -> Raw:
    package = call.store.get("packages", call.params["package_id"])
    models.update(call.store, package, require(call.body))
    return one(call, "packages", package["id"])


def revisions(call: Call) -> list[Document]:
    call.store.row("packages", call.params["package_id"])
    return models.revisions(call.store, call.params["package_id"])


def free_name(call: Call) -> Document:
    models.check_name(call.params["name"])
    return {"name": call.params["name"]}


ROUTES = [
    Route("GET", "/piper-misc/naming/packages/{name}", free_name),
    Route("POST", "/packages", create),
    Route("GET", "/packages/{package_id}", get),
    Route("GET", "/packages/{package_id}/revisions", revisions),
    Route("PATCH", "/packages/{package_id}", update),
    Route("DELETE", "/packages/{package_id}", remove(models.delete, "package_id")),
]
