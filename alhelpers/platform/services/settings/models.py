"""Settings, and which one applies if several scopes have one of the same name."""

from ...api import Call
from ...errors import bad_request
from ...store import Document, Store
from ...validation import require

# From the widest scope to the narrowest: a narrower one overrides, unless a wider one forbids it.
SCOPES = ("DATALOOP", "org", "project", "dataset", "task", "user")
KINDS = {"project": "projects", "dataset": "datasets", "task": "tasks"}
VALUE_TYPES = ("boolean", "number", "select", "multi-select", "string")
PLAIN_TYPES: dict[str, type | tuple[type, ...]] = {"boolean": bool, "number": (int, float), "string": str}


def check(call: Call, setting: Document) -> None:
    """Check the scope and the value of a setting, which is kept by its scope's id."""
    scope, name = require(setting.get("scope"), "type", "id"), setting["name"]
    if scope["type"] not in SCOPES:
        raise bad_request(f"a setting's scope must be one of {', '.join(SCOPES)}, got {scope['type']!r}")
    if scope["type"] in KINDS:
        call.store.row(KINDS[scope["type"]], scope["id"])
    if call.store.first("settings", scopeId=scope["id"], name=name, id__ne=setting["id"]):
        raise bad_request(f"a setting named {name!r} exists in {scope['type']} {scope['id']}; update it")
    kind, value = setting.get("valueType"), setting.get("value")
    if kind not in VALUE_TYPES:
        raise bad_request(f"'valueType' must be one of {', '.join(VALUE_TYPES)}, got {kind!r}")
    expected = PLAIN_TYPES.get(kind)
    wrong = expected is not None and value is not None and not isinstance(value, expected)
    if wrong or (kind == "number" and isinstance(value, bool)):
        raise bad_request(f"setting {name!r} holds a {kind}, got {value!r}")
    setting["scopeId"] = scope["id"]


def resolve(store: Store, scopes: dict[str, str]) -> list[Document]:
    """List the settings that apply in these scopes (ids by type), one a name."""
    held: dict[str, Document] = {}
    for kind in SCOPES:
        if kind not in scopes:
            continue
        for setting in store.find_all("settings", scopeId=scopes[kind]):
            before = held.get(setting["name"])
            if before is None or not before["scope"].get("preventOverride"):
                held[setting["name"]] = setting
    return list(held.values())
