"""Masks of objects: their overlap, and the column of rows that holds them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alhelpers.evaluation.rows import EvaluationError


@dataclass(frozen=True)
class Masks:
    """Masks of n objects: each cut to its bounds, as masks are small beside their images."""

    crops: list[np.ndarray]
    # (n, 4) int: left, top, right, bottom; all 0 where a mask has no pixel.
    corners: np.ndarray
    # (n,) int: pixels.
    area: np.ndarray
    # The (height, width) of each image.
    sizes: list[tuple[int, int]]

    @classmethod
    def read(cls, values: Sequence[Any], name: str) -> Masks:
        """Check the masks and cut them."""
        crops, sizes = [], []
        corners, area = np.zeros((len(values), 4), dtype=np.int64), np.zeros(len(values), dtype=np.int64)
        for row, value in enumerate(values):
            mask = np.asarray(value)
            if mask.dtype != bool or mask.ndim != 2:
                raise EvaluationError(
                    f"row {row} of {name}: mask must be an array of bool of the image's height and width, got "
                    f"{mask.dtype} of shape {mask.shape}"
                )
            down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if len(down):
                left, top, right, bottom = corners[row] = across[0], down[0], across[-1] + 1, down[-1] + 1
                mask = mask[top:bottom, left:right]
                area[row] = np.count_nonzero(mask)
            crops.append(mask)
            sizes.append(np.asarray(value).shape)
        return cls(crops, corners, area, sizes)

    def take(self, rows: np.ndarray) -> Masks:
        """Return some of the masks."""
        crops, sizes = ([values[row] for row in rows.tolist()] for values in (self.crops, self.sizes))
        return Masks(crops, self.corners[rows], self.area[rows], sizes)

    def shared(self, rows: np.ndarray, other: Masks, other_rows: np.ndarray) -> np.ndarray:
        """Return the pixels that each pair of masks has in common, (pairs,)."""
        least = np.maximum(self.corners[rows, :2], other.corners[other_rows, :2])
        most = np.minimum(self.corners[rows, 2:], other.corners[other_rows, 2:])
        shared = np.zeros(len(rows), dtype=np.int64)
        for pair in np.flatnonzero((least < most).all(axis=1)).tolist():
            (left, top), (right, bottom) = least[pair].tolist(), most[pair].tolist()
            parts = []
            for masks, row in ((self, rows[pair]), (other, other_rows[pair])):
                x, y = masks.corners[row, :2].tolist()
                parts.append(masks.crops[row][top - y : bottom - y, left - x : right - x])
            shared[pair] = np.count_nonzero(parts[0] & parts[1])
        return shared


def mask_overlaps(
    masks: Masks, rows: np.ndarray, other: Masks, other_rows: np.ndarray, crowd: np.ndarray | None
) -> np.ndarray:
    """Return the intersection over union of pairs; where the other is of a crowd, over the area of the first."""
    shared = masks.shared(rows, other, other_rows)
    own = masks.area[rows]
    union = own + other.area[other_rows] - shared
    if crowd is not None:
        union = np.where(crowd, own, union)
    return np.divide(shared, union, out=np.zeros(len(rows)), where=union > 0)


def check_sizes(images: Sequence[Hashable], sizes: Sequence[tuple[int, int]]) -> None:
    """Raise unless all masks of an image have one size."""
    known: dict[Hashable, tuple[int, int]] = {}
    for image, size in zip(images, sizes, strict=True):
        if known.setdefault(image, size) != size:
            raise EvaluationError(
                f"the masks of image {image!r} have the sizes {known[image]} and {size} (height, width): masks must "
                "have the size of their image"
            )
