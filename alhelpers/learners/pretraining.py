"""Pretrain a network on images without labels, so that few labels go further."""

from __future__ import annotations

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
    """Teach a network, in place, to know an image again after it was deformed (SimCLR).

    Of each image of a batch two deformed copies are made; the embedding of one must be nearer to that of the
    other than to those of all other images. The layers up to the embedding are trained, with dropout off; those
    behind it are left as they are.

    Parameters
    ----------
    network : torch.nn.Sequential
        As ``build_network`` makes it, with a layer ``embedding``. Left in evaluation mode.
    inputs : torch.Tensor, shape (N, 1, H, W)
        The pool; its labels are not needed.
    steps, batch_size, learning_rate : int, int, float
        The recipe; ``learning_rate`` is the highest of a one-cycle schedule.
    temperature : float
        Of the loss: the lower, the more the nearest of the others count.
    seed : int
        torch's own random state is left as it was.

    Returns
    -------
    list of float
        The loss of each step.

    Raises
    ------
    ValueError
        If there are fewer than two images, or the number of steps or the batch size is out of range.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """
    if len(inputs) < 2:
        raise ValueError(f"{len(inputs)} images: at least two are needed, to tell them apart")
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
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    network.eval()
    return losses


def _contrast(views: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the loss of telling which view is the other one of the same image; (2B, D), both halves alike."""
    unit = functional.normalize(views, dim=1)
    nearness = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
    return functional.cross_entropy(nearness, torch.arange(len(views)).roll(len(views) // 2))
