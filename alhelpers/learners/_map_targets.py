"""The maps of classes that a segmenter learns from, checked, and what its outputs are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

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


def map_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the cross entropy of logits (B, C, H, W) and maps of classes (B, H, W) over the pixels that count.

    A class weighs by the inverse root of its number of pixels in the batch: most are background, and with equal weights
    what objects are of is learned late.
    """
    wanted = targets.long()
    counts = torch.bincount(wanted[wanted != UNCOUNTED], minlength=outputs.shape[1])
    weights = counts.clamp(min=1).to(outputs.dtype) ** -0.5
    total = functional.cross_entropy(outputs, wanted, weight=weights, ignore_index=UNCOUNTED, reduction="sum")
    return total / (weights * counts).sum().clamp(min=1)
