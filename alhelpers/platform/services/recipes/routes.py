from collections.abc import Callable

from ...api import Call, Raw, Route, one, paged_by_url, with_id
from ...errors import bad_request
from ...resources import Resource, by_user
from ...store import Document, now
from ...validation import require
from . import models

RECIPE_FIELDS = (
    *("title", "description", "instructions", "examples", "customActions"),
    *("uiSettings", "projectIds", "ontologyIds"),
)
# What the SDK calls these fields in the query string of a list.
RECIPE_NAMES = {"projects": "projectIds", "ontologies": "ontologyIds", "ids": "id"}


def create_recipe(call: Call, body: Document) -> Document:
    _check_ontologies(call, body)
    return models.create_recipe(call.store, body, call.user)


def update_recipe(call: Call, recipe: Document, body: Document) -> None:
    _check_ontologies(call, body)
    models.update(recipe, body, RECIPE_FIELDS, system=call.system)
    call.store.put("recipes", recipe | {"updatedBy": call.user})


def _check_ontologies(call: Call, body: Document) -> None:
    for ontology_id in body.get("ontologyIds") or []:
        call.store.row("ontologies", ontology_id)


def clone_recipe(call: Call, recipe: Document) -> Raw:
    shallow = bool(require(call.body).get("shallow"))
    copied = models.clone_recipe(call.store, recipe, call.user, shallow=shallow)
    return one(call, "recipes", copied["id"])


def list_recipes(call: Call) -> Raw:
    """List recipes; each field in the query string keeps only those that hold one of its values."""
    wanted = {key: _values(call, key) for key in call.query.keys() - {"pageOffset", "pageSize"} if key}

    def fits(recipe: Document) -> bool:
        return all(_holds(recipe, RECIPE_NAMES.get(key, key), values) for key, values in wanted.items())

    return _listed(call, "recipes", fits)


def list_ontologies(call: Call) -> Raw:
    ids, projects = _values(call, "ids"), _values(call, "projects")

    def fits(ontology: Document) -> bool:
        own = [
            each for each in ontology["metadata"]["system"].get("projectIds") or [] if isinstance(each, str)
        ]
        return (not ids or ontology["id"] in ids) and (not projects or not projects.isdisjoint(own))

    return _listed(call, "ontologies", fits)


def _values(call: Call, key: str) -> set[str]:
    return set(filter(None, call.query.get(key, "").split(",")))


def _holds(document: Document, field: str, values: set[str]) -> bool:
    value = document.get(field)
    held = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and each in values for each in held)


def _listed(call: Call, kind: str, fits: Callable[[Document], bool]) -> Raw:
    rows = [row for row in call.store.find(kind) if fits(call.store.parsed(row))]
    return paged_by_url(call, kind, rows, 1000)


def update_ontology(call: Call, ontology: Document, body: Document) -> None:
    if "roots" in body:
        body["roots"] = [models.check_root(root) for root in body["roots"] or []]
    known = ontology["metadata"].get("attributes") or []
    models.update(ontology, body, ("title", "roots"), system=call.system)
    if "metadata" in body:
        ontology["metadata"].setdefault("attributes", known)
    if "attributes" in body and not ontology["metadata"]["attributes"]:
        # The SDK shows attributes of either kind under one name, and sends them back so.
        ontology["attributes"] = body["attributes"] or []
    call.store.put("ontologies", ontology)


def put_labels(call: Call, ontology: Document) -> None:
    body = require(call.body)
    models.put_labels(ontology, body.get("labelsNode"), upsert=bool(body.get("upsert", True)))
    _write(call, ontology)


def put_attributes(call: Call, ontology: Document) -> None:
    attributes = require(call.body).get("items")
    if not isinstance(attributes, list):
        raise bad_request(f"'items' must be a list of attributes, got {attributes!r}")
    for attribute in attributes:
        models.put_attribute(ontology, require(attribute))
    _write(call, ontology)


def delete_attributes(call: Call, ontology: Document) -> None:
    keys = set(require(call.body).get("keys") or [])
    attributes = ontology["metadata"].get("attributes") or []
    ontology["metadata"]["attributes"] = [item for item in attributes if item.get("key") not in keys]
    _write(call, ontology)


def _write(call: Call, ontology: Document) -> None:
    call.store.put("ontologies", ontology | {"updatedAt": now()})


LISTENERS = {("Project", "Deleted"): with_id(models.forget_project)}
RECIPES = Resource("recipes", "/recipes", create_recipe, update_recipe, models.delete_recipe)
ONTOLOGIES = Resource(
    *("ontologies", "/ontologies", by_user(models.create_ontology), update_ontology, models.delete_ontology),
    methods=("PATCH", "PUT"),
)
ROUTES = [
    *RECIPES.routes,
    Route("GET", "/recipes", list_recipes),
    RECIPES.at("POST", "clone", clone_recipe),
    *ONTOLOGIES.routes,
    Route("GET", "/ontologies", list_ontologies),
    ONTOLOGIES.at("PATCH", "labels", put_labels),
    ONTOLOGIES.at("PATCH", "addLabels", put_labels),
    ONTOLOGIES.at("PATCH", "attributes", put_attributes),
    ONTOLOGIES.at("DELETE", "attributes", delete_attributes),
]
