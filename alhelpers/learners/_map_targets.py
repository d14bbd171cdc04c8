"""The maps of classes that a segmenter learns from, checked, and what its outputs are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from alhelpers.data.labels import warn_of_missing_classes
from alhelpers.data.objects import UNCOUNTED
from alhelpers.protocols import Dataset

# Of the classes of the foreground, in the loss.
CLASS_WEIGHT = 2.0


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
    """Compute the cross entropy of all pixels, that of the classes of the foreground alone, and the Dice loss.

    ``outputs`` are logarithms of probabilities (B, C, H, W), ``targets`` classes (B, H, W). Most pixels are background:
    a mean over all of them hardly tells the other classes from each other. Milletari, Navab and Ahmadi, "V-Net", 2016.
    """
    wanted = targets.long()
    counted = wanted != UNCOUNTED
    there = counted & (wanted > 0)
    inside = outputs[:, 1:].logsumexp(1)
    found = outputs.gather(1, torch.where(counted, wanted, 0)[:, None])[:, 0]
    missed = -_mean(found, counted)
    confused = -_mean(found - inside, there)
    share = inside.exp() * counted
    overlap = (2 * (share * there).sum() + 1) / (share.sum() + there.sum() + 1)
    return missed + CLASS_WEIGHT * confused + 1 - overlap


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the mean of some of the values, 0 without any."""
    return torch.where(where, values, 0).sum() / where.sum().clamp(min=1)
