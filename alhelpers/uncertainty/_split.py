"""Splitting a model into what is the same in every pass and what is not.

A :class:`Plan` runs the first part once for a batch and the second once for a pass. Three of them are tried, the
cheapest first; each is used only if its outputs are those of the whole model.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import torch
from torch import fx, nn

from alhelpers.uncertainty._dropout import ATTENTION_FUNCTION, DROPOUT_FUNCTIONS, attention_p
from alhelpers.uncertainty._torch import derived_seed, reseed

# What code that is not made for symbolic tracing, or for copying, may raise.
_UNTRACEABLE = (
    fx.proxy.TraceError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    LookupError,
    AssertionError,
    ArithmeticError,
)
_CHECKED_PASSES = 2  # the second shows whether the first has spoiled what the two share


class Plan(Protocol):
    """A way to run a model: ``once`` for a batch, then ``each`` for every pass over it."""

    def once(self, batch: torch.Tensor) -> Any:
        """Return what every pass over this batch shares."""

    def each(self, shared: Any) -> Any:
        """Return the model's output in one pass; ``shared`` stays as it is."""


def plan_for(model: nn.Module, stochastic: set[nn.Module], few: torch.Tensor, seed: int) -> Plan:
    """Return the cheapest plan whose outputs for a small batch are the model's: graph, layers, or the whole model."""
    whole = LayerPlan([], [model])
    expected = _outputs(whole, few, seed)
    graph = _graph_plan(model, stochastic, few)
    layers = _layers(model)
    first = next(place for place, layer in enumerate(layers) if stochastic.intersection(layer.modules()))
    for plan in (graph, LayerPlan(layers[:first], layers[first:])):
        if plan is not None and _agrees(plan, few, seed, expected):
            return plan
    return whole


# ------------------------------------------------------------------------------
# checking
# ------------------------------------------------------------------------------


def _outputs(plan: Plan, few: torch.Tensor, seed: int) -> list[Any]:
    """Return the outputs of a few passes, with the same masks for every plan."""
    reseed(derived_seed(seed, 1), few.device)
    shared = plan.once(few.clone())
    return [plan.each(shared) for _ in range(_CHECKED_PASSES)]


def _agrees(plan: Plan, few: torch.Tensor, seed: int, expected: list[Any]) -> bool:
    """Return whether a plan has the outputs of the whole model, pass by pass, with the same random numbers."""
    try:
        found = _outputs(plan, few, seed)
    except _UNTRACEABLE:
        return False
    return all(nearly_equal(a, b) for a, b in zip(found, expected, strict=True))


def nearly_equal(found: Any, expected: Any) -> bool:
    """Return whether two outputs are equal but for the rounding of sums in another order."""
    if not isinstance(found, torch.Tensor) or not isinstance(expected, torch.Tensor):
        return False
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if torch.equal(found, expected) or not expected.is_floating_point():
        return torch.equal(found, expected)
    finite = expected[expected.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    near = 64 * torch.finfo(expected.dtype).eps * largest
    return torch.allclose(found, expected, rtol=0, atol=near, equal_nan=True)


# ------------------------------------------------------------------------------
# layers
# ------------------------------------------------------------------------------


@dataclass
class LayerPlan:
    """Runs the layers before the first dropout once; with no such layers, the whole model in every pass."""

    trunk: Sequence[nn.Module]
    head: Sequence[nn.Module]

    def once(self, batch: torch.Tensor) -> Any:
        """Run the trunk."""
        return reduce(lambda value, layer: layer(value), self.trunk, batch)

    def each(self, shared: Any) -> Any:
        """Run the head on a copy, as it may work in place."""
        return reduce(lambda value, layer: layer(value), self.head, _copied(shared))


def _copied(features: Any) -> Any:
    """Copy an output, which may be a tuple, as of a recurrent module."""
    if isinstance(features, torch.Tensor):
        return features.clone()
    if type(features) in (tuple, list):
        return type(features)(_copied(part) for part in features)
    return copy.deepcopy(features)


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a plain nn.Sequential, or the model as one layer."""
    if type(model).forward is not nn.Sequential.forward or "forward" in model.__dict__ or _hooked(model):
        return [model]  # hooks belong to the whole and run only with it
    return [layer for child in model for layer in _layers(child)]


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


# ------------------------------------------------------------------------------
# the graph of a model
# ------------------------------------------------------------------------------


@dataclass
class GraphPlan:
    """Runs the nodes of a model's graph that do not depend on dropout once, the others in every pass."""

    before: list[fx.Node]
    after: list[fx.Node]
    modules: dict[str, nn.Module]  # the model's own, by the names of the graph
    tensors: nn.Module  # holds the parameters, buffers and constants that the graph reads
    crossing: list[fx.Node]  # the nodes of ``before`` that ``after`` reads
    rows: int | None = None  # records that run together before the cut: fewer stay in the processor's cache

    def __post_init__(self) -> None:
        self._forget = [_last_used(nodes, set(self.crossing)) for nodes in (self.before, self.after)]
        self._as_is = {
            node for node in self.crossing if node.op == "get_attr" or _only_read(node, self.modules)
        }

    def once(self, batch: torch.Tensor) -> dict[fx.Node, Any]:
        """Run the nodes before the cut and return the values that the others read."""
        if self.rows is None or len(batch) <= self.rows:
            return self._once(batch)
        parts = [self._once(part) for part in batch.split(self.rows)]
        return {node: torch.cat([part[node] for part in parts]) for node in self.crossing}

    def _once(self, batch: torch.Tensor) -> dict[fx.Node, Any]:
        values: dict[fx.Node, Any] = {}
        for node, forget in zip(self.before, self._forget[0], strict=True):
            values[node] = batch if node.op == "placeholder" else self.value(node, values)
            for other in forget:
                values.pop(other, None)
        return values

    def each(self, shared: dict[fx.Node, Any]) -> Any:
        """Run the nodes after the cut on copies of the values that they may change in place."""
        values = {node: value if node in self._as_is else _copied(value) for node, value in shared.items()}
        for node, forget in zip(self.after, self._forget[1], strict=True):
            values[node] = self.value(node, values)
            for other in forget:
                del values[other]
        return values[self.after[-1]]

    def value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """Compute the value of a node."""
        if node.op == "get_attr":
            owner, _, name = node.target.rpartition(".")
            return getattr(self.tensors.get_submodule(owner), name)
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "output":
            return args[0]
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return (self.modules[node.target] if node.op == "call_module" else node.target)(*args, **kwargs)


class _Root(nn.Module):
    """Calls a model with one input, so that its other arguments have their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> Any:
        return self.model(batch)


class _Tracer(fx.Tracer):
    """Traces into the modules that hold dropout, unless they are torch's own."""

    proxy_buffer_attributes = True

    def __init__(self, holders: set[nn.Module]) -> None:
        super().__init__()
        self.holders = holders

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.holders or super().is_leaf_module(m, module_qualified_name)


def _graph_plan(model: nn.Module, stochastic: set[nn.Module], few: torch.Tensor) -> GraphPlan | None:
    """Return the plan of a model's graph, or None if the model cannot be traced reliably."""
    try:
        plan = _traced(model, stochastic, few.device)
        if plan is None or not _order_does_not_matter(plan, few):
            return None
    except _UNTRACEABLE:
        return None
    plan.rows = _rows_at_once(plan, few)
    return plan


def _traced(model: nn.Module, stochastic: set[nn.Module], device: torch.device) -> GraphPlan | None:
    """Trace a model and split its nodes."""
    holds = {module for module in model.modules() if stochastic.intersection(module.modules())}
    everywhere = nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return None
    # A copy of the modules with the same tensors: code that is traced may store what it sees in its module.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    names = dict(model.named_modules(remove_duplicate=False))
    twin = copy.deepcopy(model, shared)
    twins = dict(twin.named_modules(remove_duplicate=False))
    holders = {twins[name] for name, module in names.items() if module in holds}
    tracer, root = _Tracer(holders), _Root(twin)
    tracer.holders |= {root}
    traced_through = [module for module in holders if not tracer.is_leaf_module(module, "")]
    if any(_hooked(module) for module in traced_through):
        return None
    before, state = [_attributes(module) for module in traced_through], _random_state(device)
    graph = tracer.trace(root)
    changed = not all(_same(a, _attributes(module)) for a, module in zip(before, traced_through, strict=True))
    if changed or not torch.equal(state, _random_state(device)):
        return None  # the graph contains neither what is stored nor what is drawn outside of it
    modules = {f"model.{name}".rstrip("."): module for name, module in names.items()}
    return _split(graph, modules, root, stochastic)


def _split(
    graph: fx.Graph, modules: dict[str, nn.Module], tensors: nn.Module, stochastic: set[nn.Module]
) -> GraphPlan | None:
    """Split the nodes of a graph into those that depend on dropout and those that do not."""
    varying: set[fx.Node] = set()
    for node in graph.nodes:
        called = modules[node.target].modules() if node.op == "call_module" else ()
        drops = stochastic.intersection(called) or (node.op != "call_module" and _drops(node))
        if drops or node.op == "output" or any(source in varying for source in node.all_input_nodes):
            varying.add(node)
    before = [node for node in graph.nodes if node not in varying]
    after = [node for node in graph.nodes if node in varying]
    read = {source for node in after for source in node.all_input_nodes}
    if len(after) < 2:
        return None  # an output alone: the graph does not contain the dropout
    return GraphPlan(before, after, modules, tensors, [node for node in before if node in read])


def _drops(node: fx.Node) -> bool:
    """Return whether a function's node may drop units; one too many costs time only."""
    if _name(node) == ATTENTION_FUNCTION:
        return attention_p(node.args, node.kwargs) != 0
    return _name(node) in DROPOUT_FUNCTIONS


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "").rstrip("_")


def _last_used(nodes: list[fx.Node], kept: set[fx.Node]) -> list[list[fx.Node]]:
    """Return for each node the nodes whose values no later one reads."""
    last: dict[fx.Node, int] = {}
    for place, node in enumerate(nodes):
        last[node] = place
        last |= dict.fromkeys(node.all_input_nodes, place)
    own = set(nodes)
    forget: list[list[fx.Node]] = [[] for _ in nodes]
    for node, place in last.items():
        if node.op != "output" and not (node in kept and node in own):
            forget[place].append(node)
    return forget


# ------------------------------------------------------------------------------
# what a graph may miss of its model
# ------------------------------------------------------------------------------


def _order_does_not_matter(plan: GraphPlan, few: torch.Tensor) -> bool:
    """Return whether the nodes may run in the plan's order: neither part changes in place what the other reads."""
    # Refused: a node before the cut that comes after it in the model and changes a value in place; and values that
    # share memory and cross the cut, if a later node changes one of them, as copies share no memory.
    values: dict[fx.Node, Any] = {}
    place = {node: number for number, node in enumerate(plan.after[0].graph.nodes)}
    for node in plan.before:
        late = place[node] > place[plan.after[0]]
        versions = _versions(values) if late else {}
        value = few.clone() if node.op == "placeholder" else plan.value(node, values)
        if late and versions != _versions(values):
            return False
        values[node] = value
    crossing = {node: values[node] for node in plan.crossing}
    versions = _versions(values)
    after = dict(crossing)
    for node in plan.after:
        after[node] = plan.value(node, after)
    changed = {node for node, version in _versions(values).items() if version != versions[node]}
    tensors = [(node, tensor) for node in crossing for tensor in _tensors(values[node])]
    memory = [tensor.untyped_storage().data_ptr() for _, tensor in tensors]
    shared = {node for (node, _), place in zip(tensors, memory, strict=True) if memory.count(place) > 1}
    return not any(node in shared or node.op == "get_attr" for node in changed)


def _versions(values: dict[fx.Node, Any]) -> dict[fx.Node, list[int]]:
    """Return how often the tensors of each value were changed in place."""
    return {node: [tensor._version for tensor in _tensors(value)] for node, value in values.items()}


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a value: itself, or those of a tuple, list or dict."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


# Modules that do with each record what they would do with it alone, in evaluation mode.
_BY_RECORD = (
    *(nn.Conv1d, nn.Conv2d, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity),
)
_CACHED_ELEMENTS = 1 << 19  # of the largest value between two nodes
_FEWEST_ROWS = 16


def _rows_at_once(plan: GraphPlan, few: torch.Tensor) -> int | None:
    """Return how many records to run together before the cut, or None for all of them."""
    # In parts only on a processor, for torch's own modules that treat each record by itself, if that can be seen.
    if any(node.op not in ("placeholder", "call_module") for node in plan.before):
        return None
    called = [plan.modules[node.target] for node in plan.before if node.op == "call_module"]
    if not all(type(module) in _BY_RECORD and _is_plain(module) for module in called):
        return None
    if few.device.type != "cpu" or len(few) < 2:
        return None
    values: dict[fx.Node, Any] = {}
    largest = 1
    for node in plan.before:
        values[node] = few.clone() if node.op == "placeholder" else plan.value(node, values)
        largest = max(largest, values[node].numel() // len(few))
    together = plan.once(few.clone())
    try:
        parts = [plan.once(few[row : row + 1].clone()) for row in range(len(few))]
        same = all(
            nearly_equal(torch.cat([part[node] for part in parts]), together[node]) for node in together
        )
    except RuntimeError:  # the first dimension is not that of the records
        return None
    return max(_FEWEST_ROWS, _CACHED_ELEMENTS // largest) if same else None


def _is_plain(module: nn.Module) -> bool:
    """Return whether calling a module runs nothing but the forward of its class."""
    return "forward" not in module.__dict__ and not _hooked(module)


# Modules that neither change their input nor return it, if they have no hooks and torch's own forward.
_READING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
_READING_FUNCTIONS = {"add", "mul", "sub", "truediv", "matmul", "cat", "stack", "linear"}


def _only_read(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether no node that reads a value changes it, so that no pass needs a copy."""
    return all(_reads(user, modules) for user in node.users)


def _reads(user: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if user.op == "call_function":
        name = getattr(user.target, "__name__", "")
        return name in _READING_FUNCTIONS and "out" not in user.kwargs
    if user.op != "call_module":
        return False
    module = modules[user.target]
    drops = type(module) is nn.Dropout and module.p > 0 and not module.inplace and not _hooked(module)
    return drops or (_is_plain(module) and type(module) in _READING)


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _attributes(module: nn.Module) -> list[Any]:
    """Return the names and values of a module's attributes, and what its containers hold."""
    found: list[Any] = []
    for name, value in vars(module).items():
        found += [name, value]
        if isinstance(value, dict):
            found += [*value.keys(), *value.values()]
        elif isinstance(value, list | set | tuple):
            found += value
    return found


def _same(before: list[Any], after: list[Any]) -> bool:
    """Compare by identity: values of any type, some of which cannot be compared."""
    return len(before) == len(after) and all(map(operator.is_, before, after))
