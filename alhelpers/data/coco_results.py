"""Write the detections of a model as a list of results in COCO's format."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alhelpers import files
from alhelpers.data.box_rows import SIDES, sides_of
from alhelpers.data.coco_writer import category_names, coco_numbers
from alhelpers.data.masks import encode_mask, resize_mask
from alhelpers.protocols import Dataset


def write_coco_results(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    source: Dataset | Sequence[Any],
    *,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write predicted boxes or masks to a JSON file, a list of COCO's results, which ``alhelpers compare`` reads.

    Images and categories have the numbers that :func:`write_coco` gives those of the same data set. Where :func:`coco`
    resized images, boxes and masks are written in pixels of the file that it read.

    Parameters
    ----------
    path : path
        The JSON file; one that is there is replaced.
    rows : sequence of dict
        One a detection, as ``predictions.rows(dataset.ids)`` returns them: ``image_id``, ``label``, ``score``, and
        ``left``, ``top``, ``right``, ``bottom``, or ``mask``, bool (H, W), or all of them.
    source : Dataset or sequence
        The data set that is predicted, or the ids of all its images in their order.
    class_names : sequence of str, optional
        The categories in their order, with ids alone.

    Raises
    ------
    ValueError
        If a row is of another image or class, has neither a box nor a mask, or a number is not finite; the message
        names the row.

    Examples
    --------
    >>> write_coco_results("new.json", detector.predict(test).rows(test.ids), test)  # doctest: +SKIP
    """
    is_dataset = hasattr(source, "ids")
    if is_dataset == (class_names is not None):
        raise ValueError("class_names are passed with ids alone, and must be: a data set has its own")
    ids = np.asarray(source.ids if is_dataset else source).tolist()
    names = category_names(source) if is_dataset else tuple(class_names)
    image_ids, category_ids = coco_numbers(source, len(ids), len(names))
    places, categories = dict(zip(ids, image_ids, strict=True)), dict(zip(names, category_ids, strict=True))
    sizes = _sizes(source, ids)
    found = []
    for number, row in enumerate(rows):
        for field, known, what in (("image_id", places, "ids"), ("label", categories, "class names")):
            if row.get(field) not in known:
                raise ValueError(
                    f"row {number} has {field} {row.get(field)!r}, which is not among the {what}: predict the same data"
                    " set, or leave the row out"
                )
        entry = {"image_id": places[row["image_id"]], "category_id": categories[row["label"]]}
        found.append(entry | _shape(row, number, sizes.get(row["image_id"])))
    files.write_text(Path(path), json.dumps(found))


def _sizes(source: Any, ids: Sequence[Any]) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """Return the size of each image in the file it was read from, and as it was predicted, if they may differ."""
    if getattr(source, "size", None) is None or not hasattr(source, "file_sizes"):
        return {}
    return {one: (size, np.array(source.size)) for one, size in zip(ids, source.file_sizes, strict=True)}


def _shape(
    row: Mapping[str, Any], number: int, sizes: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """Return the score of a row, with its box, its mask, or both."""
    has_box, mask = all(side in row for side in SIDES), row.get("mask")
    numbers = [float(row.get("score", math.nan)), *(sides_of(row, f"row {number}") if has_box else [])]
    if not all(map(math.isfinite, numbers)) or not (has_box or mask is not None):
        raise ValueError(
            f"row {number} must have a score and {', '.join(SIDES)} that are finite, or a score and a mask; it has"
            f" {', '.join(f'{name}={value}' for name, value in row.items() if name != 'mask')}"
        )
    shape: dict[str, Any] = {"score": numbers[0]}
    if has_box:
        scale = np.ones(4) if sizes is None else np.tile((sizes[0] / sizes[1])[::-1], 2)
        left, top, right, bottom = (np.array(numbers[1:]) * scale).tolist()
        shape["bbox"] = [left, top, right - left, bottom - top]
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        shape["segmentation"] = encode_mask(mask if sizes is None else resize_mask(mask, tuple(sizes[0])))
    return shape
