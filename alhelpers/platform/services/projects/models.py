"""What a project is."""

from typing import Any

from ...errors import bad_request
from ...store import Store, now
from ..datasets import models as datasets

ORGANIZATION = {"id": "00000000-0000-0000-0000-000000000000", "name": "local"}
ILLEGAL = set('<>/\\"|')


def check_name(store: Store, name: str) -> None:
    """Refuse names that are taken, or could not be part of a path or a web address."""
    bad = sorted(character for character in set(name) if character in ILLEGAL or not character.isprintable())
    if bad:
        raise bad_request(f"Failed to create project: the name {name!r} holds illegal characters {bad}")
    if store.find("projects", "name = ?", name):
        raise bad_request(
            f"Failed to create project: a project named {name!r} exists; get it, or choose another name"
        )


def create(store: Store, name: str, user: str) -> dict[str, Any]:
    """Make a project, with the system dataset that keeps its artifacts and codebases."""
    check_name(store, name)
    time = now()
    project = {
        "id": store.new_id(),
        "name": name,
        "creator": user,
        "org": ORGANIZATION,
        "account": {"id": ORGANIZATION["id"]},
        "role": "owner",
        "contributors": [],
        "isBlocked": False,
        "archived": False,
        "featureConstraints": [],
        "systemProject": False,
        "createdAt": time,
        "updatedAt": time,
    }
    store.put("projects", project)
    datasets.create(store, datasets.BINARIES, project["id"], user, system=True)
    return project


def delete(store: Store, project_id: str) -> None:
    """Delete a project with everything in it."""
    store.row("projects", project_id)
    for row in list(store.select("datasets", "scope = ?", (project_id,))):
        datasets.delete(store, row.id)
    models = [row.id for row in store.select("models", "scope = ?", (project_id,))]
    for model_id in models:
        store.delete("metrics", "parent = ?", model_id)
    for kind in ("models", "apps", "pipelines"):
        store.delete(kind, "scope = ?", project_id)
    store.delete("projects", "id = ?", project_id)
