"""Routes of projects."""

import json
from typing import Any

from ...api import Call, Route
from ...errors import not_found
from ...store import merge, now, require
from . import models


def create(call: Call) -> dict[str, Any]:
    """Make a project; the SDK sends its name as a form."""
    return models.create(call.store, require(call.body, "name")["name"], call.user)


def list_all(call: Call) -> list[dict[str, Any]]:
    """List all projects."""
    return [json.loads(row.doc) for row in call.store.select("projects", tail="ORDER BY id")]


def get(call: Call) -> dict[str, Any]:
    """Fetch a project by id."""
    return call.store.get("projects", call.params["project_id"])


def get_by_name(call: Call) -> list[dict[str, Any]]:
    """Fetch the project of that name, as a list of one: the SDK takes an empty list for a fault of its own."""
    name = call.params["name"]
    rows = list(call.store.select("projects", "name = ?", (name,)))
    if not rows:
        raise not_found("project", name)
    return [json.loads(row.doc) for row in rows]


def update(call: Call) -> dict[str, Any]:
    """Rename a project, or change its settings."""
    project = call.store.get("projects", call.params["project_id"])
    body = require(call.body)
    if body.get("name", project["name"]) != project["name"]:
        models.check_name(call.store, require(body, "name")["name"])
    kept = {key: project[key] for key in ("id", "creator", "createdAt", "org", "systemProject")}
    project = merge(project, body) | kept | {"updatedAt": now()}
    call.store.put("projects", project)
    return project


def delete(call: Call) -> dict[str, Any]:
    """Delete a project and everything in it."""
    models.delete(call.store, call.params["project_id"])
    return {"id": call.params["project_id"]}


def members(call: Call) -> list[dict[str, Any]]:
    """List the one member."""
    call.store.row("projects", call.params["project_id"])
    return [{"id": call.user, "email": call.user, "role": "owner", "type": "user"}]


ROUTES = [
    Route("POST", "/projects", create),
    Route("GET", "/projects", list_all),
    Route("GET", "/projects/{project_id}", get),
    Route("GET", "/projects/{name}/name", get_by_name),
    Route("PATCH", "/projects/{project_id}", update),
    Route("DELETE", "/projects/{project_id}", delete),
    Route("GET", "/projects/{project_id}/members", members),
]
