"""What a pipeline is: a stored document with nodes, connections and variables."""

from typing import Any

from ...errors import bad_request
from ...store import Store, merge, now, require
from ..projects.models import ORGANIZATION

FIXED = {"id", "url", "projectId", "creator", "createdAt", "updatedAt", "updatedBy", "status"}


def create(store: Store, body: dict[str, Any], user: str) -> dict[str, Any]:
    """Store a new pipeline; its name must be new in the project."""
    require(body, "name", "projectId")
    store.row("projects", body["projectId"])
    check_name(store, body["projectId"], body["name"])
    time = now()
    pipeline = {
        "orgId": ORGANIZATION["id"],
        "compositionId": None,
        "startNodes": [],
        "connections": [],
        "settings": {},
        **{key: value for key, value in body.items() if key not in FIXED},
        "id": store.new_id(),
        "projectId": body["projectId"],
        "status": "Created",
        "revisions": [],
        "creator": user,
        "createdAt": time,
        "updatedAt": time,
        "updatedBy": user,
    }
    pipeline["nodes"] = check_nodes(body.get("nodes") or [])
    pipeline["variables"] = check_variables(store, body.get("variables") or [], pipeline["id"])
    store.put("pipelines", pipeline)
    return pipeline


def check_name(store: Store, project_id: str, name: str) -> None:
    """Refuse a name that another pipeline of the project has."""
    if store.find("pipelines", "scope = ? AND name = ?", project_id, name):
        raise bad_request(f"a pipeline named {name!r} exists in project {project_id}: choose another name")


def check_nodes(nodes: Any) -> list[Any]:
    """Check that each node has an id of its own and a type, which the SDK reads unasked."""
    if not isinstance(nodes, list):
        raise bad_request(f"'nodes' must be a list, got {nodes!r}")
    for node in nodes:
        require(node, "id", "type")
    ids = [node["id"] for node in nodes]
    if len(set(ids)) != len(ids):
        raise bad_request(f"the nodes of a pipeline need different ids, got {ids}")
    return nodes


def check_variables(store: Store, variables: Any, pipeline_id: str) -> list[Any]:
    """Check variables, and give each an id and a reference to its pipeline."""
    if not isinstance(variables, list):
        raise bad_request(f"'variables' must be a list, got {variables!r}")
    checked = []
    for variable in variables:
        require(variable, "name", "type")
        checked.append(
            variable
            | {
                "id": variable.get("id") or store.new_id(),
                "reference": variable.get("reference") or pipeline_id,
            }
        )
    names = [variable["name"] for variable in checked]
    if len(set(names)) != len(names):
        raise bad_request(f"the variables of a pipeline need different names, got {names}")
    return checked


def update(store: Store, pipeline: dict[str, Any], body: dict[str, Any], user: str) -> None:
    """Change a stored pipeline."""
    if body.get("name", pipeline["name"]) != pipeline["name"]:
        check_name(store, pipeline["projectId"], require(body, "name")["name"])
    changes = {key: value for key, value in body.items() if key not in FIXED and value is not None}
    if "nodes" in changes:
        check_nodes(changes["nodes"])
    if "variables" in changes:
        changes["variables"] = check_variables(store, changes["variables"], pipeline["id"])
    store.put("pipelines", merge(pipeline, changes) | {"updatedAt": now(), "updatedBy": user})
