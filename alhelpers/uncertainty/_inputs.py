"""Batches of a model's inputs: one array, a tuple of them (positional), or a dict (keywords)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from alhelpers import training
from alhelpers.data.arrays import each, parts_of


def copied(inputs: Any) -> Any:
    """Copy inputs: a model that works in place must change neither the caller's nor those of the next pass."""
    return each(torch.clone, inputs)


def rows_in(inputs: Any) -> int:
    """Return the number of records of inputs, which must agree in their first dimension."""
    lengths = {len(part) for part in parts_of(inputs)}
    if len(lengths) != 1:
        raise ValueError(f"all inputs must have the same number of records, got {sorted(lengths)}")
    return lengths.pop()


def call_model(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch of inputs."""
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def as_tensors(inputs: Any, dtype: torch.dtype) -> Any:
    """Return inputs as tensors, floating ones in the model's type; copies only if needed."""
    if isinstance(inputs, Mapping):
        inputs = dict(inputs)  # such as the encodings of tokenizers
    elif isinstance(inputs, list) and inputs and all(hasattr(part, "shape") for part in inputs):
        inputs = tuple(inputs)
    return each(lambda part: _as_tensor(part, dtype), inputs)


def _as_tensor(part: Any, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(part, torch.Tensor):
        return part.to(dtype) if part.is_floating_point() else part
    return training.as_tensors(part, dtype=dtype)


def batches(model: nn.Module, inputs: Any, batch_size: int, device: torch.device) -> Iterator[Any]:
    """Yield batches of inputs, or those of a DataLoader, as copies on a device."""
    dtype = training.floating_type(model)
    if isinstance(inputs, DataLoader):
        _check_order(inputs)
        wanted = _positional(model)
        for batch in inputs:
            several = tuple(batch) if isinstance(batch, list | tuple) else batch
            given = as_tensors(several[:wanted] if isinstance(several, tuple) else several, dtype)
            yield each(lambda part: part.to(device, copy=True), given)
        return
    given = as_tensors(inputs, dtype)
    for start in range(0, rows_in(given), batch_size):
        yield each(lambda part, at=start: part[at : at + batch_size].to(device, copy=True), given)


def _check_order(loader: DataLoader) -> None:
    """Raise unless a loader returns all records in their order."""
    sampler = loader.sampler
    if loader.batch_sampler is not None:
        own = type(loader.batch_sampler) is not BatchSampler
        sampler = None if own else loader.batch_sampler.sampler
        if not own and loader.batch_sampler.drop_last:
            raise ValueError("the DataLoader drops its last records: pass one with drop_last=False")
    if not isinstance(sampler, SequentialSampler) and not isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            "the DataLoader shuffles its records, or may do so, and the samples could not be matched to them: pass one "
            "with shuffle=False and without a sampler"
        )


def _positional(model: nn.Module) -> int:
    """Return how many inputs a model needs: a loader's batches may hold labels after them."""
    required = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return max(len(required), 1)
