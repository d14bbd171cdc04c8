from typing import Any

from ...conditions import kinds_with
from ...errors import ApiError, bad_request
from ...store import Document, Store, now
from ..datasets import models as datasets

ORGANIZATION = {"id": "00000000-0000-0000-0000-000000000000", "name": "local"}
# Characters that have a meaning in a path, a web address or a template.
ILLEGAL = set('<>/\\"|?*%$#^{}`~=;')
# What an update may not change; members have routes of their own.
FIXED = ("id", "creator", "createdAt", "org", "account", "role", "systemProject", "contributors")
ROLES = ("owner", "engineer", "annotator", "annotationManager")


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
    time = now()
    project = {
        "id": store.new_id(),
        "name": name,
        "creator": user,
        "org": ORGANIZATION,
        "account": {"id": ORGANIZATION["id"]},
        "role": "owner",
        "contributors": [member(user, "owner")],
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


def member(email: str, role: str) -> Document:
    """Build a member; the e-mail address is the id."""
    time = now()
    return {
        "id": email,
        "email": email,
        "username": email,
        "firstName": email.split("@")[0],
        "lastName": "",
        "avatar": None,
        "role": role,
        "type": "user",
        "org": ORGANIZATION["id"],
        "createdAt": time,
        "updatedAt": time,
    }


def check_role(role: Any) -> str:
    if role not in ROLES:
        raise bad_request(f"a member's role must be one of {', '.join(ROLES)}, got {role!r}")
    return role


def find_member(project: Document, email: str) -> Document:
    for found in project["contributors"]:
        if found["email"] == email.lower():
            return found
    known = ", ".join(found["email"] for found in project["contributors"])
    raise ApiError(404, f"{email!r} is not a member of project {project['name']!r}; its members are {known}")


def check_owner_left(project: Document) -> None:
    """Refuse a change that would leave a project without an owner."""
    if not any(found["role"] == "owner" for found in project["contributors"]):
        raise bad_request(f"project {project['name']!r} needs an owner: make another member an owner first")


def delete(store: Store, project_id: str) -> None:
    store.row("projects", project_id)
    for row in list(store.find("datasets", projects=project_id)):
        datasets.delete(store, row.id)
    for row in list(store.find("models", projectId=project_id)):
        store.delete("metrics", modelId=row.id)
    for row in list(store.find("feature_sets", project=project_id)):
        store.delete("feature_vectors", featureSetId=row.id)
    for kind in kinds_with("projectId"):
        store.delete(kind, projectId=project_id)
    store.delete("feature_sets", project=project_id)
    store.delete("settings", scopeId=project_id)
    store.delete("projects", id=project_id)
    store.emit("Project", "Deleted", project_id)
