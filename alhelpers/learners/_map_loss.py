"""What a segmenter's outputs on a grid of cells are compared with."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from alhelpers.data.objects import UNCOUNTED
from alhelpers.learners._box_loss import box_loss
from alhelpers.learners._map_decoding import split_maps
from alhelpers.learners.grid_network import STRIDE

_FOREGROUND_WEIGHT = 2.0

# Connected pixels that are fewer are a part of an object that is hidden or cut off.
_LEAST_PIXELS = 12

# Pixels are connected to those at their corners too.
_NEIGHBOURS = np.ones((3, 3))

# The logit of an object's centre where it is not to be learned.
_NO_CENTRE = -20.0


def map_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the cross entropy and the Dice loss of the foreground, and the loss of objects of :func:`box_loss`.

    ``outputs`` are (B, C + 20, h, w), ``targets`` classes (B, H, W). Connected pixels of a class are taken for an
    object: classes are learned at its centre, as the ends of strokes tell little of it. Milletari, Navab and Ahmadi,
    "V-Net", 2016, for the Dice loss.
    """
    objects, foreground = split_maps(outputs)
    foreground = functional.pixel_shuffle(foreground, STRIDE)[:, 0]
    below, right = (size - given for size, given in zip(foreground.shape[1:], targets.shape[1:], strict=True))
    wanted = functional.pad(targets, (0, right, 0, below), value=UNCOUNTED)
    counted = (wanted != UNCOUNTED).to(foreground)
    there = (wanted > 0) * counted
    missed = functional.binary_cross_entropy_with_logits(foreground, there, counted, reduction="sum")
    found = foreground.sigmoid() * counted
    overlap = (2 * (found * there).sum() + 1) / (found.sum() + there.sum() + 1)
    inside = missed / counted.sum().clamp(min=1) + 1 - overlap
    return _FOREGROUND_WEIGHT * inside + box_loss(_counted_cells(objects, counted), object_boxes(targets))


def _counted_cells(objects: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the outputs without the centres of cells of which no pixel is counted."""
    cells = functional.max_pool2d(counted[:, None], STRIDE) > 0
    classes, centres, distances = objects.tensor_split([-5, -4], 1)
    return torch.cat([classes, torch.where(cells, centres, _NO_CENTRE), distances], 1)


def object_boxes(maps: torch.Tensor) -> torch.Tensor:
    """Return the boxes of connected pixels of a class in maps (B, H, W) as a detector's targets (B, K, 5)."""
    found = []
    for plane in maps.cpu().numpy():
        rows = [[-1.0] * 5]
        for label in np.unique(plane[(plane > 0) & (plane != UNCOUNTED)]).tolist():
            parts, _ = ndimage.label(plane == label, _NEIGHBOURS)
            for number, (down, across) in enumerate(ndimage.find_objects(parts), 1):
                if np.count_nonzero(parts[down, across] == number) >= _LEAST_PIXELS:
                    rows.append([across.start, down.start, across.stop, down.stop, label - 1])
        found.append(torch.tensor(rows))
    return pad_sequence(found, batch_first=True, padding_value=-1.0).to(maps.device)
