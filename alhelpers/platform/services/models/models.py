"""Models: records of weights, configuration and status, with artifacts among the project's binaries."""

import json
import posixpath
from typing import Any

from ...errors import bad_request, not_found
from ...store import Document, Store, now, signed
from ...validation import require, with_system
from ..datasets import models as datasets
from ..items import models as items
from ..organizations.models import ORGANIZATION

STATUSES = ("created", "pre-trained", "pending", "training", "trained", "deployed", "failed", "cloning")
FIXED = frozenset(
    ("id url creator createdAt updatedAt updatedBy context projectId statusLogs module_name").split()
)
ARTIFACTS = "/artifacts/models"
TEXTS = ("description", "datasetId", "packageId", "moduleName", "scope", "version", "status")
PLAIN = ("datasetId", "packageId", "moduleName", "inputType", "outputType", "app")
APP_TEXTS = ("id", "componentName", "dpkName", "dpkVersion", "dpkId")


def create(store: Store, body: Document, user: str, *, unique: bool = True) -> Document:
    """Make a model; two apps may bring models of one name, which is then not `unique`."""
    require(body, "name", "projectId")
    check_fields(body)
    store.row("projects", body["projectId"])
    if unique:
        store.check_new_name("models", projectId=body["projectId"], name=body["name"])
    if body.get("datasetId"):
        store.row("datasets", body["datasetId"])
    metadata = body.get("metadata") or {}
    model = {
        "id": store.new_id(),
        "name": body["name"],
        "description": body.get("description") or "",
        "projectId": body["projectId"],
        **{key: body.get(key) or [] for key in ("labels", "artifacts", "tags")},
        "configuration": body.get("configuration") or {},
        "metadata": metadata | {"system": metadata.get("system") or {}},
        **{key: body.get(key) for key in PLAIN},
        "scope": body.get("scope") or "project",
        "version": body.get("version") or "1.0.0",
        "status": body.get("status") or "created",
        "statusLogs": [],
        "context": {"project": body["projectId"], "creator": user, "org": ORGANIZATION["id"]},
        **signed(user),
    }
    log_status(model, model["status"], user)
    store.put("models", model)
    store.emit("Model", "Created", model["id"])
    return model


def check_fields(body: Document) -> None:
    texts = [(key, body.get(key)) for key in TEXTS]
    texts += [(f"app.{key}", (body.get("app") or {}).get(key)) for key in APP_TEXTS]
    for key, value in texts:
        if not isinstance(value, str | None):
            raise bad_request(f"{key!r} of a model must be a string, got {value!r}")
    for artifact in body.get("artifacts") or []:
        if not isinstance(artifact, dict) or not isinstance(artifact.get("itemId"), str | None):
            raise bad_request(
                f"an artifact is an object such as {{'type': 'item', 'itemId': ...}}, got {artifact!r}"
            )


def log_status(model: Document, status: Any, user: str, message: str | None = None) -> None:
    if status not in STATUSES:
        raise bad_request(f"unknown model status {status!r}; known: {', '.join(STATUSES)}")
    model["status"] = status
    entry = {"status": status, "timestamp": now(), "creator": user}
    model["statusLogs"].append(entry | ({} if message is None else {"message": message}))


def update(store: Store, model: Document, body: Document, user: str, *, system: bool) -> None:
    """Write a model as the SDK sends it: whole, its system metadata only if `system`."""
    check_fields(body)
    store.check_rename("models", model, body, projectId=model["projectId"])
    if body.get("datasetId") and body["datasetId"] != model["datasetId"]:
        store.row("datasets", body["datasetId"])
    status = body.get("status", model["status"])
    model |= {key: value for key, value in body.items() if key not in FIXED | {"status", "metadata"}}
    if isinstance(body.get("metadata"), dict):
        model["metadata"] = with_system(model, body["metadata"], system=system)
    if status != model["status"]:
        log_status(model, status, user)
    model["artifacts"] = own_artifacts(store, model)
    store.put("models", model | {"updatedAt": now(), "updatedBy": user})
    store.emit("Model", "Updated", model["id"])


def own_artifacts(store: Store, model: Document) -> list[Any]:
    """Leave out artifacts that lie in the folder of another model.

    After an upload the SDK lists ``/artifacts/models/<name>*`` and writes all it finds to the model. That pattern also
    catches the folders of models whose names begin with this one's, and their weights would overwrite its own.
    """
    kept = []
    for artifact in model.get("artifacts") or []:
        item_id = artifact.get("itemId") if isinstance(artifact, dict) else None
        item = store.find_one("items", id=item_id) if item_id else None
        owner = _folder_owner(item["filename"]) if item else None
        if owner is None or owner == model["name"] or not _is_other(store, model, owner):
            kept.append(artifact)
    return kept


def _folder_owner(filename: str) -> str | None:
    rest = filename.removeprefix(f"{ARTIFACTS}/")
    return rest.split("/")[0] if rest != filename else None


def _is_other(store: Store, model: Document, name: str) -> bool:
    """Return whether another model of the project has this name; a renamed model still has files under its old one."""
    return store.count("models", projectId=model["projectId"], name=name, id__ne=model["id"]) > 0


def forget_artifact(store: Store, project_id: str, item_id: str) -> None:
    for row in list(store.find("models", projectId=project_id)):
        if item_id in row.doc:
            model = json.loads(row.doc)
            kept = [each for each in model["artifacts"] if each.get("itemId") != item_id]
            store.put("models", model | {"artifacts": kept})


def clone(store: Store, source: Document, body: Document, user: str) -> Document:
    """Copy a model under a new name, with its artifacts; it is ready at once."""
    body = {key: value for key, value in require(body, "name").items() if value is not None}
    inherited = {key: value for key, value in source.items() if key not in FIXED | {"status", "artifacts"}}
    metadata = _cloned_metadata(source, body.get("metadata") or {})
    body = inherited | {"projectId": source["projectId"]} | body | {"metadata": metadata}
    model = create(store, body | {"status": "cloning", "artifacts": []}, user)
    # The log records the source of the model; the SDK passes it on as it is.
    model["statusLogs"][-1]["srcModelId"] = source["id"]
    model["artifacts"] = copy_artifacts(store, source, model, user)
    log_status(model, body.get("status") or "pre-trained", user)
    store.put("models", model)
    return model


def _cloned_metadata(source: Document, given: Document) -> Document:
    # Evaluations and deployments of the source are not inherited.
    inherited = {
        key: value for key, value in source["metadata"]["system"].items() if key not in ("evaluate", "deploy")
    }
    return source["metadata"] | given | {"system": inherited | (given.get("system") or {})}


def copy_artifacts(store: Store, source: Document, model: Document, user: str) -> list[Any]:
    target = datasets.binaries(store, model["projectId"])["id"]
    copies = []
    for artifact in source["artifacts"]:
        if artifact.get("type") != "item":
            copies.append(artifact)
            continue
        item = store.get("items", artifact["itemId"], "artifact")
        inside = posixpath.relpath(item["filename"], f"{ARTIFACTS}/{_folder_owner(item['filename'])}")
        if inside.startswith(".."):
            inside = item["name"]
        filename = items.clean_path(f"{ARTIFACTS}/{model['name']}/{inside}")
        if left := items.by_path(store, target, filename):  # of a deleted model of the same name
            items.delete(store, [left["id"]])
        copies.append({"type": "item", "itemId": items.copy(store, item, target, filename, user)["id"]})
    return copies


def delete(store: Store, model_id: str) -> None:
    model = store.get("models", model_id)
    store.delete("metrics", modelId=model_id)
    store.delete("models", id=model_id)
    binaries = datasets.binaries(store, model["projectId"])["id"]
    own = {each.get("itemId") for each in own_artifacts(store, model)}
    folder = f"{ARTIFACTS}/{model['name']}"
    shared = _is_other(store, model, model["name"])
    rows = () if shared else store.find("items", datasetId=binaries, filename=folder, type="dir")
    ids = [row.id for row in rows]
    ids += [row.id for each in own if each for row in store.find("items", id=each) if row.scope == binaries]
    items.delete(store, ids)
    store.emit("Model", "Deleted", model_id, project=model["projectId"])


def precision_recall(store: Store, body: Document) -> Document:
    """Return the points that the last evaluation on a dataset has left for an IoU threshold, from a confidence up."""
    path = f"/.modelscores/{body['modelId']}-interpolated.json"
    item = items.by_path(store, store.row("datasets", body["datasetId"]).id, path)
    if item is None:
        raise not_found(f"scores on dataset {body['datasetId']} of model", body["modelId"])
    curves = json.loads(store.blob_path(store.row("items", item["id"]).blob or "").read_bytes())
    points = next((curves[key] for key in curves if float(key) == body.get("iouThreshold")), None)
    if points is None:
        known = ", ".join(curves)
        raise bad_request(f"'iouThreshold' must be one of {known}, got {body.get('iouThreshold')!r}")
    least = body.get("confThreshold") or 0
    kept = [place for place, confidence in enumerate(points["confidence"]) if confidence >= least]
    return {name: [values[place] for place in kept] for name, values in points.items()}


def publish_metrics(store: Store, samples: Any) -> None:
    if not isinstance(samples, list):
        raise bad_request(f"metrics must be a list of samples, got {type(samples).__name__}")
    time = now()
    documents = []
    for sample in samples:
        require(sample, "modelId", "figure", "legend")
        if not isinstance(sample.get("data"), dict) or not {"x", "y"} <= sample["data"].keys():
            raise bad_request(f"a sample needs 'data' with 'x' and 'y', got {json.dumps(sample)[:200]}")
        documents.append(sample | {"id": store.new_id(), "createdAt": time})
    for model_id in {document["modelId"] for document in documents}:
        store.row("models", model_id)
    store.put_all("metrics", documents)
