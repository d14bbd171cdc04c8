"""The boxes of a data set as a tensor, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alhelpers.data.box_rows import sides_of
from alhelpers.data.labels import warn_of_missing_classes
from alhelpers.protocols import Dataset


def box_targets(dataset: Dataset, class_names: Sequence[str], shape: tuple[int, int]) -> torch.Tensor:
    """Return left, top, right, bottom and the class of each box, (N, K, 5); the class is -1 where there is no box.

    ``shape`` is height and width. A box is cut at the borders of its image. A ValueError names the first box that is
    not valid.
    """
    places = {name: place for place, name in enumerate(class_names)}
    # Row by row, as ids may be there twice, such as in a bootstrap.
    images = [
        [_numbers(row, identity, places, shape) for row in dataset.labels(np.array([number]))]
        for number, identity in enumerate(dataset.ids)
    ]
    classes = np.array([box[4] for boxes in images for box in boxes], dtype=np.int64)
    warn_of_missing_classes(classes, class_names)
    targets = torch.full((len(images), max(1, *map(len, images), 1), 5), 0.0)
    targets[..., 4] = -1
    for row, boxes in zip(targets, images, strict=True):
        if boxes:
            row[: len(boxes)] = torch.tensor(boxes)
    return targets


def _numbers(
    row: Mapping[str, Any], identity: Any, places: Mapping[str, int], shape: tuple[int, int]
) -> list[float]:
    """Return the numbers of a box, checked."""
    sides = sides_of(row, f"a box of image {identity}")
    if row.get("image_id") != identity:
        raise ValueError(
            f"labels of image {identity} hold a box of image {row.get('image_id')}: labels(rows) must return the boxes"
            " of these rows alone"
        )
    name = f"the box {sides} of image {identity}"
    if str(row.get("label")) not in places:
        raise ValueError(
            f"{name} has the label {row.get('label')!r}, which is none of the class names: {', '.join(places)}"
        )
    if not all(map(math.isfinite, sides)):
        raise ValueError(f"{name} is not finite: correct it, or remove it")
    left, top, right, bottom = sides
    if left >= right or top >= bottom:
        raise ValueError(f"{name} has no area: it must have left < right and top < bottom, or be removed")
    height, width = shape
    cut = [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))]
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise ValueError(
            f"{name} is outside of its image, {width} wide and {height} high: correct or remove it"
        )
    return [*cut, float(places[str(row["label"])])]
