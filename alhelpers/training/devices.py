"""Where torch modules work: on the GPU if torch finds one, else on the CPU. The rule of the whole kit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

Device = str | torch.device | None

Result = TypeVar("Result")

CPU = torch.device("cpu")


def best_device() -> torch.device:
    """Return the GPU that torch works on, if it finds one, else the CPU.

    Apple's ``mps`` has to be named: it lacks functions that the detector needs.
    """
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else CPU


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer, or the CPU."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return CPU


def named_device(device: Device) -> torch.device | None:
    """Return the device of a name, or None for the default, ``"auto"``; ValueError if torch cannot work there."""
    if device is None or device == "auto":
        return None
    if not isinstance(device, str | torch.device):
        raise ValueError(f"device is {device!r}: it must be a name, such as 'cpu' or 'cuda:0'")
    try:
        place = torch.device(device)
        if place.type != "cuda":
            torch.empty(0, device=place)
        elif not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"it finds {torch.cuda.device_count()} GPUs")
    except (RuntimeError, AssertionError, ImportError) as error:  # what torch raises of a place that it lacks
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"device is {str(device)!r}, where torch cannot work here: {reason}") from None
    if place.type == "meta":
        raise ValueError("device is 'meta', where tensors have no numbers: name another one, such as 'cpu'")
    if place.type == "cuda" and place.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return place


def device_for(model: nn.Module, device: Device = None) -> torch.device:
    """Return the device that was named; by default the one that the model was put on, or the best one."""
    home, place = device_of(model), named_device(device)
    if home.type == "meta":
        raise ValueError("the model is on the device meta, so it has no weights: load them first")
    if place is not None:
        return place
    return best_device() if home == CPU else home


@contextmanager
def working_on(device: Device, model: nn.Module) -> Iterator[torch.device]:
    """Put a model on its working device inside, and back at the end.

    At home on the CPU, it can be pickled and saved for machines without a GPU.
    """
    home, place = device_of(model), device_for(model, device)
    if place == home:
        yield place
        return
    _move(model, place)
    try:
        yield place
    except RuntimeError as error:
        error.add_note(
            f"The model was moved from the device {home} to {place}. If its code, its loss or its augmentation has"
            " tensors that stay behind, register them as buffers, or pass device='cpu'."
        )
        raise
    finally:
        _move(model, home)


def _move(model: nn.Module, place: torch.device) -> None:
    with torch.inference_mode(False):  # else its weights could not be trained any more
        model.to(place)


def on_its_device(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let a function of a module work on the device of its option ``device``; a loss with weights goes along."""

    @functools.wraps(function)
    def call(network: nn.Module, *arguments: Any, device: Device = None, **options: Any) -> Result:
        with ExitStack() as moved:
            place = moved.enter_context(working_on(device, network))
            if isinstance(options.get("loss"), nn.Module):
                moved.enter_context(working_on(place, options["loss"]))
            return function(network, *arguments, device=place, **options)

    return call
