"""What people have said of items: their classes, boxes and masks, checked, as data sets hold them."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl
import numpy as np
from PIL import Image

from alhelpers.data.box_rows import SIDES, Sides, cut_box
from alhelpers.data.masks import decode_mask, encode_mask
from alhelpers.data.objects import Objects
from alhelpers.dataloop import reading
from alhelpers.dataloop.item_metadata import is_answered, is_marked_empty

#: The type of annotation that holds the ground truth of a task.
KINDS = {"classification": "class", "multilabel": "class", "detection": "box", "segmentation": "binary"}

#: The types of annotations that are read for each of these: masks may be drawn as polygons.
FORMS = {"class": ("class",), "box": ("box",), "binary": ("binary", "segment")}

#: The class of a mask's pixels in which there is no object; it has no annotation.
BACKGROUND = "background"

Size = tuple[int, int]  # height and width in pixels


def object_names(names: Sequence[str], task: str) -> list[str]:
    """Return the classes that objects may have: of a segmentation all but the background."""
    return [name for name in names if task != "segmentation" or name != BACKGROUND]


def classes_of(
    dataset: dl.Dataset,
    items: Sequence[dl.Item],
    names: Sequence[str],
    task: str,
    query: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of items as numbers, and which items have any; `query` chooses among the annotations."""
    several = task == "multilabel"
    places = {name: place for place, name in enumerate(names)}
    given = reading.labels_of(dataset, [item.id for item in items], query)
    shape = (len(items), len(names)) if several else len(items)
    values = np.full(shape, 0 if several else -1, dtype=np.int64)
    for row, item in enumerate(items):
        classes = given.get(item.id, [])
        for name in classes:
            _check_label(name, places, f"item {item.filename!r} has the class")
        if several:
            values[row, [places[name] for name in classes]] = 1
        elif len(classes) > 1:
            raise ValueError(
                f"item {item.filename!r} has the classes {', '.join(classes)}: keep one, or pass task='multilabel'"
            )
        elif classes:
            values[row] = places[classes[0]]
    return values, np.array([item.id in given for item in items], dtype=bool)


def objects_of(
    dataset: dl.Dataset,
    items: Sequence[dl.Item],
    names: Sequence[str],
    sizes: Sequence[Size | None],
    task: str,
    query: Mapping[str, Any] | None = None,
    spoilt: dict[str, str] | None = None,
) -> tuple[Objects, np.ndarray]:
    """Return the boxes or masks of items in the images' own pixels, and which items are labelled.

    An item is labelled if it has an object, or is said to have none: by :func:`mark_empty`, or in a task, if it has a
    status there that is not "discard" and people have annotated nothing else on it.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset of the items.
    items : sequence of dl.Item
        The items, N.
    names : sequence of str
        The classes that objects may have.
    sizes : sequence of (int, int) or None, of length N
        Height and width of each image; None for one that cannot be read, which is not labelled.
    task : {"detection", "segmentation"}
        Whether objects are boxes, or masks and polygons.
    query : mapping, optional
        A query of annotations that chooses among them.
    spoilt : dict, optional
        Takes by its id what is wrong with an item that has an object which is not valid: it has none then, and is not
        labelled. The default is to raise.

    Raises
    ------
    ValueError
        Without ``spoilt``, if a label is not among the names, a box or mask has no area, a box is outside of its image
        or turned, or a mask has another size; the message names the item and the annotation.
    """
    places = {name: place for place, name in enumerate(names)}
    known = [item for item, size in zip(items, sizes, strict=True) if size is not None]
    found: dict[str, list[dl.Annotation]] = {item.id: [] for item in items}
    for annotation in reading.ground_truth_of(
        dataset, [item.id for item in known], FORMS[KINDS[task]], query
    ):
        found[annotation.item_id].append(annotation)
    wrong: dict[str, str] = {}
    read: dict[str, list[tuple[int, Sides, Any]]] = {}
    for item, size in zip(items, sizes, strict=True):
        try:
            read[item.id] = _objects(found[item.id], size, places, item)
        except ValueError as error:
            if spoilt is None:
                raise
            wrong[item.id], read[item.id] = str(error), []
    every = [each for objects in read.values() for each in objects]
    objects = Objects(
        np.array([size or (1, 1) for size in sizes]).reshape(-1, 2),
        np.cumsum([0, *map(len, read.values())]),
        np.array([box for _, box, _ in every], dtype=np.float64).reshape(-1, 4),
        np.array([label for label, _, _ in every], dtype=np.intp),
        np.zeros(len(every), dtype=bool),
        tuple(segmentation for _, _, segmentation in every),
    )
    with_objects = {id for id, each in read.items() if each}
    is_known = [size is not None and item.id not in wrong for item, size in zip(items, sizes, strict=True)]
    if spoilt is not None:
        spoilt |= wrong
    return objects, labelled(dataset, items, with_objects) & np.array(is_known, dtype=bool)


def _objects(
    annotations: Sequence[dl.Annotation], size: Size | None, places: Mapping[str, int], item: dl.Item
) -> list[tuple[int, Sides, Any]]:
    """Return the class, the box and the mask of each object of an item; of masks, the later ones are in front."""
    objects = []
    for annotation in sorted(annotations, key=lambda each: (each.created_at or "", each.id)):
        where = f"{annotation.type} {annotation.id} of item {item.filename!r}"
        _check_label(annotation.label, places, f"{where} has the label")
        objects.append((places[annotation.label], *_READERS[annotation.type](annotation, size, where)))
    return objects


def labelled(dataset: dl.Dataset, items: Sequence[dl.Item], with_objects: set[str]) -> np.ndarray:
    """Return which items are labelled, as :func:`objects_of` does, where those with objects are known."""
    answered = [item.id for item in items if item.id not in with_objects and is_answered(item)]
    others = {each.item_id for each in reading.ground_truth_of(dataset, answered)}
    empty = {item.id for item in items if is_marked_empty(item)} | set(answered) - others
    return np.isin([item.id for item in items], [*with_objects, *empty])


def _check_label(label: str, places: Mapping[str, int], what: str) -> None:
    if label not in places:
        raise ValueError(
            f"{what} {label!r}, which is none of {', '.join(places) or 'no classes'}: add it to the dataset's labels or"
            " to class_names, or correct the item"
        )


def _box(annotation: dl.Annotation, size: Size, where: str) -> tuple[Sides, None]:
    if annotation.angle:
        raise ValueError(f"{where} is turned by {annotation.angle:g} degrees: draw it upright, or remove it")
    sides = reading.sides_of(annotation)
    return checked_box([sides[side] for side in SIDES], size, where), None


def _mask(annotation: dl.Annotation, size: Size, where: str) -> tuple[Sides, Any]:
    mask = mask_of(annotation, size, where)
    return _extent(mask, where), encode_mask(mask)


def mask_of(annotation: dl.Annotation, size: Size | None, where: str) -> np.ndarray:
    """Return the mask (H, W), bool, of an annotation of pixels, or of a polygon, whose further rings are holes."""
    if annotation.type == "binary":
        return read_mask(annotation.coordinates, size, where)
    if size is None:
        raise ValueError(
            f"{where} is a polygon, and the height and width of its image are not known: upload it anew"
        )
    given = annotation.coordinates
    rings = [given] if given and isinstance(given[0], Mapping) else given
    polygons = [[point[axis] for point in ring for axis in ("x", "y")] for ring in rings]
    try:
        return np.logical_xor.reduce([decode_mask([polygon], *size) for polygon in polygons])
    except ValueError as error:
        raise ValueError(f"{where} {error}: correct it, or remove it") from error


_READERS = {"box": _box, "binary": _mask, "segment": _mask}


def checked_box(box: Sequence[float], size: Size | None, where: str) -> Sides:
    """Return a box cut at the sides of an image; raise unless it has an area and is inside of it, but for rounding."""
    try:
        left, top, right, bottom = (float(side) for side in box)
    except (TypeError, ValueError):
        left = top = right = bottom = math.nan
    if not all(map(math.isfinite, (left, top, right, bottom))):
        wrong = "must be four finite numbers: left, top, right, bottom"
    elif left >= right or top >= bottom:
        wrong = "has no area"
    else:
        height, width = size or (math.inf, math.inf)
        cut = cut_box((left, top, right, bottom), height, width)
        if cut is not None:
            return cut
        wrong = f"is not inside of the image, {width} wide and {height} high"
    shown = [side.item() if isinstance(side, np.generic) else side for side in box]
    raise ValueError(f"{where}, {shown}, {wrong}: correct it, or remove it")


def read_mask(coordinates: Any, size: Size | None, where: str) -> np.ndarray:
    """Decode a mask (H, W), bool, from the PNG of a ``binary`` annotation; raise if it has another size."""
    try:
        text = coordinates["data"] if isinstance(coordinates, Mapping) else coordinates
        content = base64.b64decode(text.partition(",")[2], validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            check_mask_size(image.size[::-1], size, where)  # before it is decoded
            transparent = "A" in image.getbands() or "transparency" in image.info
            return (
                np.asarray(image.convert("RGBA").getchannel("A") if transparent else image.convert("L")) > 127
            )
    except (KeyError, AttributeError, binascii.Error, OSError, SyntaxError) as error:
        raise ValueError(f"{where} is not a mask that can be read, a PNG in base64: draw it anew") from error


def check_mask_size(found: Sequence[int], size: Size | None, where: str) -> None:
    """Raise unless a mask has the size of its image."""
    if size is not None and tuple(found) != tuple(size):
        shapes = [f"{width} wide and {height} high" for height, width in (found, size)]
        raise ValueError(
            f"{where} is {shapes[0]}, but its image {shapes[1]}: draw it anew at the image's size"
        )


def _extent(mask: np.ndarray, where: str) -> Sides:
    """Return the box around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError(f"{where} has no area: draw it anew, or remove it")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
