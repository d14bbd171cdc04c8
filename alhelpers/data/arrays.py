"""Data sets of arrays in memory: tables, images, or several inputs a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from alhelpers.protocols import Task

# Rows of a data set: integers, or None for all.
Rows = np.ndarray | Sequence[int] | slice | None


class ArrayDataset:
    """Inputs and labels in memory, in a fixed order; a :class:`~alhelpers.protocols.Dataset`.

    Parameters
    ----------
    inputs : array of shape (N, ...), or a dict or tuple of them
        What a learner takes, the rows first. Sparse matrices stay sparse.
    labels : array_like of shape (N,) or (N, ...), optional
        Class indices for classification, numbers for regression. None: the data can only be predicted on.
    class_names : sequence, optional
        The name of each class, of any kind that has a text.
    task : {"classification", "regression", ...}
        What the labels are.
    ids : sequence of length N, optional
        One distinct id a row; the default counts them.

    Raises
    ------
    ValueError
        If the lengths differ, ids or class names repeat, or a class index is out of range.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any = None,
        class_names: Sequence[Any] | None = None,
        *,
        task: Task = "classification",
        ids: Sequence[Any] | None = None,
    ) -> None:
        self._inputs = each(_as_array, inputs)
        counts = [values.shape[0] for values in parts_of(self._inputs)]
        self._labels = None if labels is None else np.asarray(labels)
        self.ids: Sequence[Any] = np.arange(counts[0]) if ids is None else np.asarray(ids)
        counts += [len(self.ids)] + ([] if self._labels is None else [len(self._labels)])
        if len(set(counts)) > 1:
            raise ValueError(
                f"inputs, ids and labels have the lengths {counts}: they must have one entry a row each"
            )
        if len(np.unique(self.ids)) < len(self.ids):
            raise ValueError("ids must be distinct, one a row")
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.task: Task = task
        self._check_classes()

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, rows: Rows = None) -> Any:
        """Return the inputs of the rows, or of all, in the form that they were passed in."""
        return each(lambda values: values[_index(rows)], self._inputs)

    def labels(self, rows: Rows = None) -> np.ndarray:
        """Return the labels of the rows, or of all.

        Raises
        ------
        ValueError
            If the data set has no labels.
        """
        if self._labels is None:
            raise ValueError("this data set has no labels: pass labels= where it is made")
        return self._labels[_index(rows)]

    def take(self, rows: Rows) -> Self:
        """Return the data set of the given rows, in the given order."""
        taken = object.__new__(type(self))
        taken.__dict__.update(self.__dict__)
        taken._inputs = each(lambda values: values[_index(rows)], self._inputs)
        taken._labels = None if self._labels is None else self._labels[_index(rows)]
        taken.ids = self.ids[_index(rows)]
        return taken

    def part(self, count: int, *, start: int = 0) -> Self:
        """Return ``count`` rows from row ``start`` on.

        Raises
        ------
        ValueError
            If there are not that many.
        """
        if count < 1 or start < 0 or start + count > len(self):
            name = repr(getattr(self, "name", "the data set"))
            raise ValueError(
                f"{count} rows from row {start} on were asked for, but {name} has {len(self)}: ask for fewer"
            )
        return self.take(slice(start, start + count))

    def _check_classes(self) -> None:
        names = self.class_names
        if names is None:
            return
        if len(set(names)) < len(names):
            raise ValueError(f"class_names must be distinct, got {', '.join(names)}")
        if self._labels is None or self.task != "classification" or not len(self._labels):
            return
        if self._labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {self._labels.dtype}: they must be indices into class_names")
        lowest, highest = self._labels.min(), self._labels.max()
        if lowest < 0 or highest >= len(names):
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"labels hold {wrong}: they must be indices into class_names, from 0 to {len(names) - 1}"
            )


class ImageSet(ArrayDataset):
    """Images with their labels, in memory.

    Parameters
    ----------
    name : str
        The data set's name.
    images : numpy.ndarray, shape (N, H, W) or (N, H, W, C), uint8
        Grey levels or colours, 0 to 255.
    labels : array_like of shape (N,), optional
        Index into ``class_names``. None: the images can only be predicted on.
    class_names : sequence
        One name a class.
    ids : sequence of length N, optional
        One distinct id an image; the default is the name and the row.

    Raises
    ------
    ValueError
        As :class:`ArrayDataset` does, and if the images have another shape or type.
    """

    def __init__(
        self,
        name: str,
        images: np.ndarray,
        labels: Any,
        class_names: Sequence[Any],
        *,
        ids: Sequence[Any] | None = None,
    ) -> None:
        check_images(images)
        self.name = name
        labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        ids = [f"{name}-{row:05d}" for row in range(len(images))] if ids is None else ids
        super().__init__(images, labels, class_names, ids=ids)

    @property
    def images(self) -> np.ndarray:
        """The images, (N, H, W) or (N, H, W, C) uint8."""
        return self._inputs

    def inputs(self, rows: Rows = None) -> np.ndarray:
        """Return images as networks take them, (B, C, H, W) float32 from 0 to 1."""
        return to_planes(self._inputs[_index(rows)])


def check_images(images: Any) -> None:
    """Raise a ValueError unless images are a uint8 array of shape (N, H, W) or (N, H, W, C)."""
    if not isinstance(images, np.ndarray) or images.ndim not in (3, 4) or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"images are {found}: they must be a uint8 array of shape (N, H, W) or (N, H, W, C)")


def to_planes(images: np.ndarray) -> np.ndarray:
    """Turn images (N, H, W) or (N, H, W, C) uint8 into (N, C, H, W) float32 from 0 to 1."""
    scaled = images.astype(np.float32) / 255
    return scaled[:, None] if images.ndim == 3 else np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def each(function: Callable[[Any], Any], values: Any) -> Any:
    """Apply a function to an array, or to each of a dict or tuple of arrays."""
    if isinstance(values, Mapping):
        return {name: function(value) for name, value in values.items()}
    return tuple(map(function, values)) if isinstance(values, tuple) else function(values)


def parts_of(values: Any) -> list[Any]:
    """Return an array, or those of a dict or tuple, in a list."""
    if isinstance(values, Mapping):
        return [*values.values()]
    return [*values] if isinstance(values, tuple) else [values]


def _as_array(values: Any) -> Any:
    return values if hasattr(values, "shape") else np.asarray(values)


def _index(rows: Rows) -> Any:
    return slice(None) if rows is None else rows
