"""Routes of packages; a list of them comes with the other queries about what runs (``/query/faas``)."""

from typing import Any

from ...api import Call, Route, one
from ...resources import Resource
from ...store import Document
from ..apps import models as apps
from . import models


def create(call: Call, body: Document) -> Document:
    return models.create(call.store, body, call.user)


def answer(call: Call, package_id: str) -> Any:
    """Return a package, or the dpk of that id: a model names its code by one or the other."""
    if call.store.count("packages", id=package_id):
        return one(call, "packages", package_id)
    return one(call, "dpks", apps.by_id(call.store, package_id, "package")["id"])


def update(call: Call, package: Document, body: Document) -> None:
    models.update(call.store, package, body)


def revisions(call: Call) -> list[Document]:
    call.store.row("packages", call.params["package_id"])
    return models.revisions(call.store, call.params["package_id"])


def free_name(call: Call) -> Document:
    models.check_name(call.params["name"])
    return {"name": call.params["name"]}


ROUTES = [
    Route("GET", "/piper-misc/naming/packages/{name}", free_name),
    *Resource("packages", "/packages", create, update, models.delete, answer=answer).routes,
    Route("GET", "/packages/{package_id}/revisions", revisions),
]
