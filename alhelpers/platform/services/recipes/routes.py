"""Routes of recipes and ontologies."""

import json
from typing import Any

from ...api import Call, Raw, Route, one, paged
from ...errors import bad_request
from ...query import Page
from ...store import merge, now, require
from . import models


def create_recipe(call: Call) -> Raw:
    """Make a recipe."""
    body = require(call.body)
    for ontology_id in body.get("ontologyIds") or []:
        call.store.row("ontologies", ontology_id, "ontology")
    recipe = models.create_recipe(
        call.store, body, body.get("projectIds") or [], body.get("ontologyIds") or [], call.user
    )
    return one(call, "recipes", recipe["id"])


def get_recipe(call: Call) -> Raw:
    """Fetch a recipe."""
    return one(call, "recipes", call.params["id"])


def update_recipe(call: Call) -> Raw:
    """Change a recipe."""
    return _update(call, "recipes", "recipe")


def delete_recipe(call: Call) -> dict[str, Any]:
    """Delete a recipe."""
    call.store.row("recipes", call.params["id"])
    call.store.delete("recipes", "id = ?", call.params["id"])
    return {"id": call.params["id"]}


def create_ontology(call: Call) -> Raw:
    """Make an ontology."""
    body = require(call.body)
    ontology = models.create_ontology(
        call.store, body.get("roots") or [], body.get("projectIds") or [], call.user, body.get("title")
    )
    return one(call, "ontologies", ontology["id"])


def list_ontologies(call: Call) -> Raw:
    """List ontologies, by ids or by projects where the query string names them."""
    ids, projects = (set(filter(None, call.query.get(key, "").split(","))) for key in ("ids", "projects"))
    rows = [
        row
        for row in call.store.select("ontologies", tail="ORDER BY id")
        if (not ids or row.id in ids)
        and (
            not projects or projects & set(json.loads(row.doc)["metadata"]["system"].get("projectIds") or [])
        )
    ]
    return paged(call, "ontologies", Page(rows, len(rows), 0, max(len(rows), 1)))


def get_ontology(call: Call) -> Raw:
    """Fetch an ontology."""
    return one(call, "ontologies", call.params["id"], "ontology")


def update_ontology(call: Call) -> Raw:
    """Change an ontology."""
    return _update(call, "ontologies", "ontology")


def delete_ontology(call: Call) -> dict[str, Any]:
    """Delete an ontology."""
    call.store.row("ontologies", call.params["id"], "ontology")
    call.store.delete("ontologies", "id = ?", call.params["id"])
    return {"id": call.params["id"]}


def put_labels(call: Call) -> Raw:
    """Add or change labels."""
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    body = require(call.body)
    models.put_labels(ontology, body.get("labelsNode"), upsert=bool(body.get("upsert", True)))
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def put_attributes(call: Call) -> Raw:
    """Add or replace attributes, by key."""
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    attributes = require(call.body).get("items")
    if not isinstance(attributes, list):
        raise bad_request(f"'items' must be a list of attributes, got {attributes!r}")
    given = {require(attribute, "key")["key"]: attribute for attribute in attributes}
    kept = [item for item in ontology["metadata"].get("attributes") or [] if item.get("key") not in given]
    ontology["metadata"]["attributes"] = kept + list(given.values())
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def delete_attributes(call: Call) -> Raw:
    """Remove attributes, by key."""
    ontology = call.store.get("ontologies", call.params["id"], "ontology")
    keys = set(require(call.body).get("keys") or [])
    attributes = ontology["metadata"].get("attributes") or []
    ontology["metadata"]["attributes"] = [item for item in attributes if item.get("key") not in keys]
    call.store.put("ontologies", ontology | {"updatedAt": now()})
    return one(call, "ontologies", ontology["id"])


def _update(call: Call, kind: str, label: str) -> Raw:
    document = call.store.get(kind, call.params["id"], label)
    body = require(call.body)
    if "roots" in body:
        body["roots"] = [models.check_root(root) for root in body["roots"] or []]
    kept = {key: document[key] for key in ("id", "creator", "createdAt")}
    body = {key: value for key, value in body.items() if key != "url"}
    call.store.put(kind, merge(document, body) | kept | {"updatedAt": now()})
    return one(call, kind, kept["id"])


ROUTES = [
    Route("POST", "/recipes", create_recipe),
    Route("GET", "/recipes/{id}", get_recipe),
    Route("PATCH", "/recipes/{id}", update_recipe),
    Route("DELETE", "/recipes/{id}", delete_recipe),
    Route("POST", "/ontologies", create_ontology),
    Route("GET", "/ontologies", list_ontologies),
    Route("GET", "/ontologies/{id}", get_ontology),
    Route("PUT", "/ontologies/{id}", update_ontology),
    Route("PATCH", "/ontologies/{id}", update_ontology),
    Route("DELETE", "/ontologies/{id}", delete_ontology),
    Route("PATCH", "/ontologies/{id}/labels", put_labels),
    Route("PATCH", "/ontologies/{id}/addLabels", put_labels),
    Route("PATCH", "/ontologies/{id}/attributes", put_attributes),
    Route("DELETE", "/ontologies/{id}/attributes", delete_attributes),
]
