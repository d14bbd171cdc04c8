"""Types of files, and JSON files that stand for something else."""

import json
import mimetypes
from pathlib import Path

from ...store import Document
from .images import read_image

# An instance of its own: the module-level table depends on files of the machine.
_TYPES = mimetypes.MimeTypes()
_FALLBACK_TYPE = "application/octet-stream"

SHEBANG_LIMIT = 1 << 23


def guess_type(name: str) -> str:
    return _TYPES.guess_type(name, strict=False)[0] or _FALLBACK_TYPE


def has_header(name: str) -> bool:
    """Return whether a file of this name begins with what describes it: an image, or JSON."""
    return guess_type(name).startswith("image/") or name.endswith(".json")


def read_content(file: Path, name: str) -> Document:
    """Return the system metadata that describe a file's bytes."""
    return read_shebang(file) if name.endswith(".json") else read_image(file)


def read_shebang(file: Path) -> Document:
    """Read what a JSON file with ``"shebang": "dataloop"`` is: a link, a prompt, a saved filter."""
    if file.stat().st_size > SHEBANG_LIMIT:
        return {}
    content = file.read_bytes()
    if b'"shebang"' not in content:
        return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    shebang = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(shebang, dict) or document.get("shebang") != "dataloop":
        return {}
    link = shebang.get("linkInfo")
    mimetype = link.get("mimetype") if isinstance(link, dict) and link.get("type") == "url" else None
    return {"shebang": shebang} | ({"mimetype": mimetype} if isinstance(mimetype, str) else {})
