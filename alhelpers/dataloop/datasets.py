"""A Dataloop dataset as a data set of the kit, and back: picks written to its items."""

from __future__ import annotations

import os
import warnings
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
from alhelpers.data.images import UnreadableImage, upright_size
from alhelpers.data.object_files import ObjectFiles
from alhelpers.dataloop import reading, truth
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
    task: Literal["classification", "multilabel", "detection", "segmentation"] = "classification",
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderDataset:
    """Read the images of a dataset and what people have labelled; images without a label are the pool.

    The files are downloaded to a folder, those that are there already are not. Predictions of models are no labels.
    With objects, an image is labelled if it has a box or mask, or is said to have none: by :func:`write_labels`, or by
    a status in a task, other than "discard", where people have annotated nothing else on it.

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
    task : {"classification", "multilabel", "detection", "segmentation"}
        Whether an image has one class, or several, or boxes, or masks: those of pixels, and polygons. Where masks
        overlap, the one that was made last is in front.
    class_names : sequence of str, optional
        The classes in their order, such as ``model.labels``. The default is the dataset's labels. Those of a
        segmentation begin with "background", which has no annotation.
    progress : callable, optional
        Called with the number of files that are there, and of all.

    Returns
    -------
    FolderDataset
        Of detection and segmentation with the methods of :func:`alhelpers.data.coco`'s. In the order of the files'
        names; its ``ids`` are the items' ids, which :func:`write_labels` and
        :func:`write_picks` take. A file that cannot be read, or was deleted meanwhile, is among its ``problems``,
        and so is an item with a box or mask that cannot be used: with a label that is not among the class names, a box
        that is turned or outside of its image, a mask of another size, or one of either that has no area. It is not
        labelled, and not picked.

    Raises
    ------
    ValueError
        If no item is an image, the query is refused, or for classification an item has a label that is not among the
        class names, or several classes; the message names it.

    Warns
    -----
    UserWarning
        If an item has a box or mask that cannot be used, or if no item has a class, but some have boxes or masks.

    Examples
    --------
    >>> photos = read_dataset(project.datasets.get("photos"), size=64)  # doctest: +SKIP
    """
    if task not in truth.KINDS:
        raise ValueError(f"task is {task!r}: it must be {', '.join(map(repr, truth.KINDS))}")
    found = reading.find_items(dataset, filters)
    items = [item for item in found if is_image(item.name) or (item.mimetype or "").startswith("image/")]
    if not items:
        raise ValueError(
            f"none of {len(found)} items of dataset {dataset.name!r} is an image: upload images, or choose another"
            " filter"
        )
    items.sort(key=lambda item: (item.filename, item.id))
    names = [label.tag for label in dataset.labels] if class_names is None else list(map(str, class_names))
    root = cache_folder() / "items" / dataset.id if folder is None else Path(folder)
    ids, options = [item.id for item in items], {"size": size, "mode": mode}
    if task in ("detection", "segmentation"):
        names, files = truth.object_names(names, task), _download(items, root, progress)
        sizes = [_size(root / file) for file in files]
        spoilt: dict[str, str] = {}
        objects, is_labelled = truth.objects_of(dataset, items, names, sizes, task, spoilt=spoilt)
        read = ObjectFiles(
            root,
            ids,
            np.arange(len(ids)),
            is_labelled,
            names,
            task="detection",
            files=files,
            spoilt=spoilt,
            **options,
        )
        read._objects = objects
        if spoilt:
            warnings.warn(
                f"{len(spoilt)} of {len(items)} items have labels that cannot be used, and are left out:"
                f" {next(iter(spoilt.values()))}; .problems lists all",
                stacklevel=2,
            )
        return read if task == "detection" else read.segmentation()
    labels, is_labelled = truth.classes_of(dataset, items, names, task)
    if not is_labelled.any():
        _warn_of_objects(dataset, ids, task)
    files = _download(items, root, progress)
    return FolderDataset(root, ids, labels, is_labelled, names or None, task=task, files=files, **options)


def _warn_of_objects(dataset: dl.Dataset, ids: Sequence[str], task: str) -> None:
    """Warn where no item has a class, but people have drawn boxes or masks: another task was meant."""
    for other, what in (("detection", "boxes"), ("segmentation", "masks")):
        if any(True for _ in reading.ground_truth_of(dataset, ids, truth.FORMS[truth.KINDS[other]])):
            warnings.warn(
                f"no item of dataset {dataset.name!r} has a class for {task}, but some have {what}: pass task={other!r}"
                " to read these",
                stacklevel=3,
            )
            return


def _size(path: Path) -> tuple[int, int] | None:
    """Return height and width of an image, or None of a file that is missing or damaged: it is a problem later."""
    with suppress(UnreadableImage):
        return upright_size(path)
    return None


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


def write_picks(dataset: dl.Dataset, selection: Selection) -> list[dl.Item]:
    """Mark items as picked, as the node "Mine Items" does, which leaves them out of its later rounds.

    Each gets ``metadata.user.mining`` with ``round``, ``rank``, ``score``, ``strategy``, ``pool`` and ``mined_at``.
    Items that an earlier round has picked keep their mark. For :func:`read_dataset` and :func:`alhelpers.loop.pick`
    they stay in the pool until they are labelled.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    selection : Selection
        Ids of its items and their scores, best first.

    Returns
    -------
    list of dl.Item
        The items that were marked, as the platform stores them now: not those that had a mark before.

    Raises
    ------
    ValueError
        If an item is not in the dataset; nothing is marked then.
    """
    ids = list(selection.ids)
    reading.named_items(dataset, ids)
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
