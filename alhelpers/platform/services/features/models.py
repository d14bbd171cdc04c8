"""Feature sets: vectors of one length, each of one item, annotation or dataset."""

from typing import Any

from ... import vectors
from ...errors import bad_request
from ...store import Document, Store, now
from ...validation import require

# The kinds of entities that a vector can describe, and where they are stored.
ENTITIES = {"item": "items", "annotation": "annotations", "dataset": "datasets"}
CHANGEABLE = ("name", "modelId", "type", "metadata", "tags")


def create_set(store: Store, body: Document, user: str) -> Document:
    require(body, "name", "project")
    store.row("projects", body["project"])
    size, entity = body.get("size"), body.get("entityType")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise bad_request(f"'size' of a feature set is the length of its vectors, 1 or more, got {size!r}")
    if not isinstance(entity, str) or entity not in ENTITIES:
        raise bad_request(f"'entityType' must be one of {', '.join(ENTITIES)}, got {entity!r}")
    store.check_new_name("feature_sets", project=body["project"], name=body["name"])
    feature_set = {
        "id": store.new_id(),
        **{key: body.get(key) for key in ("name", "size", "type", "entityType", "project", "modelId")},
        "creator": user,
        "createdAt": now(),
        "updatedBy": user,
    }
    feature_set |= {key: body[key] for key in ("org", "metadata", "tags") if body.get(key) is not None}
    store.put("feature_sets", feature_set)
    return feature_set


def update_set(store: Store, feature_set: Document, body: Document, user: str) -> None:
    store.check_rename("feature_sets", feature_set, body, project=feature_set["project"])
    feature_set |= {key: body[key] for key in CHANGEABLE if key in body}
    store.put("feature_sets", feature_set | {"updatedBy": user})


def delete_set(store: Store, set_id: str) -> None:
    store.row("feature_sets", set_id)
    store.delete("feature_vectors", featureSetId=set_id)
    store.delete("feature_sets", id=set_id)


def delete_vector(store: Store, vector_id: str) -> None:
    store.row("feature_vectors", vector_id)
    store.delete("feature_vectors", id=vector_id)


def create_vectors(store: Store, given: Any, user: str) -> list[str]:
    """Store vectors, all or none; return their ids in the order given."""
    time = now()
    documents = []
    sets: dict[str, Document] = {}
    for one in given if isinstance(given, list) else [given]:
        require(one, "featureSetId", "entityId")
        set_id = one["featureSetId"]
        if set_id not in sets:
            sets[set_id] = store.get("feature_sets", set_id)
        feature_set = sets[set_id]
        kind = ENTITIES[feature_set["entityType"]]
        entity = store.row(kind, one["entityId"])
        document = {
            "id": store.new_id(),
            "featureSetId": set_id,
            "entityId": entity.id,
            "datasetId": entity.id if kind == "datasets" else entity.scope,
            "project": feature_set["project"],
            "value": vectors.check(one.get("value"), feature_set["size"]),
            "version": one.get("version"),
            "creator": user,
            "createdAt": time,
        }
        documents.append(document | {key: one[key] for key in ("parentId", "org") if one.get(key)})
    store.put_all("feature_vectors", documents)
    return [document["id"] for document in documents]


def counts(store: Store, project_id: str, dataset_ids: list[str]) -> list[Document]:
    """Count the vectors of each feature set of a project that belong to these datasets."""
    return [
        {
            "featureSetId": row.id,
            "count": store.count("feature_vectors", featureSetId=row.id, datasetId=dataset_ids),
        }
        for row in list(store.find("feature_sets", project=project_id))
    ]
