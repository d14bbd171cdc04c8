"""Train a classifier on arrays: one recipe for single models, committees, and the model adapter."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alhelpers.protocols import History


def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale and shift each image a little: up to 10 degrees, 10 % and 7 % of the width."""
    return move(inputs, moves(len(inputs), generator))


def moves(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw how to turn, scale and shift each image, (4, count) numbers from 0 to 1."""
    return torch.rand(4, count, generator=generator)


def move(inputs: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Turn, scale and shift each image as drawn by :func:`moves`."""
    draw = (drawn * 2 - 1).to(inputs.device)
    angle, scale = draw[0] * (np.pi / 18), 1 + 0.1 * draw[1]
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift = draw[2:] * 0.14  # the grid spans 2, so this is 7 % of the width
    matrices = torch.stack(
        [torch.stack([cosine, -sine, shift[0]], 1), torch.stack([sine, cosine, shift[1]], 1)], 1
    ).to(inputs.dtype)
    grid = functional.affine_grid(matrices, list(inputs.shape), align_corners=False)
    return functional.grid_sample(inputs, grid, align_corners=False)


def train(
    network: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor | np.ndarray,
    *,
    steps: int = 150,
    batch_size: int = 64,
    learning_rate: float = 6e-3,
    augmentation: bool = False,
    seed: int = 0,
    validation: tuple[torch.Tensor, np.ndarray] | None = None,
    looks: int = 10,
    on_look: Callable[[int, int], None] | None = None,
    patience: int | None = None,
) -> History:
    """Train in place with AdamW and a one-cycle learning rate, a fixed number of steps.

    A number of steps, not of epochs, so that a training on 20 labels is as long as one on 200.

    Parameters
    ----------
    network : torch.nn.Module
        Returns logits; left in evaluation mode.
    inputs, labels : (N, ...) tensor, (N,) integers
        What to learn from, on the network's device.
    steps, batch_size, learning_rate : int, int, float
        The recipe; ``learning_rate`` is the highest of the cycle.
    augmentation : bool
        Whether to turn, scale and shift the images while training.
    seed : int
        Order of the batches, dropout and augmentation. torch's own random state is left as it was.
    validation : (tensor, integers), optional
        Looked at ``looks`` times; nothing is chosen by it unless there is a ``patience``.
    looks : int
        How many rows the history gets, evenly spread and the last one at the end; at most one a step.
    on_look : callable, optional
        Called with (step, steps) at each look.
    patience : int, optional
        Stop after this many looks in a row without a lower validation loss, and keep the weights of the look
        with the lowest. None: train all steps, and keep the last weights.

    Returns
    -------
    History

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019; Smith and Topin, "Super-convergence",
    2019, for the one-cycle schedule.

    Raises
    ------
    ValueError
        If there is nothing to learn from, the counts differ, the labels are no whole numbers from 0 on, a
        number of steps is not positive, or there is a patience and no validation.
    """
    targets = checked_targets(inputs, labels)
    if validation is not None:
        validation = (validation[0], checked_targets(*validation))
    check_recipe(steps, batch_size, patience, validated=validation is not None)
    optimizer, schedule = optimization(network.parameters(), steps, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    history, best, best_weights = History([], [], [], []), Best(patience), None
    looking = look_at(steps, looks)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
        torch.manual_seed(seed)
        network.train()
        running = []
        for step, rows in enumerate(batches(len(inputs), batch_size, steps, generator), start=1):
            batch = augment(inputs[rows], generator) if augmentation else inputs[rows]
            loss = functional.cross_entropy(network(batch), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            running.append(loss.item())
            if step not in looking:
                continue
            _look(history, network, step, running, validation)
            running = []
            if on_look is not None:
                on_look(step, steps)
            if patience is not None and best.improved_by(history.validation_loss[-1]):
                best_weights = copy.deepcopy(network.state_dict())
            if best.tired:
                break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    network.eval()
    return history


class Best:
    """Remembers the lowest validation loss, and how many looks ago it was."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.loss = math.inf
        self.looks_since = 0

    def improved_by(self, loss: float) -> bool:
        """Take in the loss of a look, and tell whether it is the lowest; one that is not finite never is."""
        improved = math.isfinite(loss) and loss < self.loss
        self.loss, self.looks_since = (loss, 0) if improved else (self.loss, self.looks_since + 1)
        return improved

    @property
    def tired(self) -> bool:
        """Whether there were as many looks without a lower loss as there is patience."""
        return self.patience is not None and self.looks_since >= self.patience


def check_recipe(steps: int, batch_size: int, patience: int | None, *, validated: bool) -> None:
    """Raise a ValueError that names the option that is out of range."""
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps is {steps} and batch_size {batch_size}: both must be at least 1")
    if patience is None:
        return
    if isinstance(patience, bool) or not isinstance(patience, int | np.integer) or patience < 1:
        raise ValueError(f"patience is {patience!r}: it must be a whole number of looks, at least 1, or None")
    if not validated:
        raise ValueError(
            f"patience is {patience}, but there is no validation to look at: pass validation=(inputs, labels)"
        )


def optimization(
    parameters: Iterable[nn.Parameter], steps: int, learning_rate: float
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """Return the optimiser and its schedule; both work element by element, with nothing shared by parameters."""
    # Fused: on small networks the separate steps of each parameter cost as much as a layer.
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-2, fused=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2))


def look_at(steps: int, looks: int) -> set[int]:
    """Return the steps after which to look, evenly spread and the last one at the end."""
    return {-(-steps * number // looks) for number in range(1, looks + 1)}


def checked_targets(inputs: torch.Tensor, labels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return the labels as torch wants them, checked, on the device of the inputs."""
    values = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if len(inputs) == 0 or values.shape != (len(inputs),):
        raise ValueError(
            f"{len(inputs)} images and labels of shape {values.shape}: one label an image is needed, and at least"
            " one image"
        )
    if values.dtype.kind not in "iu" or values.min() < 0:
        wrong = values.min() if values.dtype.kind in "iu" else values.dtype
        raise ValueError(
            f"labels hold {wrong}: they must be whole numbers from 0 on, the place in class_names"
        )
    return torch.as_tensor(values, dtype=torch.int64, device=inputs.device)


def batches(count: int, batch_size: int, steps: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the rows of each step: every row once before any row twice."""
    size = min(batch_size, count)
    epochs = -(-steps * size // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return list(order[: steps * size].split(size))


def _look(
    history: History,
    network: nn.Module,
    step: int,
    running: list[float],
    validation: tuple[torch.Tensor, torch.Tensor] | None,
) -> None:
    history.steps.append(step)
    history.loss.append(float(np.mean(running)))
    if validation is None:
        return
    inputs, targets = validation
    network.eval()
    with torch.inference_mode():
        logits = network(inputs)
    network.train()
    history.validation_loss.append(functional.cross_entropy(logits, targets).item())
    history.validation_accuracy.append((logits.argmax(1) == targets).float().mean().item())
