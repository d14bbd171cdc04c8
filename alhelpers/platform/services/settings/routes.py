import json

from ...api import Call, Raw, Route
from ...query import search
from ...store import Document, now
from ...validation import merge, require
from ..projects.models import ORGANIZATION
from . import models


def create(call: Call) -> Document:
    return models.create(call.store, require(call.body), call.user)


def get(call: Call) -> Document:
    return call.store.get("settings", call.params["setting_id"])


def query(call: Call) -> Raw:
    page = search(call.store, "settings", require(call.body))
    return Raw(json.dumps({"items": [json.loads(row.doc) for row in page.rows], **page.envelope()}))


def update(call: Call) -> Document:
    setting = call.store.get("settings", call.params["setting_id"])
    fixed = {key: setting[key] for key in ("id", "name", "scope", "scopeId", "creator", "createdAt")}
    setting = merge(setting, require(call.body)) | fixed | {"updatedAt": now()}
    models.check_value(setting)
    call.store.put("settings", setting)
    return setting


def delete(call: Call) -> Document:
    setting = call.store.row("settings", call.params["setting_id"])
    call.store.delete("settings", id=setting.id)
    return {"id": setting.id}


def resolve(call: Call) -> list[Document]:
    body = require(call.body, "userId")
    scopes = {"DATALOOP": "DATALOOP", "org": ORGANIZATION["id"], "user": body["userId"]}
    for kind in models.KINDS:
        if body.get(f"{kind}Id"):
            scopes[kind] = call.store.row(models.KINDS[kind], body[f"{kind}Id"]).id
    return models.resolve(call.store, scopes)


ROUTES = [
    Route("POST", "/settings", create),
    Route("POST", "/settings/query", query),
    Route("POST", "/settings/resolve", resolve),
    Route("GET", "/settings/{setting_id}", get),
    Route("PATCH", "/settings/{setting_id}", update),
    Route("DELETE", "/settings/{setting_id}", delete),
]
