"""What a detector's outputs on a grid of cells are compared with."""

from __future__ import annotations

import torch
from torch.nn import functional

from alhelpers.learners._box_decoding import cell_centres, split
from alhelpers.learners.grid_network import STRIDE

# Of a Gaussian around a box's centre: its standard deviation as a share of the side, and the least in cells.
_SPREAD, _LEAST = 1 / 7, 0.4

# Cells with at least this much of the Gaussian learn the box.
_NEAR = 0.2

_CLASS_WEIGHT, _BOX_WEIGHT = 2.0, 3.0


def box_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the focal loss of objects' centres, the cross entropy of classes, and the GIoU loss of boxes.

    ``outputs`` are (B, C + 5, h, w), ``targets`` (B, K, 5): left, top, right and bottom in pixels, and the class, -1
    where there is no box. Lin et al., "Focal loss for dense object detection", 2017; Zhou et al., "Objects as points",
    2019; Liu et al., "Training-time-friendly network", 2020, for cells weighted by a Gaussian; Rezatofighi et al.,
    "Generalized intersection over union", 2019.
    """
    boxes, labels = targets[..., :4], targets[..., 4].long()
    near = _nearness(boxes, labels >= 0, outputs.shape[2:])
    heat, nearest = near.max(1)
    weight = heat * (heat >= _NEAR)
    share = weight / weight.sum().clamp(min=1e-6)
    nearest = nearest.flatten(1)
    classes, centres, found = split(outputs)
    wanted = boxes.gather(1, nearest[..., None].expand(-1, -1, 4)).view(*heat.shape, 4)
    missed = share * (1 - _giou(found.permute(0, 2, 3, 1), wanted))
    label = labels.gather(1, nearest).view_as(heat).clamp(min=0)
    confused = share * functional.cross_entropy(classes, label, reduction="none")
    centred = _focal(centres, heat) / (labels >= 0).sum().clamp(min=1)
    return centred + _CLASS_WEIGHT * confused.sum() + _BOX_WEIGHT * missed.sum()


def _nearness(boxes: torch.Tensor, there: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the Gaussian around the centre of each box, (B, K, h, w), 1 at its own cell."""
    x, y = cell_centres(shape, boxes)
    deviation = []
    for cells, low, high in ((x, boxes[..., 0], boxes[..., 2]), (y, boxes[..., 1], boxes[..., 3])):
        centre = (((low + high) / 2 / STRIDE).floor() + 0.5).clamp(0.5, len(cells) - 0.5) * STRIDE
        spread = ((high - low) * _SPREAD).clamp(min=_LEAST * STRIDE)
        deviation.append(((cells - centre[..., None]) / spread[..., None]) ** 2)
    squares = deviation[1][..., :, None] + deviation[0][..., None, :]
    return torch.exp(-squares / 2) * there[..., None, None]


def _focal(logits: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Return the penalty-reduced focal loss, summed."""
    confidence = logits.sigmoid()
    right = heat >= 1
    found = (1 - confidence) ** 2 * functional.logsigmoid(logits)
    empty = (1 - heat) ** 4 * confidence**2 * functional.logsigmoid(-logits)
    return -torch.where(right, found, empty).sum()


def _giou(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU of pairs of boxes (..., 4), from -1 to 1."""
    low, high = torch.maximum(found[..., :2], wanted[..., :2]), torch.minimum(found[..., 2:], wanted[..., 2:])
    outer_low = torch.minimum(found[..., :2], wanted[..., :2])
    outer_high = torch.maximum(found[..., 2:], wanted[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    both = sum((each[..., 2:] - each[..., :2]).prod(-1) for each in (found, wanted)) - shared
    outer = (outer_high - outer_low).prod(-1).clamp(min=1e-6)
    return shared / both.clamp(min=1e-6) - (outer - both) / outer
