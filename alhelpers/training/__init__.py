"""Train a torch module: one recipe for single models, committees, and the model adapter."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alhelpers.data.arrays import bytes_of, each, parts_of
from alhelpers.data.labels import finite_numbers, indicators, indices_of
from alhelpers.protocols import Dataset, History, Progress
from alhelpers.training._layout import trained_channels_last
from alhelpers.training._outputs import (
    TorchTask,
    check_columns,
    checked_outputs,
    warn_of_probabilities,
)
from alhelpers.training.devices import Device, device_of, on_its_device

__all__ = ["augment", "train"]

#: What changes a batch while training, from its inputs and a generator of random numbers.
Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

#: Changes a batch of inputs together with its targets.
JointAugmentation = Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]

#: Takes the outputs and the targets of a batch, and returns what is minimised, one number.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_LOSSES: Mapping[str, Loss] = {
    "classification": functional.cross_entropy,
    "multilabel": functional.binary_cross_entropy_with_logits,
    "regression": functional.mse_loss,
}

# Data sets of at most this many bytes are read once, larger ones batch by batch.
_IN_MEMORY = 2**30

# Rows in one forward pass over validation data that is not in memory.
_VALIDATION_ROWS = 1024


def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale and shift each image a little: up to 10 degrees, 10 % and 7 % of the width."""
    check_planes(inputs)
    draw = (torch.rand(4, len(inputs), generator=generator) * 2 - 1).to(inputs.device)
    angle, scale = draw[0] * (np.pi / 18), 1 + 0.1 * draw[1]
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift = draw[2:] * 0.14  # the grid spans 2, so this is 7 % of the width
    matrices = torch.stack(
        [torch.stack([cosine, -sine, shift[0]], 1), torch.stack([sine, cosine, shift[1]], 1)], 1
    ).to(inputs.dtype)
    grid = functional.affine_grid(matrices, list(inputs.shape), align_corners=False)
    return functional.grid_sample(inputs, grid, align_corners=False)


def check_planes(inputs: Any) -> None:
    """Raise a ValueError unless inputs are images, which can be turned and shifted."""
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4:
        found = (
            f"of shape {tuple(inputs.shape)}" if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        )
        raise ValueError(
            f"augmentation moves images (N, C, H, W), and the inputs are {found}: pass augmentation=False, or a"
            " function of your own"
        )


@on_its_device
def train(
    network: nn.Module,
    inputs: Any,
    labels: Any = None,
    *,
    task: TorchTask | None = "classification",
    loss: Loss | None = None,
    steps: int = 150,
    batch_size: int = 64,
    learning_rate: float = 6e-3,
    augmentation: bool | Augmentation | JointAugmentation = False,
    seed: int = 0,
    validation: Any = None,
    evaluations: int = 10,
    progress: Progress | None = None,
    patience: int | None = None,
    device: Device = None,
) -> History:
    """Train in place with AdamW and a one-cycle learning rate, a fixed number of steps.

    A number of steps, not of epochs, so that a training on 20 labels is as long as one on 200.

    Parameters
    ----------
    network : torch.nn.Module
        Takes a batch of inputs, a dict or tuple as one argument, and returns logits (B, C), or for a regression values
        (B,) or (B, O); left in evaluation mode.
    inputs : tensor or array of shape (N, ...), a dict or tuple of them, or a Dataset
        Floating arrays take the network's precision. A :class:`~alhelpers.protocols.Dataset` of more than 1 GB is read
        batch by batch.
    labels : (N,) integers, optional
        Class indices from 0 on; for several labels a record (N, C) of 0 and 1, for a regression (N,) or (N, O) numbers.
        None: those of the data set, which may also be its class names.
    task : {"classification", "multilabel", "regression"} or None
        What is learned: one class a record, each class by itself, or numbers. None: what ``loss`` compares, as boxes;
        the labels are then a tensor (N, ...) of any kind, and neither these nor the outputs are checked.
    loss : callable, optional
        Takes the outputs and targets of a batch, and returns a number. The default is the cross entropy, the binary
        cross entropy of each class, or the mean squared error.
    steps, batch_size, learning_rate : int, int, float
        The recipe; ``learning_rate`` is the highest of the cycle.
    augmentation : bool or callable
        True: turn, scale and shift the images while training (:func:`augment`). A callable takes a batch and a
        ``torch.Generator``, and returns the changed batch; without a task a batch, its targets and a generator, and
        returns both.
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
    device : str or torch.device, optional
        Where to train; the network then returns to its own device. None: where the network is, but from the CPU it goes
        to a GPU if torch finds one. Results differ between devices by rounding, and by the dropout that is drawn there.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If there is nothing to learn from, the counts differ, the labels do not fit the network's outputs, an input
        or the loss is not finite, a number of steps is not positive, or there is a patience and no validation.

    Warns
    -----
    UserWarning
        If the network returns probabilities instead of logits.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019; Smith and Topin, "Super-convergence",
    2019, for the one-cycle schedule.
    """
    device = device_of(network)
    rows, targets = _data_of(network, (inputs, labels), device, task)
    if validation is not None:
        pair = validation if isinstance(validation, tuple | list) else (validation, None)
        validation = _data_of(network, pair, device, task)
        if task in ("multilabel", "regression") and validation[1].shape[1] != targets.shape[1]:
            raise ValueError(
                f"the labels have {targets.shape[1]} columns, and those of the validation data"
                f" {validation[1].shape[1]}: both need the same"
            )
    classes = _classes(inputs, [data[1] for data in ((rows, targets), validation) if data is not None], task)
    measure = loss or _LOSSES[task]
    warned = task is None
    _check_recipe(steps, batch_size, patience, validated=validation is not None)
    change = augment if augmentation is True else augmentation
    optimizer, schedule = optimization(network.parameters(), steps, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    history, best_weights = History([], [], [], []), None
    evaluated = {-(-steps * number // evaluations) for number in range(1, evaluations + 1)}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), ExitStack() as after:
        after.callback(network.eval)
        _check_finite(network, rows)
        after.enter_context(trained_channels_last(network, rows, len(targets)))
        torch.manual_seed(seed)
        network.train()
        running = []
        for step, chosen in enumerate(_batches(len(targets), batch_size, steps, generator), start=1):
            batch, wanted = rows[chosen], targets[chosen]
            if change and task is None:
                batch, wanted = change(batch, wanted, generator)
            elif change:
                batch = change(batch, generator)
            outputs = network(batch)
            if step == 1 and task is not None:
                check_columns(checked_outputs(outputs, len(chosen), task), *classes, task)
                warned = warn_of_probabilities(outputs, task)
            value = _measured(measure, outputs, wanted, task)
            running.append(value.item())
            if best_weights is None and not math.isfinite(running[-1]):
                raise ValueError(f"the loss is {running[-1]} at step {step}: {_reason(rows, chosen)}")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            if step not in evaluated:
                continue
            _evaluate(history, network, step, running, validation, measure, task)
            running = []
            if progress is not None:
                progress(step, steps)
            if patience is None:
                continue
            since = _evaluations_since_best(history.validation_loss)
            if since == 0:
                best_weights = copy.deepcopy(network.state_dict())
            if since >= patience:
                break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    _check_weights(network, steps)
    if not warned:  # sigmoids show after training alone
        warn_of_probabilities(outputs, task)
    return history


def _data_of(
    network: nn.Module, pair: Any, device: torch.device, task: TorchTask | None
) -> tuple[_Batches, torch.Tensor]:
    """Return the inputs and the targets of inputs and labels, or of a data set and None."""
    dtype = floating_type(network)
    batches = _Batches(pair[0], device, dtype)
    if task is None:
        return batches, pair[1].to(device)
    targets = _checked_targets(*pair, device, task)
    return batches, targets if task == "classification" else targets.to(dtype)


def _check_weights(network: nn.Module, steps: int) -> None:
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise ValueError(f"the weights are not finite after {steps} steps: train with a lower learning_rate")


class _Batches:
    """Inputs by rows, as tensors on a device: small data sets are read once, large ones batch by batch."""

    def __init__(self, inputs: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.dataset, self.values = device, dtype, inputs, None
        if not _is_dataset(inputs):
            self.values = as_tensors(inputs, device, dtype)
        elif len(inputs) and row_bytes(inputs) * len(inputs) <= _IN_MEMORY:
            self.values = as_tensors(inputs.inputs(np.arange(len(inputs))), device, dtype)

    def __getitem__(self, rows: torch.Tensor) -> Any:
        if self.values is None:
            return as_tensors(self.dataset.inputs(rows.numpy()), self.device, self.dtype)
        return each(lambda values: values[rows], self.values)

    def name(self, row: int) -> str:
        """Return what errors call a row."""
        return f"record {self.dataset.ids[row]}" if _is_dataset(self.dataset) else f"row {row}"

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
    return bytes_of(as_tensors(dataset.inputs(np.arange(few)))) / few


def as_tensors(values: Any, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Return an array, or a dict or tuple of arrays, as tensors on a device; floating arrays take a type."""

    def convert(array: Any) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array.to(device, dtype if array.is_floating_point() else None)
        if hasattr(array, "toarray"):
            raise ValueError(
                f"inputs are a sparse {type(array).__name__}: torch modules take dense ones, pass inputs.toarray()"
            )
        # A copy of what may not be written to, as torch cannot protect it.
        array = np.require(array, requirements=["C", "W"])
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"inputs are {array.dtype}: torch modules take numbers, encode texts and objects first, such as with"
                " TorchClassifier(..., preprocess=...)"
            )
        # whatever torch's default device is
        tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    return each(convert, values)


def floating_type(network: nn.Module) -> torch.dtype:
    """Return the type of the first floating parameter, or float32."""
    types = (parameter.dtype for parameter in network.parameters() if parameter.is_floating_point())
    return next(types, torch.float32)


def _evaluations_since_best(losses: list[float]) -> int:
    """Return how many evaluations ago the lowest loss was; one that is not finite never is the lowest."""
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    lowest = min(finite)
    return len(finite) if lowest == math.inf else len(finite) - 1 - finite.index(lowest)


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


def _checked_targets(inputs: Any, labels: Any, device: torch.device, task: TorchTask) -> torch.Tensor:
    """Return the labels of inputs or of a data set on a device: class indices (N,), or numbers (N, C) or (N, O)."""
    ids = names = None
    if _is_dataset(inputs):
        counts, ids, names = {len(inputs)}, inputs.ids, getattr(inputs, "class_names", None)
        labels = inputs.labels(np.arange(len(inputs))) if labels is None else labels
    else:
        counts = {len(part) for part in parts_of(inputs)}
    values = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    dimensions = {"classification": (1,), "multilabel": (2,), "regression": (1, 2)}[task]
    if len(counts) != 1 or counts == {0} or values.shape[:1] != (*counts,) or values.ndim not in dimensions:
        several = values.ndim == 2 and task == "classification"
        hint = "; for several labels a row, pass task='multilabel'" if several else ""
        raise ValueError(
            f"{' and '.join(map(str, sorted(counts)))} inputs and labels of shape {values.shape}: one label a row is"
            f" needed, and at least one row{hint}"
        )
    if task == "classification":
        found = indices_of(values, names, ids)
        return torch.as_tensor(found, dtype=torch.int64, device=device)
    found = indicators(values, names, ids) if task == "multilabel" else finite_numbers(values, ids)
    return torch.as_tensor(found.reshape(len(found), -1).astype(np.float64), device=device)


def _classes(inputs: Any, targets: list[torch.Tensor], task: TorchTask | None) -> tuple[int, Any]:
    """Return how many outputs the labels need at least, and the class names."""
    if task is None:
        return 0, None
    names = getattr(inputs, "class_names", None) if _is_dataset(inputs) else None
    if task == "classification":
        return max(int(each.max()) for each in targets) + 1, names
    return targets[0].shape[1], names if task == "multilabel" else None


def _batches(count: int, batch_size: int, steps: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the rows of each step: every row once before any row twice."""
    size = min(batch_size, count)
    epochs = -(-steps * size // count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return list(order[: steps * size].split(size))


def _check_finite(network: nn.Module, rows: _Batches) -> None:
    """Raise before any weight changes if inputs in memory are not finite and make logits that are not.

    The loss of such a batch would turn all weights into NaN. A network may also replace such inputs.
    """
    strange = _rows_not_finite(rows.values) if rows.values is not None else []
    if not len(strange):
        return
    network.eval()
    with torch.inference_mode():
        logits = network(rows[strange])
    if isinstance(logits, torch.Tensor) and len(logits) == len(strange):
        broken = _rows_not_finite(logits)
        if len(broken):
            raise ValueError(
                f"the inputs of {rows.name(int(strange[broken[0]]))} are not finite: replace their NaN and inf, or"
                " leave the record out"
            )


def _rows_not_finite(values: Any) -> torch.Tensor:
    """Return the rows with a number that is not finite in a tensor, or in one of a dict or tuple of tensors."""
    found = [
        torch.nonzero(~torch.isfinite(part).reshape(len(part), math.prod(part.shape[1:])).all(1))
        .flatten()
        .cpu()
        for part in parts_of(values)
        if part.is_floating_point()
    ]
    return torch.cat([*found, torch.zeros(0, dtype=torch.int64)]).unique()


def _reason(rows: _Batches, chosen: torch.Tensor) -> str:
    strange = _rows_not_finite(rows[chosen])
    if len(strange):
        return f"the inputs of {rows.name(int(chosen[strange[0]]))} are not finite"
    return "train with a lower learning_rate, or check the network's initial weights"


def _measured(
    measure: Loss, outputs: torch.Tensor, targets: torch.Tensor, task: TorchTask | None
) -> torch.Tensor:
    """Return the loss; values (B,) of a regression are compared with targets (B, 1) as (B, 1), not with each other."""
    as_they_are = task is None or targets.ndim == 1
    return measure(outputs if as_they_are else outputs.reshape(targets.shape), targets)


def _evaluate(
    history: History,
    network: nn.Module,
    step: int,
    running: list[float],
    validation: tuple[_Batches, torch.Tensor] | None,
    measure: Loss,
    task: TorchTask | None,
) -> None:
    history.steps.append(step)
    history.loss.append(float(np.mean(running)))
    if validation is None:
        return
    inputs, targets = validation
    network.eval()
    with torch.inference_mode():
        outputs = torch.cat([network(batch) for batch in inputs.parts()])
    network.train()
    history.validation_loss.append(_measured(measure, outputs, targets, task).item())
    if task == "classification":
        history.validation_accuracy.append((outputs.argmax(1) == targets).float().mean().item())
    elif task == "multilabel":
        history.validation_accuracy.append(((outputs > 0) == (targets > 0.5)).float().mean().item())
