"""Train a torch classifier: one recipe for single models, committees, and the model adapter."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alhelpers.data.arrays import each, parts_of
from alhelpers.protocols import Dataset, History, Progress

#: What changes a batch while training, from its inputs and a generator of random numbers.
Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

# Data sets of at most this many bytes are read once, larger ones batch by batch.
_IN_MEMORY = 2**30

# Rows in one forward pass over validation data that is not in memory.
_VALIDATION_ROWS = 1024


def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale and shift each image a little: up to 10 degrees, 10 % and 7 % of the width."""
    draw = (torch.rand(4, len(inputs), generator=generator) * 2 - 1).to(inputs.device)
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
    inputs: Any,
    labels: Any = None,
    *,
    steps: int = 150,
    batch_size: int = 64,
    learning_rate: float = 6e-3,
    augmentation: bool | Augmentation = False,
    seed: int = 0,
    validation: Any = None,
    evaluations: int = 10,
    progress: Progress | None = None,
    patience: int | None = None,
) -> History:
    """Train in place with AdamW and a one-cycle learning rate, a fixed number of steps.

    A number of steps, not of epochs, so that a training on 20 labels is as long as one on 200.

    Parameters
    ----------
    network : torch.nn.Module
        Takes a batch of inputs and returns logits (B, C); left in evaluation mode.
    inputs : tensor or array of shape (N, ...), a dict or tuple of them, or a Dataset
        A :class:`~alhelpers.protocols.Dataset` of more than 1 GB is read batch by batch.
    labels : (N,) integers, optional
        Class indices from 0 on. None: those of the data set.
    steps, batch_size, learning_rate : int, int, float
        The recipe; ``learning_rate`` is the highest of the cycle.
    augmentation : bool or callable
        True: turn, scale and shift the images while training (:func:`augment`). A callable takes a batch and a
        ``torch.Generator``, and returns the changed batch.
    seed : int
        Order of the batches, dropout and augmentation. torch's own random state is left as it was.
    validation : Dataset or (inputs, labels), optional
        Evaluated ``evaluations`` times; used for the history alone unless there is a ``patience``.
    evaluations : int
        Number of rows of the history, evenly spread and the last one at the end; at most one a step.
    progress : callable, optional
        Called with (step, steps) at each evaluation.
    patience : int, optional
        Stop after this many evaluations in a row without a lower validation loss, and keep the weights of the
        one with the lowest. None: train all steps, and keep the last weights.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If there is nothing to learn from, the counts differ, the labels are not class indices of the network, a
        number of steps is not positive, or there is a patience and no validation.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019; Smith and Topin, "Super-convergence",
    2019, for the one-cycle schedule.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    rows, targets = _Batches(inputs, device), _checked_targets(inputs, labels, device)
    if validation is not None:
        pair = validation if isinstance(validation, tuple | list) else (validation, None)
        validation = _Batches(pair[0], device), _checked_targets(*pair, device)
    _check_recipe(steps, batch_size, patience, validated=validation is not None)
    change = augment if augmentation is True else augmentation
    optimizer, schedule = optimization(network.parameters(), steps, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    history, best, best_weights = History([], [], [], []), _Best(patience), None
    evaluated = {-(-steps * number // evaluations) for number in range(1, evaluations + 1)}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network.train()
        running = []
        for step, chosen in enumerate(_batches(len(targets), batch_size, steps, generator), start=1):
            batch = change(rows[chosen], generator) if change else rows[chosen]
            logits = network(batch)
            if step == 1:
                _check_logits(network, logits, len(chosen), int(targets.max()))
            loss = functional.cross_entropy(logits, targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            running.append(loss.item())
            if step not in evaluated:
                continue
            _evaluate(history, network, step, running, validation)
            running = []
            if progress is not None:
                progress(step, steps)
            if patience is not None and best.improved_by(history.validation_loss[-1]):
                best_weights = copy.deepcopy(network.state_dict())
            if best.exhausted:
                break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    network.eval()
    return history


class _Batches:
    """Inputs by rows, as tensors on a device: small data sets are read once, large ones batch by batch."""

    def __init__(self, inputs: Any, device: torch.device | str = "cpu") -> None:
        self.device, self.dataset, self.values = device, inputs, None
        if not _is_dataset(inputs):
            self.values = as_tensors(inputs, device)
        elif len(inputs) and row_bytes(inputs) * len(inputs) <= _IN_MEMORY:
            self.values = as_tensors(inputs.inputs(np.arange(len(inputs))), device)

    def __getitem__(self, rows: torch.Tensor) -> Any:
        if self.values is None:
            return as_tensors(self.dataset.inputs(rows.numpy()), self.device)
        return each(lambda values: values[rows], self.values)

    def parts(self) -> list[Any]:
        """Return all inputs: in one batch if they are in memory, else in several."""
        if self.values is not None:
            return [self.values]
        return [self[rows] for rows in torch.arange(len(self.dataset)).split(_VALIDATION_ROWS)]


def _is_dataset(inputs: Any) -> bool:
    """Whether something has the methods of a Dataset that training reads it by."""
    return callable(getattr(inputs, "inputs", None)) and callable(getattr(inputs, "labels", None))


def row_bytes(dataset: Dataset) -> float:
    """Return the size of one row of inputs."""
    few = min(len(dataset), 2)
    return sum(values.nbytes for values in parts_of(as_tensors(dataset.inputs(np.arange(few))))) / few


def as_tensors(values: Any, device: torch.device | str = "cpu") -> Any:
    """Return an array, or a dict or tuple of arrays, as tensors on a device; arrays of float64 become float32."""

    def convert(array: Any) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array.to(device)
        tensor = torch.as_tensor(np.ascontiguousarray(array))
        return tensor.to(device, torch.float32 if tensor.dtype == torch.float64 else None)

    return each(convert, values)


class _Best:
    """The lowest validation loss, and how many evaluations ago it was."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.loss, self.evaluations_since = patience, math.inf, 0

    def improved_by(self, loss: float) -> bool:
        """Record a loss and return whether it is the lowest; one that is not finite never is."""
        improved = math.isfinite(loss) and loss < self.loss
        self.loss, self.evaluations_since = (loss, 0) if improved else (self.loss, self.evaluations_since + 1)
        return improved

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.evaluations_since >= self.patience


def _check_recipe(steps: int, batch_size: int, patience: int | None, *, validated: bool) -> None:
    """Raise a ValueError that names the option that is out of range."""
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps is {steps} and batch_size {batch_size}: both must be at least 1")
    if patience is None:
        return
    if isinstance(patience, bool) or not isinstance(patience, int | np.integer) or patience < 1:
        raise ValueError(
            f"patience is {patience!r}: it must be a whole number of evaluations, at least 1, or None"
        )
    if not validated:
        raise ValueError(
            f"patience is {patience}, but there is no validation data: pass validation=(inputs, labels)"
        )


def optimization(
    parameters: Iterable[nn.Parameter], steps: int, learning_rate: float
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """Return the optimizer and its schedule; both work element by element, with nothing shared by parameters."""
    # Fused: on small networks the separate steps of each parameter cost as much as a layer.
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-2, fused=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2))


def _checked_targets(inputs: Any, labels: Any, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the labels of inputs or of a data set as class indices on a device."""
    if _is_dataset(inputs):
        count = len(inputs)
        labels = inputs.labels(np.arange(count)) if labels is None else labels
    else:
        count = len(parts_of(inputs)[0])
    values = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if count == 0 or values.shape != (count,):
        raise ValueError(
            f"{count} inputs and labels of shape {values.shape}: one label a row is needed, and at least"
            " one row"
        )
    if values.dtype.kind not in "iu" or values.min() < 0:
        wrong = values.min() if values.dtype.kind in "iu" else values.dtype
        raise ValueError(
            f"labels hold {wrong}: they must be whole numbers from 0 on, the place in class_names"
        )
    return torch.as_tensor(values, dtype=torch.int64, device=device)


def _batches(count: int, batch_size: int, steps: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the rows of each step: every row once before any row twice."""
    size = min(batch_size, count)
    epochs = -(-steps * size // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return list(order[: steps * size].split(size))


def _check_logits(network: nn.Module, logits: Any, rows: int, highest: int) -> None:
    """Raise before any weight changes if the network does not return logits of the labels' classes."""
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else None
    if shape is not None and len(shape) == 2 and shape[0] == rows and shape[1] > highest:
        return
    network.eval()
    if shape is None or len(shape) != 2 or shape[0] != rows:
        found = shape or f"a {type(logits).__name__}"
        raise ValueError(
            f"the network must return logits of shape (N, C), here ({rows}, C); it returned {found}. Where they are a"
            " part of its output, name it: TorchClassifier(..., logits=lambda output: ...)"
        )
    raise ValueError(
        f"labels hold {highest}, but the network has {shape[1]} outputs: labels must be from 0 to {shape[1] - 1}, or"
        " build the network with more classes"
    )


def _evaluate(
    history: History,
    network: nn.Module,
    step: int,
    running: list[float],
    validation: tuple[_Batches, torch.Tensor] | None,
) -> None:
    history.steps.append(step)
    history.loss.append(float(np.mean(running)))
    if validation is None:
        return
    inputs, targets = validation
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(batch) for batch in inputs.parts()])
    network.train()
    history.validation_loss.append(functional.cross_entropy(logits, targets).item())
    history.validation_accuracy.append((logits.argmax(1) == targets).float().mean().item())
