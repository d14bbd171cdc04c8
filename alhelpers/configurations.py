"""JSON configurations, checked against their schemas: an error names the key, its value, and what is right.

A schema's ``description`` ends the sentence "the value must be ...", so it is what the reader of an error is told.
"""

import math
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

#: The dialect that every schema of the kit names.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def check(config: Any, schema: Mapping[str, Any], name: str) -> None:
    """Raise unless a configuration fits its schema.

    Parameters
    ----------
    config : object
        The configuration, as JSON gives it; it is not changed. Numbers must be finite, and `True` is none.
    schema : mapping
        A JSON schema (2020-12).
    name : str
        What the error calls the configuration.

    Raises
    ------
    ValueError
        Names the place in the configuration (``compare_config.checks[0].figure``), the value there, and what it
        must be; for an unknown key, the known ones.
    """
    error = best_match(_Validator(schema).iter_errors(config), key=_relevance)
    if error is not None:
        raise ValueError(_message(error, name))


def _relevance(error: ValidationError) -> tuple[int, bool]:
    # The outermost mistake first, and an unknown key before a missing one: it is often its misspelling.
    return -len(error.absolute_path), error.validator == "additionalProperties"


def _message(error: ValidationError, name: str) -> str:
    where = name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
    schema, value = error.schema, error.instance
    properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    if error.validator == "additionalProperties":
        unknown = next(key for key in value if key not in properties)
        return f"{where} has the unknown key {unknown!r}; known are {', '.join(map(repr, properties))}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in value)
        what = properties.get(missing, {}).get("description", "there")
        return f"{where} lacks {missing!r}, which must be {what}: {value!r}"
    if isinstance(schema, Mapping) and "description" in schema:
        return f"{where} {value!r} must be {schema['description']}"
    return f"{where}: {error.message}"


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(_: Any, value: Any) -> bool:
    return _is_number(_, value) and value == int(value)


_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": _is_number,
            "integer": _is_integer,
            "object": lambda _, value: isinstance(value, Mapping),
            "array": lambda _, value: isinstance(value, list | tuple),
        }
    ),
)
