"""Images and labels as the SDK downloads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from alhelpers.data import ImageSet

# Formats of photographs and scans. Others may start programs, as EPS starts ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")


def read_image(source: Any, name: str, size: int | Sequence[int], *, colour: bool = False) -> np.ndarray:
    """Read an image file, uint8 of shape (H, W), or (H, W, 3) with ``colour``; ``size`` is H and W, or both in one."""
    height, width = (size, size) if isinstance(size, int) else size
    image = open_image(source, name, "RGB" if colour else "L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def open_image(source: Any, name: str, mode: str) -> Image.Image:
    """Read an image file of any size as grey levels (``L``) or colours (``RGB``), upright as it is annotated."""
    try:
        with Image.open(source, formats=_FORMATS) as file:
            return _to_bytes(ImageOps.exif_transpose(file)).convert(mode)
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # all that Pillow raises
        raise ValueError(
            f"item {name!r} is not an image that can be read: remove it from the dataset, or from the filter ({error})"
        ) from error


def _to_bytes(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits a pixel: Pillow cuts those of 16 bits off at 255, and all of others' may be 0."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are of mode {image.mode}, whose range is not known: store it with 8 or 16 bits"
        )
    return image


def read_subset(
    folder: Path, class_names: list[str], size: int | Sequence[int], *, colour: bool = False
) -> ImageSet:
    """Read a subset as the SDK downloads it, ``items/`` and ``json/``; each item must have one of the labels."""
    known = {name: row for row, name in enumerate(class_names)}
    ids, images, labels = [], [], []
    for path in sorted((folder / "json").rglob("*.json")):
        document = json.loads(path.read_text())
        name = document["filename"]
        found = [entry["label"] for entry in document["annotations"] if entry["type"] == "class"]
        if len(found) != 1 or found[0] not in known:
            raise ValueError(
                f"item {name!r} has the labels {found}: exactly one of {', '.join(class_names)} is needed to train"
            )
        images.append(read_image(folder / "items" / name.lstrip("/"), name, size, colour=colour))
        labels.append(known[found[0]])
        ids.append(name)
    if not images:
        raise ValueError(f"subset {folder.name!r} holds no item: choose a filter that selects labelled items")
    return ImageSet(folder.name, np.stack(images), labels, class_names, ids=ids)
