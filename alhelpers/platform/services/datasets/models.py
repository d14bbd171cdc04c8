"""Datasets: named sets of items in one project, with a recipe."""

import json
from typing import Any

from ...errors import bad_request
from ...query import everything
from ...store import Document, Row, Store, signed
from ...validation import check_ids
from ..recipes import models as recipes

BINARIES = "Binaries"


def create(
    store: Store, name: str, project_id: str, user: str, *, with_recipe: bool = True, **fields: Any
) -> Document:
    """Make a dataset; its name must be new in the project, `fields` are added to it."""
    store.row("projects", project_id)
    store.check_new_name("datasets", projects=project_id, name=name)
    dataset: Document = {
        "id": store.new_id(),
        "name": name,
        "projects": [project_id],
        **signed(user),
        "metadata": {"system": {}},
        "driver": None,
        "indexDriver": "v1",
        "readonly": False,
        "readableType": "dataset",
        "accessLevel": "private",
        "isSyncing": False,
        **fields,
    }
    if with_recipe:
        recipe = recipes.create_default(store, name, project_id, user)
        dataset["metadata"]["system"]["recipes"] = [recipe["id"]]
    store.put("datasets", dataset)
    store.emit("Dataset", "Clone" if "srcDataset" in fields else "Created", dataset["id"])
    return dataset


def check_not_system(dataset: Document) -> None:
    """Refuse to rename or delete the dataset that keeps a project's files."""
    if dataset["readableType"] == "system":
        raise bad_request(f"{dataset['name']!r} is a system dataset: it can be neither renamed nor deleted")


def check_expiration(options: Any) -> dict[str, int] | None:
    """Check expiration options; an empty value returns None."""
    days = options.get("itemMaxDays") if isinstance(options, dict) else None
    if not options:
        return None
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise bad_request(f"'expirationOptions' must be {{'itemMaxDays': days, 1 or more}}, got {options!r}")
    return {"itemMaxDays": days}


def binaries(store: Store, project_id: str) -> Document:
    found = store.find_one("datasets", projects=project_id, name=BINARIES, readableType="system")
    if found is None:
        raise bad_request(f"project {project_id!r} has no dataset {BINARIES!r}: does the project exist?")
    return found


def shown(store: Store, row: Row, base: str) -> Document:
    """Return a dataset as the SDK reads it, with its counters and links."""
    dataset = json.loads(row.doc)
    dataset.pop("collections", None)  # has routes of its own
    url = f"{base}/datasets/{row.id}"
    return dataset | {
        "url": url,
        "items": f"{url}/items",
        "directoryTree": f"{url}/directoryTree",
        "itemsCount": store.count("items", datasetId=row.id, type="file", hidden=False),
        "annotated": store.count("annotations", datasetId=row.id, distinct="itemId"),
        "annotationsCount": store.count("annotations", datasetId=row.id),
    }


def delete(store: Store, dataset_id: str) -> None:
    project_id = store.row("datasets", dataset_id).scope
    store.delete("annotations", datasetId=dataset_id)
    store.delete("items", datasetId=dataset_id)
    store.delete("settings", scopeId=dataset_id)
    store.delete("datasets", id=dataset_id)
    store.emit("Dataset", "Deleted", dataset_id, project=project_id)


def items_of(store: Store, project_id: str, query: Document) -> list[Row]:
    """List the files that a query finds in the datasets of its context, by default in all of the project."""
    context = query.get("context")
    wanted = context.get("datasets") if isinstance(context, dict) else None
    if query.get("resource", "items") != "items":
        raise bad_request(f"a batch is a query of items, got one of {query['resource']!r}")
    chosen = [store.row("datasets", each).id for each in check_ids("context.datasets", wanted or [])]
    chosen = chosen or [
        row.id for row in store.find("datasets", projects=project_id, readableType__ne="system")
    ]
    plain = {key: query[key] for key in ("filter", "join") if key in query}
    found = (everything(store, "items", plain, datasetId=each, type="file") for each in chosen)
    return [row for rows in found for row in rows]


def directory_tree(store: Store, dataset_id: str) -> Document:
    nodes = {"/": {"value": {"filename": "/", "name": "", "dir": None, "metadata": {}}, "children": []}}
    for item in store.find_all("items", datasetId=dataset_id, type="dir", order="filename"):
        value = {key: item[key] for key in ("id", "filename", "name", "dir", "metadata")}
        # A parent sorts before its children, so it is in `nodes` already.
        node = nodes.setdefault(item["filename"], {"value": value, "children": []})
        nodes.get(item["dir"], nodes["/"])["children"].append(node)
    return nodes["/"]
