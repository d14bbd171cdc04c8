from ...conditions import kinds_with
from ...errors import bad_request
from ...store import Document, Store, created
from ..datasets import models as datasets
from ..organizations.models import ORGANIZATION, member

# Characters that have a meaning in a path, a web address or a template.
ILLEGAL = set('<>/\\"?{}`~=;')
# What an update may not change; members have routes of their own.
FIXED = ("id", "creator", "createdAt", "org", "account", "role", "systemProject", "contributors")


def check_name(store: Store, name: str, action: str = "create") -> None:
    """Refuse names that are taken, or could not be part of a path or a web address."""
    bad = sorted(character for character in set(name) if character in ILLEGAL or not character.isprintable())
    if bad:
        raise bad_request(f"Failed to {action} project: the name {name!r} holds illegal characters {bad}")
    if store.find_one("projects", name=name):
        raise bad_request(
            f"Failed to {action} project: a project named {name!r} exists; get it, or choose another name"
        )


def create(store: Store, name: str, user: str) -> Document:
    """Make a project, with the system dataset for its artifacts and codebases."""
    check_name(store, name)
    project = {
        "id": store.new_id(),
        "name": name,
        **created(user),
        "org": ORGANIZATION,
        "account": {"id": ORGANIZATION["id"]},
        "role": "owner",
        "contributors": [member(user, "owner")],
        "isBlocked": False,
        "archived": False,
        "featureConstraints": [],
        "systemProject": False,
    }
    store.put("projects", project)
    kind = {"readableType": "system"}
    datasets.create(store, datasets.BINARIES, project["id"], user, with_recipe=False, **kind)
    return project


def delete(store: Store, project_id: str) -> None:
    store.row("projects", project_id)
    for row in list(store.find("datasets", projects=project_id)):
        datasets.delete(store, row.id)
    for row in list(store.find("models", projectId=project_id)):
        store.delete("metrics", modelId=row.id)
    for row in list(store.find("feature_sets", project=project_id)):
        store.delete("feature_vectors", featureSetId=row.id)
    for field in ("projectId", "project"):
        for kind in kinds_with(field):
            store.delete(kind, **{field: project_id})
    store.delete("settings", scopeId=project_id)
    store.delete("projects", id=project_id)
    store.emit("Project", "Deleted", project_id)
