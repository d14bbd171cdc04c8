"""Several networks of one design as one batched network: each layer holds the weights of all members.

Values between the layers have the shape (B, K, ...): B records, K members, and what one member would have.
A linear layer is one batched matrix product, a convolution one grouped convolution; no layer lets members
see one another, so that a gradient of the sum of their losses is each member's own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional


class NotBatchable(ValueError):
    """Networks that cannot run as one; the message says which layer is in the way."""


class BatchedNetwork(nn.Module):
    """K networks of one design as one, (B, K, ...) -> (B, K, C).

    Parameters
    ----------
    models : sequence of torch.nn.Module
        Plain ``nn.Sequential`` models, nested or not, of linear and convolutional layers, batch norm, dropout,
        pooling, activations and flatten; the same layers in all of them. Their weights are copied. A layer of
        another kind, without weights, may have an attribute ``takes_generator = True``: then it is called for
        one member after the other, with the generator that draws for the member as second argument.
    generators : sequence of torch.Generator, optional
        Draws each member's dropout masks, as the member alone would draw them from torch's own (on the CPU).
        Needed to train with dropout.

    Raises
    ------
    NotBatchable
        If a layer is of another kind, or the models differ in more than their weights.
    """

    def __init__(self, models: Sequence[nn.Module], generators: Sequence[torch.Generator] = ()) -> None:
        super().__init__()
        self.generators = list(generators)
        of_members = [_checked_layers(model) for model in models]
        if len({len(layers) for layers in of_members}) > 1:
            raise NotBatchable("the members have different numbers of layers")
        self._sources = list(zip(*of_members, strict=True))
        for place, members in enumerate(self._sources):
            _check_alike(place, members)
        self.layers = [
            _batched(place, members, self.generators) for place, members in enumerate(self._sources)
        ]
        self.run = nn.ModuleList(_arranged(self.layers))
        self.members = list(range(len(models)))  # which of the models each place in the stack is

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run every member on its own records, (B, K, ...) -> (B, K, C)."""
        for layer in self.run:
            inputs = layer(inputs)
        return inputs

    @torch.no_grad()
    def write_back(self, places: Sequence[int]) -> None:
        """Copy the weights of the members at some places in the stack into their models."""
        for place in places:
            for layer, sources in zip(self.layers, self._sources, strict=True):
                own = dict(_tensors(sources[self.members[place]]))
                for name, stacked in _tensors(layer):
                    own[name].copy_(layer.unstacked(name, stacked[place]))

    @torch.no_grad()
    def keep(self, places: Sequence[int], optimizer: torch.optim.Optimizer) -> None:
        """Go on with the members at some places in the stack only, in the optimiser too."""
        rows = torch.as_tensor(places, dtype=torch.int64)
        kept: dict[nn.Parameter, nn.Parameter] = {}
        for layer in self.layers:
            for name, value in list(layer.named_parameters(recurse=False)):
                # new ones: autograd remembers the shape of a parameter
                kept[value] = nn.Parameter(value[rows], requires_grad=value.requires_grad)
                setattr(layer, name, kept[value])
            for name, value in list(layer.named_buffers(recurse=False)):
                setattr(layer, name, value[rows])
        for group in optimizer.param_groups:
            group["params"] = [kept[parameter] for parameter in group["params"]]
        for old, new in kept.items():
            if old in optimizer.state:
                state = optimizer.state.pop(old)
                optimizer.state[new] = {
                    name: value[rows] if value.shape == old.shape else value for name, value in state.items()
                }
        self.members = [self.members[place] for place in places]
        self.generators[:] = [self.generators[place] for place in places]


# ------------------------------------------------------------------------------
# what can be batched
# ------------------------------------------------------------------------------

_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
    nn.Identity,
)
_POOLINGS = {
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), 4),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), 5),
}
_CONVOLUTIONS = {nn.Conv1d: (functional.conv1d, 4), nn.Conv2d: (functional.conv2d, 5)}
_NORMS = {nn.BatchNorm1d: (3, 4), nn.BatchNorm2d: (5,)}
_DROPOUTS = {nn.Dropout: None, nn.Dropout1d: 4, nn.Dropout2d: 5}


def _checked_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that a model runs one after the other."""
    layers = list(_layers(model, type(model).__name__))
    tensors = [id(tensor) for layer in layers for _, tensor in _tensors(layer)]
    if len(set(tensors)) < len(tensors):
        raise NotBatchable("a member uses the same weights twice")
    return layers


def _layers(model: nn.Module, name: str) -> Iterator[nn.Module]:
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks, model._backward_pre_hooks)
    if any(hooks):
        raise NotBatchable(f"{name} has hooks")
    if "forward" in vars(model):
        raise NotBatchable(f"{name} has a forward of its own")
    if not _runs_in_order(model):
        yield model
        return
    for child_name, child in model._modules.items():  # named_children would leave out a layer's second use
        yield from _layers(child, f"{child_name} ({type(child).__name__})")


def _runs_in_order(model: nn.Module) -> bool:
    """Tell whether a module does what nn.Sequential does, and nothing else."""
    plain = all(
        getattr(type(model), name) is getattr(nn.Sequential, name)
        for name in ("forward", "__call__", "train")
    )
    return plain and not model._parameters and not model._buffers


def _check_alike(place: int, members: Sequence[nn.Module]) -> None:
    """Raise if a layer is not the same in all members but for its weights."""
    first = members[0]
    for other in members[1:]:
        if _design(other) != _design(first):
            raise NotBatchable(f"the members differ in layer {place}: {first} and {other}")
    tensors = [id(tensor) for layer in members for _, tensor in _tensors(layer)]
    if len(set(tensors)) < len(tensors):
        raise NotBatchable(f"the members share the weights of layer {place}")


def _design(layer: nn.Module) -> tuple:
    """Return what makes two layers the same but for the values of their weights."""
    options = {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, bool | int | float | str | tuple | None)
        and name != "training"
        and name[0] != "_"
    }
    tensors = [(name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in _tensors(layer)]
    return type(layer), options, tensors


def _tensors(layer: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the weights and statistics that a layer itself holds."""
    return [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]


def _batched(place: int, members: Sequence[nn.Module], generators: list[torch.Generator]) -> nn.Module:
    """Make the batched layer of the members' layers at a place."""
    layer, kind = members[0], type(members[0])  # exactly these types: a subclass may do anything
    if kind is nn.Linear:
        return _Linear(members)
    if kind in _CONVOLUTIONS and layer.padding_mode == "zeros":
        return _Convolution(members)
    if kind in _NORMS and (layer.momentum is not None or not layer.track_running_stats):
        return _BatchNorm(members)
    if kind in _DROPOUTS:
        return _Dropout(layer, generators)
    if getattr(layer, "takes_generator", False) and not list(layer.children()) and not _tensors(layer):
        return _Drawn(layer, generators)
    if kind in _POOLINGS and not getattr(layer, "return_indices", False):
        return _Pooling(layer)
    if kind in _ACTIVATIONS:
        return _activation(layer)
    if kind is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return _Flatten()
    raise NotBatchable(f"layer {place}, {layer}, is not one that can be batched")


# ------------------------------------------------------------------------------
# batched layers
# ------------------------------------------------------------------------------


class _Layer(nn.Module):
    """A layer of K members; holds their weights under the names that they have in a member, K first.

    ``places`` says which of them the values between the layers are of.
    """

    def __init__(self, members: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.places = slice(None)
        for name, first in _tensors(members[0]) if members else ():
            stacked = torch.stack([getattr(member, name).detach() for member in members])
            if isinstance(first, nn.Parameter):
                self.register_parameter(name, nn.Parameter(stacked, requires_grad=first.requires_grad))
            else:
                self.register_buffer(name, stacked)

    def flat(self, name: str) -> torch.Tensor | None:
        """Return a stack of weights with the members' first dimension put into one."""
        value = getattr(self, name, None)
        return None if value is None else value[self.places].flatten(0, 1)

    @staticmethod
    def unstacked(name: str, value: torch.Tensor) -> torch.Tensor:
        """Return one member's weights as the member has them."""
        return value


def _merged(inputs: torch.Tensor, dimensions: Sequence[int], layer: str) -> torch.Tensor:
    """Put the members' channels side by side, (B, K, C, ...) -> (B, K * C, ...)."""
    if inputs.ndim not in dimensions:
        raise NotBatchable(f"{layer} would see {inputs.ndim - 1} dimensions, the records first")
    return inputs.flatten(1, 2)


class _Linear(_Layer):
    """Holds the weights as (K, in, out): so their gradient comes in the order of the weights, without a copy."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        self.weight.data = self.weight.data.transpose(1, 2).contiguous()

    @staticmethod
    def unstacked(name: str, value: torch.Tensor) -> torch.Tensor:
        return value.t() if name == "weight" else value

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.transpose(0, 1)  # (K, B, ...)
        shape = rows.shape[1:-1]
        rows = rows.flatten(1, -2) if rows.ndim > 3 else rows
        bias = getattr(self, "bias", None)
        if bias is None:
            outputs = torch.bmm(rows, self.weight)
        else:
            outputs = torch.baddbmm(bias[:, None], rows, self.weight)
        return outputs.unflatten(1, shape).transpose(0, 1)


class _Convolution(_Layer):
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        self.convolve, self.dimensions = _CONVOLUTIONS[type(members[0])]
        self.name = str(members[0])
        self.options = {name: getattr(members[0], name) for name in ("stride", "padding", "dilation")}
        self.groups = members[0].groups

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        merged = _merged(inputs, (self.dimensions,), self.name)
        count = inputs.shape[1]
        if self.places != slice(None) and merged.ndim == 4:
            merged = _channels_last(merged)
        outputs = self.convolve(
            merged, self.flat("weight"), self.flat("bias"), groups=count * self.groups, **self.options
        )
        return outputs.unflatten(1, (count, -1))


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """Lay images out with their channels last; one channel looks like both orders, but for its strides."""
    order = torch.channels_last
    return (
        images.clone(memory_format=order) if images.shape[1] == 1 else images.contiguous(memory_format=order)
    )


class _BatchNorm(_Layer):
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__(members)
        self.dimensions, self.name = _NORMS[type(members[0])], str(members[0])
        self.momentum, self.eps = members[0].momentum, members[0].eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        merged = _merged(inputs, self.dimensions, self.name)
        mean, variance = self.flat("running_mean"), self.flat("running_var")
        if self.training and mean is not None:
            self.num_batches_tracked[self.places] += 1
        outputs = functional.batch_norm(
            merged,
            mean,  # a view: the statistics of the batch go into the running ones
            variance,
            self.flat("weight"),
            self.flat("bias"),
            training=self.training or mean is None,
            momentum=0.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        return outputs.unflatten(1, (inputs.shape[1], -1))


class _Dropout(_Layer):
    def __init__(self, source: nn.Module, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.p, self.dimensions, self.name = source.p, _DROPOUTS[type(source)], str(source)
        self.generators = generators  # shared by all layers: the members draw layer after layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.dimensions is not None and inputs.ndim != self.dimensions:
            raise NotBatchable(f"{self.name} would see {inputs.ndim - 1} dimensions, the records first")
        if not self.training or self.p == 0:
            return inputs
        if self.p == 1:
            return inputs * 0
        rows, count = inputs.shape[:2]
        shape = inputs.shape[2:] if self.dimensions is None else (inputs.shape[2], *[1] * (inputs.ndim - 3))
        mask = torch.empty((count, rows, *shape), dtype=inputs.dtype, device=inputs.device)
        for own, generator in zip(mask, self.generators[self.places], strict=True):
            own.bernoulli_(1 - self.p, generator=generator)
        return inputs * mask.div_(1 - self.p).transpose(0, 1)


class _Drawn(_Layer):
    """A layer of the caller's own that draws random numbers, run for one member after the other."""

    def __init__(self, source: nn.Module, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.source, self.generators = copy.deepcopy(source), generators

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        generators = self.generators[self.places] or [None] * inputs.shape[1]
        pairs = zip(inputs.unbind(1), generators, strict=True)
        return torch.stack([self.source(own, generator) for own, generator in pairs], dim=1)


class _Pooling(_Layer):
    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source, self.dimensions = copy.deepcopy(source), _POOLINGS[type(source)]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        pooled = self.source(_merged(inputs, (self.dimensions,), str(self.source)))
        return pooled.unflatten(1, inputs.shape[1:3])


class _MemberByMember(nn.Module):
    """Runs layers for one member after the other.

    On a CPU, convolutions of K members take as long in one call as in K, and what is between them no longer fits
    the cache. Alone, each member's images can lie channels last, which convolutions and pooling are fastest in.
    """

    def __init__(self, layers: Sequence[_Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = []
        for place, own in enumerate(inputs.unbind(1)):
            value = own.unsqueeze(1)
            for layer in self.layers:
                layer.places = slice(place, place + 1)
                value = layer(value)
            outputs.append(value)
        return torch.cat(outputs, dim=1)


def _arranged(layers: Sequence[_Layer]) -> list[nn.Module]:
    """Put what lies between linear layers together where it has a convolution and runs on a CPU."""
    arranged: list[nn.Module] = []
    for linear, group in itertools.groupby(layers, lambda layer: isinstance(layer, _Linear)):
        run = list(group)
        alone = [
            layer for layer in run if isinstance(layer, _Convolution) and layer.weight.device.type == "cpu"
        ]
        arranged += [_MemberByMember(run)] if alone and not linear else run
    return arranged


class _Activation(_Layer):
    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.source(inputs)


def _activation(source: nn.Module) -> nn.Module:
    """Return an activation as it is, but for one that would write into its inputs: they may be shared."""
    own = copy.deepcopy(source)
    if hasattr(own, "inplace"):
        own.inplace = False
    return _Activation(own)


class _Flatten(_Layer):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(2) if inputs.ndim > 2 else inputs.unsqueeze(2)
