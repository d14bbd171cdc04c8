"""What recipes and ontologies are, and how labels enter a tree of labels."""

from typing import Any

from ...errors import bad_request
from ...store import Store, now

# Colours for labels that come without one; the SDK needs a colour on each.
PALETTE = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f")


def create_recipe(
    store: Store, body: dict[str, Any], project_ids: list[str], ontology_ids: list[str], user: str
) -> dict[str, Any]:
    """Make a recipe that points to ontologies."""
    time = now()
    recipe = {
        "id": store.new_id(),
        "title": body.get("title") or "Recipe",
        "description": body.get("description") or "",
        "creator": user,
        "projectIds": project_ids,
        "ontologyIds": ontology_ids,
        "instructions": body.get("instructions"),
        "uiSettings": body.get("uiSettings") or {},
        "metadata": body.get("metadata") or {"system": {}},
        "examples": [],
        "customActions": [],
        "createdAt": time,
        "updatedAt": time,
        "updatedBy": user,
    }
    store.put("recipes", recipe)
    return recipe


def create_ontology(
    store: Store, roots: list[Any], project_ids: list[str], user: str, title: str | None = None
) -> dict[str, Any]:
    """Make an ontology with these trees of labels."""
    time = now()
    ontology = {
        "id": store.new_id(),
        "title": title or "Ontology",
        "creator": user,
        "roots": [check_root(root) for root in roots],
        "attributes": [],
        "metadata": {"system": {"projectIds": project_ids}, "attributes": []},
        "createdAt": time,
        "updatedAt": time,
    }
    store.put("ontologies", ontology)
    return ontology


def create_default(store: Store, dataset_name: str, project_id: str, user: str) -> dict[str, Any]:
    """Make the recipe and the empty ontology of a new dataset."""
    ontology = create_ontology(store, [], [project_id], user, f"{dataset_name} Default Ontology")
    body = {"title": f"{dataset_name} Default Recipe", "uiSettings": {"studioV2App": True}}
    return create_recipe(store, body, [project_id], [ontology["id"]], user)


def check_root(root: Any) -> dict[str, Any]:
    """Check one label with its children."""
    value = root.get("value") if isinstance(root, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("tag"), str) or not value["tag"]:
        raise bad_request(
            f"a label must be {{'value': {{'tag': name, ...}}, 'children': [...]}}, got {root!r}"
        )
    children = [check_root(child) for child in root.get("children") or []]
    return {"value": {"color": _colour(value["tag"]), "attributes": [], **value}, "children": children}


def put_labels(ontology: dict[str, Any], labels: Any, *, upsert: bool) -> None:
    """Add or change labels, given as dotted tags ('animal.cat' is a child of 'animal')."""
    if not isinstance(labels, list):
        raise bad_request(f"'labelsNode' must be a list of labels, got {labels!r}")
    for label in labels:
        tag = label.get("tag") if isinstance(label, dict) else None
        if not isinstance(tag, str) or not tag:
            raise bad_request(f"each label needs a 'tag', got {label!r}")
        _put_label(ontology, tag, label, upsert=upsert)


def _put_label(ontology: dict[str, Any], tag: str, label: dict[str, Any], *, upsert: bool) -> None:
    siblings, node = ontology["roots"], None
    parts = tag.split(".")
    for depth, part in enumerate(parts):
        node = next((node for node in siblings if node["value"]["tag"] == part), None)
        if node is None:
            if not upsert:
                raise bad_request(
                    f"label {tag!r} is not in the ontology {ontology['id']}; add it first, or upsert"
                )
            node = {"value": {"tag": part, "color": _colour(".".join(parts[: depth + 1])), "attributes": []}}
            node["children"] = []
            siblings.append(node)
        siblings = node["children"]
    given = {
        key: label[key] for key in ("color", "attributes", "displayLabel", "displayData") if label.get(key)
    }
    node["value"].update(given)


def _colour(tag: str) -> str:
    return PALETTE[sum(tag.encode()) % len(PALETTE)]
