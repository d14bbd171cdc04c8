"""Images and labels as the SDK downloads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dtlpy as dl
import numpy as np
from PIL import Image

from alhelpers.data import ImageSet, images


def read_image(source: Any, name: str, size: int | Sequence[int], *, colour: bool = False) -> np.ndarray:
    """Read an item's image, uint8 (H, W), or (H, W, 3) with ``colour``; ``size`` is H and W, or both in one."""
    with _naming(name):
        return images.read_image(source, size, "RGB" if colour else "L")


def download_images(
    items: Iterable[dl.Item], size: int | Sequence[int], *, colour: bool = False
) -> np.ndarray:
    """Download items as images of one size, uint8 of shape (N, H, W), or (N, H, W, 3) with ``colour``.

    Parameters
    ----------
    items : iterable of dl.Item
        Image files of any size.
    size : int or pair of int
        Height and width, or both in one.
    colour : bool
        Whether to read colours, or grey levels.

    Raises
    ------
    ValueError
        If an item is not an image that can be read.
    """
    items = list(items)
    with ThreadPoolExecutor(8) as pool:
        files = pool.map(lambda item: item.download(save_locally=False), items)
        return np.stack(
            [
                read_image(file, item.filename, size, colour=colour)
                for file, item in zip(files, items, strict=True)
            ]
        )


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
