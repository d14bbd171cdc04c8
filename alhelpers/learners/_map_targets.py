"""The maps of classes that a segmenter learns from, checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from alhelpers.data.labels import warn_of_missing_classes
from alhelpers.data.objects import UNCOUNTED
from alhelpers.protocols import Dataset


def map_targets(dataset: Dataset, class_names: Sequence[str], shape: tuple[int, int]) -> torch.Tensor:
    """Return the class of each pixel, (N, H, W) uint8, 255 where it is not counted.

    ``shape`` is height and width of the images. A ValueError names the first map that is not valid.
    """
    maps = np.asarray(dataset.labels(np.arange(len(dataset))))
    wanted = (len(dataset), *shape)
    if maps.shape != wanted or maps.dtype.kind not in "iu":
        raise ValueError(
            f"the labels are {maps.dtype} of shape {maps.shape}: they must be whole numbers of shape {wanted}, one"
            " class index a pixel of the images"
        )
    valid = ((maps >= 0) & (maps < len(class_names))) | (maps == UNCOUNTED)
    if not valid.all():
        row, top, left = (int(place) for place in np.argwhere(~valid)[0])
        raise ValueError(
            f"the label of image {dataset.ids[row]} at pixel ({top}, {left}) is {maps[row, top, left]}: it must be"
            f" from 0 to {len(class_names) - 1}, or {UNCOUNTED} where it is not counted"
        )
    there = [np.unique(each) for each in maps]
    warn_of_missing_classes(np.concatenate(there), class_names)
    return torch.from_numpy(maps.astype(np.uint8))
