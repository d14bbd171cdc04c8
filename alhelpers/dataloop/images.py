"""Images and labels as the SDK downloads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alhelpers.data import ImageSet


def read_image(source: Any, name: str, size: int | Sequence[int], *, colour: bool = False) -> np.ndarray:
    """Read an image file, uint8 of shape (H, W), or (H, W, 3) with ``colour``; ``size`` is H and W, or both in one."""
    height, width = (size, size) if isinstance(size, int) else size
    try:
        with Image.open(source) as file:
            image = file.convert("RGB" if colour else "L")
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # all that Pillow raises
        raise ValueError(
            f"item {name!r} is not an image that can be read: remove it from the dataset, or from the filter"
        ) from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


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
