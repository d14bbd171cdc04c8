"""Collections: names in a dataset, and a mark on each item in one of them."""

from typing import Any

from ...errors import bad_request, not_found
from ...store import Document

# The hosted platform allows ten, and the SDK knows their keys.
KEYS = tuple(f"collections{number}" for number in range(10))


def named(dataset: Document) -> dict[str, str]:
    return dataset.setdefault("collections", {})


def shown(dataset: Document) -> dict[str, dict[str, str]]:
    """Return the collections as the SDK reads them, by the field that marks their items."""
    return {f"metadata.system.collections.{key}": {"name": name} for key, name in named(dataset).items()}


def key_of(dataset: Document, name: Any) -> str:
    for key, known in named(dataset).items():
        if known == name:
            return key
    raise not_found("collection", name)


def check_name(dataset: Document, name: str) -> str:
    if name in named(dataset).values():
        raise bad_request(f"a collection named {name!r} exists in dataset {dataset['name']!r}")
    if "/" in name:
        raise bad_request(f"a collection's name cannot hold '/', got {name!r}")
    return name


def add(dataset: Document, name: str) -> None:
    """Add a collection to a dataset; the caller writes the dataset."""
    free = [key for key in KEYS if key not in named(dataset)]
    if not free:
        raise bad_request(f"dataset {dataset['name']!r} has {len(KEYS)} collections: no more fit; delete one")
    named(dataset)[free[0]] = check_name(dataset, name)


def mark(item: Document, keys: list[str], *, inside: bool) -> None:
    """Put an item into collections, or remove it from them; the caller writes the item."""
    marks = item["metadata"].setdefault("system", {}).setdefault("collections", {})
    for key in keys:
        if inside:
            marks[key] = True
        else:
            marks.pop(key, None)
