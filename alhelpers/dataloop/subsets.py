"""A subset of a model's dataset as its learner takes it: images in memory, and what people have labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers.data import ImageSet
from alhelpers.data.images import size_pair
from alhelpers.data.object_set import ObjectSet
from alhelpers.dataloop import reading, truth
from alhelpers.dataloop.images import download_pictures

_NAMED = 5  # items in a message


def read_subset(
    dataset: dl.Dataset,
    filters: Mapping[str, Any],
    subset: str,
    task: str,
    names: Sequence[str],
    size: int | Sequence[int],
    *,
    colour: bool = False,
    query: Mapping[str, Any] | None = None,
    include_background: bool = False,
) -> ImageSet:
    """Read the items of a subset in the order of their names; all of them must be labelled.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    filters : mapping
        The query that selects the items.
    subset : str
        The subset's name, for messages.
    task : {"classification", "detection", "segmentation"}
        What is read: one class an item, boxes, or masks.
    names : sequence of str
        The model's labels.
    size : int or pair of int
        Height and width to which the images are resized, or both in one.
    colour : bool
        Whether to read colours, or grey levels.
    query : mapping, optional
        A query of annotations, of which the others do not count.
    include_background : bool
        Whether items without any annotation are images without objects; others must be said to be.

    Raises
    ------
    ValueError
        If there is no item, or one that cannot be learned from; the message names it.
    """
    items = sorted(reading.find_items(dataset, filters), key=lambda item: (item.filename, item.id))
    if not items:
        raise ValueError(f"subset {subset!r} holds no item: choose a filter that selects labelled items")
    pictures = download_pictures(items, size, colour=colour)
    images, ids = np.stack([each.pixels for each in pictures]), [item.filename for item in items]
    if task == "classification":
        labels, is_labelled = truth.classes_of(dataset, items, names, task, query)
        _check_labelled(items, is_labelled, subset, "Label them")
        return ImageSet(subset, images, labels, names, ids=ids)
    names, sizes = truth.object_names(names, task), [each.size for each in pictures]
    objects, is_labelled = truth.objects_of(dataset, items, names, sizes, task, query)
    if include_background:
        is_labelled |= np.array([not item.annotated for item in items])
    way_out = "Label them; where there is no object, complete the item in a task, or write_labels(dataset, {id: []})"
    _check_labelled(items, is_labelled, subset, way_out)
    found = ObjectSet(subset, images, objects.resized(size_pair(size)), names, ids=ids)
    return found if task == "detection" else found.segmentation()


def _check_labelled(items: Sequence[dl.Item], is_labelled: np.ndarray, subset: str, way_out: str) -> None:
    missing = [items[row].filename for row in np.flatnonzero(~is_labelled)]
    if missing:
        names = ", ".join(map(repr, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise ValueError(
            f"{len(missing)} of the {len(items)} items of the {subset} subset have no label: {names}. {way_out}, or"
            " narrow the subset's filter to labelled items"
        )
