"""Write images with boxes and masks as a file in COCO's format."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from alhelpers import files
from alhelpers.data.images import SUFFIXES
from alhelpers.data.masks import decode_mask, encode_mask
from alhelpers.data.objects import Objects
from alhelpers.data.polygons import trace_polygons
from alhelpers.protocols import Dataset


def write_coco(
    path: str | os.PathLike[str],
    source: Dataset | Objects,
    *,
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    masks: Literal["counts", "polygons"] | None = None,
    images: str | os.PathLike[str] | None = None,
    annotations: bool = True,
) -> None:
    """Write the boxes and masks of images to a JSON file in COCO's format, which :func:`coco` and others read.

    Parameters
    ----------
    path : path
        The JSON file; one that is there is replaced.
    source : Dataset or Objects
        A data set whose labels are boxes, in pixels of its inputs; or objects alone, with ``ids`` and ``class_names``.
    ids : sequence of length N, optional
        The ids of the images of objects. An id is the image's file name, with ``.png`` unless it has an ending.
    class_names : sequence of str, optional
        The categories of objects, or of a data set without class names.
    masks : {"counts", "polygons"}, optional
        Whether masks become run lengths, or polygons that cover the same pixels. None: they stay what they are.
    images : path, optional
        A folder, to which the images of a data set are written too, as files of these names; those that end in
        ``.jpg`` or the like lose a little, so copy the files themselves where they are there.
    annotations : bool
        False: images and categories alone are written, such as those of picks for a tool that annotates them;
        :func:`coco` reads them as a pool.

    Raises
    ------
    ValueError
        If an option, a class name or a file name cannot be used, the data set is of another task, or an object is not
        one of its image; the message names it, and nothing is written.

    Examples
    --------
    >>> write_coco("scenes.json", scenes(100), images="scenes/")  # doctest: +SKIP
    >>> picked = pool.take(np.flatnonzero(np.isin(pool.ids, chosen.ids)))  # doctest: +SKIP
    >>> write_coco("picked.json", picked, annotations=False)  # doctest: +SKIP
    """
    if masks not in (None, "counts", "polygons"):
        raise ValueError(f"masks is {masks!r}: it must be 'counts', 'polygons' or None")
    if not hasattr(source, "task") and not isinstance(source, Objects):
        raise ValueError(
            f"source is of type {type(source).__name__}: it must be a data set, such as one of load's two, or Objects"
        )
    if isinstance(source, Objects):
        if ids is None or class_names is None or images is not None or not annotations:
            raise ValueError(
                "objects have no ids, class names and images: pass ids= and class_names=, not images= or annotations="
            )
        objects, names = source, tuple(class_names)
        objects.check(ids, len(names))
    else:
        if ids is not None or (class_names is not None and source.class_names is not None):
            raise ValueError("a data set has its own ids and class_names: pass them with objects alone")
        ids, names = source.ids, category_names(source, class_names)
        if annotations and source.task not in ("detection", "segmentation"):
            raise ValueError(
                f"the data set is for {source.task}, and has no boxes: pass annotations=False to write its images and"
                " categories alone"
            )
        objects = _objects_of(source) if annotations else Objects.from_rows([], ids, _sizes(source), names)
    if len(set(names)) < len(names):
        raise ValueError(f"class names are {names}: they must be distinct")
    file_names = _file_names(ids)
    image_ids, category_ids = coco_numbers(source, len(file_names), len(names))
    document = {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, name, (height, width) in zip(
                image_ids, file_names, objects.sizes.tolist(), strict=True
            )
        ],
        "categories": [
            {"id": number, "name": name} for number, name in zip(category_ids, names, strict=True)
        ],
    }
    if annotations:
        document["annotations"] = [
            _annotation(objects, row, masks)
            | {"image_id": image_ids[image], "category_id": category_ids[label]}
            for row, (image, label) in enumerate(
                zip(objects.images().tolist(), objects.classes.tolist(), strict=True)
            )
        ]
    _check_place(Path(path).parent)
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: pass the path of a JSON file")
    if images is not None:
        for name in file_names:
            _check_place((Path(images) / name).parent)
        _write_images(source, Path(images), file_names)
    files.write_text(Path(path), json.dumps(document))


def category_names(dataset: Dataset, class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the classes of a data set that are categories, or others where it has none."""
    if dataset.class_names is not None:
        return tuple(dataset.class_names)[dataset.task == "segmentation" :]
    if class_names is None:
        raise ValueError("the data set has no class names: pass class_names=, the categories")
    return tuple(class_names)


def coco_numbers(source: Any, images: int, categories: int) -> tuple[list[int], list[int]]:
    """Return the ids of images and categories in a file: those that they were read with, or from 1 on."""
    image_ids = np.asarray(getattr(source, "image_ids", np.arange(1, images + 1))).tolist()
    return image_ids, [*getattr(source, "category_ids", range(1, categories + 1))]


def _objects_of(dataset: Dataset) -> Objects:
    if len(getattr(dataset, "labelled", dataset)) < len(dataset):
        raise ValueError(
            "the data set has images without a label: take the labelled ones alone, with .labelled, or pass"
            " annotations=False to write the images and categories alone"
        )
    if hasattr(dataset, "objects"):
        return dataset.objects()
    masks = None
    if hasattr(dataset, "object_masks"):
        masks = [mask for one in dataset.object_masks(np.arange(len(dataset))) for mask in one]
    labels = dataset.labels(np.arange(len(dataset)))
    return Objects.from_rows(labels, dataset.ids, _sizes(dataset), dataset.class_names, masks=masks)


def _sizes(dataset: Dataset) -> list[Sequence[int]]:
    return [np.shape(dataset.inputs([row]))[-2:] for row in range(len(dataset))]


def _file_names(ids: Sequence[Any]) -> list[str]:
    names = [str(one) for one in np.asarray(ids).tolist()]
    for name in names:
        if not PurePosixPath(name).name or name.endswith("/"):
            raise ValueError(f"the id {name!r} is no file name: it must have a name after its folder")
    names = [name if PurePosixPath(name).suffix.lower() in SUFFIXES else f"{name}.png" for name in names]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"the id {name!r} is no file name: it must be a path inside of a folder")
    paths: dict[str, int] = {}
    for place, name in enumerate(names):
        first = paths.setdefault(str(PurePosixPath(name)), place)
        if first != place:
            raise ValueError(
                f"the ids {ids[first]!r} and {ids[place]!r} are both the file {name!r}: rename one"
            )
    for name in names:
        within = next((str(each) for each in PurePosixPath(name).parents if str(each) in paths), None)
        if within is not None:
            raise ValueError(
                f"the file {name!r} would be in {within!r}, which is an image itself: rename one"
            )
    return names


def _check_place(folder: Path) -> None:
    """Raise a ValueError if a folder cannot be made, as there is a file in its place or on the way to it."""
    there = next(each for each in (folder, *folder.parents) if each.exists() or each == each.parent)
    if not there.is_dir():
        raise ValueError(f"the folder {folder} cannot be made, as {there} is a file: pass another path")


def _annotation(objects: Objects, row: int, masks: str | None) -> dict[str, Any]:
    left, top, right, bottom = objects.boxes[row].tolist()
    width, height = _difference(left, right), _difference(top, bottom)
    found = {
        "id": row + 1,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(objects.is_crowd[row]),
    }
    segmentation = objects.segmentations[row]
    if segmentation is None:
        return found
    mask = decode_mask(segmentation, *objects.sizes[objects.images()[row]].tolist())
    if masks == "counts" and isinstance(segmentation, list):
        segmentation = encode_mask(mask)
    elif masks == "polygons" and not isinstance(segmentation, list) and mask.any():
        segmentation = trace_polygons(mask)
    return found | {"area": int(mask.sum()), "segmentation": segmentation}


def _difference(low: float, high: float) -> float:
    """Return a number that makes ``high`` exactly when it is added to ``low``."""
    near = high - low
    return next(
        (each for each in (near, np.nextafter(near, 0), np.nextafter(near, np.inf)) if low + each == high),
        near,
    )


def _write_images(dataset: Any, folder: Path, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        planes = np.asarray(dataset.inputs([row]))[0]
        pixels = np.round(planes * 255).astype(np.uint8).transpose(1, 2, 0)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(folder / name)
