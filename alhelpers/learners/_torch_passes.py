"""Forward passes of any module over a data set: inputs preprocessed, read in batches, outputs and embeddings kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from alhelpers.data.arrays import bytes_of, each, parts_of
from alhelpers.protocols import Dataset
from alhelpers.training._layout import channels_last
from alhelpers.uncertainty._inputs import call_model
from alhelpers.uncertainty._torch import kept_modes

#: Takes a batch of a data set's inputs, and returns a batch of what the module takes.
Preprocess = Callable[[Any], Any]

# Bytes of inputs that are preprocessed at once.
_AT_ONCE = 2**27
# Trying a layout runs a network on two rows twice, which fewer rows do not earn back.
_FEWEST_LAID_OUT = 16


class Preprocessed:
    """A data set whose inputs are preprocessed, so many at once as fit in memory."""

    def __init__(self, dataset: Dataset, preprocess: Preprocess) -> None:
        self._dataset, self._preprocess, self._most = dataset, preprocess, 0
        self.ids, self.class_names, self.task = dataset.ids, dataset.class_names, dataset.task

    def __len__(self) -> int:
        return len(self._dataset)

    def labels(self, rows: np.ndarray) -> Any:
        return self._dataset.labels(rows)

    def take(self, rows: np.ndarray) -> Preprocessed:
        return Preprocessed(self._dataset.take(rows), self._preprocess)

    def inputs(self, rows: np.ndarray) -> Any:
        if not self._most:
            few = self._dataset.inputs(np.arange(min(len(self), 2)))
            size = bytes_of(few) / min(len(self), 2)
            self._most = max(int(_AT_ONCE / max(size, 1)), 1)
        found = [self._batch(rows[start : start + self._most]) for start in range(0, len(rows), self._most)]
        return found[0] if len(found) == 1 else _joined(found)

    def _batch(self, rows: np.ndarray) -> Any:
        found = self._preprocess(self._dataset.inputs(rows))
        parts = parts_of(found)
        counts = [part.shape[0] if getattr(part, "shape", ()) else None for part in parts]
        if not counts or set(counts) != {len(rows)}:
            raise ValueError(
                f"preprocess returned {type(found).__name__} with {counts} rows for a batch of {len(rows)}: return an"
                " array or tensor, or a dict or tuple of them, with one row a record"
            )
        return found


def _joined(batches: list[Any]) -> Any:
    """Join batches, which must agree in all but their rows."""
    shapes = [[tuple(part.shape[1:]) for part in parts_of(batch)] for batch in batches]
    other = next((shape for shape in shapes if shape != shapes[0]), None)
    if other is not None:
        raise ValueError(
            f"preprocess returns other shapes for other batches, {shapes[0]} and {other}: pad or resize to one shape"
        )
    places = iter(range(len(shapes[0])))
    columns = list(zip(*map(parts_of, batches), strict=True))

    def join(_: Any) -> Any:
        parts = columns[next(places)]
        return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)

    return each(join, batches[0])


class Called(nn.Module):
    """Calls a module with a batch of any form, and returns its logits."""

    def __init__(self, module: nn.Module, logits: Callable[[Any], torch.Tensor] | None) -> None:
        super().__init__()
        self.module, self.logits = module, logits

    def forward(self, batch: Any) -> torch.Tensor:
        output = call_model(self.module, batch)
        return output if self.logits is None else self.logits(output)

    def get_submodule(self, target: str) -> nn.Module:
        return self.module.get_submodule(target)


def cut(network: nn.Module, embedding: str | None) -> tuple[nn.Module | None, nn.Module]:
    """Cut a sequence of layers before its first dropout; what comes before is the same in every pass."""
    if type(network) is not nn.Sequential:
        return None, network
    names = [name for name, _ in network.named_children()]
    first = next((place for place, layer in enumerate(network) if not _is_deterministic(layer)), len(names))
    if embedding is not None:
        first = min(first, names.index(embedding)) if embedding in names else 0
    linear = any(isinstance(layer, nn.Linear) for layer in network[first:])
    return (network[:first], network[first:]) if first and linear else (None, network)


def _is_deterministic(layer: nn.Module) -> bool:
    """Whether a layer is known to do the same in every pass: torch's own, without any that drops units."""
    return all(
        type(module).__module__.startswith("torch.nn.modules")
        and not isinstance(module, nn.modules.dropout._DropoutNd | nn.RNNBase | nn.MultiheadAttention)
        and "Transformer" not in type(module).__name__
        for module in layer.modules()
    )


def batches_of(inputs: Any, size: int, device: torch.device) -> Iterator[Any]:
    """Cut inputs into batches on a device."""
    for start in range(0, len(parts_of(inputs)[0]), size):
        yield each(lambda values, at=start: values[at : at + size].to(device), inputs)


def run(
    network: nn.Module,
    batches: Iterable[Any],
    embedding: str | None,
    check: Callable[[Any, int], torch.Tensor] = lambda output, rows: output,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of a network in evaluation mode, and its embeddings, (N, D)."""
    outputs, embeddings, remaining = [], [], iter(batches)
    first = next(remaining)
    few = each(lambda part: part[:2], first)
    pays = len(parts_of(first)[0]) >= _FEWEST_LAID_OUT
    with (
        kept_modes(network),
        channels_last(network, lambda: network(each(torch.clone, few))) if pays else nullcontext(),
        _kept_embeddings(network, embedding) as kept,
        torch.inference_mode(),
    ):
        for batch in chain([first], remaining):
            outputs.append(check(network(batch), len(parts_of(batch)[0])))
            embeddings.append(kept.pop().flatten(1) if kept else outputs[-1][:, :0])
            kept.clear()
    return torch.cat(outputs), torch.cat(embeddings)


@contextmanager
def _kept_embeddings(network: nn.Module, embedding: str | None) -> Iterator[list[torch.Tensor]]:
    """Collect the output of a layer, or by default the inputs of linear layers in the order of their calls."""
    kept: list[torch.Tensor] = []
    if embedding is None:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0])) for module in linear
        ]
    else:
        layer = network.get_submodule(embedding)
        hooks = [layer.register_forward_hook(lambda _, __, output: kept.append(output))]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
