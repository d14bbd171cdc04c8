"""What the tests of learners share."""

import torch

from alhelpers.data import ArrayDataset
from alhelpers.learners import TorchClassifier


def inputs_of(images):
    """A data set of images as the tensor that a network takes."""
    return torch.from_numpy(images.inputs())


def predict(network, inputs, **options):
    return TorchClassifier(network, **options).predict(ArrayDataset(inputs.numpy()), embeddings=True)
