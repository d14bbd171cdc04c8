"""The memory layout in which convolutions are fastest on a processor: the channels last."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

#: Runs a model on a few records, the same way at each call.
Trial = Callable[[], Any]

# More records show no more of a model's code, but batch norm that trains needs some.
_TRIED_ROWS = 8


@contextmanager
def channels_last(model: nn.Module, trial: Trial) -> Iterator[None]:
    """Lay out the weights of 2-D convolutions with the channels last inside, if that changes rounding alone.

    A model whose code needs the other layout, such as ``view`` of what a convolution returns, stays as it is.
    """
    changed = _relaid(model) if _weights(model) and _agrees(model, trial) else []
    try:
        yield
    finally:
        _restore(changed)


@contextmanager
def trained_channels_last(network: nn.Module, inputs: Any, count: int) -> Iterator[None]:
    """Train inside with the channels last, if a copy of the network has the same outputs so while it trains.

    ``inputs`` returns a batch for an index of some of the ``count`` rows.
    """
    if not _weights(network):
        yield
        return
    batch = inputs[torch.arange(min(_TRIED_ROWS, count))]

    def trial() -> tuple[Any, Any]:
        tried = copy.deepcopy(network)
        return tried.train()(batch), tried.eval()(batch)

    with channels_last(network, trial):
        yield


def _weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of 2-D convolutions on a processor that are laid out otherwise, and may be."""
    found = {
        module.weight: None
        for module in model.modules()
        if type(module) is nn.Conv2d and isinstance(module._parameters.get("weight"), nn.Parameter)
    }
    return [
        weight
        for weight in found
        if weight.device.type == "cpu"
        and weight.is_contiguous()
        and not weight.is_contiguous(memory_format=torch.channels_last)
        and not weight.is_inference()
        and not weight.is_shared()
    ]


def _relaid(model: nn.Module) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Lay out the weights with the channels last; return them with what held their values."""
    former = [(weight, weight.data) for weight in _weights(model)]
    with torch.inference_mode(False):
        for weight, values in former:
            weight.data = values.contiguous(memory_format=torch.channels_last)
    return former


def _restore(changed: list[tuple[nn.Parameter, torch.Tensor]]) -> None:
    """Write the values of weights back to where they were."""
    for weight, values in changed:
        values.copy_(weight.data)
        weight.data = values


def _agrees(model: nn.Module, trial: Trial) -> bool:
    """Return whether a trial has the same outputs in both layouts, but for the rounding of sums in another order."""
    changed: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        expected = _tried(trial)
        changed = _relaid(model)
        found = _tried(trial)
    except Exception:  # noqa: BLE001 - a model that fails on the few records tells why when it runs on all
        return False
    finally:
        _restore(changed)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    return all(nearly_equal(one, other) for one, other in pairs)


def _tried(trial: Trial) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return trial()


def nearly_equal(found: Any, expected: Any) -> bool:
    """Return whether two outputs are equal but for the rounding of sums in another order."""
    if not isinstance(found, torch.Tensor) or not isinstance(expected, torch.Tensor):
        return False
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if torch.equal(found, expected) or not expected.is_floating_point():
        return torch.equal(found, expected)
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return False
    difference, size = (values.nan_to_num(0, 0, 0).abs() for values in (found - expected, expected))
    # against the other records, and not against other outputs, such as a class that is masked by a huge number
    return bool((difference <= 1024 * torch.finfo(expected.dtype).eps * size.amax(dim=0)).all())
