"""A data set of torch, or what a DataLoader reads from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from alhelpers.data.arrays import ArrayDataset, Rows, each, parts_of, rows_of
from alhelpers.protocols import Task

# Keys under which a dict has its label.
_LABEL_KEYS = ("labels", "label")


class TorchDataset:
    """The items of a data set of torch; a :class:`~alhelpers.protocols.Dataset` that :func:`loader` makes.

    Attributes
    ----------
    ids : numpy.ndarray of shape (N,)
    class_names : tuple of str or None
    task : {"classification", "multilabel", "regression"}
    """

    def __init__(
        self, source: Any, collate: Any, ids: np.ndarray, class_names: Sequence[Any] | None, task: Task
    ) -> None:
        self._source, self._collate, self._rows = source, collate, np.arange(len(ids))
        self.ids = ids
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.task = task
        # Labels by row of the source, once they are read; shared by the parts of a data set.
        self._known: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def inputs(self, rows: Rows = None) -> Any:
        """Return a batch of inputs: an array (B, ...), or a dict or tuple of arrays, as the items are collated."""
        return self._batch(rows_of(self._rows, rows))

    def labels(self, rows: Rows = None) -> np.ndarray:
        """Return the labels of the rows, (B,) or (B, C); items whose label is not known yet are read.

        Raises
        ------
        ValueError
            If the items have no label.
        """
        places = rows_of(self._rows, rows).tolist()
        missing = [place for place in dict.fromkeys(places) if place not in self._known]
        for start in range(0, len(missing), 256):
            self._batch(np.array(missing[start : start + 256]), labelled=True)
        return np.array([self._known[place] for place in places])

    def take(self, rows: Rows) -> Self:
        """Return the data set of the given rows, in the given order."""
        taken = copy.copy(self)
        taken._rows, taken.ids = rows_of(self._rows, rows), rows_of(self.ids, rows)
        return taken

    def _batch(self, places: np.ndarray, *, labelled: bool = False) -> Any:
        """Collate items, remember their labels, and return the inputs as arrays."""
        if not len(places):
            first = self._batch(np.arange(1)) if len(self._source) else np.empty(0)
            return each(lambda values: values[:0], first)
        batch = self._collate([self._source[place] for place in places.tolist()])
        inputs, labels = _split(batch)
        inputs = _arrays(inputs)
        for values in [*parts_of(inputs), *([] if labels is None else [labels])]:
            if len(values) != len(places):
                raise ValueError(
                    f"{len(places)} items were collated to {len(values)} rows: there must be one an item"
                )
        if labels is None and labelled:
            raise ValueError(
                "the items have no label: they must be pairs of an input and a label, or dicts with the key 'labels'"
            )
        if labels is not None:
            self._known.update(zip(places.tolist(), _array(labels), strict=True))
        return inputs


def loader(
    source: Any,
    class_names: Sequence[Any] | None = None,
    *,
    task: Task = "classification",
    ids: Sequence[Any] | None = None,
) -> TorchDataset:
    """Take a torch Dataset, or a DataLoader's dataset and collate function, as a data set.

    Items are read when they are asked for, in the order of the dataset: a loader's sampler, shuffling and workers are
    not used.

    Parameters
    ----------
    source : torch.utils.data.Dataset or torch.utils.data.DataLoader
        Map-style: with ``len()`` and ``source[row]``. When collated, items are an input, a pair of inputs and labels,
        or a dict of inputs, with the labels under the key ``labels`` or ``label``.
    class_names : sequence, optional
        The name of each class; the default is the dataset's ``classes``, if it has some.
    task : {"classification", "multilabel", "regression"}
        What the labels are.
    ids : sequence of length N, optional
        One distinct id an item, all texts or all numbers; the default counts them.

    Returns
    -------
    TorchDataset

    Raises
    ------
    ValueError
        If the source has no rows to choose from, or ids are not one an item.

    Examples
    --------
    >>> pool = loader(DataLoader(my_dataset, collate_fn=my_collate), ["cat", "dog"])  # doctest: +SKIP
    """
    from torch.utils.data import DataLoader, IterableDataset, Subset, default_collate

    items, collate = source, default_collate
    if isinstance(source, DataLoader):
        items = source.dataset
        # Without batches, a loader's function takes one item.
        collate = default_collate if source.batch_sampler is None else source.collate_fn
    if isinstance(items, IterableDataset) or not (
        hasattr(items, "__len__") and hasattr(items, "__getitem__")
    ):
        raise ValueError(
            f"a {type(items).__name__} can only be read in its own order: pass a Dataset that has len() and items by"
            " number"
        )
    count = len(items)
    # An ArrayDataset checks that ids are distinct, and one a row.
    ids = ArrayDataset(np.empty((count, 0)), class_names=class_names, ids=ids).ids
    whole = items
    while isinstance(whole, Subset):
        whole = whole.dataset
    return TorchDataset(
        items, collate, ids, getattr(whole, "classes", None) if class_names is None else class_names, task
    )


def _split(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and the labels of collated items, the latter None if there are none."""
    if isinstance(batch, Mapping):
        key = next((key for key in _LABEL_KEYS if key in batch), None)
        inputs = {name: values for name, values in batch.items() if name not in _LABEL_KEYS}
        return inputs, None if key is None else batch[key]
    if not isinstance(batch, tuple | list) or all(isinstance(each, str | float | int) for each in batch):
        return batch, None
    if len(batch) == 1:
        return batch[0], None
    if len(batch) != 2:
        raise ValueError(
            f"items have {len(batch)} parts: they must be an input, a pair of an input (or a tuple of several) and a"
            " label, or a dict; return one of these from collate_fn"
        )
    return batch[0], batch[1]


def _arrays(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _array(value) for name, value in values.items()}
    if isinstance(values, tuple | list) and all(hasattr(value, "shape") for value in values):
        return tuple(map(_array, values))
    return _array(values)


def _array(values: Any) -> np.ndarray:
    """Return a tensor, or a list of texts or numbers, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no such type
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    return np.asarray(values)
