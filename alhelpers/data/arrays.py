"""Data sets of arrays in memory: tables, images, or several inputs a row."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from alhelpers.data.labels import class_indices, classes_of, finite_numbers, indicators, indices_of, is_named
from alhelpers.protocols import Task

# Rows of a data set: integers, or None for all.
Rows = np.ndarray | Sequence[int] | slice | None


class ArrayDataset:
    """Inputs and labels in memory, in a fixed order; a :class:`~alhelpers.protocols.Dataset`.

    Parameters
    ----------
    inputs : array of shape (N, ...), or a dict or tuple of them
        What a learner takes, the rows first. Sparse matrices and data frames stay what they are.
    labels : array_like of shape (N,) or (N, ...), optional
        Class indices for classification (bools are 0 and 1), 0 or 1 a class (N, C) for multilabel, numbers for
        regression. None: the data can only be predicted on.
    class_names : sequence, optional
        The name of each class, of any kind that has a text.
    task : {"classification", "multilabel", "regression", ...}
        What the labels are.
    ids : sequence of length N, optional
        One distinct id a row, all texts or all numbers; the default counts them.

    Raises
    ------
    ValueError
        If the lengths differ, ids or class names repeat, ids are of several types, or a label is not one of the task.
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
        if not counts:
            raise ValueError("inputs are empty: pass an array, or a dict or tuple of at least one")
        self._labels = None if labels is None else np.asarray(labels)
        self.ids: Sequence[Any] = np.arange(counts[0]) if ids is None else _as_ids(ids)
        counts += [len(self.ids)] + ([] if self._labels is None else [len(self._labels)])
        if len(set(counts)) > 1:
            raise ValueError(
                f"inputs, ids and labels have the lengths {counts}: they must have one entry a row each"
            )
        (repeated, times), *_ = Counter(self.ids.tolist()).most_common(1) or [(None, 0)]
        if times > 1:
            raise ValueError(f"ids must be distinct, one a row, but {repeated!r} occurs {times} times")
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.task: Task = task
        self._check_classes()

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, rows: Rows = None) -> Any:
        """Return the inputs of the rows, or of all, in the form that they were passed in."""
        return each(lambda values: rows_of(values, rows), self._inputs)

    def labels(self, rows: Rows = None) -> np.ndarray:
        """Return the labels of the rows, or of all.

        Raises
        ------
        ValueError
            If the data set has no labels.
        """
        if self._labels is None:
            raise ValueError("this data set has no labels: pass labels= where it is made")
        return rows_of(self._labels, rows)

    def take(self, rows: Rows) -> Self:
        """Return the data set of the given rows, in the given order."""
        taken = copy.copy(self)
        taken._inputs = each(lambda values: rows_of(values, rows), self._inputs)
        taken._labels = None if self._labels is None else rows_of(self._labels, rows)
        taken.ids = rows_of(self.ids, rows)
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
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"class_names must be distinct, got {', '.join(names)}")
        if self._labels is None:
            return
        if self.task == "multilabel":
            self._labels = indicators(self._labels, names, self.ids)
        elif names is not None and self.task == "classification":
            self._labels = class_indices(self._labels, len(names), ids=self.ids)


def arrays(
    inputs: Any,
    labels: Any = None,
    class_names: Sequence[Any] | None = None,
    *,
    task: Task = "classification",
    ids: Sequence[Any] | None = None,
) -> ArrayDataset:
    """Make a data set of arrays in memory.

    Parameters
    ----------
    inputs : array of shape (N, ...), or a dict or tuple of them
        What a learner takes, the rows first: numbers, texts, sparse matrices or data frames.
    labels : array_like of shape (N,) or (N, C), optional
        For classification class indices, texts or bools. For multilabel 0 or 1 a class, (N, C). For regression finite
        numbers.
    class_names : sequence, optional
        The name of each class. By default the texts or bools of the labels, sorted.
    task : {"classification", "multilabel", "regression"}
        What the labels are.
    ids : sequence of length N, optional
        One distinct id a row, all texts or all numbers; the default counts them.

    Returns
    -------
    ArrayDataset
        Its labels are class indices.

    Raises
    ------
    ValueError
        If lengths differ, an id or a class name is there twice, or a label is not one of the task.

    Examples
    --------
    >>> dataset = arrays(np.zeros((3, 8)), ["cat", "dog", "cat"])
    >>> dataset.class_names, dataset.labels().tolist()
    (('cat', 'dog'), [0, 1, 0])
    """
    if labels is not None and task == "classification" and is_named(labels):
        if class_names is None:
            labels, class_names = classes_of(labels, ids)
        else:
            labels = indices_of(labels, class_names, ids, classes=len(class_names))
    elif labels is not None and task == "regression":
        labels = finite_numbers(labels, ids)
    return ArrayDataset(inputs, labels, class_names, task=task, ids=ids)


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
    class_names : sequence, optional
        One name a class.
    task : {"classification", "multilabel", ...}
        What the labels are.
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
        class_names: Sequence[Any] | None,
        *,
        task: Task = "classification",
        ids: Sequence[Any] | None = None,
    ) -> None:
        check_images(images)
        self.name = name
        ids = [f"{name}-{row:05d}" for row in range(len(images))] if ids is None else ids
        super().__init__(images, labels, class_names, task=task, ids=ids)
        if self._labels is not None and task == "classification":
            self._labels = self._labels.astype(np.int64)

    @property
    def images(self) -> np.ndarray:
        """The images, (N, H, W) or (N, H, W, C) uint8."""
        return self._inputs

    def inputs(self, rows: Rows = None) -> np.ndarray:
        """Return images as networks take them, (B, C, H, W) float32 from 0 to 1."""
        return to_planes(rows_of(self._inputs, rows))


class PartlyLabelled:
    """What data sets share in which some rows have no label: their two parts."""

    _is_labelled: np.ndarray

    @property
    def labelled(self) -> Self:
        """The data set of the rows with labels."""
        return self.take(np.flatnonzero(self._is_labelled))

    @property
    def unlabelled(self) -> Self:
        """The data set of the rows without labels: the pool."""
        return self.take(np.flatnonzero(~self._is_labelled))

    def _first_without_label(self, rows: Rows) -> Any:
        """Return the id of the first of the rows that has no label, or None."""
        without = ~rows_of(self._is_labelled, rows)
        return rows_of(self.ids, rows)[without].tolist()[0] if without.any() else None


def check_images(images: Any) -> None:
    """Raise a ValueError unless images are a uint8 array of shape (N, H, W) or (N, H, W, C)."""
    if not isinstance(images, np.ndarray) or images.ndim not in (3, 4) or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"images are {found}: they must be a uint8 array of shape (N, H, W) or (N, H, W, C)")


def to_planes(images: np.ndarray) -> np.ndarray:
    """Turn images (N, H, W) or (N, H, W, C) uint8 into (N, C, H, W) float32 from 0 to 1."""
    planes = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    # In one pass, as copies in between take twice as long; planes lie one behind the other, as view() needs them.
    return np.divide(planes, np.float32(255), out=np.empty(planes.shape, np.float32))


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
    if hasattr(values, "tocsr"):  # other sparse formats have no rows to index
        return values.tocsr()
    return values if hasattr(values, "shape") else np.asarray(values)


def _as_ids(ids: Sequence[Any]) -> np.ndarray:
    """Return ids as an array, or raise a ValueError if numpy would turn numbers into text, or an id has parts."""
    values = np.asarray(ids)
    if values.ndim != 1:
        raise ValueError(f"ids have the shape {values.shape}: they must be texts or numbers, one a row")
    other = [each for each in ids if not isinstance(each, str | bytes)] if values.dtype.kind in "US" else []
    if other:
        raise ValueError(f"ids hold texts and {other[0]!r}: they must be all texts or all numbers")
    return values


def bytes_of(values: Any) -> int:
    """Return the size of an array, or of all of a dict or tuple, as far as it is known."""
    return sum(getattr(part, "nbytes", 0) for part in parts_of(values))


def rows_of(values: Any, rows: Rows) -> Any:
    """Return rows of an array, a sparse matrix or a data frame; all if rows is None."""
    if rows is None:
        return values
    if not isinstance(rows, slice) and len(rows) and isinstance(rows[0], str | bytes):
        raise ValueError(
            f"rows hold {str(rows[0])!r}: they must be row numbers from 0 on; those of ids are"
            " np.flatnonzero(np.isin(dataset.ids, ids))"
        )
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]
