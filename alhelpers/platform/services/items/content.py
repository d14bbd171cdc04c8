"""Types of files, headers of images, JSON files that stand for something else, and thumbnails."""

import io
import json
import mimetypes
import struct
import warnings
from pathlib import Path

from PIL import ExifTags, Image

from ...store import Document

# An instance of its own: the module-level table depends on files of the machine.
_TYPES = mimetypes.MimeTypes()
_FALLBACK_TYPE = "application/octet-stream"

# How to turn an image upright, by its EXIF orientation.
ORIENTATIONS = {
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
    return _TYPES.guess_type(name, strict=False)[0] or _FALLBACK_TYPE


def has_header(name: str) -> bool:
    """Return whether a file of this name begins with what describes it: an image, or JSON."""
    return guess_type(name).startswith("image/") or name.endswith(".json")


def read_content(file: Path, name: str) -> Document:
    """Return the system metadata that describe a file's bytes."""
    return read_shebang(file) if name.endswith(".json") else read_image(file)


def read_image(file: Path) -> Document:
    """Read the header of an image; an empty dict for other files and broken images."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is stored all the same, never decoded
            with Image.open(file) as image:
                found = {"width": image.width, "height": image.height, "channels": len(image.getbands())}
                # Pillow would decode all pixels of a PNG without EXIF data.
                has_exif = image.format != "PNG" or "exif" in image.info
                orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
    except UNREADABLE:
        return {}
    # Width and height are those of the stored pixels; the SDK turns its masks by this.
    return found | ({"exif": {"Orientation": orientation}} if orientation in ORIENTATIONS else {})


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


def make_thumbnail(file: Path) -> bytes | None:
    """Make a small JPEG of an image; None for other files, broken images and those too large to decode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                image.draft("RGB", THUMBNAIL_SIZE)
                # Pillow would decode all pixels of a PNG without EXIF data.
                has_exif = image.format != "PNG" or "exif" in image.info
                orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
                small = image.convert("RGB")
                if orientation in ORIENTATIONS:
                    small = small.transpose(ORIENTATIONS[orientation])
                small.thumbnail(THUMBNAIL_SIZE)
    except UNREADABLE:
        return None
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG")
    return buffer.getvalue()
