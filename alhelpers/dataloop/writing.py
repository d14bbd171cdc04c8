"""Labels written to the items of a Dataloop dataset: classes, boxes, masks, and that there is no object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import dtlpy as dl
import numpy as np

from alhelpers.data.box_rows import SIDES
from alhelpers.dataloop import reading, truth
from alhelpers.dataloop.item_metadata import is_marked_empty, mark_empty, size_of

_PARALLEL = 8


def write_labels(
    dataset: dl.Dataset,
    labels: Mapping[str, str | Sequence[Any]],
    *,
    task: Literal["classification", "multilabel", "detection", "segmentation"] = "classification",
) -> int:
    """Write labels of items as annotations of people; all is checked before anything is written.

    A label that an item has already is not written again, so a call that was interrupted can be repeated.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    labels : mapping of str to str, sequence of str or sequence of dict
        The class of each item by its id, or its classes. For detection its boxes, dicts with ``label``, ``left``,
        ``top``, ``right`` and ``bottom`` in the image's own pixels, as the rows that a detection data set's ``labels``
        returns; for segmentation its masks, dicts with ``label`` and ``mask``, (H, W). An item with an empty sequence
        is marked as one without objects, so that :func:`read_dataset` takes it for labelled.
    task : {"classification", "multilabel", "detection", "segmentation"}
        What the labels are.

    Returns
    -------
    int
        How many annotations were written.

    Raises
    ------
    ValueError
        If an item is not in the dataset or has another label, a label is not among the dataset's, a box is outside of
        its image, a mask has another size, or one of either has no area; nothing is written then.

    Examples
    --------
    >>> write_labels(dataset, {item_id: "cat" for item_id in selection.ids})  # doctest: +SKIP
    >>> box = {"label": "cat", "left": 3, "top": 5, "right": 20, "bottom": 31}
    >>> write_labels(dataset, {first_id: [box], second_id: []}, task="detection")  # doctest: +SKIP
    """
    if task not in truth.KINDS:
        raise ValueError(f"task is {task!r}: it must be {', '.join(map(repr, truth.KINDS))}")
    given = {id: [each] if isinstance(each, str | Mapping) else list(each) for id, each in labels.items()}
    read = _READERS[truth.KINDS[task]]
    _check_names(dataset, given)
    items = reading.named_items(dataset, list(given))
    wanted = {id: {read(each, items[id]): None for each in found} for id, found in given.items()}
    there: dict[str, dict[Any, None]] = {id: {} for id in given}
    for annotation in reading.ground_truth_of(dataset, list(given), truth.KINDS[task]):
        there[annotation.item_id][_there(annotation, items[annotation.item_id])] = None
    for id, found in wanted.items():
        other = [each for each in there[id] if each not in found]
        if other:
            raise ValueError(
                f"item {items[id].filename!r} ({id}) has the {_WORDS[task]} {_said(other[0])!r} and would get"
                f" {', '.join(map(_said, found)) or 'none'}: remove the old one first, or leave the item out"
            )
    missing = {id: [each for each in found if each not in there[id]] for id, found in wanted.items()}

    def write(id: str) -> None:
        item = items[id]
        if task in ("detection", "segmentation") and is_marked_empty(item) == bool(wanted[id]):
            mark_empty(item, not wanted[id])
            item.update()
        if missing[id]:
            definitions = [_definition(truth.KINDS[task], each) for each in missing[id]]
            item.annotations.upload(
                [dl.Annotation.new(item=item, annotation_definition=each) for each in definitions]
            )

    with ThreadPoolExecutor(_PARALLEL) as workers:
        list(workers.map(write, wanted))
    return sum(map(len, missing.values()))


_WORDS = {"classification": "class", "multilabel": "class", "detection": "box", "segmentation": "mask"}


def _check_names(dataset: dl.Dataset, given: Mapping[str, Sequence[Any]]) -> None:
    """Raise unless all labels are among the dataset's."""
    known = [label.tag for label in dataset.labels]
    for id, found in given.items():
        for each in found:
            name = each.get("label") if isinstance(each, Mapping) else each
            if name not in known:
                raise ValueError(
                    f"the label of item {id} is {name!r}, which dataset {dataset.name!r} does not have: add it with"
                    f" dataset.add_labels(...), or use one of {', '.join(known)}"
                )


# A label is its class, or its class and its place: what can be compared with those that are there.


def _class(given: Any, item: dl.Item) -> tuple[str]:
    if not isinstance(given, str):
        raise ValueError(
            f"the label of item {item.filename!r} is {given!r}: it must be a class, or pass task="
        )
    return (given,)


def _box(given: Any, item: dl.Item) -> tuple[str, tuple[float, ...]]:
    box = _part(given, SIDES, item, "detection")
    where = f"the box {given['label']!r} of item {item.filename!r}"
    return given["label"], truth.checked_box(box, size_of(item), where)


def _mask(given: Any, item: dl.Item) -> tuple[str, tuple[tuple[int, ...], bytes]]:
    (values,) = _part(given, ("mask",), item, "segmentation")
    mask = np.asarray(values)
    where = f"the mask {given['label']!r} of item {item.filename!r}"
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{where} is of shape {mask.shape} {mask.dtype}: it must be (H, W), of 0 and 1 or bool"
        )
    truth.check_mask_size(mask.shape, size_of(item), where)
    if not mask.any():
        raise ValueError(f"{where} has no area: leave it out")
    return given["label"], (mask.shape, np.packbits(mask.astype(bool)).tobytes())


_READERS: dict[str, Callable[[Any, dl.Item], Any]] = {"class": _class, "box": _box, "binary": _mask}


def _part(given: Any, keys: Sequence[str], item: dl.Item, task: str) -> list[Any]:
    if not isinstance(given, Mapping) or not all(key in given for key in ("label", *keys)):
        raise ValueError(
            f"a label of item {item.filename!r} is {given!r}: for {task} it must be a dict with label,"
            f" {', '.join(keys)}"
        )
    return [given[key] for key in keys]


def _there(annotation: dl.Annotation, item: dl.Item) -> Any:
    """Return a label that an item has, as the readers return one that is given."""
    if annotation.type == "class":
        return (annotation.label,)
    if annotation.type == "box":
        return annotation.label, tuple(float(reading.sides_of(annotation)[side]) for side in SIDES)
    where = f"binary {annotation.id} of item {item.filename!r}"
    mask = truth.read_mask(annotation.coordinates, size_of(item), where)
    return annotation.label, (mask.shape, np.packbits(mask).tobytes())


def _said(label: Any) -> str:
    """Return a label in words: its class, and of a box its place."""
    return label[0] if len(label) == 1 or isinstance(label[1][1], bytes) else f"{label[0]} {[*label[1]]}"


def _definition(kind: str, label: Any) -> Any:
    if kind == "class":
        return dl.Classification(label=label[0])
    if kind == "box":
        return dl.Box(label=label[0], **dict(zip(SIDES, label[1], strict=True)))
    shape, bits = label[1]
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=shape[0] * shape[1]).reshape(shape)
    return dl.Segmentation(label=label[0], geo=mask)
