"""What dpks and apps are: a published manifest with revisions, and its installation in a project."""

from typing import Any

from ...errors import ApiError, bad_request
from ...store import Store, now, require
from ..models import models

# The annotation types of the SDK, and what models without annotations may give.
OUTPUT_TYPES = set(
    "box cube cube_3d class comparison ellipse note point segment polyline pose binary subtitle text_mark gis"
    " ref_semantic_3d polyline_3d text ref_image embedding audio video image folder".split()
)


def publish(store: Store, manifest: dict[str, Any], user: str) -> dict[str, Any]:
    """Publish a manifest: the first revision of a new dpk, or the next one of a known dpk."""
    require(manifest, "name")
    revisions = [
        store.parsed(row) for row in store.select("dpks", "name = ?", (manifest["name"],), "ORDER BY id")
    ]
    version = manifest.get("version") or _next_version(revisions)
    if any(revision["version"] == version for revision in revisions):
        raise bad_request(
            f"dpk {manifest['name']!r} version {version!r} is published already:"
            " raise 'version' in the manifest, or use dl.dpks.get(dpk_name=...)"
        )
    time = now()
    dpk_id = store.new_id()
    dpk = manifest | {
        "id": dpk_id,
        "baseId": revisions[0]["baseId"] if revisions else dpk_id,
        "version": version,
        "displayName": manifest.get("displayName") or manifest["name"],
        "latest": True,
        "creator": user,
        "createdAt": revisions[0]["createdAt"] if revisions else time,
        "updatedAt": time,
    }
    dpk.setdefault("components", {})
    dpk.setdefault("context", {})
    dpk.setdefault("scope", "project")
    dpk.pop("url", None)
    store.put_all("dpks", [revision | {"latest": False} for revision in revisions])
    store.put("dpks", dpk)
    return dpk


def _next_version(revisions: list[dict[str, Any]]) -> str:
    if not revisions:
        return "1.0.0"
    head, _, last = str(revisions[-1]["version"]).rpartition(".")
    return f"{head}.{int(last) + 1}" if head and last.isdecimal() else f"{revisions[-1]['version']}.1"


def by_id(store: Store, dpk_id: str) -> dict[str, Any]:
    """Fetch a revision by its id, or the latest one by the id that all revisions share."""
    for row in store.select("dpks", "id = ?", (dpk_id,)):
        dpk = store.parsed(row)
        if dpk["latest"] or dpk["baseId"] != dpk_id:
            return dpk
    for row in store.select("dpks", tail="ORDER BY id DESC"):
        if store.parsed(row)["baseId"] == dpk_id:
            return store.parsed(row)
    raise ApiError(404, f"dpk not found: {dpk_id!r}. Publish it, or look for it with dl.dpks.list().")


def install(store: Store, body: dict[str, Any], user: str) -> dict[str, Any]:
    """Install a dpk in a project, and make the models that its manifest lists."""
    require(body, "projectId", "dpkName")
    project_id = body["projectId"]
    store.row("projects", project_id)
    dpk = revision(store, body["dpkName"], body.get("dpkVersion"))
    for row in store.select("apps", "scope = ?", (project_id,)):
        if store.parsed(row)["dpkName"] == dpk["name"]:
            raise bad_request(f"dpk {dpk['name']!r} is installed in this project already, as app {row.id}")
    time = now()
    app = {
        "id": store.new_id(),
        "name": body.get("name") or dpk["displayName"],
        "projectId": project_id,
        "dpkName": dpk["name"],
        "dpkVersion": dpk["version"],
        "dpk": dpk,
        "scope": body.get("scope") or "project",
        "status": "Installed",
        "metadata": {"system": {}},
        "creator": user,
        "createdAt": time,
        "updatedAt": time,
    }
    app |= {
        key: body[key] for key in ("orgId", "customInstallation", "integrations", "settings") if body.get(key)
    }
    store.put("apps", app)
    for component in (dpk.get("components") or {}).get("models") or []:
        _install_model(store, app, dpk, component, user)
    return app


def revision(store: Store, name: str, version: str | None) -> dict[str, Any]:
    """Fetch a dpk by name, in this version or (None) the latest."""
    for row in store.select("dpks", "name = ?", (name,), "ORDER BY id DESC"):
        if version in (None, store.parsed(row)["version"]):
            return store.parsed(row)
    raise ApiError(
        404, f"dpk not found: {name!r} version {version!r}. Publish it first, with project.dpks.publish()."
    )


def _install_model(store: Store, app: dict[str, Any], dpk: dict[str, Any], component: Any, user: str) -> None:
    output = component.get("outputType", "class") if isinstance(component, dict) else None
    outputs = output if isinstance(output, list) else [output]
    if not isinstance(component, dict) or not component.get("name") or not set(outputs) <= OUTPUT_TYPES:
        raise ApiError(
            424,
            "error installing an app: Validation Failed: each of components.models needs a 'name', and an 'outputType'"
            f" out of {sorted(OUTPUT_TYPES)}; got {component!r}",
        )
    link = {
        "id": app["id"],
        "componentName": component["name"],
        "dpkName": dpk["name"],
        "dpkVersion": dpk["version"],
        "dpkId": dpk["baseId"],
    }
    existing = store.find("models", "scope = ? AND name = ?", app["projectId"], component["name"])
    if existing is not None and (existing.get("app") or {}).get("dpkName") == dpk["name"]:
        # Left by an earlier installation of the same dpk.
        store.put("models", existing | {"app": link, "packageId": dpk["id"]})
        return
    status = component.get("status") or "pre-trained"
    body = component | {"projectId": app["projectId"], "packageId": dpk["id"], "app": link, "status": status}
    models.create(store, body | {"artifacts": _artifacts(component)}, user)


def _artifacts(component: dict[str, Any]) -> list[Any]:
    # A manifest may name files that only the hosted platform can fetch; links and items work here.
    return [
        each for each in component.get("artifacts") or [] if each.get("type") in ("link", "item", "local")
    ]
