"""Whole datasets copied: cloned into one another, or merged."""

import posixpath
from dataclasses import dataclass
from typing import Any

from ...errors import bad_request
from ...query import documents
from ...store import Document, Store, now
from ...validation import merge, require
from ..datasets import models as datasets
from ..items import models as items
from ..recipes import models as recipes

# Files about items that the platform keeps in the dataset itself; a copy gets its own.
OWN_FOLDERS = ("/.dataloop/thumbnails/", "/.dataloop/exports/")


@dataclass(frozen=True)
class Options:
    """What to copy, and where to."""

    dataset_id: str | None
    directory: str
    # What to copy of each item, as `items.copy` takes it.
    parts: dict[str, bool]


def options_of(given: Document | None) -> Options:
    given = require(given or {})
    for field in ("targetDatasetId", "targetDirectory"):
        if given.get(field) is not None and not isinstance(given[field], str):
            raise bad_request(f"{field!r} must be a string, got {given[field]!r}")
    return Options(
        given.get("targetDatasetId"),
        given.get("targetDirectory") or "/",
        parts_of(given),
    )


def parts_of(given: Document, *, status: bool = True) -> dict[str, bool]:
    """Parse what to copy of an item; `status` is the default for the statuses in tasks."""
    return {
        "with_metadata": bool(given.get("withMetadata", True)),
        "with_annotations": bool(given.get("withItemsAnnotations", True)),
        "with_status": bool(given.get("withTaskAnnotationsStatus", status)),
    }


def new_dataset(store: Store, name: str, like: Document, user: str, **fields: Any) -> Document:
    """Make an empty dataset in the project of another one, with its recipes and collections."""
    fields |= {key: like[key] for key in ("collections",) if key in like}
    dataset = datasets.create(store, name, like["projects"][0], user, with_recipe=False, **fields)
    shared = like["metadata"]["system"].get("recipes")
    if shared:
        dataset["metadata"]["system"]["recipes"] = shared
        store.put("datasets", dataset)
    return dataset


def copy_items(
    store: Store, source_id: str, target_id: str, query: Document, options: Options, user: str
) -> None:
    for item in _files(store, source_id, query):
        filename = posixpath.join(options.directory, item["filename"].lstrip("/"))
        items.copy(store, item, target_id, items.clean_path(filename), user, **options.parts)


def _files(store: Store, dataset_id: str, query: Document) -> list[Document]:
    found = documents(store, "items", query, datasetId=dataset_id, type="file")
    return [item for item in found if not item["filename"].startswith(OWN_FOLDERS)]


def check_recipes(store: Store, sources: list[Document]) -> None:
    for source in sources:
        for recipe_id in source["metadata"]["system"].get("recipes") or []:
            store.row("recipes", recipe_id)
    first, *others = ({tag for tag, _ in recipes.labels_of(store, source)} for source in sources)
    for source, labels in zip(sources[1:], others, strict=True):
        if labels != first:
            raise bad_request(
                f"datasets with different recipes cannot be merged: {sources[0]['name']!r} and"
                f" {source['name']!r} have different labels; switch the recipe of one of them first"
            )


def merge_items(store: Store, source_ids: list[str], target_id: str, options: Options, user: str) -> None:
    """Copy the files of several datasets into one; clones of one item are merged again."""
    merged: dict[str, str] = {}
    for source_id in source_ids:
        for item in _files(store, source_id, {}):
            origin = _origin(store, item)
            if origin in merged:
                _merge_clone(store, store.get("items", merged[origin]), item, options, user)
            else:
                path = item["filename"]
                copy = items.copy(store, item, target_id, path, user, beside=True, **options.parts)
                merged[origin] = copy["id"]


def _origin(store: Store, item: Document) -> str:
    """Follow an item to the item that it was first cloned from, as far as those exist."""
    seen = {item["id"]}
    while (source_id := item.get("srcItem")) and source_id not in seen:
        seen.add(source_id)
        item = store.find_one("items", id=source_id) or {"id": source_id}
    return item["id"]


def _merge_clone(store: Store, target: Document, item: Document, options: Options, user: str) -> None:
    if options.parts["with_metadata"]:
        system = {
            key: value for key, value in item["metadata"]["system"].items() if key not in items.OWN_SYSTEM
        }
        merge(target, {"metadata": item["metadata"] | {"system": system}})
        store.put("items", target | {"updatedAt": now(), "updatedBy": user})
    if options.parts["with_annotations"]:
        items.copy_annotations(store, item["id"], target, with_status=options.parts["with_status"])
