"""Small convolutional networks with dropout, for images of any size and colour."""

from collections import OrderedDict

import torch
from torch import nn

#: The layer whose output is a record's ``embeddings``.
EMBEDDING_LAYER = "embedding"


def build_network(
    image_size: int | tuple[int, int],
    classes: int = 10,
    *,
    channels: int = 1,
    dropout: float = 0.5,
    seed: int = 0,
) -> nn.Sequential:
    """Build a classifier that returns logits.

    Two convolutions, dropout, a hidden layer (the embedding), dropout, and a linear layer: MC dropout runs the
    convolutions once and only the cheap layers after them T times. Images below 16 pixels get smaller layers; from 32
    pixels on, the features are pooled to 7x7.

    Parameters
    ----------
    image_size : int or (int, int)
        Height and width of the images, in pixels, at least 2; one number for squares.
    classes : int
        Number of classes C.
    channels : int
        1 for grey images, 3 for colours.
    dropout : float
        Probability that a unit is dropped, 0 <= dropout < 1.
    seed : int
        Seed of the initial weights. torch's own random state is left as it was.

    Returns
    -------
    torch.nn.Sequential
        (N, channels, H, W) float32 -> (N, C) logits.

    Raises
    ------
    ValueError
        If the image size, the number of classes or channels, or the dropout is out of range.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 2:
        raise ValueError(f"image_size is {image_size}: height and width must be at least 2 pixels")
    if classes < 1 or channels < 1:
        raise ValueError(f"classes is {classes} and channels {channels}: both must be at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: it must be at least 0 and below 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(_layers(height, width, channels, classes, dropout))


def _layers(
    height: int, width: int, channels: int, classes: int, dropout: float
) -> "OrderedDict[str, nn.Module]":
    pool: nn.Module = nn.MaxPool2d(2)
    if min(height, width) < 16:
        first, maps, hidden = nn.Conv2d(channels, 16, kernel_size=3, padding=1), (16, 32), 64
        sides = height // 2, width // 2
    else:
        first = nn.Conv2d(channels, 32, kernel_size=5, stride=2, padding=2)
        maps, hidden = (32, 64), 128
        sides = (height + 1) // 4, (width + 1) // 4
    if max(sides) > 7:
        sides = min(sides[0], 7), min(sides[1], 7)
        pool = nn.AdaptiveMaxPool2d(sides)
    return OrderedDict(
        conv1=first,
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(*maps, kernel_size=3, padding=1),
        relu2=nn.ReLU(),
        pool=pool,
        flatten=nn.Flatten(),
        dropout1=nn.Dropout(dropout),
        hidden=nn.Linear(maps[1] * sides[0] * sides[1], hidden),
        embedding=nn.ReLU(),
        dropout2=nn.Dropout(dropout),
        logits=nn.Linear(hidden, classes),
    )
