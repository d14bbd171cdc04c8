"""Passes with shared masks as smaller matrix products.

With one mask for all records, a dropped unit is an unused column of the next linear layer, and an unused row of the
layer before it. Both are left out of the weights, once for each pass: with half of the units dropped before and after
a layer, its product is a quarter of the work. The results are those of the general way with the same masks, but for
the rounding of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from alhelpers.training._layout import nearly_equal
from alhelpers.uncertainty._draws import Call
from alhelpers.uncertainty._inputs import copied, rows_in
from alhelpers.uncertainty._masks import SharedMasks

# Functions of one element at a time: what they do to a unit does not depend on which other units are there.
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
)
# Columns are taken out of the features where that saves more products than it costs to move the others.
_WORTH_A_COPY = 0.75
# Folded weights that are kept for the next batch, in elements; those of further passes are folded again.
_KEPT_ELEMENTS = 1 << 23


@dataclass
class Layer:
    """A linear layer, the dropout before it, and the functions after it."""

    dropout: nn.Dropout | None
    linear: nn.Linear
    functions: list[nn.Module]


@dataclass
class FoldedLayer:
    """What is left of a layer in one pass: weights (outputs, inputs), bias (outputs, 1), which inputs to take."""

    inputs: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor | None
    functions: list[nn.Module]


@dataclass
class FoldedHead:
    """Runs a head of linear layers with the masks of a pass folded into its weights."""

    call: Call
    layers: list[Layer]
    masks: SharedMasks
    kept: dict[int, list[FoldedLayer]] = field(default_factory=dict)
    room: int = _KEPT_ELEMENTS

    def passes(self, batch: Any) -> Callable[[], torch.Tensor] | None:
        """Return what runs the current pass of the masks over a batch, or None where the folded head cannot.

        The first pass also runs whole, as what comes between the layers may depend on the records.
        """
        features: list[torch.Tensor] = []

        def reached(given: torch.Tensor, writes: bool) -> None:
            if not features:
                features.append(given.clone() if writes else given)

        self.masks.begin(0, rows_in(batch))
        self.masks.listener = reached
        try:
            expected = self.call(copied(batch))
        finally:
            self.masks.listener = None
        fits = features and features[0].shape[1:] == self.layers[0].linear.weight.shape[1:]
        # Units that are left out would hide numbers that are not finite.
        if not fits or not torch.isfinite(features[0]).all():
            return None
        units = features[0].t().contiguous()  # one row a unit
        self.masks.begin(0, rows_in(batch))
        return (lambda: self._head(units)) if nearly_equal(self._head(units), expected) else None

    def _head(self, units: torch.Tensor) -> torch.Tensor:
        for layer in self._folded(units):
            if layer.inputs is not None:
                units = units.index_select(0, layer.inputs)
            units = (
                layer.weight @ units if layer.bias is None else torch.addmm(layer.bias, layer.weight, units)
            )
            for function in layer.functions:
                units = function(units)
        return units.t()

    def _folded(self, units: torch.Tensor) -> list[FoldedLayer]:
        """Return the folded layers of this pass."""
        number = self.masks.number
        if number in self.kept:
            return self.kept[number]
        layers = self._fold(units)
        size = sum(layer.weight.numel() for layer in layers)
        if size <= self.room:
            self.room -= size
            self.kept[number] = layers
        return layers

    def _fold(self, units: torch.Tensor) -> list[FoldedLayer]:
        """Fold the masks of this pass, with calls numbered as in the general way."""
        scales = []
        for layer in self.layers:
            if layer.dropout is None:
                scales.append(None)
                continue
            row = units.new_empty(1, layer.linear.in_features)
            call = sum(scale is not None for scale in scales)
            scales.append(self.masks.mask(layer.dropout, self.masks.number, call, row)[0][0])
        folded = []
        for place, (layer, scale) in enumerate(zip(self.layers, scales, strict=True)):
            following = scales[place + 1] if place + 1 < len(scales) else None
            folded.append(_fold_layer(layer, scale, following, first=place == 0))
        return folded


def _fold_layer(
    layer: Layer, scale: torch.Tensor | None, following: torch.Tensor | None, *, first: bool
) -> FoldedLayer:
    """Leave out the outputs that the following mask drops, and the inputs that this layer's mask drops."""
    weight, bias, inputs = layer.linear.weight, layer.linear.bias, None
    if following is not None:
        outputs = following.nonzero()[:, 0]
        weight, bias = (
            weight.index_select(0, outputs),
            None if bias is None else bias.index_select(0, outputs),
        )
    if scale is not None:
        taken = scale.nonzero()[:, 0]
        # an inner layer's input has only the units that the layer before it made
        if not first or len(taken) <= _WORTH_A_COPY * len(scale):
            weight, scale = weight.index_select(1, taken), scale.index_select(0, taken)
            inputs = taken if first else None
        weight = weight * scale
    return FoldedLayer(inputs, weight, None if bias is None else bias[:, None], layer.functions)


def folded(model: nn.Module, call: Call, masks: SharedMasks, few: Any) -> FoldedHead | None:
    """Return the folded head of a model, or None if it is not a chain of linear layers.

    The head must be ``nn.Dropout``, ``nn.Linear``, functions of one element, and so on, with every dropout right
    before a linear layer, no hooks, and finite weights. That nothing else comes between is tried on a small batch.
    """
    calls: list[tuple[nn.Module, Any, Any]] = []
    masks.begin(0, rows_in(few))
    with ExitStack() as stack:
        hooked = {module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks}
        for module in model.modules():
            if not any(module.children()):
                hook = module.register_forward_hook(lambda *called: calls.append(called))
                stack.callback(hook.remove)
        output = call(copied(few))
    chain = _chain(calls, output)
    layers = _layers([module for module, _, _ in chain]) if not hooked.intersection(model.modules()) else None
    if not layers:
        return None
    features = chain[0][1][0]
    fits = (
        isinstance(features, torch.Tensor)
        and features.shape == (rows_in(few), layers[0].linear.in_features)
        and all(_one_kind(layer.linear, features) for layer in layers)
    )
    if not fits:
        return None
    found = FoldedHead(call, layers, masks)
    return found if found.passes(few) is not None else None


def _chain(calls: list[tuple[nn.Module, Any, Any]], output: Any) -> list[tuple[nn.Module, Any, Any]]:
    """Return the calls from the first dropout to the output, if each takes nothing but what the one before returned."""
    first = next((place for place, call in enumerate(calls) if isinstance(call[0], _DropoutNd)), len(calls))
    chain = calls[first:]
    results = [result for _, _, result in chain]
    taken = [given[0] if len(given) == 1 else None for _, given, _ in chain[1:]]
    return chain if all(a is b for a, b in zip(results, [*taken, output], strict=True)) else []


def _layers(modules: Sequence[nn.Module]) -> list[Layer] | None:
    """Group modules into linear layers with the dropout before and the functions after each, or return None."""
    layers: list[Layer] = []
    waiting: nn.Dropout | None = None
    for module in modules:
        if not _is_torchs_own(module):
            return None
        if type(module) is nn.Dropout and module.p == 0:
            continue  # draws no mask and changes nothing
        if type(module) is nn.Dropout and waiting is None:
            waiting = module
        elif type(module) is nn.Linear:
            layers.append(Layer(waiting, module, []))
            waiting = None
        elif type(module) in _ELEMENTWISE and waiting is None and layers:
            layers[-1].functions.append(module)
        else:
            return None
    return layers if layers and waiting is None else None


def _is_torchs_own(module: nn.Module) -> bool:
    """Return whether calling a module runs the forward of its class, or our masks in its place."""
    return "forward" not in module.__dict__ or type(module) is nn.Dropout


def _one_kind(linear: nn.Linear, features: torch.Tensor) -> bool:
    """Return whether a layer has the type and device of the features, and only finite weights."""
    tensors = [linear.weight] if linear.bias is None else [linear.weight, linear.bias]
    return all(
        tensor.dtype == features.dtype and tensor.device == features.device and bool(tensor.isfinite().all())
        for tensor in tensors
    )
