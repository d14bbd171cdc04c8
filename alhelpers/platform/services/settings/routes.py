from ...api import Call, Route
from ...resources import everywhere, plain
from ...store import Document
from ...validation import require
from ..organizations.models import ORGANIZATION
from . import models

FIELDS = (
    *("name", "value", "valueType", "defaultValue", "scope", "settingType", "metadata", "description"),
    *("inputs", "icon", "sectionName", "subSectionName", "hint"),
)


def resolve(call: Call) -> list[Document]:
    body = require(call.body, "userId")
    scopes = {"DATALOOP": "DATALOOP", "org": ORGANIZATION["id"], "user": body["userId"]}
    for kind in models.KINDS:
        if body.get(f"{kind}Id"):
            scopes[kind] = call.store.row(models.KINDS[kind], body[f"{kind}Id"]).id
    return models.resolve(call.store, scopes)


ROUTES = [
    Route("POST", "/settings/resolve", resolve),
    *plain("settings", "/settings", FIELDS, check=models.check, query=everywhere).routes,
]
