"""Checks of what clients send."""

import json
from collections.abc import Mapping
from typing import Any

from .errors import ApiError, bad_request, not_found

# Every whole number with so many digits is less than the largest float.
MAX_DIGITS = 308
# A field has one type in all requests, so that a wrong one is refused in one place.
TEXT_LISTS = ("projects", "projectIds", "ontologyIds", "keys", "datasetsIds")
LISTS = (*(*TEXT_LISTS, "labels", "artifacts", "roots", "labelsNode", "dependencies", "variables"),)
OBJECTS = (
    *("metadata", "configuration", "settings", "context", "components", "app", "uiSettings"),
    *("updateQuery", "itemsQuery", "cloneDatasetParams", "mergeDatasetParams", "customInstallation"),
)
SHAPES: dict[str, type] = dict.fromkeys(LISTS, list) | dict.fromkeys(OBJECTS, dict)


def merge(document: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a diff in place: a null removes its key, an object goes deeper, anything else replaces."""
    for key, value in patch.items():
        if value is None:
            document.pop(key, None)
        elif isinstance(value, dict):
            current = document.get(key)
            document[key] = merge(current if isinstance(current, dict) else {}, value)
        else:
            document[key] = value
    return document


def with_system(document: dict[str, Any], metadata: dict[str, Any], *, system: bool) -> dict[str, Any]:
    """Return new metadata of a document, whose system metadata change only if `system`."""
    given = metadata.get("system") if system else None
    return metadata | {"system": document["metadata"].get("system") or {} if given is None else given}


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """Read a whole number, 0 or more, from a query string."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise bad_request(f"{name!r} must be a whole number, got {text!r}")
    return int(text)


def check_whole_number(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        words = f", {least} or more" if most is None else f" from {least} to {most}"
        raise bad_request(f"{name!r} must be a whole number{words}, got {value!r}")
    return value


def check_different(what: str, values: list[Any], status: int = 400) -> None:
    """Refuse two equal names or ids."""
    if len(set(map(str, values))) < len(values):
        raise ApiError(status, f"{what} must be different, got {values}")


def check_ids(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise bad_request(f"{name!r} must be a list of ids, got {value!r}")
    return value


def is_id(value: str) -> bool:
    return len(value) == 24 and set(value) <= set("0123456789abcdef")


def unknown_id(label: str, value: str) -> ApiError:
    """Build the refusal of an id that nothing has: 404, or 400 if it cannot be an id."""
    # Twelve characters are an id of the hosted platform as well.
    if not is_id(value) and len(value) != 12:
        return bad_request(f"{label} not found: {value!r} is not an id of 24 hexadecimal digits")
    missing = not_found(label, value)
    # On the hosted platform a missing annotation is a bad request.
    return bad_request(missing.message) if label == "annotation" else missing


def require(body: Any, *fields: str) -> dict[str, Any]:
    """Check a request's body, an object: known fields have their types, `fields` are non-empty strings. Return it."""
    if not isinstance(body, dict):
        raise bad_request(f"the request needs a JSON object, got {type(body).__name__}")
    for field in fields:
        value = body.get(field)
        if not isinstance(value, str) or not value.strip():
            raise bad_request(f"{field!r} must be a non-empty string, got {value!r}")
    for field in body.keys() & SHAPES.keys():
        _check_shape(field, body[field])
    return body


def _check_shape(field: str, value: Any) -> None:
    shape = SHAPES[field]
    if value is not None and not isinstance(value, shape):
        raise bad_request(f"{field!r} must be {'a list' if shape is list else 'an object'}, got {value!r}")
    if field in TEXT_LISTS and not all(isinstance(element, str) for element in value or []):
        raise bad_request(f"{field!r} must be a list of strings, got {value!r}")
    if field == "metadata":
        check_metadata(value)


def check_metadata(metadata: Any) -> None:
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request(f"'metadata' must be an object, got {metadata!r}")
    system = (metadata or {}).get("system")
    if system is not None and not isinstance(system, dict):
        raise bad_request(f"'metadata.system' must be an object, got {system!r}")


def strict_json(text: str | bytes) -> Any:
    """Parse JSON, without the NaN, Infinity and whole numbers beyond all floats that Python's parser accepts."""
    return json.loads(text, parse_constant=_refuse_constant, parse_int=_whole)


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits, more than a float can hold")
    return int(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
