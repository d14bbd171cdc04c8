"""Predict with a torch network: logits and embeddings in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from alhelpers.data.arrays import check_images, to_planes
from alhelpers.uncertainty._torch import kept_modes


class Prediction(NamedTuple):
    """What a network predicts for N images.

    ``confidences`` (N, C) with rows that sum to 1, ``logits`` (N, C), ``embeddings`` (N, D); all float32.
    """

    confidences: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray


def to_inputs(images: np.ndarray) -> torch.Tensor:
    """Turn images into network inputs.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W) or (N, H, W, C), uint8

    Returns
    -------
    torch.Tensor, shape (N, C, H, W), float32
        Grey levels or colours from 0 to 1.

    Raises
    ------
    ValueError
        If the array has another shape or type.
    """
    check_images(images)
    return torch.from_numpy(to_planes(images))


def predict(network: nn.Module, inputs: torch.Tensor, *, batch_size: int = 1024) -> Prediction:
    """Predict with dropout off.

    Parameters
    ----------
    network : torch.nn.Module
        Returns logits (N, C); what goes into its last linear layer is the embedding. Its mode, and that of each of
        its layers, is restored.
    inputs : torch.Tensor, shape (N, ...)
    batch_size : int
        Rows in one forward pass; the result does not depend on it but for rounding.

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
    logits, embeddings = run(network, inputs.split(batch_size), None)
    return Prediction(logits.softmax(1).cpu().numpy(), logits.cpu().numpy(), embeddings.cpu().numpy())


def run(
    network: nn.Module, batches: Iterable[Any], embedding: str | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of a network in evaluation mode, and its embeddings, (N, D)."""
    outputs, embeddings = [], []
    with kept_modes(network), kept_embeddings(network, embedding) as kept, torch.inference_mode():
        for batch in batches:
            outputs.append(network(batch))
            embeddings.append(kept.pop().flatten(1) if kept else outputs[-1][:, :0])
            kept.clear()
    return torch.cat(outputs), torch.cat(embeddings)


@contextmanager
def kept_embeddings(network: nn.Module, embedding: str | None) -> Iterator[list[torch.Tensor]]:
    """Collect the output of a layer, or by default the inputs of linear layers in the order of their calls."""
    kept: list[torch.Tensor] = []
    if embedding is None:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0])) for module in linear
        ]
    else:
        layer = network.get_submodule(embedding)
        hooks = [layer.register_forward_hook(lambda _, __, output: kept.append(output))]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
