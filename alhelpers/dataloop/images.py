"""Images and labels as the SDK downloads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alhelpers.data import ImageSet, images


def read_image(source: Any, name: str, size: int | Sequence[int], *, colour: bool = False) -> np.ndarray:
    """Read an item's image, uint8 (H, W), or (H, W, 3) with ``colour``; ``size`` is H and W, or both in one."""
    with _naming(name):
        return images.read_image(source, size, "RGB" if colour else "L")


def open_image(source: Any, name: str, mode: str) -> Image.Image:
    """Read an item's image of any size as grey levels (``L``) or colours (``RGB``), upright as it is annotated."""
    with _naming(name):
        return images.open_image(source, mode)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except images.UnreadableImage as error:
        raise ValueError(
            f"item {name!r} is not an image that can be read: remove it from the dataset, or from the filter ({error})"
        ) from error


def read_subset(
    folder: Path, class_names: list[str], size: int | Sequence[int], *, colour: bool = False
) -> ImageSet:
    """Read a subset as the SDK downloads it, ``items/`` and ``json/``; each item must have one of the labels."""
    known = {name: row for row, name in enumerate(class_names)}
    ids, pictures, labels = [], [], []
    for path in sorted((folder / "json").rglob("*.json")):
        document = json.loads(path.read_text())
        name = document["filename"]
        found = [entry["label"] for entry in document["annotations"] if entry["type"] == "class"]
        if len(found) != 1 or found[0] not in known:
            raise ValueError(
                f"item {name!r} has the labels {found}: exactly one of {', '.join(class_names)} is needed to train"
            )
        pictures.append(read_image(folder / "items" / name.lstrip("/"), name, size, colour=colour))
        labels.append(known[found[0]])
        ids.append(name)
    if not pictures:
        raise ValueError(f"subset {folder.name!r} holds no item: choose a filter that selects labelled items")
    return ImageSet(folder.name, np.stack(pictures), labels, class_names, ids=ids)
