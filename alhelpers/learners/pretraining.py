"""Pretrain a network on images without labels, so that few labels go further."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from alhelpers.learners.deforming import deform
from alhelpers.learners.networks import EMBEDDING_LAYER
from alhelpers.training import optimization

# The projection is only there for the loss: it is thrown away.
_PROJECTION = 64


def pretrain(
    network: nn.Sequential,
    inputs: torch.Tensor,
    *,
    steps: int = 600,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    temperature: float = 0.3,
    seed: int = 0,
) -> list[float]:
    """Pretrain a network in place on images (N, C, H, W), and return the loss of each step (SimCLR).

    Of each image of a batch two deformed copies are made; the loss is low if the embedding of one is nearer to that
    of the other than to those of all other images; a lower temperature gives more weight to the nearest of these. The
    layers up to ``embedding`` are trained, with dropout off; those behind it are left as they are.

    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """
    if len(inputs) < 2:
        raise ValueError(f"{len(inputs)} images: at least two are needed")
    if steps < 1 or batch_size < 2:
        raise ValueError(f"steps is {steps} and batch_size {batch_size}: at least 1 and 2 are needed")
    last = [name for name, _ in network.named_children()].index(EMBEDDING_LAYER)
    encoder, losses = network[: last + 1], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.no_grad():
            size = network.eval()[: last + 1](inputs[:2]).shape[1]
        projection = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, _PROJECTION))
        encoder.train()
        for layer in encoder.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
        parameters = [*encoder.parameters(), *projection.parameters()]
        optimizer, schedule = optimization(parameters, steps, learning_rate)
        for _ in range(steps):
            images = inputs[torch.randperm(len(inputs))[:batch_size]]
            views = projection(encoder(deform(torch.cat([images, images]))))
            loss = _contrast(views, temperature)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss is {losses[-1]} at step {len(losses)}: check the images for NaN and inf, or use a lower"
                    " learning_rate"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return losses


def _contrast(views: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the cross entropy of finding the other view of each image; views are (2B, D), the halves in one order."""
    unit = functional.normalize(views, dim=1)
    nearness = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(nearness, torch.arange(len(views)).roll(len(views) // 2))
