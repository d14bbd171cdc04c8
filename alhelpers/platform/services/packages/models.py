"""Packages: modules with their code, in revisions; the predecessors of dpks."""

import re
from typing import Any

from ...errors import ApiError, bad_request
from ...store import Document, Store, created, now
from ...validation import require

NAME = re.compile(r"[a-z]([a-z0-9-]{0,33}[a-z0-9])?")
VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}")
FIRST = "1.0.0"
FIELDS = (
    *("name", "modules", "slots", "codebase", "requirements", "serviceConfig", "metadata"),
    *("type", "global", "uiHooks"),
)
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
    version = body.get("version") or FIRST
    package = {
        "id": store.new_id(),
        "name": body["name"],
        "projectId": body["projectId"],
        "version": version,
        "modules": body.get("modules") or [DEFAULT_MODULE],
        "slots": body.get("slots"),
        "codebase": body.get("codebase"),
        "requirements": body.get("requirements"),
        "serviceConfig": body.get("serviceConfig"),
        "metadata": body.get("metadata") or {},
        "type": body.get("type") or "faas",
        "global": bool(body.get("global")),
        "uiHooks": body.get("uiHooks"),
        **created(user),
    }
    _write(store, package)
    store.emit("Package", "Created", package["id"])
    return package


def update(store: Store, package: Document, body: Document) -> Document:
    """Write the next revision of a package; by default with the next patch number."""
    version = body.get("version") or package["version"]
    if body.get("name", package["name"]) != package["name"]:
        check_name(body["name"])
    if version == package["version"]:
        major, minor, patch = str(version).split(".")
        version = f"{major}.{minor}.{int(patch) + 1}"
    package = package | {key: body[key] for key in FIELDS if key in body}
    package |= {"version": version, "updatedAt": now()}
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
    other = store.find_one("packages", projectId=package["projectId"], name=package["name"])
    if other is not None and other["id"] != package["id"]:
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
    """Refuse functions with two inputs, or two outputs, of one name."""
    functions = [each for module in modules for each in module.get("functions") or []]
    for function in functions:
        for side in ("input", "output"):
            names = [port.get("name") for port in require(function).get(side) or [] if isinstance(port, dict)]
            if len(set(map(str, names))) < len(names):
                raise ApiError(
                    409, f"the {side}s of {function.get('name')!r} need different names, got {names}"
                )


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
