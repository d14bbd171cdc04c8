"""From a detector's outputs on a grid of cells to boxes: peaks of the heat map, and the best of those that overlap."""

from __future__ import annotations

import torch
from torch.nn import functional

from alhelpers.learners.grid_network import STRIDE

# Logarithms of distances, in cells: what a box can reach from its cell.
_SMALLEST, _LARGEST = -4.0, 6.0

#: Boxes that an image has at most.
MOST = 100


def cell_centres(shape: torch.Size, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the x (w,) and y (h,) of the centres of cells, in pixels."""
    height, width = shape
    options = {"dtype": like.dtype, "device": like.device}
    return tuple((torch.arange(size, **options) + 0.5) * STRIDE for size in (width, height))


def split(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split what is predicted at each cell, (B, C + 5, h, w).

    Returns the logits of classes (B, C, h, w) and of centres (B, h, w), and the boxes (B, 4, h, w) as left, top, right
    and bottom in pixels.
    """
    distances = outputs[:, -4:].clamp(_SMALLEST, _LARGEST).exp() * STRIDE
    x, y = cell_centres(outputs.shape[2:], outputs)
    left, top, right, bottom = distances.unbind(1)
    y = y[:, None]
    return outputs[:, :-5], outputs[:, -5], torch.stack([x - left, y - top, x + right, y + bottom], 1)


def activated(outputs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return confidences and boxes inside of images of a size (height, width), (B, C + 4, h, w): they can be averaged.

    The confidence of a class is that of an object times that of the class.
    """
    classes, centres, boxes = split(outputs)
    limits = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype, device=boxes.device)[:, None, None]
    inside = torch.minimum(boxes.clamp(min=0), limits)
    return torch.cat([classes.softmax(1) * centres.sigmoid()[:, None], inside], 1)


def peaks(grids: torch.Tensor, threshold: float, overlap: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cells of objects: their images (M,) in rising order, and their places among the cells (M,).

    Objects are peaks of the highest confidence among 3 x 3 cells, from the best down; a peak whose box overlaps that
    of a better one by more than ``overlap`` is left out.
    """
    heat = grids[:, :-4].amax(1)
    is_peak = (heat == functional.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat >= threshold)
    scores = torch.where(is_peak, heat, 0).flatten(1)
    most = min(int(is_peak.flatten(1).sum(1).max()), MOST)
    scores, cells = scores.topk(most, dim=1)
    boxes = grids[:, -4:].flatten(2).transpose(1, 2)
    boxes = boxes.gather(1, cells[..., None].expand(-1, -1, 4))
    kept = (scores > 0) & ~_covered(boxes, scores > 0, overlap)
    images, ranks = torch.nonzero(kept, as_tuple=True)
    return images, cells[images, ranks]


def _covered(boxes: torch.Tensor, there: torch.Tensor, overlap: float) -> torch.Tensor:
    """Return which boxes (B, K, 4), best first, overlap a better one that is kept."""
    sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    over = shared > overlap * (sizes[:, :, None] + sizes[:, None] - shared)
    covered = ~there
    for rank in range(boxes.shape[1] - 1):
        covered[:, rank + 1 :] |= over[:, rank, rank + 1 :] & ~covered[:, rank, None]
    return covered
