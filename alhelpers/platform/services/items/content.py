"""What the bytes of an item say about it: its type, the size of an image, what a JSON file stands for."""

import io
import json
import mimetypes
import struct
import warnings
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

# Our own instance: the module-level table depends on files of the machine.
_TYPES = mimetypes.MimeTypes()
_FALLBACK_TYPE = "application/octet-stream"

# How an image is turned upright, by what its camera says.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises over broken images.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error),
    Image.DecompressionBombError,
)
THUMBNAIL_SIZE = (256, 256)
MAX_PIXELS = 64_000_000
SHEBANG_LIMIT = 1 << 23


def guess_type(name: str) -> str:
    """Guess a file's type from its name."""
    return _TYPES.guess_type(name, strict=False)[0] or _FALLBACK_TYPE


def has_header(name: str) -> bool:
    """Return whether a file of this name begins with what describes it: an image, or JSON."""
    return guess_type(name).startswith("image/") or name.endswith(".json")


def read_content(file: Path, name: str) -> dict[str, Any]:
    """Read what the system metadata of an item say about its bytes."""
    return read_shebang(file) if name.endswith(".json") else read_image(file)


def read_image(file: Path) -> dict[str, Any]:
    """Read what an image's header says; nothing for what is no image, or a broken one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is stored all the same, never decoded
            with Image.open(file) as image:
                found = {"width": image.width, "height": image.height, "channels": len(image.getbands())}
                # For a PNG without it, Pillow would decode all pixels to be sure.
                told = image.format != "PNG" or "exif" in image.info
                orientation = image.getexif().get(ExifTags.Base.Orientation) if told else None
    except UNREADABLE:
        return {}
    # Width and height are those of the stored pixels; the SDK turns its masks by this.
    return found | ({"exif": {"Orientation": orientation}} if orientation in UPRIGHT else {})


def read_shebang(file: Path) -> dict[str, Any]:
    """Read what a JSON file with ``"shebang": "dataloop"`` says it is: a link, a prompt, a saved filter."""
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


def make_thumbnail(file: Path) -> bytes | None:
    """Draw an image small, as JPEG; None for what is no image, a broken one, or one too large to decode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                image.draft("RGB", THUMBNAIL_SIZE)
                # For a PNG without it, Pillow would decode all pixels to be sure.
                told = image.format != "PNG" or "exif" in image.info
                orientation = image.getexif().get(ExifTags.Base.Orientation) if told else None
                small = image.convert("RGB")
                if orientation in UPRIGHT:
                    small = small.transpose(UPRIGHT[orientation])
                small.thumbnail(THUMBNAIL_SIZE)
    except UNREADABLE:
        return None
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG")
    return buffer.getvalue()
