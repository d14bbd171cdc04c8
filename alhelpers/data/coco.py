"""Images with boxes and masks, from a file in COCO's format."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from alhelpers.data.box_rows import Sides, cut_box
from alhelpers.data.masks import check_segmentation
from alhelpers.data.object_files import ObjectFiles
from alhelpers.data.objects import Objects


class CocoDataset(ObjectFiles):
    """Images with boxes and masks, in files; :func:`coco` makes it.

    Attributes
    ----------
    ids : numpy.ndarray of shape (N,)
        The paths of the images in their folder, in the order of the JSON file.
    class_names : tuple of str
        The categories, in the order of their ids.
    category_ids : tuple of int
        The ids of the categories in the JSON file.
    task : {"detection", "segmentation"}
    """

    category_ids: tuple[int, ...]
    # The ids of all images of the file, by the place of an image in it, which is its label in the base.
    _image_ids: np.ndarray

    @property
    def image_ids(self) -> np.ndarray:
        """The ids of the images in the JSON file, (N,)."""
        return self._image_ids[self._labels]

    @property
    def file_sizes(self) -> np.ndarray:
        """Height and width of the images in the JSON file, (N, 2)."""
        return self._objects.sizes[self._labels]


def coco(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
) -> CocoDataset:
    """Read images with boxes and masks from a JSON file in COCO's format.

    All images of the file are labelled, those without an annotation with no box; without ``annotations`` they are the
    pool. Ids of categories may have gaps. Segmentations are polygons or run lengths, and may be missing, as long as no
    mask is asked for. Keypoints are not read.

    Parameters
    ----------
    path : path
        The JSON file, with ``images``, ``categories`` and ``annotations``.
    images : path
        The folder in which ``file_name`` of an image is.
    size : int or (int, int), optional
        Height and width in pixels to which images, and their boxes and masks, are resized. None: images must all be
        of one size where several are asked for at once.
    mode : {"RGB", "L"}
        Colours or grey levels.

    Returns
    -------
    CocoDataset
        Files that cannot be used are listed as those of :func:`folder` are; so are images whose height or width is not
        that of the JSON file.

    Raises
    ------
    FileNotFoundError
        If the file or the folder is missing, or none of the images is there.
    ValueError
        If the file is not of this format, an id or a name is there twice, an annotation is of an image or a category
        that is not there, a box has no area or is outside of its image, or a segmentation is of another size, has a
        polygon of fewer than three points, or is damaged; the message names it.

    Examples
    --------
    >>> cars = coco("instances.json", "images/", size=(240, 320))  # doctest: +SKIP
    """
    source, root = Path(path), Path(images)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: pass the folder that holds the images")
    document = _read(source)
    listed = _entries(document, "images", source, {"id": int, "file_name": str, "height": int, "width": int})
    if not listed:
        raise ValueError(f"{source} lists no image: add images")
    categories = _entries(document, "categories", source, {"id": int, "name": str})
    categories.sort(key=lambda entry: entry["id"])
    for entry in listed:
        _check_image(entry, source)
    places = _places(listed, "id", "image", source)
    names = [str(PurePosixPath(entry["file_name"])) for entry in listed]
    _places([{"file_name": name} for name in names], "file_name", "image", source)
    classes = _places(categories, "id", "category", source)
    _places(categories, "name", "category", source)
    if not any((root / name).is_file() for name in names):
        raise FileNotFoundError(
            f"{root} has none of the {len(names)} images of {source}, such as {names[0]!r}: pass their folder"
        )
    has_annotations = "annotations" in document
    found = _entries(document, "annotations", source, _ANNOTATION) if has_annotations else []
    dataset = CocoDataset(
        root,
        names,
        np.arange(len(names)),
        np.full(len(names), has_annotations),
        [entry["name"] for entry in categories],
        task="detection",
        size=size,
        mode=mode,
    )
    dataset.category_ids = tuple(classes)
    dataset._image_ids = np.array([entry["id"] for entry in listed])
    dataset._objects = _objects(found, listed, places, classes, source)
    return dataset


_ANNOTATION = {"id": int, "image_id": int, "category_id": int, "bbox": list}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f"{path} is not there: name a JSON file in COCO's format")
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(document, Mapping):
        raise ValueError(
            f"{path} holds a {type(document).__name__}: it must be an object with images and categories"
        )
    return document


def _entries(
    document: Mapping[str, Any], key: str, path: Path, fields: Mapping[str, type]
) -> list[dict[str, Any]]:
    """Return a list of the file; raise a ValueError unless each entry has all fields, of their types."""
    entries = document.get(key)
    if not isinstance(entries, list):
        raise ValueError(f"{path} has no list {key!r}: COCO's format has images, categories and annotations")
    for row, entry in enumerate(entries):
        for field, kind in fields.items():
            value = entry.get(field) if isinstance(entry, Mapping) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                name = (
                    f"id {entry['id']}" if isinstance(entry, Mapping) and field != "id" else f"number {row}"
                )
                raise ValueError(
                    f"{key} of {path}: {field} of {name} is {value!r}, and must be {_KINDS[kind]}; correct the file"
                )
    return list(entries)


_KINDS = {int: "a whole number", str: "a text", list: "a list"}


def _places(entries: list[dict[str, Any]], field: str, what: str, path: Path) -> dict[Any, int]:
    """Return the row of each entry by a field; raise a ValueError if two have the same value."""
    places: dict[Any, int] = {}
    for row, entry in enumerate(entries):
        if places.setdefault(entry[field], row) != row:
            raise ValueError(f"{path} has two {what} entries with {field} {entry[field]!r}: keep one")
    return places


def _check_image(entry: dict[str, Any], path: Path) -> None:
    name = PurePosixPath(entry["file_name"])
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ValueError(
            f"image {entry['id']} of {path} has file_name {entry['file_name']!r}: it must be a path inside of the"
            " folder of images"
        )
    if min(entry["height"], entry["width"]) < 1:
        raise ValueError(
            f"image {entry['id']} of {path} is {entry['width']} wide and {entry['height']} high: both must be at"
            " least 1"
        )


def _objects(
    annotations: list[dict[str, Any]],
    images: list[dict[str, Any]],
    places: Mapping[int, int],
    classes: Mapping[int, int],
    path: Path,
) -> Objects:
    """Return the objects of all annotations, checked."""
    _places(annotations, "id", "annotation", path)
    image = np.zeros(len(annotations), dtype=np.intp)
    category = np.zeros(len(annotations), dtype=np.intp)
    sides = np.zeros((len(annotations), 4))
    crowds = np.array([entry.get("iscrowd") == 1 for entry in annotations], dtype=bool)
    segmentations: list[Any] = []
    for row, entry in enumerate(annotations):
        for field, known, many in (("image_id", places, "images"), ("category_id", classes, "categories")):
            if entry[field] not in known:
                raise ValueError(
                    f"annotation {entry['id']} of {path} has {field} {entry[field]}, which is not among the {many}:"
                    " add it there, or remove the annotation"
                )
        if entry.get("iscrowd") not in (0, 1, None):
            raise ValueError(
                f"annotation {entry['id']} of {path} has iscrowd {entry['iscrowd']!r}: it must be 0 or 1"
            )
        image[row], category[row] = places[entry["image_id"]], classes[entry["category_id"]]
        sides[row] = _sides(entry, images[image[row]], path)
        segmentations.append(_segmentation(entry, images[image[row]], path))
    order = np.argsort(image, kind="stable")
    return Objects(
        np.array([(entry["height"], entry["width"]) for entry in images]),
        np.searchsorted(image[order], np.arange(len(images) + 1)),
        sides[order],
        category[order],
        crowds[order],
        tuple(segmentations[row] for row in order.tolist()),
    )


def _segmentation(entry: dict[str, Any], image: dict[str, Any], path: Path) -> Any:
    """Return polygons or run lengths of an annotation, or None if it has none."""
    found = entry.get("segmentation")
    if found is None or found == []:
        return None
    try:
        check_segmentation(found, image["height"], image["width"])
    except ValueError as error:
        raise ValueError(
            f"the segmentation of annotation {entry['id']} of {path} {error}: correct it, or remove it"
        ) from error
    return found


def _sides(entry: dict[str, Any], image: dict[str, Any], path: Path) -> Sides:
    """Return left, top, right and bottom of an annotation's box."""
    box = entry["bbox"]
    numbers = [
        value
        for value in box
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if len(numbers) != 4 or len(box) != 4:
        wrong = "must be four finite numbers: left, top, width, height"
    elif min(box[2:]) <= 0:
        wrong = "has no area"
    else:
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
        width, height = image["width"], image["height"]
        cut = cut_box((left, top, right, bottom), height, width)
        if cut is not None:
            return cut
        wrong = f"is not inside of its image {image['file_name']!r}, {width} wide and {height} high"
    raise ValueError(
        f"the bbox of annotation {entry['id']} of {path}, {box}, {wrong}: correct it, or remove the annotation"
    )
