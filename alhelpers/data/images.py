"""Decoding of image files: the same for a folder, for COCO, and for the platform's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

#: Endings of files that are taken for images, in small letters.
SUFFIXES = frozenset(".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())

# Formats of photographs and scans. Others may start programs, as EPS starts ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")

# All that Pillow raises for a file that is damaged, of another kind, or too large.
_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

#: The values of EXIF's turn for images that lie on their side.
LYING = (5, 6, 7, 8)
# The tag of EXIF for the turn.
_TURN = 0x0112


class UnreadableImage(ValueError):
    """The content is not an image that can be decoded; the message is the reason alone."""


def read_image(source: Any, size: int | Sequence[int] | None, mode: str) -> np.ndarray:
    """Decode an image: uint8 of shape (H, W) for mode ``L``, (H, W, 3) for ``RGB``.

    ``size`` is H and W, or both in one. A JPEG that is much larger is decoded at a half, a quarter or an eighth of its
    size before it is resized.
    """
    if size is None:
        return np.asarray(open_image(source, mode))
    height, width = size_pair(size)
    # Twice the size, as smaller would be seen; and of both sides alike, as the file may lie on its side.
    image = open_image(source, mode, least=2 * max(height, width))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def open_image(source: Any, mode: str, *, least: int | None = None) -> Image.Image:
    """Decode an image as grey levels (``L``) or colours (``RGB``), upright; no side shrinks below ``least``."""
    try:
        with Image.open(source, formats=_FORMATS) as file:
            if least is not None and min(file.size) >= 2 * least:
                file.draft(None, (least, least))
            ImageOps.exif_transpose(file, in_place=True)
            image = _to_bytes(file)
            return image if image.mode == mode else image.convert(mode)
    except _ERRORS as error:
        raise _unreadable(error) from error


def upright_size(source: Any) -> tuple[int, int]:
    """Return the height and width of an image as :func:`open_image` decodes it, from the head of its file."""
    try:
        with Image.open(source, formats=_FORMATS) as file:
            width, height = file.size
            return (width, height) if file.getexif().get(_TURN, 1) in LYING else (height, width)
    except _ERRORS as error:
        raise _unreadable(error) from error


def _unreadable(error: BaseException) -> UnreadableImage:
    # Pillow names the object in memory that it cannot identify.
    is_unknown = isinstance(error, UnidentifiedImageError)
    return UnreadableImage("cannot identify image file" if is_unknown else str(error))


def size_pair(size: Any) -> tuple[int, int]:
    """Return a size, H and W or both in one, as a pair; raise a ValueError unless they are whole and at least 1."""
    pair = tuple(size) if isinstance(size, Sequence | np.ndarray) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in pair):
        raise ValueError(
            f"size is {size!r}: it must be a whole number of at least 1, or two: (height, width)"
        )
    return int(pair[0]), int(pair[1])


def _to_bytes(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits a pixel: Pillow cuts those of 16 bits off at 255, and all of others' may be 0."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are of mode {image.mode}, whose range is not known: store it with 8 or 16 bits"
        )
    return image
