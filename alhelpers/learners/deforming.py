"""Deform images while training: turned, scaled, slanted, shifted, and bent elastically."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from alhelpers.training import check_planes

# How far each image may go, both ways: degrees, shares of its size, slant, share of the grid that spans 2.
_TURN, _SCALE, _SLANT, _SHIFT = math.pi * 15 / 180, 0.15, 0.2, 0.2

# Bends: a coarse field of shifts of this spread in the grid that spans 2, made smooth between its points.
_BEND, _BEND_POINTS = 0.06, 5


def deform(images: torch.Tensor) -> torch.Tensor:
    """Deform each image by its own draw from torch's random state, as dropout draws, (N, C, H, W) -> (N, C, H, W).

    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003.
    """
    check_planes(images)
    count, _, height, width = images.shape
    angle, wide, high, slant, *shift = torch.rand(6, count) * 2 - 1
    cosine, sine = torch.cos(angle * _TURN), torch.sin(angle * _TURN)
    wide, high, slant = 1 + _SCALE * wide, 1 + _SCALE * high, _SLANT * slant
    rows = [
        torch.stack([cosine / wide, (cosine * slant - sine) / high, _SHIFT * shift[0]], 1),
        torch.stack([sine / wide, (sine * slant + cosine) / high, _SHIFT * shift[1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 1, height, width], align_corners=False)
    bends = _BEND * torch.randn(count, 2, _BEND_POINTS, _BEND_POINTS)
    smooth = functional.interpolate(bends, size=(height, width), mode="bicubic", align_corners=True)
    grid = (grid + smooth.permute(0, 2, 3, 1)).to(images)
    return functional.grid_sample(images, grid, align_corners=False)


def elastic(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Deform a batch: an ``augmentation`` of :func:`alhelpers.training.train`, which seeds torch's random state."""
    return deform(images)
