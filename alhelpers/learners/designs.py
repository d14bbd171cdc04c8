"""The networks that comparisons of strategies are run with."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from alhelpers.learners.networks import build_network

_DROPOUT = 0.5


def build_design(
    design: str, size: int, classes: int = 10, *, channels: int = 1, seed: int = 0
) -> nn.Sequential:
    """Build a classifier of images, (N, channels, size, size) -> (N, C) logits, by the name of its design.

    ``"plain"`` is the kit's own (:func:`build_network`). ``"normed"``, for 28x28: three convolutions and a linear
    layer, the embedding, each with batch norm, without which pretraining learns less; then dropout. ``"strided"``, for
    28x28: that of Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017, with a stride
    of 2 in its first convolution, which leaves a quarter of the work to the second; dropout after the convolutions too.
    """
    if design == "plain":
        return build_network(size, classes, channels=channels, seed=seed)
    if design not in _DESIGNS:
        raise ValueError(f"design is {design!r}: it must be plain, {' or '.join(_DESIGNS)}")
    if size != 28:
        raise ValueError(f"the design {design!r} takes images of 28x28, not {size}x{size}: use 'plain'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(_DESIGNS[design](classes, channels))


def _normed(classes: int, channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=nn.Conv2d(channels, 16, kernel_size=5, stride=2, padding=2, bias=False),
        norm1=nn.BatchNorm2d(16),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, kernel_size=3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(32),
        pool=nn.MaxPool2d(2),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(32, 64, kernel_size=3, padding=1, bias=False),
        norm3=nn.BatchNorm2d(64),
        relu3=nn.ReLU(),
        flatten=nn.Flatten(),
        hidden=nn.Linear(64 * 7 * 7, 128, bias=False),
        norm4=nn.BatchNorm1d(128),
        embedding=nn.ReLU(),
        dropout=nn.Dropout(_DROPOUT),
        logits=nn.Linear(128, classes),
    )


def _strided(classes: int, channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=nn.Conv2d(channels, 32, kernel_size=4, stride=2),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 32, kernel_size=4),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        dropout1=nn.Dropout(0.25),
        flatten=nn.Flatten(),
        hidden=nn.Linear(32 * 5 * 5, 128),
        embedding=nn.ReLU(),
        dropout2=nn.Dropout(_DROPOUT),
        logits=nn.Linear(128, classes),
    )


_DESIGNS = {"normed": _normed, "strided": _strided}
