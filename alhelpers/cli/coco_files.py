"""Objects and detections of two models in COCO's JSON files, as ``compare`` reads them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: Height and width by the id of an image; None where they are not needed and not stated.
Sizes = Mapping[Any, tuple[int, int] | None]


def read_truth(path: Path, masks: bool) -> tuple[list[Row], Sizes, Mapping[Any, str]]:
    """Read the objects, the images and the names of the categories of a file with annotations.

    A ValueError names the file and the entry that is wrong.
    """
    document = _read(path)
    parts = ("images", "categories", "annotations")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise ValueError(
            f"{path} is not a file of COCO's format: it must be an object with {', '.join(parts)}"
        )
    fields = ("id", "height", "width") if masks else ("id",)
    _check_fields(document["images"], fields, f"{path}, images")
    _check_fields(document["categories"], ("id", "name"), f"{path}, categories")
    for part in parts:
        _check_ids(document[part], "id", f"{path}, {part}")
        _check_distinct(document[part], "id", f"{path}, {part}")
    _check_distinct(document["categories"], "name", f"{path}, categories")
    sizes = {
        image["id"]: _size(image, masks, f"{path}, images, entry {place}")
        for place, image in enumerate(document["images"])
    }
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    rows = _rows(document["annotations"], sizes, names, masks, f"{path}, annotations")
    for place, (row, entry) in enumerate(zip(rows, document["annotations"], strict=True)):
        if entry.get("iscrowd") not in (0, 1, None):
            raise ValueError(
                f"{path}, annotations, entry {place} has the iscrowd {entry['iscrowd']!r}: it must be 0 or 1"
            )
        row |= {"iscrowd": entry.get("iscrowd", 0), "area": entry.get("area")}
    return rows, sizes, names


def read_results(path: Path, sizes: Sizes, names: Mapping[Any, str], masks: bool) -> list[Row]:
    """Read the detections of a file of results, a list; a ValueError names the file and the entry that is wrong."""
    entries = _read(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} is not a file of COCO's results: it must be a list of detections")
    rows = _rows(entries, sizes, names, masks, path)
    _check_fields(entries, ("score",), path)
    for place, entry in enumerate(entries):
        if not _is_number(entry["score"]):
            raise ValueError(
                f"{path}, entry {place} has the score {entry['score']!r}: it must be a finite number"
            )
    return [row | {"score": entry["score"]} for row, entry in zip(rows, entries, strict=True)]


def _rows(
    entries: Sequence[Any], sizes: Sizes, names: Mapping[Any, str], masks: bool, where: Any
) -> list[Row]:
    shape = "segmentation" if masks else "bbox"
    _check_fields(entries, ("image_id", "category_id", shape), where)
    for field in ("image_id", "category_id"):
        _check_ids(entries, field, where)
    rows = []
    for place, entry in enumerate(entries):
        for field, known in (("image_id", sizes), ("category_id", names)):
            if entry[field] not in known:
                raise ValueError(
                    f"{where}, entry {place} has the {field} {entry[field]!r}, which the labelled file does not list"
                )
        row = {"image_id": entry["image_id"], "label": names[entry["category_id"]]}
        try:
            rows.append(row | (_mask if masks else _box)(entry[shape], sizes[entry["image_id"]]))
        except ValueError as error:
            raise ValueError(
                f"{where}, entry {place} has a wrong {shape}: {error}; correct it, or leave the entry out"
            ) from error
    return rows


def _box(values: Any, size: tuple[int, int] | None) -> Row:
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise ValueError(f"{values!r} must be four finite numbers: left, top, width, height")
    left, top, width, height = map(float, values)
    if min(width, height) <= 0:
        raise ValueError(f"{values} has no area")
    if size is not None and not (left < size[1] and top < size[0] and left + width > 0 and top + height > 0):
        raise ValueError(f"{values} is outside of its image, {size[1]} wide and {size[0]} high")
    return {"left": left, "top": top, "right": left + width, "bottom": top + height}


def _size(image: Row, needed: bool, where: str) -> tuple[int, int] | None:
    """Return height and width of an image, or None if it states none and none are needed."""
    height, width = image.get("height"), image.get("width")
    if not needed and height is None and width is None:
        return None
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width)):
        raise ValueError(
            f"{where} has the height {height!r} and the width {width!r}: they must be whole numbers of at least 1"
        )
    return height, width


def _mask(segmentation: Any, size: tuple[int, int]) -> Row:
    from alhelpers.data import decode_mask

    return {"mask": decode_mask(segmentation, *size)}


def _check_fields(entries: Sequence[Any], fields: Sequence[str], where: Any) -> None:
    for place, entry in enumerate(entries):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if missing:
            raise ValueError(f"{where}, entry {place} has no {missing[0]!r}")


def _check_ids(entries: Sequence[Any], field: str, where: str | Path) -> None:
    """Raise unless each entry that has such a field has an id there."""
    for place, entry in enumerate(entries):
        found = entry.get(field, 0) if isinstance(entry, dict) else 0
        if not isinstance(found, int | str) or isinstance(found, bool):
            raise ValueError(
                f"{where}, entry {place} has the {field} {found!r}: it must be a whole number or a text"
            )


def _check_distinct(entries: Sequence[Any], field: str, where: str) -> None:
    """Raise if two entries have the same value; annotations need no id."""
    places: dict[Any, int] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or field not in entry:
            continue
        if places.setdefault(str(entry[field]), place) != place:
            first = places[str(entry[field])]
            raise ValueError(
                f"{where}, entries {first} and {place} have the same {field} {entry[field]!r}: keep one"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is not there: name a JSON file in COCO's format") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
