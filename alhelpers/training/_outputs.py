"""The outputs of a network, checked before they are learned from or predicted with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch

#: What the outputs of a module are.
TorchTask = Literal["classification", "multilabel", "regression"]

# So many numbers, so far apart, are not all from 0 to 1 by chance, unless a sigmoid made them.
_ENOUGH, _APART = 20, 0.5


def checked_outputs(output: Any, rows: int, task: TorchTask = "classification") -> torch.Tensor:
    """Return a network's output for so many rows as (rows, C) logits or (rows, O) values, or raise a ValueError."""
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else None
    if task == "regression" and shape == (rows,):
        return output[:, None]
    if shape is None or len(shape) != 2 or shape[0] != rows or not shape[1]:
        wanted = (
            f"values of shape (N,) or (N, O), here ({rows},) or ({rows}, O)"
            if task == "regression"
            else f"logits of shape (N, C), here ({rows}, C)"
        )
        raise ValueError(
            f"the network must return {wanted}; it returned {shape or f'a {type(output).__name__}'}. Where they are a"
            f" part of its output, name it: logits=lambda output: {part_of(output, rows)}"
        )
    return output


def part_of(output: Any, rows: int) -> str:
    """Return the code that takes logits out of an output: of those of the right shape, the one of that name."""
    if isinstance(output, Mapping):
        found = {f'output["{name}"]': value for name, value in output.items()}
    elif isinstance(output, tuple | list):
        found = {f"output[{place}]": value for place, value in enumerate(output)}
    else:
        found = {f"output.{name}": value for name, value in getattr(output, "__dict__", {}).items()}
    fitting = [
        code
        for code, value in found.items()
        if isinstance(value, torch.Tensor) and value.ndim == 2 and len(value) == rows
    ]
    return next((code for code in fitting if "logits" in code), fitting[0] if fitting else "...")


def check_columns(outputs: torch.Tensor, needed: int, names: Any, task: TorchTask) -> None:
    """Raise before any weight changes if there are not the outputs that the labels need."""
    count = outputs.shape[1]
    if task == "classification" and needed > count:
        raise ValueError(
            f"labels hold {needed - 1}, but the network has {count} outputs: labels must be from 0 to {count - 1}, or"
            " build the network with more classes"
        )
    if task != "classification" and needed != count:
        raise ValueError(
            f"the labels have {needed} columns, but the network has {count} outputs: build it with {needed}"
        )
    check_names(count, names)


def check_names(outputs: int, names: Any) -> None:
    """Raise a ValueError if a network has another number of outputs than there are class names."""
    if names is not None and len(names) != outputs:
        raise ValueError(
            f"the network has {outputs} outputs, and the data set {len(names)} class names,"
            f" {', '.join(map(str, names))}: build the network with one output a class, or name all its classes, in its"
            " order"
        )


def are_confidences(outputs: torch.Tensor) -> bool:
    """Return whether all outputs are non-negative and sum to 1 over the classes, as those of a softmax."""
    return (
        not outputs.is_complex()
        and bool((outputs >= 0).all())
        and bool(((outputs.float().sum(dim=1) - 1).abs() < 1e-3).all())
    )


def warn_of_probabilities(logits: torch.Tensor, task: TorchTask = "classification") -> bool:
    """Warn if logits look like probabilities, and return whether: softmax or sigmoid must not be applied twice."""
    if task == "regression":
        return False
    if task == "classification" and logits.shape[1] > 1 and are_confidences(logits.detach()):
        found, mended = "softmax", "output.clamp_min(1e-12).log()"
    elif _are_sigmoids(logits.detach()):
        found, mended = "sigmoid", "output.logit(eps=1e-6)"
    else:
        return False
    then = "nearly uniform" if task == "classification" else "between 0.5 and 0.73"
    taken = "softmax" if task == "classification" else "sigmoid"
    warnings.warn(
        f"the network returns probabilities, and their {taken} is taken as if they were logits, which makes them"
        f" {then}: remove its {found}, or turn them into logits with TorchClassifier(..., logits=lambda output:"
        f" {mended})",
        stacklevel=3,
    )
    return True


def _are_sigmoids(outputs: torch.Tensor) -> bool:
    """Return whether outputs are from 0 to 1, and too many and too far apart for logits that are so by chance."""
    if outputs.is_complex() or outputs.numel() < _ENOUGH:
        return False
    low, high = outputs.min().item(), outputs.max().item()
    return 0 <= low and high <= 1 and high - low >= _APART
