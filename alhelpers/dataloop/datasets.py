"""A Dataloop dataset as a data set of the kit, and back: labels and picks written to its items."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import dtlpy as dl
import numpy as np

from alhelpers.data import FolderDataset
from alhelpers.data.folder import is_image
from alhelpers.dataloop import reading
from alhelpers.dataloop.mine_items import last_round, mark_all
from alhelpers.files import cache_folder, replacing
from alhelpers.mining import Selection

_PARALLEL = 8


def read_dataset(
    dataset: dl.Dataset,
    filters: dl.Filters | Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    size: int | Sequence[int] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    task: Literal["classification", "multilabel"] = "classification",
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderDataset:
    """Read the images of a dataset and the classes that people gave them; images without a class are the pool.

    The files are downloaded to a folder, those that are there already are not. Predictions of models are no labels.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    filters : dl.Filters or mapping, optional
        Which items, as a filter or a query like ``train_subset_filter.json``; by default all but hidden ones.
    folder : path, optional
        Where the files are kept, named by the items' ids. The default is in the kit's cache.
    size : int or (int, int), optional
        Height and width in pixels to which images are resized. None: they must all be of one size.
    mode : {"RGB", "L"}
        Colours or grey levels.
    task : {"classification", "multilabel"}
        Whether an image has one class, or several.
    class_names : sequence of str, optional
        The classes in their order, such as ``model.labels``. The default is the dataset's labels.
    progress : callable, optional
        Called with the number of files that are there, and of all.

    Returns
    -------
    FolderDataset
        In the order of the files' names; its ``ids`` are the items' ids, which :func:`write_labels` and
        :func:`write_picks` take. A file that cannot be read, or was deleted meanwhile, is among its ``problems``.

    Raises
    ------
    ValueError
        If no item is an image, the query is refused, or an item has a class that is not among the class names or,
        for classification, several classes; the message names it.

    Examples
    --------
    >>> photos = read_dataset(project.datasets.get("photos"), size=64)  # doctest: +SKIP
    """
    if task not in ("classification", "multilabel"):
        raise ValueError(f"task is {task!r}: it must be 'classification' or 'multilabel'")
    found = reading.find_items(dataset, filters)
    items = [item for item in found if is_image(item.name) or (item.mimetype or "").startswith("image/")]
    if not items:
        raise ValueError(
            f"none of {len(found)} items of dataset {dataset.name!r} is an image: upload images, or choose another"
            " filter"
        )
    items.sort(key=lambda item: (item.filename, item.id))
    names = [label.tag for label in dataset.labels] if class_names is None else list(map(str, class_names))
    labels, is_labelled = _labels(dataset, items, names, task)
    root = cache_folder() / "items" / dataset.id if folder is None else Path(folder)
    return FolderDataset(
        root,
        [item.id for item in items],
        labels,
        is_labelled,
        names or None,
        task=task,
        size=size,
        mode=mode,
        files=_download(items, root, progress),
    )


def _labels(
    dataset: dl.Dataset, items: Sequence[dl.Item], names: Sequence[str], task: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of items as numbers, and which items have any."""
    several = task == "multilabel"
    places = {name: place for place, name in enumerate(names)}
    given = reading.labels_of(dataset, [item.id for item in items])
    shape = (len(items), len(names)) if several else len(items)
    values = np.full(shape, 0 if several else -1, dtype=np.int64)
    for row, item in enumerate(items):
        classes = given.get(item.id, [])
        unknown = [name for name in classes if name not in places]
        if unknown:
            raise ValueError(
                f"item {item.filename!r} has the class {unknown[0]!r}, which is none of"
                f" {', '.join(names) or 'no classes'}: add it to the dataset's labels or to class_names, or correct the"
                " item"
            )
        if several:
            values[row, [places[name] for name in classes]] = 1
        elif len(classes) > 1:
            raise ValueError(
                f"item {item.filename!r} has the classes {', '.join(classes)}: keep one, or pass task='multilabel'"
            )
        elif classes:
            values[row] = places[classes[0]]
    return values, np.array([item.id in given for item in items], dtype=bool)


def _download(
    items: Sequence[dl.Item], folder: Path, progress: Callable[[int, int], None] | None
) -> list[str]:
    """Download the items that are not in a folder yet, and return the names of their files there."""
    names = [item.id + PurePosixPath(item.name).suffix.lower() for item in items]

    def fetch(item: dl.Item, name: str) -> None:
        path, size = folder / name, ((item.metadata or {}).get("system") or {}).get("size")
        if path.is_file() and path.stat().st_size == size:
            return
        with suppress(
            dl.exceptions.NotFound
        ):  # deleted meanwhile: the missing file is listed when it is read
            content = item.download(save_locally=False, raise_on_error=True)
            with replacing(path) as part:
                part.write_bytes(content.getvalue())

    with ThreadPoolExecutor(_PARALLEL) as workers:
        for done, _ in enumerate(workers.map(fetch, items, names), start=1):
            if progress is not None:
                progress(done, len(items))
    return names


def write_labels(dataset: dl.Dataset, labels: Mapping[str, str | Sequence[str]]) -> int:
    """Write classes of items as annotations of people; all is checked before anything is written.

    A class that an item has already is not written again, so a call that was interrupted can be repeated.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    labels : mapping of str to str or sequence of str
        The class of each item by its id, or its classes.

    Returns
    -------
    int
        How many annotations were written.

    Raises
    ------
    ValueError
        If an item is not in the dataset or has another class, or a class is not among the dataset's labels.

    Examples
    --------
    >>> write_labels(dataset, {item_id: "cat" for item_id in selection.ids})  # doctest: +SKIP
    """
    wanted = {id: [names] if isinstance(names, str) else list(names) for id, names in labels.items()}
    known = [label.tag for label in dataset.labels]
    unknown = [(id, name) for id, names in wanted.items() for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"the label of item {unknown[0][0]} is {unknown[0][1]!r}, which dataset {dataset.name!r} does not have: add"
            f" it with dataset.add_labels(...), or use one of {', '.join(known)}"
        )
    items = _items(dataset, list(wanted))
    there = reading.labels_of(dataset, list(wanted))
    for id, names in wanted.items():
        other = [name for name in there.get(id, []) if name not in names]
        if other:
            raise ValueError(
                f"item {items[id].filename!r} ({id}) has the class {other[0]!r} and would get"
                f" {', '.join(names) or 'none'}: remove the old one first, or leave the item out"
            )
    missing = {id: [name for name in names if name not in there.get(id, [])] for id, names in wanted.items()}

    def write(id: str) -> None:
        definitions = [dl.Classification(label=name) for name in dict.fromkeys(missing[id])]
        given = [dl.Annotation.new(item=items[id], annotation_definition=each) for each in definitions]
        items[id].annotations.upload(given)

    chosen = [id for id, names in missing.items() if names]
    with ThreadPoolExecutor(_PARALLEL) as workers:
        list(workers.map(write, chosen))
    return sum(len(set(missing[id])) for id in chosen)


def write_picks(dataset: dl.Dataset, selection: Selection) -> list[dl.Item]:
    """Mark items as picked, as the node "Mine Items" does: it leaves them out of later rounds.

    Each gets ``metadata.user.mining`` with ``round``, ``rank``, ``score``, ``strategy``, ``pool`` and ``mined_at``.
    Items that an earlier round has picked keep their mark.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    selection : Selection
        Ids of its items and their scores, best first.

    Returns
    -------
    list of dl.Item
        The items that were marked, as the platform stores them now.

    Raises
    ------
    ValueError
        If an item is not in the dataset; nothing is marked then.
    """
    ids = list(selection.ids)
    _items(dataset, ids)
    shared = {
        "round": last_round(dataset) + 1,
        "strategy": selection.meta.get("strategy"),
        "pool": selection.meta.get("pool", len(ids)),
        "mined_at": datetime.now(UTC).isoformat(),
    }
    marks = {
        id: {**shared, "rank": rank, "score": float(np.nan_to_num(score))}
        for rank, (id, score) in enumerate(zip(ids, selection.scores, strict=True), start=1)
    }
    marked, _ = mark_all(dataset, marks)
    return marked


def _items(dataset: dl.Dataset, ids: Sequence[str]) -> dict[str, dl.Item]:
    """Read items by their ids; raise a ValueError if one is not there."""
    items = reading.items_of(dataset, ids)
    missing = [id for id in ids if id not in items]
    if missing:
        raise ValueError(
            f"dataset {dataset.name!r} has no item {missing[0]!r}, one of {len(missing)} that are missing: pass the ids"
            " that read_dataset returns"
        )
    return items
