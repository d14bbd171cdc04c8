from ...api import Call, Route, remove
from ...errors import bad_request, not_found
from ...store import Document, now
from ...validation import merge, require
from . import models


def create(call: Call) -> Document:
    return models.create(call.store, require(call.body, "name")["name"], call.user)


def list_all(call: Call) -> list[Document]:
    return call.store.find_all("projects")


def get(call: Call) -> Document:
    return call.store.get("projects", call.params["project_id"])


def get_by_name(call: Call) -> list[Document]:
    """Return the project of that name in a list: the SDK takes an empty list for an error of its own."""
    name = call.params["name"]
    found = call.store.find_all("projects", name=name)
    if not found:
        raise not_found("project", name)
    return found


def update(call: Call) -> Document:
    project = call.store.get("projects", call.params["project_id"])
    body = require(call.body)
    if body.get("name", project["name"]) != project["name"]:
        models.check_name(call.store, require(body, "name")["name"], "update")
    kept = {key: project[key] for key in models.FIXED}
    project = merge(project, body) | kept | {"updatedAt": now()}
    call.store.put("projects", project)
    return project


def list_of_organization(call: Call) -> list[Document]:
    if call.params["org_id"] != models.ORGANIZATION["id"]:
        raise not_found("organization", call.params["org_id"])
    return list_all(call)


def list_members(call: Call) -> list[Document]:
    return call.store.get("projects", call.params["project_id"])["contributors"]


def add_member(call: Call) -> Document:
    project = call.store.get("projects", call.params["project_id"])
    email = call.params["email"].lower()
    role = models.check_role(require(call.body).get("role"))
    if "@" not in email:
        raise bad_request(f"a member is named by an e-mail address, got {email!r}")
    if any(found["email"] == email for found in project["contributors"]):
        raise bad_request(f"{email!r} is a member of project {project['name']!r} already; update the role")
    member = models.member(email, role)
    project["contributors"].append(member)
    call.store.put("projects", project)
    return member


def update_member(call: Call) -> Document:
    project = call.store.get("projects", call.params["project_id"])
    member = models.find_member(project, call.params["email"])
    member |= {"role": models.check_role(require(call.body).get("role")), "updatedAt": now()}
    models.check_owner_left(project)
    call.store.put("projects", project)
    return member


def remove_member(call: Call) -> Document:
    project = call.store.get("projects", call.params["project_id"])
    member = models.find_member(project, call.params["email"])
    project["contributors"].remove(member)
    models.check_owner_left(project)
    call.store.put("projects", project)
    return member


def list_drivers(call: Call) -> list[Document]:
    """Return no storage drivers: all files are in the state folder."""
    call.store.row("projects", call.query.get("projectId", ""))
    return []


def get_driver(call: Call) -> None:
    raise not_found("driver", call.params["driver_id"])


ROUTES = [
    Route("POST", "/projects", create),
    Route("GET", "/projects", list_all),
    Route("GET", "/orgs/{org_id}/projects", list_of_organization),
    Route("GET", "/projects/{project_id}", get),
    Route("GET", "/projects/{name}/name", get_by_name),
    Route("PATCH", "/projects/{project_id}", update),
    Route("DELETE", "/projects/{project_id}", remove(models.delete, "project_id")),
    Route("GET", "/projects/{project_id}/members", list_members),
    Route("POST", "/projects/{project_id}/members/{email}", add_member),
    Route("PATCH", "/projects/{project_id}/members/{email}", update_member),
    Route("DELETE", "/projects/{project_id}/members/{email}", remove_member),
    Route("GET", "/drivers", list_drivers),
    Route("GET", "/drivers/{driver_id}", get_driver),
]
