"""Deform images while training: turned, scaled, slanted, shifted, and bent like rubber."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

# How far each image may go, both ways: degrees, shares of its size, slant, share of the grid that spans 2.
_TURN, _SCALE, _SLANT, _SHIFT = math.pi * 15 / 180, 0.15, 0.2, 0.2

# Bends: a coarse field of shifts of this spread in the grid that spans 2, made smooth between its points.
_BEND, _BEND_POINTS = 0.06, 5


class Deform(nn.Module):
    """A layer that deforms images at random while training, and passes them on as they are otherwise.

    Up to 15 degrees, 15 % of each side, a slant of 0.2 and a shift of 10 % of the width; on top of it the
    elastic deformation: a smooth random field of shifts. It draws from torch's own random state, as dropout does,
    or from a generator.

    References
    ----------
    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003.
    """

    #: Several networks that are trained together each draw by their own (``uncertainty.batched``).
    takes_generator = True

    def forward(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Deform, (N, 1, H, W) -> (N, 1, H, W)."""
        return deform(images, generator) if self.training else images


def deform(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Deform each image by its own draw, from torch's random state or a generator, (N, 1, H, W) -> (N, 1, H, W)."""
    count, _, height, width = images.shape
    angle, wide, high, slant, *shift = torch.rand(6, count, generator=generator) * 2 - 1
    cosine, sine = torch.cos(angle * _TURN), torch.sin(angle * _TURN)
    wide, high, slant = 1 + _SCALE * wide, 1 + _SCALE * high, _SLANT * slant
    rows = [
        torch.stack([cosine / wide, (cosine * slant - sine) / high, _SHIFT * shift[0]], 1),
        torch.stack([sine / wide, (sine * slant + cosine) / high, _SHIFT * shift[1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 1, height, width], align_corners=False)
    bends = _BEND * torch.randn(count, 2, _BEND_POINTS, _BEND_POINTS, generator=generator)
    smooth = functional.interpolate(bends, size=(height, width), mode="bicubic", align_corners=True)
    grid = (grid + smooth.permute(0, 2, 3, 1)).to(images)
    return functional.grid_sample(images, grid, align_corners=False)
