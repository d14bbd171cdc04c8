"""Objects and detections of two models in COCO's JSON files, as ``compare`` reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: Height and width by the id of an image; None where they are not needed.
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
    sizes = {
        image["id"]: (image["height"], image["width"]) if masks else None for image in document["images"]
    }
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    rows = _rows(document["annotations"], sizes, names, masks, f"{path}, annotations")
    for row, entry in zip(rows, document["annotations"], strict=True):
        row |= {"iscrowd": entry.get("iscrowd", 0), "area": entry.get("area")}
    return rows, sizes, names


def read_results(path: Path, sizes: Sizes, names: Mapping[Any, str], masks: bool) -> list[Row]:
    """Read the detections of a file of results, a list; a ValueError names the file and the entry that is wrong."""
    entries = _read(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} is not a file of COCO's results: it must be a list of detections")
    rows = _rows(entries, sizes, names, masks, path)
    _check_fields(entries, ("score",), path)
    return [row | {"score": entry["score"]} for row, entry in zip(rows, entries, strict=True)]


def _rows(
    entries: Sequence[Any], sizes: Sizes, names: Mapping[Any, str], masks: bool, where: Any
) -> list[Row]:
    shape = "segmentation" if masks else "bbox"
    _check_fields(entries, ("image_id", "category_id", shape), where)
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
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}, entry {place} has a wrong {shape}: {error}") from error
    return rows


def _box(values: Any, size: None) -> Row:
    left, top, width, height = map(float, values)
    return {"left": left, "top": top, "right": left + width, "bottom": top + height}


def _mask(segmentation: Any, size: tuple[int, int]) -> Row:
    from alhelpers.data import decode_mask

    return {"mask": decode_mask(segmentation, *size)}


def _check_fields(entries: Sequence[Any], fields: Sequence[str], where: Any) -> None:
    for place, entry in enumerate(entries):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if missing:
            raise ValueError(f"{where}, entry {place} has no {missing[0]!r}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is not there: name a JSON file in COCO's format") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
