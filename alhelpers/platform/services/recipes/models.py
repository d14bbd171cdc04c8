"""Recipes and ontologies: labels and their attributes."""

from collections.abc import Iterator
from typing import Any

from ...errors import bad_request
from ...store import Document, Store, created, now, signed
from ...validation import require, with_system

# One or several choices, a number, yes or no, a text.
ATTRIBUTE_TYPES = ("options", "range", "boolean", "freeText")

# Colours for labels that come without one; the SDK needs a colour on each.
PALETTE = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f")


def create_recipe(store: Store, body: Document, user: str) -> Document:
    recipe = {
        "id": store.new_id(),
        "title": body.get("title") or "Recipe",
        "description": body.get("description") or "",
        "projectIds": body.get("projectIds") or [],
        "ontologyIds": body.get("ontologyIds") or [],
        "instructions": body.get("instructions"),
        "uiSettings": body.get("uiSettings") or {},
        "metadata": body.get("metadata") or {"system": {}},
        "examples": [],
        "customActions": [],
        **signed(user),
    }
    store.put("recipes", recipe)
    return recipe


def create_ontology(store: Store, body: Document, user: str) -> Document:
    """Make an ontology with trees of labels; its 'attributes' are those of the older kind."""
    attributes = body.get("attributes")
    if not isinstance(attributes or [], list):
        raise bad_request(f"'attributes' must be a list, got {attributes!r}")
    ontology = {
        "id": store.new_id(),
        "title": body.get("title") or "Ontology",
        "roots": [check_root(root) for root in body.get("roots") or []],
        "attributes": attributes or [],
        "metadata": {"system": {"projectIds": body.get("projectIds") or []}, "attributes": []},
        **created(user),
    }
    store.put("ontologies", ontology)
    return ontology


def create_default(store: Store, dataset_name: str, project_id: str, user: str) -> Document:
    """Make the recipe and the empty ontology of a new dataset."""
    place = {"projectIds": [project_id]}
    ontology = create_ontology(store, place | {"title": f"{dataset_name} Default Ontology"}, user)
    place |= {"ontologyIds": [ontology["id"]], "title": f"{dataset_name} Default Recipe"}
    return create_recipe(store, place | {"uiSettings": {"studioV2App": True}}, user)


def clone_recipe(store: Store, recipe: Document, user: str, *, shallow: bool) -> Document:
    """Copy a recipe; a shallow copy shares the ontologies."""
    ontology_ids = recipe["ontologyIds"]
    if not shallow:
        ontology_ids = [
            _copy(store, "ontologies", store.get("ontologies", each), user) for each in ontology_ids
        ]
    copied = _copy(store, "recipes", recipe | {"ontologyIds": ontology_ids}, user)
    return store.get("recipes", copied)


def _copy(store: Store, kind: str, document: Document, user: str) -> str:
    copy = document | {"id": store.new_id(), **created(user)}
    store.put(kind, copy)
    return copy["id"]


def update(document: Document, body: Document, fields: tuple[str, ...], *, system: bool) -> None:
    """Change these fields of a recipe or an ontology; its system metadata only if `system`."""
    document |= {key: body[key] for key in fields if key in body}
    if isinstance(body.get("metadata"), dict):
        document["metadata"] = with_system(document, body["metadata"], system=system)
        _check_metadata(document["metadata"])
    document["updatedAt"] = now()


def _check_metadata(metadata: Document) -> None:
    attributes = metadata.get("attributes")
    if attributes is not None and not (
        isinstance(attributes, list)
        and all(isinstance(each, dict) and isinstance(each.get("key"), str | None) for each in attributes)
    ):
        raise bad_request(f"'metadata.attributes' must be a list of attributes, got {attributes!r}")
    require({"projectIds": metadata["system"].get("projectIds")})


def delete_recipe(store: Store, recipe_id: str) -> None:
    """Delete a recipe, also from the datasets that use it."""
    recipe = store.get("recipes", recipe_id)
    for project_id in recipe["projectIds"]:
        for dataset in store.find_all("datasets", projects=project_id):
            recipes = dataset["metadata"]["system"].get("recipes") or []
            if recipe_id in recipes:
                dataset["metadata"]["system"]["recipes"] = [each for each in recipes if each != recipe_id]
                store.put("datasets", dataset)
    store.delete("recipes", id=recipe_id)


def delete_ontology(store: Store, ontology_id: str) -> None:
    """Delete an ontology, also from the recipes that use it."""
    ontology = store.get("ontologies", ontology_id)
    projects = set(ontology["metadata"]["system"].get("projectIds") or [])
    for recipe in store.find_all("recipes"):
        if ontology_id in recipe["ontologyIds"] and projects & set(recipe["projectIds"]):
            recipe["ontologyIds"] = [each for each in recipe["ontologyIds"] if each != ontology_id]
            store.put("recipes", recipe)
    store.delete("ontologies", id=ontology_id)


def forget_project(store: Store, project_id: str) -> None:
    """Delete the recipes and ontologies that belonged to a deleted project alone."""
    for recipe in store.find_all("recipes"):
        if recipe["projectIds"] == [project_id]:
            store.delete("recipes", id=recipe["id"])
    for ontology in store.find_all("ontologies"):
        if ontology["metadata"]["system"].get("projectIds") == [project_id]:
            store.delete("ontologies", id=ontology["id"])


def put_attribute(ontology: Document, attribute: Document) -> None:
    """Add an attribute to an ontology, or replace the one with its key."""
    require(attribute, "key", "title")
    kind, values = attribute.get("type"), attribute.get("values")
    if kind not in ATTRIBUTE_TYPES:
        raise bad_request(f"an attribute's 'type' must be one of {', '.join(ATTRIBUTE_TYPES)}, got {kind!r}")
    if values is not None and not (
        isinstance(values, list) and all(isinstance(each, str) for each in values)
    ):
        raise bad_request(f"attribute {attribute['key']!r} needs 'values' that are strings, got {values!r}")
    if kind == "range" and not isinstance(attribute.get("range"), dict):
        raise bad_request(f"attribute {attribute['key']!r} needs a 'range' with 'min', 'max' and 'step'")
    # The SDK copies an ontology's attributes from what the platform keeps under this name.
    script = {"title": attribute["title"], "optional": attribute.get("optional", True)}
    attributes = ontology["metadata"].setdefault("attributes", [])
    new = attribute | {"scriptData": script}
    for place, known in enumerate(attributes):
        if known.get("key") == attribute["key"]:
            attributes[place] = new
            return
    attributes.append(new)


def check_root(root: Any) -> Document:
    value = root.get("value") if isinstance(root, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("tag"), str) or not value["tag"]:
        raise bad_request(
            f"a label must be {{'value': {{'tag': name, ...}}, 'children': [...]}}, got {root!r}"
        )
    children = root.get("children") or []
    if not isinstance(children, list):
        raise bad_request(f"the 'children' of label {value['tag']!r} must be a list, got {children!r}")
    children = [check_root(child) for child in children]
    return {"value": _new_label(value["tag"], value["tag"]) | value, "children": children}


def _new_label(tag: str, full_tag: str) -> Document:
    """Build a label with every key that the SDK writes."""
    return {
        "tag": tag,
        "color": colour_of(full_tag),
        "attributes": [],
        "displayLabel": None,
        "displayData": {},
    }


def put_labels(ontology: Document, labels: Any, *, upsert: bool) -> None:
    """Add or change labels, given as dotted tags ('animal.cat' is a child of 'animal')."""
    if not isinstance(labels, list):
        raise bad_request(f"'labelsNode' must be a list of labels, got {labels!r}")
    for label in labels:
        tag = label.get("tag") if isinstance(label, dict) else None
        if not isinstance(tag, str) or not tag:
            raise bad_request(f"each label needs a 'tag', got {label!r}")
        _put_label(ontology, tag, label, upsert=upsert)


def _put_label(ontology: Document, tag: str, label: Document, *, upsert: bool) -> None:
    siblings, node = ontology["roots"], None
    parts = tag.split(".")
    for depth, part in enumerate(parts):
        node = next((node for node in siblings if node["value"]["tag"] == part), None)
        if node is None:
            if not upsert:
                raise bad_request(
                    f"label {tag!r} is not in the ontology {ontology['id']}; add it first, or upsert"
                )
            node = {"value": _new_label(part, ".".join(parts[: depth + 1])), "children": []}
            siblings.append(node)
        siblings = node["children"]
    given = {
        key: label[key] for key in ("color", "attributes", "displayLabel", "displayData") if label.get(key)
    }
    node["value"].update(given)


def colour_of(tag: str) -> str:
    """Return the colour of a label that has none of its own."""
    return PALETTE[sum(tag.encode(errors="replace")) % len(PALETTE)]


def labels_of(store: Store, dataset: Document, limit: int | None = None) -> Iterator[tuple[str, Document]]:
    """Yield the labels of a dataset with their dotted tags: of `limit` recipes, and of `limit` ontologies in each."""
    for recipe_id in (dataset["metadata"]["system"].get("recipes") or [])[:limit]:
        recipe = store.find_one("recipes", id=recipe_id) or {"ontologyIds": []}
        for ontology_id in recipe["ontologyIds"][:limit]:
            ontology = store.find_one("ontologies", id=ontology_id) or {"roots": []}
            todo = [("", root) for root in reversed(ontology["roots"])]
            while todo:
                prefix, node = todo.pop()
                tag = prefix + node["value"]["tag"]
                yield tag, node["value"]
                todo += [(f"{tag}.", child) for child in reversed(node["children"])]
