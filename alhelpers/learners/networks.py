"""Small convolutional networks with dropout, for grey images of 8x8 or 28x28."""

from collections import OrderedDict

import torch
from torch import nn

#: The layer whose output is a record's ``embeddings``.
EMBEDDING_LAYER = "embedding"


def build_network(
    image_size: int, classes: int = 10, *, dropout: float = 0.5, seed: int = 0
) -> nn.Sequential:
    """Build a classifier that returns logits.

    Two convolutions, then dropout, a hidden layer (the embedding), dropout, and a linear layer: all dropout
    comes after the convolutions, so MC dropout runs these once and only the cheap rest T times.

    Parameters
    ----------
    image_size : {8, 28}
        Height and width of the images.
    classes : int
        Number of classes C.
    dropout : float
        Probability that a unit is dropped, 0 <= dropout < 1.
    seed : int
        Seed of the initial weights. torch's own random state is left as it was.

    Returns
    -------
    torch.nn.Sequential
        (N, 1, H, W) float32 -> (N, C) logits.

    Raises
    ------
    ValueError
        If the image size, the number of classes or the dropout is out of range.
    """
    if image_size not in (8, 28):
        raise ValueError(f"image_size is {image_size}: this network takes images of 8x8 or 28x28")
    if classes < 1:
        raise ValueError(f"classes is {classes}: a classifier needs at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: it must be at least 0 and below 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(_layers(image_size, classes, dropout))


def _layers(image_size: int, classes: int, dropout: float) -> "OrderedDict[str, nn.Module]":
    if image_size == 8:
        first, channels, side, hidden = nn.Conv2d(1, 16, kernel_size=3, padding=1), (16, 32), 4, 64
    else:
        first, channels, side, hidden = nn.Conv2d(1, 32, kernel_size=5, stride=2, padding=2), (32, 64), 7, 128
    return OrderedDict(
        conv1=first,
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(*channels, kernel_size=3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dropout1=nn.Dropout(dropout),
        hidden=nn.Linear(channels[1] * side * side, hidden),
        embedding=nn.ReLU(),
        dropout2=nn.Dropout(dropout),
        logits=nn.Linear(hidden, classes),
    )
