"""From a segmenter's outputs on a grid of cells to the classes of pixels."""

from __future__ import annotations

import torch
from torch.nn import functional

from alhelpers.learners.grid_network import STRIDE

# Where a pixel's class is averaged: the distance in cells at which weights are 0, and the least weight of a centre.
_REACH, LEAST_WEIGHT = 5, 1e-4


def split_maps(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is predicted of objects (B, C + 4, h, w), and the foreground's logits at pixels (B, 16, h, w)."""
    return outputs.split([outputs.shape[1] - STRIDE**2, STRIDE**2], 1)


def at_pixels(outputs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the logarithms of the probabilities of pixels, (B, C, H, W), of the outputs (B, C + 20, h, w) of cells.

    A pixel is foreground, and then of the class of its cell.
    """
    objects, foreground = split_maps(outputs)
    foreground = functional.pixel_shuffle(foreground, STRIDE)
    classes = functional.interpolate(_classes(objects), scale_factor=STRIDE, mode="nearest")
    inside = functional.logsigmoid(foreground) + classes
    return torch.cat([functional.logsigmoid(-foreground), inside], 1)[..., : size[0], : size[1]]


def passes_at_pixels(outputs: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum up passes (B, T, C + 20, h, w) without the probabilities of each at each pixel.

    Returns their means (B, C, H, W), and the means of their entropies (B, H, W) in nats: that of a pass is the entropy
    of the foreground, and the foreground's share of that of the cell's class.
    """
    passes = outputs.shape[1]
    objects, foreground = split_maps(outputs.flatten(0, 1))
    logarithms, inside = _classes(objects), foreground.sigmoid()
    classes = logarithms.exp()
    unsure = -(classes * logarithms).sum(1, keepdim=True)
    # -p log p - (1 - p) log(1 - p) of p = sigmoid(x) is softplus(x) - p x
    entropies = functional.softplus(foreground) + inside * (unsure - foreground)
    inside, classes = (each.unflatten(0, (-1, passes)) for each in (inside, classes))
    means = torch.einsum("btphw,btkhw->bkphw", inside, classes).flatten(1, 2) / passes
    entropies = entropies.unflatten(0, (-1, passes)).mean(1)
    cells = torch.cat([1 - inside.mean(1), means, entropies], 1)
    pixels = functional.pixel_shuffle(cells, STRIDE)[..., : size[0], : size[1]]
    return pixels[:, :-1], pixels[:, -1]


def _classes(objects: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the classes' probabilities at cells, (B, C - 1, h, w), of what is said of objects.

    The class is that of the objects' centres nearby: the mean of the cells around, weighted by their confidences of a
    centre, and by how near they are.
    """
    classes, centres, _ = objects.tensor_split([-5, -4], 1)
    weights = centres.sigmoid() + LEAST_WEIGHT
    total = torch.cat([classes * weights, weights], 1)
    down, across = (_nearness(size, total) for size in total.shape[2:])
    total = down @ total @ across
    return (total[:, :-1] / total[:, -1:]).log_softmax(1)


def _nearness(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weights of cells by their distance along a line, (size, size)."""
    places = torch.arange(size, dtype=like.dtype, device=like.device)
    return (_REACH - (places[:, None] - places).abs()).clamp(min=0)
