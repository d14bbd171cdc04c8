"""The network that the models of the tests differ from, and its inputs."""

import torch
from torch import nn


class Net(nn.Module):
    """A perceptron with a dropout, called in a way that the kinds below differ in."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(6, 16), nn.Linear(16, 4), nn.Dropout(0.5)

    def forward(self, x):
        return self.last(self.thinned(torch.relu(self.first(x))))

    def thinned(self, x):
        return self.drop(x)


def build(kind, seed=1):
    torch.manual_seed(seed)
    return kind()


def data(count=5, seed=2):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
