"""Routes of packages; a list of them comes with the other queries about what runs (``/query/faas``)."""

from typing import Any

from ...api import Call, one
from ...resources import Resource, by_user
from ...store import Document
from ..apps import models as apps
from . import models


def answer(call: Call, package_id: str) -> Any:
    """Return a package, or the dpk of that id: a model names its code by one or the other."""
    if call.store.count("packages", id=package_id):
        return one(call, "packages", package_id)
    return one(call, "dpks", apps.by_id(call.store, package_id, "package")["id"])


def revisions(call: Call, package: Document) -> list[Document]:
    return models.revisions(call.store, package["id"])


PACKAGES = Resource(
    *("packages", "/packages", by_user(models.create), by_user(models.update), models.delete), answer=answer
)
ROUTES = [
    *PACKAGES.routes,
    PACKAGES.at("GET", "revisions", revisions),
]
