"""Predict with a trained network: confidences, logits and embeddings in one pass."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from alhelpers.learners.networks import EMBEDDING_LAYER


class Prediction(NamedTuple):
    """What a network says about N images.

    ``confidences`` (N, C) with rows that sum to 1, ``logits`` (N, C), ``embeddings`` (N, D); all float32.
    """

    confidences: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray


def to_inputs(images: np.ndarray) -> torch.Tensor:
    """Turn grey images into network inputs.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W), uint8

    Returns
    -------
    torch.Tensor, shape (N, 1, H, W), float32
        Grey levels from 0 to 1.

    Raises
    ------
    ValueError
        If the array is not (N, H, W) or not uint8.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} {images.shape}: grey uint8 images of shape (N, H, W) are needed"
        )
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


def predict(network: nn.Module, inputs: torch.Tensor, *, batch_size: int = 1024) -> Prediction:
    """Predict with dropout off.

    Parameters
    ----------
    network : torch.nn.Module
        As ``build_network`` makes it: its layer ``embedding`` gives the embeddings. Its mode, and that of each
        of its layers, is restored.
    inputs : torch.Tensor, shape (N, 1, H, W)
    batch_size : int
        Images in one forward; the result does not depend on it.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        If there are no inputs, or ``batch_size`` is not positive.
    """
    if len(inputs) == 0:
        raise ValueError("there are no images to predict: pass at least one")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    kept: list[torch.Tensor] = []
    hook = network.get_submodule(EMBEDDING_LAYER).register_forward_hook(
        lambda _, __, output: kept.append(output)
    )
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            logits = torch.cat([network(batch) for batch in inputs.split(batch_size)])
    finally:
        hook.remove()
        for module, mode in modes:
            module.training = mode
    confidences = logits.softmax(1)
    return Prediction(confidences.numpy(), logits.numpy(), torch.cat(kept).numpy())
