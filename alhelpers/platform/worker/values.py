"""Conversion of arguments (ids to entities) and of results (entities to ids)."""

import json
from pathlib import PurePath
from typing import Any

import dtlpy as dl

# The types of entities: the SDK's repository '<type>s' has a get() that takes '<type>_id'.
ENTITIES = frozenset(
    "Dataset Item Annotation Execution Task Assignment Service Package Project Recipe Model".split()
)
PLAIN = {"String": str, "Number": float, "Integer": int, "Float": float, "Boolean": bool}
LARGEST_OUTPUT = 16 << 20


class ValueProblem(Exception):
    """An argument or a result is not of the declared type."""


def resolve(name: str, declared: str | None, value: Any) -> Any:
    """Convert an argument (an id, ``{'item_id': ...}``, a list of those, or a plain value) to its declared type.

    Without a type such as ``Item``, ``Item[]`` or ``Json``, only objects with the id of an entity are converted.
    """
    declared = declared or _guess(value)
    if value is None or declared is None:
        return value
    if declared.endswith("[]"):
        values = value if isinstance(value, list) else [value]
        return [resolve(name, declared[:-2], each) for each in values]
    if declared in ENTITIES:
        return _fetch(name, declared, value)
    return _plain(name, declared, value)


def _guess(value: Any) -> str | None:
    if isinstance(value, dict):
        # An annotation may come with its item's id as well, an item with its dataset's.
        for kind in ("Annotation", "Item", "Dataset", "Model", "Task", "Project"):
            if f"{kind.lower()}_id" in value:
                return kind
    return None


def _fetch(name: str, kind: str, value: Any) -> Any:
    key = f"{kind.lower()}_id"
    if isinstance(value, dict):
        value = value.get(key) or value.get("id")
    if not isinstance(value, str):
        raise ValueProblem(f"input {name!r} must be the id of a {kind}, or {{{key!r}: id}}; got {value!r}")
    try:
        return getattr(dl, f"{kind.lower()}s").get(**{key: value})
    except dl.exceptions.NotFound:
        if kind == "Package":
            return dl.dpks.get(dpk_id=value)
        raise


def _plain(name: str, declared: str, value: Any) -> Any:
    wanted = PLAIN.get(declared)
    if wanted is None or (declared == "Number" and isinstance(value, int | float)):
        return value
    if isinstance(value, wanted) and not (isinstance(value, bool) and wanted is not bool):
        return value
    try:
        if wanted is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return wanted(value)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueProblem(f"input {name!r} must be of type {declared}, got {value!r}") from error


def pack(value: Any) -> Any:
    """Convert a function's result to JSON; entities become ids, several results a list."""
    try:
        text = json.dumps(value, default=_encode, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueProblem(f"the function's output cannot be written as JSON: {error}") from error
    if len(text) > LARGEST_OUTPUT:
        raise ValueProblem(
            f"the function's output has {len(text)} characters of JSON; the limit is {LARGEST_OUTPUT}"
        )
    return json.loads(text)


def _encode(value: Any) -> Any:
    if isinstance(value, dl.Filters):
        return value.prepare()
    if isinstance(getattr(value, "id", None), str):
        return value.id
    if isinstance(value, dl.AnnotationCollection):
        return value.annotations
    if isinstance(value, dl.Annotation):
        return value.id
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, set | frozenset | range):
        return list(value)
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and torch
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is neither JSON nor an entity of the platform")
