"""Dpks and apps: published manifests with revisions, and their installations in projects."""

import re

from ...errors import ApiError, bad_request
from ...store import Document, Store, created, now
from ...validation import require, unknown_id
from ..models import models

# The annotation types of the SDK, and the outputs of models without annotations.
OUTPUT_TYPES = set(
    "box cube cube_3d class comparison ellipse note point segment polyline pose binary subtitle text_mark gis"
    " ref_semantic_3d polyline_3d text ref_image embedding audio video image folder".split()
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}(?:[-+.][A-Za-z0-9.+-]{1,64})?")
COMPONENTS = (
    *("panels", "modules", "services", "triggers", "pipelineNodes", "toolbars", "models"),
    *("computeConfigs", "channels", "pipelineTemplates", "integrations"),
)
DESCRIPTIVE = ("displayName", "description", "icon", "attributes", "tags", "metadata")
APP_FIELDS = ("name", "settings", "customInstallation", "integrations", "scope")
INSTALLED, UNINSTALLED = "Installed", "Uninstalled"


def publish(store: Store, manifest: Document, user: str) -> Document:
    """Publish a manifest: the first revision of a new dpk, or the next one of a known dpk."""
    require(manifest, "name")
    check_manifest(manifest)
    revisions = store.find_all("dpks", name=manifest["name"])
    taken = [revision["version"] for revision in revisions]
    version = manifest.get("version") or (taken[-1] if taken else "1.0.0")
    while version in taken:
        version = _next_version(version)
    time = now()
    dpk_id = store.new_id()
    dpk = {"components": {}, "context": {}, "scope": "project"} | manifest
    dpk |= {
        "id": dpk_id,
        "baseId": revisions[0]["baseId"] if revisions else dpk_id,
        "version": version,
        "displayName": manifest.get("displayName") or manifest["name"],
        "latest": True,
        "creator": user,
        "createdAt": revisions[0]["createdAt"] if revisions else time,
        "updatedAt": time,
    }
    dpk.pop("url", None)
    store.put_all("dpks", [revision | {"latest": False} for revision in revisions])
    store.put("dpks", dpk)
    store.emit("Dpk", "Created", dpk_id)
    return dpk


def check_manifest(manifest: Document) -> None:
    """Refuse a manifest that can never be installed."""
    if not NAME.fullmatch(manifest["name"]):
        raise bad_request(
            f"a dpk's name has letters, digits, '-', '_' and '.', at most 128 of them, got {manifest['name']!r}"
        )
    version = manifest.get("version")
    if version is not None and not (isinstance(version, str) and VERSION.fullmatch(version)):
        raise bad_request(f"a dpk's version is MAJOR.MINOR.PATCH such as '1.0.0', got {version!r}")
    _check_components(manifest)
    for dependency in manifest.get("dependencies") or []:
        require(dependency, "name")


def _check_components(holder: Document) -> None:
    """Check the components of a manifest, or of a custom installation."""
    require(holder)
    for part in COMPONENTS:
        given = (holder.get("components") or {}).get(part)
        if given is not None and not (isinstance(given, list) and all(isinstance(e, dict) for e in given)):
            raise bad_request(f"'components.{part}' must be a list of objects, got {given!r}")


def update(store: Store, dpk: Document, body: Document) -> Document:
    """Change the description of a revision; code and components change only with a new revision."""
    dpk = dpk | {key: body[key] for key in DESCRIPTIVE if key in body} | {"updatedAt": now()}
    store.put("dpks", dpk)
    store.emit("Dpk", "Updated", dpk["id"])
    return dpk


def _next_version(version: str) -> str:
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}" if head and last.isdecimal() else f"{version}.1"


def by_id(store: Store, dpk_id: str, label: str = "dpk") -> Document:
    """Fetch a revision by its id, or the latest one by the id that all revisions share."""
    dpk = store.find_one("dpks", id=dpk_id)
    if dpk is not None and (dpk["latest"] or dpk["baseId"] != dpk_id):
        return dpk
    for dpk in store.find_all("dpks", order="-id"):
        if dpk["baseId"] == dpk_id:
            return dpk
    raise unknown_id(label, dpk_id)


def delete(store: Store, dpk_id: str) -> str:
    """Delete one revision of a dpk, unless a project has it installed; return its name."""
    dpk = store.get("dpks", dpk_id)
    name, version = dpk["name"], dpk["version"]
    for app in store.find_all("apps"):
        if (app["dpkName"], app["dpkVersion"]) == (name, version):
            raise bad_request(
                f"dpk {name!r} {version} is installed in project {app['projectId']} as app {app['name']!r}:"
                " uninstall that first"
            )
    store.delete("dpks", id=dpk_id)
    left = store.find_all("dpks", name=name)
    if left and dpk["latest"]:
        store.put("dpks", left[-1] | {"latest": True})
    store.emit("Dpk", "Deleted", dpk_id)
    return name


def install(store: Store, body: Document, user: str) -> Document:
    """Install a dpk in a project: first its dependencies, then the models in its manifest."""
    require(body, "projectId", "dpkName")
    return _install(store, body, user, ())


def _install(store: Store, body: Document, user: str, parents: tuple[str, ...]) -> Document:
    project_id = body["projectId"]
    store.row("projects", project_id)
    _check_components(body.get("customInstallation") or {})
    dpk = revision(store, body["dpkName"], body.get("dpkVersion"))
    found = installed(store, project_id, dpk["name"])
    if found is not None:
        raise bad_request(f"dpk {dpk['name']!r} is installed in this project already, as app {found['id']}")
    _install_dependencies(store, dpk, project_id, user, parents)
    app = {
        "id": store.new_id(),
        "compositionId": store.new_id(),
        "name": body.get("name") or dpk["displayName"],
        "projectId": project_id,
        "dpkName": dpk["name"],
        "dpkVersion": dpk["version"],
        "dpk": dpk,
        "scope": body.get("scope") or "project",
        "status": INSTALLED,
        "metadata": {"system": {}},
        **created(user),
    }
    app |= {
        key: body[key] for key in ("orgId", "customInstallation", "integrations", "settings") if body.get(key)
    }
    store.put("apps", app)
    install_models(store, app, user)
    store.emit("App", "Created", app["id"])
    return app


def installed(store: Store, project_id: str, dpk_name: str) -> Document | None:
    apps = store.find_all("apps", projectId=project_id)
    return next((app for app in apps if app["dpkName"] == dpk_name), None)


def _install_dependencies(
    store: Store, dpk: Document, project_id: str, user: str, parents: tuple[str, ...]
) -> None:
    for dependency in dpk.get("dependencies") or []:
        name = dependency["name"]
        if name in (*parents, dpk["name"]) or installed(store, project_id, name) is not None:
            continue
        if store.find_one("dpks", name=name) is None:
            if dependency.get("mandatory", True) is False:
                continue
            raise ApiError(
                424,
                f"error installing an app: dpk {dpk['name']!r} depends on {name!r}, which is not published;"
                " publish it first, or mark the dependency as 'mandatory': false",
            )
        body = {"projectId": project_id, "dpkName": name, "dpkVersion": dependency.get("version")}
        _install(store, body, user, (*parents, dpk["name"]))


def link_of(app: Document, component: str | None) -> Document:
    """Return the field that names the app of a model or a service, and the component in its manifest."""
    named = {} if component is None else {"componentName": component}
    dpk = app["dpk"]
    return {
        "id": app["id"],
        "dpkId": dpk["baseId"],
        "dpkName": dpk["name"],
        "dpkVersion": dpk["version"],
    } | named


def components(app: Document, part: str) -> list[Document]:
    """List an app's components of one kind: from its manifest, unless the installation overrides them."""
    chosen = (app.get("customInstallation") or {}).get("components") or {}
    return (chosen if part in chosen else app["dpk"].get("components") or {}).get(part) or []


def install_models(store: Store, app: Document, user: str, known: frozenset[str] = frozenset()) -> None:
    """Make the models of an app's manifest but the known ones; those of the project follow the app's version."""
    dpk = app["dpk"]
    for model in store.find_all("models", projectId=app["projectId"]):
        link = model.get("app") or {}
        if link.get("dpkName") == dpk["name"]:
            link = link | {"id": app["id"], "dpkVersion": dpk["version"], "dpkId": dpk["baseId"]}
            store.put("models", model | {"app": link, "packageId": dpk["id"]})
    for component in components(app, "models"):
        if component.get("name") not in known:
            _install_model(store, app, component, user)


def update_app(store: Store, app: Document, body: Document, user: str) -> None:
    """Change an app; another version of its dpk takes its models along."""
    version = body.get("dpkVersion") or app["dpkVersion"]
    _check_components(body.get("customInstallation") or {})
    known = frozenset(component.get("name") for component in components(app, "models"))
    app |= {key: body[key] for key in APP_FIELDS if key in body}
    require(app, "name")
    if isinstance(body.get("metadata"), dict):
        app["metadata"] = body["metadata"]
    dpk = revision(store, app["dpkName"], version)
    changed = dpk["version"] != app["dpkVersion"]
    app |= {"dpk": dpk, "dpkVersion": dpk["version"], "updatedAt": now()}
    store.put("apps", app)
    if changed or "customInstallation" in body:
        install_models(store, app, user, known)
    store.emit("App", "Updated", app["id"], versionChanged=changed)


def activate(store: Store, app: Document, *, active: bool) -> None:
    status = INSTALLED if active else UNINSTALLED
    if app["status"] == status:
        raise bad_request(f"Application is already {'active' if active else 'inactive'}")
    store.put("apps", app | {"status": status, "updatedAt": now()})
    store.emit("App", "Resumed" if active else "Paused", app["id"])


def uninstall(store: Store, app_id: str) -> None:
    """Uninstall an app; the models that it made stay."""
    app = store.get("apps", app_id)
    store.emit("App", "Deleted", app_id, app=app)
    store.delete("apps", id=app_id)


def revision(store: Store, name: str, version: str | None) -> Document:
    """Fetch a revision of a dpk by name; without a version the latest one."""
    for dpk in store.find_all("dpks", name=name, order="-id"):
        if version in (None, "latest", dpk["version"]):
            return dpk
    raise ApiError(
        404, f"dpk not found: {name!r} version {version!r}. Publish it first, with project.dpks.publish()."
    )


def _install_model(store: Store, app: Document, component: Document, user: str) -> None:
    dpk, name, output = app["dpk"], component.get("name"), component.get("outputType") or "class"
    outputs = output if isinstance(output, list) else [output]
    if (
        not isinstance(name, str)
        or not name
        or not all(isinstance(each, str) and each in OUTPUT_TYPES for each in outputs)
    ):
        raise ApiError(
            424,
            "error installing an app: Validation Failed: each of components.models needs a 'name', and an 'outputType'"
            f" out of {sorted(OUTPUT_TYPES)}; got {component!r}",
        )
    link = link_of(app, name)
    existing = store.find_all("models", projectId=app["projectId"], name=name)
    if any((model.get("app") or {}).get("dpkName") == dpk["name"] for model in existing):
        return  # left by an earlier installation of the same dpk
    status = component.get("status") or "pre-trained"
    body = component | {"projectId": app["projectId"], "packageId": dpk["id"], "app": link, "status": status}
    # A manifest may name files that only the hosted platform can fetch; links and items work here.
    known = ("link", "item", "local")
    artifacts = [each for each in component.get("artifacts") or [] if each.get("type") in known]
    models.create(store, body | {"artifacts": artifacts}, user, unique=False)
