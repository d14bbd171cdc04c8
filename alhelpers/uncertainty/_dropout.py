"""Finding the modules of a model whose training flag turns dropout on."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

DROPOUT_FUNCTIONS = {
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "feature_dropout",
}
ATTENTION_FUNCTION = "scaled_dot_product_attention"
_NORM_FUNCTIONS = {"batch_norm", "instance_norm"}


class DropoutError(ValueError):
    """A model that MC dropout cannot sample; the message names the reason and the module."""


def stochastic_modules(model: nn.Module, few: torch.Tensor) -> set[nn.Module]:
    """Return the modules whose training flag turns dropout on."""
    found = {module for module in model.modules() if _drops_itself(module)}
    found |= _functional_droppers(model, few)
    if not found:
        raise DropoutError(
            "MC dropout would give identical passes: the model has no dropout with p above 0; "
            "add nn.Dropout before its last layers, or use a Committee"
        )
    # In evaluation mode this layer may take a fused path that skips its dropout modules.
    fused = {module for module in model.modules() if isinstance(module, nn.TransformerEncoderLayer)}
    return found | {layer for layer in fused if any(module in found for module in layer.modules())}


def _drops_itself(module: nn.Module) -> bool:
    """Return whether torch's own module drops units when it trains."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1


def _functional_droppers(model: nn.Module, few: torch.Tensor) -> set[nn.Module]:
    """Return the modules whose own forward calls functional dropout, observed on a small batch."""
    watch = _watched(model, few)
    # Some call dropout only in training mode: the candidates are run in that mode, too.
    might = watch.attending | {module for module in model.modules() if _may_drop_in_training(module)}
    candidates = {module for module in might - watch.droppers - watch.normalisers if not _is_torchs(module)}
    for module in candidates:
        module.training = True
    if candidates:
        watch.droppers |= _watched(model, few).droppers & candidates
    for module in candidates:
        module.training = False
    both = watch.droppers & watch.normalisers
    if both:
        raise DropoutError(
            f"{_names(model, both)} calls functional dropout and functional batch norm by itself: its training "
            "flag would switch both; give it an nn.Dropout module"
        )
    return watch.droppers


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")


def _may_drop_in_training(module: nn.Module) -> bool:
    """Return whether a method of a module names both its training flag and functional dropout."""
    methods = [
        value for kind in type(module).__mro__ if kind is not nn.Module for value in vars(kind).values()
    ]
    names = [set(method.__code__.co_names) for method in methods if hasattr(method, "__code__")]
    return any("training" in found and found & (DROPOUT_FUNCTIONS | {ATTENTION_FUNCTION}) for found in names)


def _watched(model: nn.Module, few: torch.Tensor) -> _Watch:
    """Run a model on a copy of a small batch, and return the observed calls."""
    watch = _Watch()
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(watch.enter).remove)
            stack.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        stack.enter_context(watch)
        model(few.clone())
    return watch


class _Watch(TorchFunctionMode):
    """Records in which module functional dropout, attention and batch norm are called."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[nn.Module] = []
        self.droppers: set[nn.Module] = set()
        self.normalisers: set[nn.Module] = set()
        self.attending: set[nn.Module] = set()

    def enter(self, module: nn.Module, _: Any) -> None:
        self.inside.append(module)

    def leave(self, *_: Any) -> None:
        self.inside.pop()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        module = self.inside[-1] if self.inside else None
        if module is not None and name in DROPOUT_FUNCTIONS:
            if kwargs.get("p", args[1] if len(args) > 1 else 0.5) > 0:
                self.droppers.add(module)
        elif module is not None and name == ATTENTION_FUNCTION:
            self.attending.add(module)
            if attention_p(args, kwargs) > 0:
                self.droppers.add(module)
        elif module is not None and name in _NORM_FUNCTIONS:
            self.normalisers.add(module)
        return function(*args, **kwargs)


def attention_p(args: tuple, kwargs: dict[str, Any]) -> float:
    """Return the dropout probability of a call of scaled_dot_product_attention."""
    return kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)


def _names(model: nn.Module, modules: set[nn.Module]) -> str:
    """Return the names of modules in the model, with their types."""
    named = [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module in modules
    ]
    return ", ".join(named)
