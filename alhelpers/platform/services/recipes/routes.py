from collections.abc import Callable

from ...api import Call, Raw, Route, fetch, one, paged, remove
from ...errors import bad_request
from ...events import Event
from ...query import Page
from ...store import Document, now
from ...validation import require, whole_number
from . import models

RECIPE_FIELDS = (
    *("title", "description", "instructions", "examples", "customActions"),
    *("uiSettings", "projectIds", "ontologyIds"),
)
# What the SDK calls these fields in the query string of a list.
RECIPE_NAMES = {"projects": "projectIds", "ontologies": "ontologyIds", "ids": "id"}


def create_recipe(call: Call) -> Raw:
    body = require(call.body)
    for ontology_id in body.get("ontologyIds") or []:
        call.store.row("ontologies", ontology_id, "ontology")
    recipe = models.create_recipe(
        call.store, body, body.get("projectIds") or [], body.get("ontologyIds") or [], call.user
    )
    return one(call, "recipes", recipe["id"])


def update_recipe(call: Call) -> Raw:
    recipe = call.store.get("recipes", call.params["id"])
    body = require(call.body)
    for ontology_id in body.get("ontologyIds") or []:
        call.store.row("ontologies", ontology_id, "ontology")
    models.update(recipe, body, RECIPE_FIELDS, system=call.system)
    call.store.put("recipes", recipe | {"updatedBy": call.user})
    return one(call, "recipes", recipe["id"])


def clone_recipe(call: Call) -> Raw:
    recipe = call.store.get("recipes", call.params["id"])
    shallow = bool(require(call.body).get("shallow"))
    copied = models.clone_recipe(call.store, recipe, call.user, shallow=shallow)
    return one(call, "recipes", copied["id"])


def list_recipes(call: Call) -> Raw:
    """List recipes; each field in the query string keeps only those that hold one of its values."""
    wanted = {key: _values(call, key) for key in call.query.keys() - {"pageOffset", "pageSize"} if key}

    def fits(recipe: Document) -> bool:
        return all(_holds(recipe, RECIPE_NAMES.get(key, key), values) for key, values in wanted.items())

    return _listed(call, "recipes", fits)


def create_ontology(call: Call) -> Raw:
    body = require(call.body)
    ontology = models.create_ontology(
        call.store,
        body.get("roots") or [],
        body.get("projectIds") or [],
        call.user,
        title=body.get("title"),
        attributes=body.get("attributes"),
    )
    return one(call, "ontologies", ontology["id"])


def list_ontologies(call: Call) -> Raw:
    """List ontologies, by the ids or projects in the query string."""
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
    number = whole_number(call.query, "pageOffset", 0)
    rows = [row for row in call.store.find(kind) if fits(call.store.parsed(row))]
    return paged(call, kind, Page.of(rows, number, whole_number(call.query, "pageSize", 1000)))


def update_ontology(call: Call) -> Raw:
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    body = require(call.body)
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
    return one(call, "ontologies", ontology["id"])


def put_labels(call: Call) -> Raw:
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    body = require(call.body)
    models.put_labels(ontology, body.get("labelsNode"), upsert=bool(body.get("upsert", True)))
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def put_attributes(call: Call) -> Raw:
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    attributes = require(call.body).get("items")
    if not isinstance(attributes, list):
        raise bad_request(f"'items' must be a list of attributes, got {attributes!r}")
    for attribute in attributes:
        models.put_attribute(ontology, require(attribute))
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def delete_attributes(call: Call) -> Raw:
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    keys = set(require(call.body).get("keys") or [])
    attributes = ontology["metadata"].get("attributes") or []
    ontology["metadata"]["attributes"] = [item for item in attributes if item.get("key") not in keys]
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def forget_project(call: Call, event: Event) -> None:
    models.forget_project(call.store, event.id)


LISTENERS = {("Project", "Deleted"): forget_project}
ROUTES = [
    Route("POST", "/recipes", create_recipe),
    Route("GET", "/recipes", list_recipes),
    Route("POST", "/recipes/{id}/clone", clone_recipe),
    Route("GET", "/recipes/{id}", fetch("recipes", "id")),
    Route("PATCH", "/recipes/{id}", update_recipe),
    Route("DELETE", "/recipes/{id}", remove(models.delete_recipe, "id")),
    Route("POST", "/ontologies", create_ontology),
    Route("GET", "/ontologies", list_ontologies),
    Route("GET", "/ontologies/{id}", fetch("ontologies", "id", "ontology")),
    Route("PUT", "/ontologies/{id}", update_ontology),
    Route("PATCH", "/ontologies/{id}", update_ontology),
    Route("DELETE", "/ontologies/{id}", remove(models.delete_ontology, "id")),
    Route("PATCH", "/ontologies/{id}/labels", put_labels),
    Route("PATCH", "/ontologies/{id}/addLabels", put_labels),
    Route("PATCH", "/ontologies/{id}/attributes", put_attributes),
    Route("DELETE", "/ontologies/{id}/attributes", delete_attributes),
]
