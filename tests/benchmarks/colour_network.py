"""A network as a user writes it, for RGB images: residual blocks with batch norm, and dropout before the last layer."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions with batch norm, added to what comes in."""

    def __init__(self, channels: int, maps: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, maps, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(maps)
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.second = nn.Conv2d(maps, maps, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(maps)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != maps:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, maps, 1, stride, bias=False), nn.BatchNorm2d(maps)
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.dropout(torch.relu(self.first_norm(self.first(images))))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(images))


class ColourNetwork(nn.Module):
    """Three blocks of 16, 32 and 64 maps, their mean over the image, dropout, and a linear layer."""

    def __init__(self, classes: int = 10, inner_dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(
            Block(16, 16, 1, inner_dropout), Block(16, 32, 2, inner_dropout), Block(32, 64, 2, inner_dropout)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.blocks(self.stem(images))).flatten(1)
        return self.head(self.dropout(features))


def colour_network(seed: int, classes: int = 10, inner_dropout: float = 0.0) -> ColourNetwork:
    """Build the network under a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ColourNetwork(classes, inner_dropout)
