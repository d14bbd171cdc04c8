"""The template environment: values are escaped, and missing fields render as empty text."""

from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader

from .runs import mood
from .views import pretty


def environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"pretty": pretty, "when": when, "bytes": size, "mood": mood, "percent": percent}
    made.filters |= {"short": short, "number": number}
    return made


def when(value: Any) -> str:
    """Format a timestamp to the second, in UTC."""
    text = str(value or "")
    return f"{text[:10]} {text[11:19]}" if text[10:11] == "T" else text


def size(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown"
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def percent(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.1%}"


def short(value: Any, length: int = 24) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
