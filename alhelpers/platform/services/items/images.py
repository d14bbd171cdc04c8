"""Headers and thumbnails of images; as a script, a process that makes thumbnails of the files that it is told.

Decoding may take any time and memory, so the server leaves it to that process, which imports nothing of the package.
"""

import contextlib
import io
import json
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

# Others are not decoded: EPS, for one, would start another program.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# Pillow reads the whole file of this format for its header.
READ_WHOLE, LARGEST_WHOLE = "WEBP", 1 << 26
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
# What Pillow raises over broken images, and over those that need too much memory.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error, MemoryError),
    Image.DecompressionBombError,
)
THUMBNAIL_SIZE = (256, 256)
MAX_PIXELS = 64_000_000
MAX_MEMORY = 2 << 30


def read_image(file: Path) -> dict[str, Any]:
    """Read the header of an image; an empty dict for other files and broken images."""
    try:
        with _opened(file) as image:
            found = {"width": image.width, "height": image.height, "channels": len(image.getbands())}
            orientation = _orientation(image)
    except UNREADABLE:
        return {}
    # Width and height are those of the stored pixels; the SDK turns its masks by this.
    return found | ({"exif": {"Orientation": orientation}} if orientation in ORIENTATIONS else {})


def make_thumbnail(file: Path) -> bytes | None:
    """Make a small JPEG of an image; None for other files, broken images and those too large to decode."""
    try:
        with _opened(file) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", THUMBNAIL_SIZE)
            orientation = _orientation(image)
            small = image.convert("RGB")
            if orientation in ORIENTATIONS:
                small = small.transpose(ORIENTATIONS[orientation])
            small.thumbnail(THUMBNAIL_SIZE)
    except UNREADABLE:
        return None
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG")
    return buffer.getvalue()


@contextlib.contextmanager
def _opened(file: Path) -> Any:
    large = file.stat().st_size > LARGEST_WHOLE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large image is stored all the same, never decoded
        with Image.open(
            file, formats=[each for each in FORMATS if not (large and each == READ_WHOLE)]
        ) as image:
            yield image


def _orientation(image: Image.Image) -> int | None:
    # Pillow would decode all pixels of a PNG without EXIF data.
    has_exif = image.format != "PNG" or "exif" in image.info
    return image.getexif().get(ExifTags.Base.Orientation) if has_exif else None


def main() -> None:
    """Read the path of a file from each line, as JSON, and write the length of its thumbnail, and the thumbnail."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    for line in sys.stdin.buffer:
        content = make_thumbnail(Path(json.loads(line))) or b""
        sys.stdout.buffer.write(len(content).to_bytes(4, "big") + content)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
