"""Services: modules of packages with their settings, which executions run on."""

from typing import Any

from ...errors import ApiError, bad_request
from ...store import Document, Store, now, signed
from ...validation import check_whole_number, require
from ..apps import models as apps
from ..organizations.models import ORGANIZATION

CONCURRENCY = 10
RUNTIME = {"podType": "regular-s", "numReplicas": 1, "concurrency": CONCURRENCY, "autoscaler": None}
ON_RESET = ("rerun", "failed")
FIXED = {"id", "url", "projectId", "creator", "createdAt", "updatedAt", "updatedBy", "version", "orgId"}
# The settings of a service in a manifest's compute configuration, or in a caller's service configuration.
SETTINGS = (
    *("runtime", "executionTimeout", "drainTime", "onReset", "runExecutionAsProcess", "maxAttempts"),
    *("initParams", "versions", "driverId", "secrets", "integrations", "config", "settings", "mode"),
    *("moduleName", "useUserJwt", "active", "type", "panels", "queueLengthLimit", "archive", "botUserName"),
)


def ensure(
    store: Store,
    project_id: str,
    name: str,
    package: Document,
    user: str,
    *,
    module: str | None = None,
    app: Document | None = None,
    component: str | None = None,
    metadata: Document | None = None,
    **settings: Any,
) -> Document:
    """Make a service, or update the one of that name. Settings default to the manifest's compute configuration."""
    found = module_of(package, module)
    body = compute_config(package, found) | {
        key: value for key, value in settings.items() if value is not None
    }
    body |= {
        "name": name,
        "projectId": project_id,
        "packageId": package["id"],
        "packageName": package.get("name"),
        "packageRevision": package.get("version"),
        "moduleName": found["name"],
        "metadata": metadata or {},
    }
    if app is not None:
        body["app"] = apps.link_of(app, component)
    existing = store.find_one("services", projectId=project_id, name=name)
    if existing is None:
        return create(store, body, user)
    if any(existing.get(key) != value for key, value in body.items()):
        update(store, existing, body, user)
    return existing


def create(store: Store, body: Document, user: str) -> Document:
    require(body, "name", "projectId", "packageId")
    store.row("projects", body["projectId"])
    store.check_new_name("services", projectId=body["projectId"], name=body["name"])
    given = {
        key: body[key]
        for key in (*SETTINGS, "metadata", "app", "packageRevision")
        if body.get(key) is not None
    }
    service: Document = {
        "id": store.new_id(),
        **{key: body[key] for key in ("name", "projectId", "packageId")},
        "orgId": ORGANIZATION["id"],
        "packageName": body.get("packageName"),
        **dict.fromkeys(("packageRevision", "moduleName", "driverId")),
        **dict.fromkeys(("useUserJwt", "global", "runExecutionAsProcess"), False),
        "initParams": {},
        "botUserName": user,
        "executionTimeout": 3600,
        "drainTime": 600,
        "onReset": "failed",
        "maxAttempts": 1,
        "active": True,
        "version": "1.0.0",
        "versions": {},
        "metadata": {},
        "scope": "project",
        **given,
        "runtime": _runtime(given.get("runtime")),
        **signed(user),
    }
    _write(store, service)
    store.emit("Service", "Created", service["id"])
    return service


def update(store: Store, service: Document, body: Document, user: str) -> None:
    """Change a service in place, and write it as its next revision."""
    name = body.get("name") or service["name"]
    if name != service["name"]:
        store.check_new_name("services", projectId=service["projectId"], name=name)
    service |= {key: value for key, value in body.items() if key not in FIXED and value is not None}
    service["runtime"] = _runtime(service.get("runtime"))
    head, _, last = service["version"].rpartition(".")
    service |= {"version": f"{head}.{int(last) + 1}", "updatedAt": now(), "updatedBy": user}
    _write(store, service)
    store.emit("Service", "Updated", service["id"])


def activate(store: Store, service: Document, user: str, *, active: bool) -> None:
    """Pause or resume a service, without a new revision."""
    if service["active"] != active:
        service |= {"active": active, "updatedAt": now(), "updatedBy": user}
        store.put("services", service)
        store.emit("Service", "Resumed" if active else "Paused", service["id"])


def _runtime(given: Any) -> Document:
    if given is not None and not isinstance(given, dict):
        raise bad_request(f"'runtime' must be an object such as {RUNTIME}, got {given!r}")
    return RUNTIME | (given or {})


def _write(store: Store, service: Document) -> None:
    """Check a service, and write it with its next revision."""
    check_whole_number("runtime.concurrency", service["runtime"].get("concurrency"), 1)
    check_whole_number("maxAttempts", service.get("maxAttempts"), 1)
    timeout = service.get("executionTimeout")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        raise bad_request(f"'executionTimeout' must be a number of seconds above 0, got {timeout!r}")
    if service.get("onReset") not in ON_RESET:
        raise bad_request(f"'onReset' must be one of {', '.join(ON_RESET)}, got {service.get('onReset')!r}")
    if not isinstance(service["metadata"].get("ml"), dict | None):
        raise bad_request(f"'metadata.ml' of a service must be an object, got {service['metadata']['ml']!r}")
    if not isinstance(service.get("initParams"), dict):
        raise bad_request(f"'initParams' must be an object, got {service.get('initParams')!r}")
    store.put("services", service)
    store.put("service_revisions", service | {"id": store.new_id(), "serviceId": service["id"]})


def delete(store: Store, service_id: str) -> None:
    """Delete a service; its executions stay, and those under way are stopped."""
    store.emit("Service", "Deleted", service_id, service=store.get("services", service_id))
    store.delete("service_revisions", serviceId=service_id)
    store.delete("services", id=service_id)


def of_model(store: Store, project_id: str, model_id: str, operation: str | None = None) -> list[Document]:
    """List the services of a model: all, or those for one operation."""
    found = []
    for service in store.find_all("services", projectId=project_id):
        ml = service["metadata"].get("ml") or {}
        if ml.get("modelId") == model_id and operation in (None, ml.get("modelOperation")):
            found.append(service)
    return found


def package_of(store: Store, service: Document) -> Document:
    return package_by_id(store, service["packageId"], service.get("packageRevision"))


def package_by_id(store: Store, package_id: str, version: str | None = None) -> Document:
    """Fetch a package or dpk by its id, or by the id that the revisions of a dpk share."""
    package = store.find_one("packages", id=package_id)
    if package is not None:
        older = store.find_one("package_revisions", packageId=package_id, version=version or "")
        return package if older is None else older | {"id": package_id}
    if dpk := store.find_one("dpks", id=package_id):
        return dpk
    raise ApiError(404, f"package not found: {package_id!r}. It may have been deleted; publish it again.")


def modules(package: Document) -> list[Document]:
    found = package["components"].get("modules") if "components" in package else package.get("modules")
    return [each for each in found or [] if isinstance(each, dict)]


def module_of(package: Document, name: str | None = None) -> Document:
    """Find a module of a package by name; without a name the first one."""
    for module in modules(package):
        if name is None or module.get("name") == name:
            return module
    names = [module.get("name") for module in modules(package)]
    raise bad_request(f"package {package.get('name')!r} has no module {name!r}; it has {names}")


def function_of(module: Document, name: str) -> Document | None:
    return next((each for each in module.get("functions") or [] if each.get("name") == name), None)


def compute_config(package: Document, module: Document) -> Document:
    return config_of(package, module.get("computeConfig") or "default")


def config_of(package: Document, name: str | None) -> Document:
    """Return the settings of a manifest's compute configuration; an empty dict if there is none of that name."""
    components = package.get("components") or {}
    for config in components.get("computeConfigs") or []:
        if name is not None and isinstance(config, dict) and config.get("name") == name:
            return {key: config[key] for key in SETTINGS if config.get(key) is not None}
    return {}
