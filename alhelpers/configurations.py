"""Configurations as pydantic models: an error names the place, the value there, and what the value must be.

The description of a field, or of a model, ends the sentence "the value must be ...": it is what an error states, and
what the JSON schema of the model holds.
"""

from __future__ import annotations

import ast
import difflib
import functools
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from alhelpers.files import CONFIGURATIONS

#: The dialect that every JSON schema of the kit names.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Configuration(BaseModel):
    """Base of all configurations: JSON types are not converted, unknown keys and infinite numbers are refused.

    A subclass describes what an object of it must be by `described`; a validator refuses a value with a ValueError,
    whose text is put after the place, or which is empty where the description says enough.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


Model = TypeVar("Model", bound=Configuration)


def described(description: str, **options: Any) -> ConfigDict:
    """Return the ``model_config`` of a configuration that must be, for example, "an object with 'size'"."""
    return ConfigDict(json_schema_extra={"description": description}, **options)


def _integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: An integer, which JSON may also write as ``2.0``.
Integer = Annotated[int, BeforeValidator(_integer)]
#: A text that is not empty.
Text = Annotated[str, Field(min_length=1)]


def shipped(name: str) -> dict[str, Any]:
    """Read a JSON file of the kit's ``pipeline_configs``, such as ``"test_subset_filter.json"``, anew.

    Raises
    ------
    ValueError
        If the kit has no file of that name.
    """
    known = sorted(each.name for each in CONFIGURATIONS.glob("*.json"))
    if name not in known:
        raise ValueError(f"the kit ships no {name!r}: it has {', '.join(known)}; read your own with json")
    return json.loads((CONFIGURATIONS / name).read_text(encoding="utf-8"))


def read(model_class: type[Model], given: Any, name: str) -> Model:
    """Check a configuration, as JSON holds it, and return it as a model, which shares no object or list with it.

    An instance of the model is returned as it is. A ValueError states the outermost mistake: the place, which begins
    with ``name`` (``compare_config.checks[0].figure``), the value there, and what it must be; for an unknown key the
    known ones and the nearest of them.
    """
    if isinstance(given, model_class):
        return given
    plain = _plain(given)
    try:
        return model_class.model_validate(plain)
    except ValidationError as error:
        raise ValueError(_message(error, plain, _schema(model_class), name)) from None


def json_schema(model_class: type[Configuration], title: str) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a configuration."""
    return {"$schema": DIALECT, **_schema(model_class), "title": title}


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(model_class: type[BaseModel]) -> dict[str, Any]:
    return model_class.model_json_schema(schema_generator=_Generator)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


# ------------------------------------------------------------------------------
# messages
# ------------------------------------------------------------------------------

_UNKNOWN = ("extra_forbidden", "invalid_key")


def _message(error: ValidationError, given: Any, schema: dict[str, Any], name: str) -> str:
    found = [(_place(each, given), each) for each in error.errors(include_url=False)]
    # The outermost mistake first, and an unknown key before a missing one: it is often its misspelling.
    place, first = min(found, key=lambda pair: (len(pair[0]), pair[1]["type"] not in _UNKNOWN))
    where = name + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    parts = _parts(schema, place)
    known = {key: part for each in parts for key, part in each.get("properties", {}).items()}
    if first["type"] in _UNKNOWN:
        unknown = next(key for key in functools.reduce(operator.getitem, place, given) if key not in known)
        near = difflib.get_close_matches(str(unknown), known, 1)
        names = ", ".join(map(repr, known))
        return f"{where} has the unknown key {unknown!r}; known are {names}" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    if first["type"] == "missing":
        missing = first["loc"][-1]
        what = _description(_parts(schema, [*place, missing])) or "there"
        return f"{where} lacks {missing!r}, which must be {what}: {first['input']!r}"
    if first["type"] == "value_error" and (text := str(first["ctx"]["error"])):
        return f"{where} {text}"
    if description := _description(parts):
        return f"{where} {first['input']!r} must be {description}"
    return f"{where} {first['input']!r}: {first['msg']}"


def _place(error: Any, given: Any) -> list[str | int]:
    """Return where an error is: pydantic's location without the alternatives of a union, and without the key."""
    place: list[str | int] = []
    location = error["loc"][:-1] if error["type"] in ("missing", *_UNKNOWN) else error["loc"]
    for step in location:
        there = isinstance(given, dict) if isinstance(step, str) else isinstance(given, list)
        if there and (isinstance(step, int) or step in given):
            place.append(step)
            given = given[step]
    return place


def _parts(schema: dict[str, Any], place: Sequence[str | int]) -> list[dict[str, Any]]:
    """Return the parts of a schema that are about a place, the outermost first."""
    parts = list(_alternatives(schema, schema))
    for step in place:
        inner = [_step(part, step) for part in parts]
        parts = [part for each in inner if each for part in _alternatives(each, schema)]
    return parts


def _alternatives(part: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield part
    if "$ref" in part:
        yield from _alternatives(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    for each in part.get("anyOf", ()):
        yield from _alternatives(each, schema)


def _step(part: dict[str, Any], step: str | int) -> dict[str, Any] | None:
    if isinstance(step, int):
        return part.get("items")
    inner = part.get("properties", {}).get(step, part.get("additionalProperties"))
    return inner if isinstance(inner, dict) else None


def _description(parts: Sequence[dict[str, Any]]) -> str | None:
    return next((part["description"] for part in parts if "description" in part), None)


def named_texts(pairs: Sequence[str]) -> dict[str, str]:
    """Parse the options ``NAME=VALUE`` of a command line; a ValueError names one of another form, or given twice."""
    texts: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        if name in texts:
            raise ValueError(f"a parameter is given twice, in {', '.join(pairs)}")
        texts[name] = text
    return texts


def literal_or_text(text: str) -> Any:
    """Parse a Python literal; anything else is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
