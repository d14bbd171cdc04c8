"""Names of new models: the templates in the node's configuration, of which nothing is ever evaluated."""

from __future__ import annotations

import re
import string
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from alhelpers.configurations import Configuration, described

DEFAULT_DATETIME_FORMAT = "%Y-%m-%dT%H-%M-%S"
DEFAULT_NAME_TEMPLATE = "{base_model.name}_{datetime}"
KNOWN_PLACEHOLDERS = ("{base_model.name}", "{dataset.name}", "{datetime}", "{datetime:%Y-%m-%d}")

# Templates of the published node call Python's datetime; the two forms that its users write are understood, not run.
_CALLED_DATETIME = re.compile(
    r"\{datetime(?:\.datetime)?\.(?:utc)?now\(\)(?:\.strftime\((?P<quote>['\"])(?P<format>[^{}]*?)(?P=quote)\))?\}"
)
# What strftime's codes become in a finished name, to recognise the timestamp of an earlier round.
_DATETIME_PATTERNS = {
    **dict.fromkeys(("%m", "%d", "%H", "%I", "%M", "%S", "%y"), r"\d\d"),
    **dict.fromkeys(("%b", "%B", "%a", "%A"), r"\w+"),
    "%p": r"\w*",
    "%Y": r"\d{4}",
    "%j": r"\d{3}",
    "%f": r"\d{6}",
    "%s": r"\d{9,11}",
    "%F": r"\d{4}-\d\d-\d\d",
    "%T": r"\d\d-\d\d-\d\d",
    "%%": "%",
}
# A model's name becomes the name of a folder, so path separators and what Windows refuses are replaced.
_UNSAFE = re.compile(r"[\x00-\x1f/\\:*?\"<>|]+")


class CreateModelConfig(Configuration):
    """The configuration of the node, as the pipeline's editor writes it."""

    model_config = described("an object with the new model's name template")
    name: str = Field("", description="the node's name")
    model_name: str = Field(
        "",
        alias="modelName",
        description="a template of the new model's name, such as '{base_model.name}_{datetime}'",
    )
    validation: Any = Field(None, description="what the pipeline's editor found")
    ports: list[Any] | None = Field(None, description="a list of the node's ports")


def render_name(template: str, base_model_name: str, dataset_name: str, now: datetime | None = None) -> str:
    """Render a template with the placeholders of `KNOWN_PLACEHOLDERS`; by default ``now`` is the current UTC time.

    A suffix that an earlier round added to the base model's name is dropped first; characters that no folder may have
    are replaced by '-'.

    >>> render_name("{base_model.name}_{datetime:%Y-%m-%d}", "digits_2024-01-02", "d", datetime(2025, 3, 4))
    'digits_2025-03-04'
    """
    now = now or datetime.now(UTC)
    values = {
        "base_model.name": original_name(template, base_model_name, dataset_name),
        "dataset.name": dataset_name,
    }
    rendered = ""
    for text, name, form in parse_template(template):
        rendered += text
        if name == "datetime":
            rendered += now.strftime(form or DEFAULT_DATETIME_FORMAT)
        elif name is not None:
            rendered += values[name]
    cleaned = _clean(rendered).strip()
    if not cleaned:
        raise ValueError(
            f"the name template {template!r} results in an empty name; the default is {DEFAULT_NAME_TEMPLATE!r}"
        )
    return cleaned


def parse_template(template: str) -> list[tuple[str, str | None, str]]:
    """Split a template into literal texts, each with the placeholder that follows it, or None, and its date format.

    Nothing is evaluated; an unknown placeholder and braces that do not match raise a ValueError.
    """
    if not isinstance(template, str) or not template.strip():
        raise ValueError(f"the name template {template!r} is empty; the default is {DEFAULT_NAME_TEMPLATE!r}")
    plain = _CALLED_DATETIME.sub(
        lambda match: f"{{datetime:{match['format']}}}" if match["format"] else "{datetime}", template
    )
    known = f"known are {', '.join(KNOWN_PLACEHOLDERS)}"
    try:
        parts = list(string.Formatter().parse(plain))
    except ValueError as error:
        raise ValueError(f"the name template {template!r} cannot be read ({error}); {known}") from error
    parsed: list[tuple[str, str | None, str]] = []
    for text, name, form, conversion in parts:
        name = "datetime" if name == "datetime..." else name
        plain_name = name in (None, "base_model.name", "dataset.name") and not form and not conversion
        if not plain_name and (name != "datetime" or conversion or "{" in (form or "")):
            raise ValueError(
                f"the name template {template!r} has the unknown placeholder {{{name}}}; {known}"
            )
        parsed.append((text, name, form or ""))
    return parsed


def original_name(template: str, base_model_name: str, dataset_name: str) -> str:
    """Remove the suffixes that the template added in former rounds, so that names do not grow with the rounds."""
    parts = parse_template(template)
    names = [name for _, name, _ in parts]
    adds_something = "datetime" in names or any(text for text, _, _ in parts) or "dataset.name" in names
    if names.count("base_model.name") != 1 or not adds_something:
        return base_model_name
    pattern = re.compile("".join(_part_pattern(*part, dataset_name) for part in parts) + r"(?:-\d+)?")
    name = base_model_name
    while (match := pattern.fullmatch(name)) and match["base"] != name:
        name = match["base"]
    return name


def _part_pattern(text: str, name: str | None, form: str, dataset_name: str) -> str:
    pattern = re.escape(_clean(text))
    if name == "base_model.name":
        return pattern + r"(?P<base>.+)"
    if name == "dataset.name":
        return pattern + re.escape(_clean(dataset_name))
    if name == "datetime":
        codes = re.split(r"(%.)", form or DEFAULT_DATETIME_FORMAT)
        # A code that is not in the table matches nothing: then a name keeps its suffix.
        return pattern + "".join(
            _DATETIME_PATTERNS.get(code, r"(?!)") if code.startswith("%") else re.escape(_clean(code))
            for code in codes
        )
    return pattern


def _clean(text: str) -> str:
    return _UNSAFE.sub("-", text)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name itself or, if it is taken, the first of ``name-2``, ``name-3``, ... that is not."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
