from ...api import Call, Route
from ...errors import not_found
from ...resources import Resource
from ...store import Document, now
from ...validation import merge, require
from ..organizations import models as organizations
from ..organizations.routes import member_routes
from . import models


def create(call: Call, body: Document) -> Document:
    return models.create(call.store, require(body, "name")["name"], call.user)


def list_all(call: Call) -> list[Document]:
    return call.store.find_all("projects")


def get_by_name(call: Call) -> list[Document]:
    """Return the project of that name in a list: the SDK takes an empty list for an error of its own."""
    name = call.params["name"]
    found = call.store.find_all("projects", name=name)
    if not found:
        raise not_found("project", name)
    return found


def update(call: Call, project: Document, body: Document) -> None:
    if body.get("name", project["name"]) != project["name"]:
        models.check_name(call.store, require(body, "name")["name"], "update")
    kept = {key: project[key] for key in models.FIXED}
    call.store.put("projects", merge(project, body) | kept | {"updatedAt": now()})


def list_of_organization(call: Call) -> list[Document]:
    organizations.organization(call, call.params["org_id"])
    return list_all(call)


def _project(call: Call) -> Document:
    return call.store.get("projects", call.params["project_id"])


def add_member(call: Call) -> Document:
    project, role = _project(call), require(call.body).get("role")
    member = organizations.add("project", project, call.params["email"], role)
    call.store.put("projects", project)
    return member


MEMBERS = "/projects/{project_id}/members"
PROJECTS = Resource(
    *("projects", "/projects", create, update, models.delete),
    answer=lambda call, project_id: call.store.get("projects", project_id),
)
ROUTES = [
    *PROJECTS.routes,
    Route("GET", "/projects", list_all),
    Route("GET", "/orgs/{org_id}/projects", list_of_organization),
    Route("GET", "/projects/{name}/name", get_by_name),
    Route("POST", f"{MEMBERS}/{{email}}", add_member),
    *member_routes("project", MEMBERS, f"{MEMBERS}/{{email}}", _project),
]
