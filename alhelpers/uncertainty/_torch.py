"""Modes, random state, devices, inputs and outputs of torch models."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from alhelpers.data.arrays import parts_of
from alhelpers.training import device_of
from alhelpers.training._outputs import are_confidences, part_of
from alhelpers.training.devices import CPU, Device, device_for, named_device


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False  # the flag alone: train() and eval() may be overridden to do more
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# Floats in the largest vectors of processors.
_VECTOR = 16

# torch has one random state for all threads.
_drawing = RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from ``seed`` inside, in one thread at a time, and leave torch's global random state as it was."""
    with _drawing, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seed the random numbers of the CPU and of this device, and of no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def derived_seed(*numbers: int) -> int:
    """Mix numbers into one seed, so that neighbouring numbers give unrelated seeds; the first is that of a caller."""
    if not is_count(numbers[0], 0):
        raise ValueError(f"seed is {numbers[0]!r}: it must be a whole number of at least 0")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def called_with_seed(build: Callable[..., Any], seed: int) -> Any:
    """Call a builder under a seed, and with it if a positional parameter has no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes_seed = any(
        parameter.kind in kinds and parameter.default is inspect.Parameter.empty
        for parameter in inspect.signature(build).parameters.values()
    )
    with seeded(seed, torch.device("cpu")):
        return build(seed) if takes_seed else build()


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether a value is a whole number, and at least so high."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise if an option is none of its choices."""
    if value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices[:-1])
        raise ValueError(f'{name} must be {listed} or "{choices[-1]}", got {value!r}')


def check_passes(passes: Any, batch_size: Any) -> None:
    """Raise if the number of passes or the batch size is out of range."""
    if not is_count(passes, 2):
        raise ValueError(
            f"passes must be a whole number of at least 2, got {passes!r}: one pass shows no spread"
        )
    if not is_count(batch_size):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")


def first_not_finite(values: torch.Tensor | np.ndarray) -> int | None:
    """Return the first row with a number that is not finite, or None."""
    values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if values.is_floating_point() and values.numel():
        # NaN is both the least and the most of what it is among; one pass over the numbers instead of several
        if all(map(math.isfinite, torch.aminmax(values))):
            return None
    finite = torch.isfinite(values)
    if finite.all():
        return None
    return int(torch.nonzero(~finite.reshape(len(finite), -1).all(dim=1))[0])


def working_device(model: nn.Module, inputs: Any, device: Device) -> torch.device:
    """Return the device to work on: ``device``, or by default that of the model or the inputs, or a GPU."""
    given, place = CPU, device_for(model, device)
    if not isinstance(inputs, DataLoader):
        given = next((part.device for part in parts_of(inputs) if isinstance(part, torch.Tensor)), given)
    if named_device(device) is None and device_of(model) == CPU and given.type not in ("cpu", "meta"):
        place = given
    if given.type != "cpu" and given != place:
        raise ValueError(
            f"inputs are on the device {given} and the model works on {place}: pass inputs.cpu(), which is moved "
            f'batch by batch, or device="{given}"'
        )
    return place


def checked_logits(output: object, rows: int) -> torch.Tensor:
    """Return a model's output, or raise if it is not logits of shape (rows, C)."""
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"the model must return logits of shape (N, C), it returned a {type(output).__name__}: take them out of it "
            f"with logits=lambda output: {part_of(output, rows)}, an option of mc_dropout and of TorchClassifier, of "
            "which a Committee can be made"
        )
    check_real(output)
    if output.ndim != 2 or output.shape[0] != rows or output.shape[1] < 2:
        raise ValueError(
            f"the model must return logits of shape (N, C) with C at least 2, here ({rows}, C); "
            f"it returned {tuple(output.shape)}"
        )
    return output


def check_real(output: torch.Tensor) -> None:
    """Raise if a model returns complex numbers, whose imaginary part would be lost."""
    if output.is_complex():
        raise ValueError(
            f"the model must return real numbers, it returned {output.dtype}: take them out of it with logits=torch.abs"
            " or another function"
        )


def refuse_confidences(outputs: Any) -> None:
    """Raise if a model returns confidences in the place of logits, as one that ends in a softmax."""
    if isinstance(outputs, torch.Tensor) and outputs.ndim in (2, 4) and are_confidences(outputs):
        raise ValueError(
            "the outputs of the model are confidences already: they are not negative and sum to 1 over the classes, "
            "so it seems to end in a softmax, which would be applied twice; remove its last layer, or pass "
            'outputs="confidences" to mc_dropout'
        )


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the classes of logits (N, C) or (N, C, H, W), float32."""
    logits = logits.float()
    spare = _VECTOR - logits.shape[1]
    if logits.ndim != 2 or spare <= 0:
        return logits.softmax(1)
    # A class of -inf changes nothing, and torch has fast code only for rows that fill a vector of the processor.
    return nn.functional.pad(logits, (0, spare), value=-math.inf).softmax(1)[:, :-spare]


def confidences_of(logits: torch.Tensor) -> np.ndarray:
    """Return the softmax of logits (N, C) as float32 numbers of numpy."""
    return softmax(logits).cpu().numpy()
