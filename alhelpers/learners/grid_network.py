"""The backbone that the detector and the segmenter share, and their heads, whose dropout comes last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from alhelpers.uncertainty._torch import derived_seed, seeded

#: Pixels between two cells of the grid.
STRIDE = 4

# Pixels of a step of the coarsest features: images are padded to a multiple of it.
_COARSEST = 8

# Channels at half, a quarter and an eighth of the image's size.
_FINE, _MIDDLE, _COARSE = 24, 48, 64

# Channels of the features of objects, and of those of the foreground.
_FEATURES, _FOREGROUND = 96, 32

# The logit of what is rare, before a training.
_RARE = -3.0


def _block(inputs: int, outputs: int, *, stride: int = 1, size: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    """Adds what a block computes to what it reads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = _block(channels, channels)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.block(values)


class Backbone(nn.Module):
    """Images (B, channels, H, W), 0 to 1, to features at a half (B, 24, ...) and a quarter (B, 48, ...) of the size.

    Images are padded on the right and at the bottom to multiples of 8 pixels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = _block(channels, _FINE, stride=2)
        self.middle = nn.Sequential(_block(_FINE, _MIDDLE, stride=2), _Residual(_MIDDLE))
        self.context = nn.Sequential(
            _block(_MIDDLE, _COARSE, stride=2),
            _Residual(_COARSE),
            _Residual(_COARSE),
            nn.Conv2d(_COARSE, _MIDDLE, 1),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features at half and a quarter of the size."""
        height, width = images.shape[2:]
        values = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        if height % _COARSEST or width % _COARSEST:
            values = functional.pad(values, (0, -width % _COARSEST, 0, -height % _COARSEST))
        fine = self.fine(values)
        middle = self.middle(fine)
        context = functional.interpolate(self.context(middle), scale_factor=2, mode="nearest")
        return fine, middle + context


def _head(features: int, biases: Sequence[float], dropout: float) -> nn.Sequential:
    """Return one layer after the dropout, so that many passes cost little beside the features."""
    last = nn.Conv2d(features, len(biases), 1)
    nn.init.normal_(last.weight, std=0.01)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(biases))
    return nn.Sequential(nn.Dropout2d(dropout), last)


def _first_biases(classes: int) -> list[float]:
    """Return biases of objects: at the start nearly nothing is one, and a box reaches two cells to each side."""
    return [*(0.0,) * classes, _RARE, *(0.7,) * 4]


def passes_of(head: nn.Sequential, features: torch.Tensor, passes: int, seed: int) -> torch.Tensor:
    """Return the outputs of a head with dropout, (B, T, O, h, w), of features (B, F, h, w).

    The masks are those of :func:`alhelpers.uncertainty.mc_dropout` with ``masks="pass"``. They are put on the weights,
    so that all passes are one convolution.
    """
    dropout, last = head
    ones, masks = torch.ones(1, features.shape[1], 1, 1), []
    for number in range(passes):
        with seeded(derived_seed(seed, number, 0), torch.device("cpu")):
            masks.append(functional.dropout2d(ones, dropout.p, training=True))
    weights = last.weight * torch.stack(masks).to(last.weight)
    outputs = functional.conv2d(features, weights.flatten(0, 1), last.bias.repeat(passes))
    return outputs.contiguous().unflatten(1, (passes, -1))


class BoxNetwork(nn.Module):
    """Images (B, channels, H, W) to what is predicted at each cell, (B, C + 5, h, w).

    Logits of C classes and of an object's centre, and the logarithms of the distances to the sides of its box.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = Backbone(channels)
        self.neck = nn.Sequential(_block(_MIDDLE, _COARSE), _block(_COARSE, _FEATURES, size=1))
        self.head = _head(_FEATURES, _first_biases(classes), dropout)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is the same in every pass, (B, 96, h, w), of the cells whose centres are inside of the images."""
        height, width = (-(-(size - STRIDE // 2) // STRIDE) for size in images.shape[2:])
        return self.neck(self.backbone(images)[1])[..., :height, :width]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs."""
        return self.head(self.features(images))


class MapNetwork(nn.Module):
    """Images (B, channels, H, W) to what is predicted at each cell, (B, C + 20, h, w).

    Of the C - 1 classes after the background what a :class:`BoxNetwork` predicts, which is what makes the features
    tell the classes from each other, and logits of the foreground at each of the cell's 4 x 4 pixels.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = Backbone(channels)
        self.near = _block(_MIDDLE, _COARSE)
        self.objects = _block(_COARSE, _FEATURES, size=1)
        self.foreground = _block(_COARSE + 4 * _FINE, _FOREGROUND, size=1)
        first = [*_first_biases(classes - 1), *(_RARE,) * STRIDE**2]
        self.head = _head(_FEATURES + _FOREGROUND, first, dropout)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is the same in every pass, (B, 128, h, w), of the images as they are padded."""
        fine, middle = self.backbone(images)
        near = self.near(middle)
        # a cell of the fine features is 2 x 2 pixels
        pixels = torch.cat([near, functional.pixel_unshuffle(fine, 2)], 1)
        return torch.cat([self.objects(near), self.foreground(pixels)], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs."""
        return self.head(self.features(images))
