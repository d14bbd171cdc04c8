"""Images and labels as the SDK downloads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import dtlpy as dl
import numpy as np
from PIL import Image

from alhelpers.data import images


def read_image(source: Any, name: str, size: int | Sequence[int], *, colour: bool = False) -> np.ndarray:
    """Read an item's image, uint8 (H, W), or (H, W, 3) with ``colour``; ``size`` is H and W, or both in one."""
    with _naming(name):
        return images.read_image(source, size, "RGB" if colour else "L")


class Picture(NamedTuple):
    """An item's image as a model takes it, and the height and width of the item, whose pixels annotations are in."""

    pixels: np.ndarray
    size: tuple[int, int]
    item: dl.Item


def read_picture(item: dl.Item, size: int | Sequence[int], *, colour: bool = False) -> Picture:
    """Download an item, and read it as :func:`read_image` does."""
    content = item.download(save_locally=False)
    pixels = read_image(content, item.filename, size, colour=colour)
    content.seek(0)
    return Picture(pixels, images.upright_size(content), item)


def download_pictures(
    items: Iterable[dl.Item], size: int | Sequence[int], *, colour: bool = False
) -> list[Picture]:
    """Download items side by side, and read them as :func:`read_image` does."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda item: read_picture(item, size, colour=colour), items))


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
    return np.stack([each.pixels for each in download_pictures(items, size, colour=colour)])


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
