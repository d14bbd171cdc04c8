"""Packages: modules with their code, in revisions; the predecessors of dpks."""

import re
from typing import Any

from ...errors import bad_request
from ...store import Document, Store, created, now
from ...validation import check_different, require

NAME = re.compile(r"[a-z]([a-z0-9-]{0,33}[a-z0-9])?")
VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}")
FIRST = "1.0.0"
PLAIN = ("slots", "codebase", "requirements", "serviceConfig", "uiHooks")
FIELDS = (*PLAIN, "name", "modules", "metadata", "type", "global")
# The module of a package that is pushed without modules.
DEFAULT_MODULE = {
    "name": "default_module",
    "className": "ServiceRunner",
    "entryPoint": "main.py",
    "initInputs": [],
    "functions": [{"name": "run", "description": "", "input": [], "output": []}],
}


def check_name(name: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise bad_request(
            "a package's name has small letters, digits and '-', at most 35 of them; it begins with a letter and"
            f" does not end with '-', got {name!r}"
        )


def create(store: Store, body: Document, user: str) -> Document:
    require(body, "name", "projectId")
    check_name(body["name"])
    store.row("projects", body["projectId"])
    package = new(store, body, user)
    _write(store, package)
    store.emit("Package", "Created", package["id"])
    return package


def new(store: Store, body: Document, user: str) -> Document:
    """Build a package; the caller writes it."""
    return {
        "id": store.new_id(),
        "name": body["name"],
        "projectId": body["projectId"],
        "version": body.get("version") or FIRST,
        "modules": body.get("modules") or [DEFAULT_MODULE],
        **{key: body.get(key) for key in PLAIN},
        "metadata": body.get("metadata") or {},
        "type": body.get("type") or "faas",
        "global": bool(body.get("global")),
        **created(user),
    }


def update(store: Store, package: Document, body: Document, user: str) -> Document:
    """Write the next revision of a package; by default with the next patch number."""
    version = body.get("version") or package["version"]
    if body.get("name", package["name"]) != package["name"]:
        check_name(body["name"])
    if version == package["version"]:
        major, minor, patch = str(version).split(".")
        version = f"{major}.{minor}.{int(patch) + 1}"
    package = package | {key: body[key] for key in FIELDS if key in body}
    package |= {"version": version, "updatedAt": now(), "updatedBy": user}
    _write(store, package)
    store.emit("Package", "Updated", package["id"])
    return package


def _write(store: Store, package: Document) -> None:
    version, modules = package["version"], package["modules"]
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise bad_request(f"a package's version is MAJOR.MINOR.PATCH such as '1.0.0', got {version!r}")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise bad_request(f"'modules' of a package must be a list of objects, got {modules!r}")
    _check_ports(modules)
    if store.first("packages", projectId=package["projectId"], name=package["name"], id__ne=package["id"]):
        raise bad_request(
            f"a package named {package['name']!r} exists in project {package['projectId']}: push a new version of it"
        )
    if store.find_one("package_revisions", packageId=package["id"], version=version):
        raise bad_request(
            f"package {package['name']!r} has a version {version!r} already: choose a later one"
        )
    store.put("packages", package)
    store.put("package_revisions", package | {"id": store.new_id(), "packageId": package["id"]})


def _check_ports(modules: list[Document]) -> None:
    """Refuse functions that are not objects with lists of ports, and two inputs, or outputs, of one name."""
    for module in modules:
        for function in _listed(module, "functions"):
            for side in ("input", "output"):
                names = [
                    port.get("name") for port in _listed(require(function), side) if isinstance(port, dict)
                ]
                check_different(f"the names of the {side}s of {function.get('name')!r}", names, 409)


def _listed(document: Document, field: str) -> list[Any]:
    if not isinstance(document.get(field), list | None):
        raise bad_request(f"{field!r} must be a list, got {document[field]!r}")
    return document.get(field) or []


def revisions(store: Store, package_id: str) -> list[Document]:
    found = store.find_all("package_revisions", packageId=package_id, order="-id")
    return [
        {key: value for key, value in revision.items() if key != "packageId"} | {"id": package_id}
        for revision in found
    ]


def delete(store: Store, package_id: str) -> None:
    package = store.get("packages", package_id)
    for service in store.find_all("services", projectId=package["projectId"]):
        if service["packageId"] == package_id:
            raise bad_request(
                f"package {package['name']!r} is used by service {service['name']!r}: delete that service first"
            )
    store.delete("package_revisions", packageId=package_id)
    store.delete("packages", id=package_id)
    store.emit("Package", "Deleted", package_id)
