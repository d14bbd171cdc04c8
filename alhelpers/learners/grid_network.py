"""The backbone that the detector and the segmenter share, and their heads, whose dropout comes last."""

from __future__ import annotations

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

# Channels of the features that the heads of boxes and of maps read.
_FEATURES, _MAP_FEATURES = 96, 128

# Cells of a window, and the least weight of one, where the class is averaged.
_WINDOW, LEAST_TRUST = 5, 1e-2


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


def _head(features: int, outputs: int, dropout: float) -> nn.Sequential:
    """Return one layer after the dropout, so that many passes cost little beside the features."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(features, outputs, 1))


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
        self.head = _head(_FEATURES, classes + 5, dropout)
        last = self.head[-1]
        nn.init.normal_(last.weight, std=0.01)
        # at the start nearly nothing is an object, and a box reaches two cells to each side
        with torch.no_grad():
            last.bias.copy_(torch.tensor([*(0.0,) * classes, -3.0, *(0.7,) * 4]))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is the same in every pass, (B, 96, h, w), of the cells whose centres are inside of the images."""
        height, width = (-(-(size - STRIDE // 2) // STRIDE) for size in images.shape[2:])
        return self.neck(self.backbone(images)[1])[..., :height, :width]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the head's outputs."""
        return self.head(self.features(images))


class MapNetwork(nn.Module):
    """Images (B, channels, H, W) to the logarithms of the classes' probabilities at each pixel, (B, C, H, W).

    A pixel is foreground, which is predicted at each, and then of a class, which is predicted once for the 4 x 4 pixels
    of a cell: what is read are objects, and few pixels of one know more of its class than the others.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = Backbone(channels)
        self.neck = _block(_MIDDLE, _COARSE)
        self.joint = _block(_COARSE + 4 * _FINE, _MAP_FEATURES, size=1)
        self.head = _head(_MAP_FEATURES, classes + STRIDE**2, dropout)
        last = self.head[-1]
        nn.init.normal_(last.weight, std=0.01)
        # at the start nearly nothing is foreground, and no cell is trusted more than others
        with torch.no_grad():
            last.bias.copy_(torch.tensor([*(0.0,) * (classes - 1), -2.0, *(-3.0,) * STRIDE**2]))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what is the same in every pass, at a quarter of the size, (B, 128, h, w)."""
        fine, middle = self.backbone(images)
        return self.joint(torch.cat([self.neck(middle), functional.pixel_unshuffle(fine, 2)], 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of probabilities of the images' pixels, which are logits too."""
        return at_pixels(self.head(self.features(images)), images.shape[2:])


def at_pixels(outputs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the logarithms of probabilities of pixels (B, C, H, W) of what a head predicts for cells of 4 x 4.

    ``outputs`` are (B, C + 16, h, w): logits of the C - 1 classes after the background, of how far these are to be
    trusted, and of the foreground of 16 pixels. The class of a cell is the mean of the cells around it, those near and
    those that are trusted first: at the end of a stroke, little of the object is seen.
    """
    classes, trust, foreground = outputs.split([outputs.shape[1] - STRIDE**2 - 1, 1, STRIDE**2], 1)
    weights = trust.sigmoid() + LEAST_TRUST
    total = torch.cat([classes * weights, weights], 1)
    for _ in range(2):  # twice a mean of a window is one whose weights fall with the distance
        total = functional.avg_pool2d(total, _WINDOW, 1, _WINDOW // 2)
    classes = (total[:, :-1] / total[:, -1:]).log_softmax(1)
    classes = functional.interpolate(classes, scale_factor=STRIDE, mode="nearest")
    foreground = functional.pixel_shuffle(foreground, STRIDE)
    logarithms = [functional.logsigmoid(-foreground), functional.logsigmoid(foreground) + classes]
    return torch.cat(logarithms, 1)[..., : size[0], : size[1]]
