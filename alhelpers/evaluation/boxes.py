"""Boxes: their overlap, and the columns of rows that hold them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.evaluation.masks import Masks
from alhelpers.evaluation.rows import (
    NOTHING,
    EvaluationError,
    Names,
    check_counted,
    column,
    flags,
    floats,
    given,
    keys,
    names_of_columns,
)
from alhelpers.scores.locations import area_of, box_iou, shared_area

SIDES = ("left", "top", "right", "bottom")


def iou(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Compute the intersection over union of all pairs of two lists of boxes.

    Parameters
    ----------
    first : array_like of shape (A, 4)
        Boxes as left, top, right, bottom.
    second : array_like of shape (B, 4)
        Boxes in the same unit.

    Returns
    -------
    numpy.ndarray of shape (A, B), float64
        From 0 (apart, or one of them is empty) to 1 (the same box).

    Raises
    ------
    EvaluationError
        If a shape differs, or a box ends before it begins or is not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    for name, boxes in (("first", a), ("second", b)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise EvaluationError(f"{name} must have shape (boxes, 4), got {boxes.shape}")
        _check_boxes(boxes, name)
    return pair_iou(a[:, None, :], b[None, :, :])


@dataclass(frozen=True)
class Boxes:
    """Boxes, or the masks of objects with the boxes around them, in columns of n rows."""

    image: list[Hashable]
    label: list[Hashable]
    # (n, 4): left, top, right, bottom.
    corners: np.ndarray
    # (n,): of the box, of the mask, or as the rows say it.
    area: np.ndarray
    # (n,) bool: ground truth in which objects are not told apart.
    crowd: np.ndarray
    masks: Masks | None = None

    @classmethod
    def read(cls, rows: Any, name: str, *, masks: bool = False, truth: bool = True) -> Boxes:
        """Read and check the columns of a list of dicts or a DataFrame; ground truth may have crowds and areas."""
        image, label = (keys(column(rows, key, name), key, name) for key in ("image_id", "label"))
        columns = names_of_columns(rows)
        check_counted(rows, columns, name, crowds=truth)
        shapes = Masks.read(column(rows, "mask", name), name) if masks else None
        if shapes is None:
            corners = np.empty((len(label), 4))
            for place, side in enumerate(SIDES):
                corners[:, place] = floats(column(rows, side, name), side, name)
            _check_boxes(corners, name)
            area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        else:
            corners, area = shapes.corners.astype(np.float64), shapes.area.astype(np.float64)
        if truth and "area" in columns:
            area = _stated_areas(rows, area, name)
        crowded = truth and "iscrowd" in columns
        crowd = flags(rows, "iscrowd", name) if crowded else np.zeros(len(label), dtype=bool)
        return cls(image, label, corners, area, crowd, shapes)

    @cached_property
    def images(self) -> Names:
        """The images, each once, with its number in each row."""
        return Names.of(self.image)

    @cached_property
    def labels(self) -> Names:
        """The labels, each once, with its number in each row."""
        return Names.of(self.label)

    def take(self, rows: np.ndarray) -> Boxes:
        """Return some of the rows."""
        names = ([names[row] for row in rows.tolist()] for names in (self.image, self.label))
        masks = self.masks and self.masks.take(rows)
        return Boxes(*names, self.corners[rows], self.area[rows], self.crowd[rows], masks)


def _stated_areas(rows: Any, area: np.ndarray, name: str) -> np.ndarray:
    """Return the areas with those that the rows state in their place."""
    stated = given(rows, "area")
    if stated is None:
        return area
    known = np.array([str(value).lower() not in NOTHING for value in stated], dtype=bool)
    values = floats([value if there else 0 for value, there in zip(stated, known, strict=True)], "area", name)
    if (values < 0).any():
        row = int(np.flatnonzero(values < 0)[0])
        raise EvaluationError(f"row {row} of {name}: area is {values[row]:g}, it must be 0 or more")
    return np.where(known, values, area)


def pair_iou(a: np.ndarray, b: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return the intersection over union of boxes in the last axis, which broadcast.

    Where b is of a crowd, the union is the area of a: how much of a lies in the crowd.
    """
    if crowd is None:
        return box_iou(a, b)
    shared, own = shared_area(a, b), area_of(a)
    union = np.where(crowd, own, own + area_of(b) - shared)
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def _check_boxes(corners: np.ndarray, name: str) -> None:
    """Raise unless every box is finite and ends where it begins or after."""
    good = np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise EvaluationError(
            f"row {row} of {name}: left, top, right, bottom are {corners[row].tolist()}; a box needs finite numbers, "
            "right >= left and bottom >= top"
        )
