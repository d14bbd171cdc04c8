"""MC dropout: ask one model many times, each time with other units dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from alhelpers.uncertainty._torch import (
    as_inputs,
    checked_logits,
    confidences_of,
    derived_seed,
    device_of,
    dtype_of,
    kept_modes,
    reseed,
    seeded,
)

_DROPOUT_FUNCTIONS = {
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "feature_dropout",
}
_NORM_FUNCTIONS = {"batch_norm", "instance_norm"}
_SHIFTING = (nn.AlphaDropout, nn.FeatureAlphaDropout)


class DropoutError(ValueError):
    """A model that MC dropout cannot sample; the message says why and names the module."""


def mc_dropout(
    model: nn.Module,
    inputs: torch.Tensor | np.ndarray,
    passes: int = 20,
    *,
    masks: Literal["sample", "pass"] = "sample",
    batch_size: int = 256,
    device: str | torch.device = "auto",
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample predictions with dropout left on and everything else, batch norm above all, in evaluation mode.

    Dropout is found by what it does, not by its name: dropout modules of every kind, attention and recurrent
    modules with dropout inside, and modules whose own ``forward`` calls functional dropout with
    ``self.training``. Of an ``nn.Sequential``, the part before the first dropout runs once; other models run
    whole in every pass. The model, its modes, the inputs and torch's random state are left as they were.

    Parameters
    ----------
    model : torch.nn.Module
        Takes a batch of inputs and returns logits of shape (batch, C); the softmax is applied here.
    inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
        What the model takes, the records first.
    passes : int
        The number T of passes, at least 2.
    masks : {"sample", "pass"}
        ``"sample"``: every record draws its own units to drop in every pass. ``"pass"``: one draw a pass,
        shared by all records, as if each pass were one thinned network; the records' means and variances stay
        the same, comparisons between records lose noise, and the result does not depend on ``batch_size``. It
        needs dropout modules that see the records in the first dimension.
    batch_size : int
        Records in one forward pass.
    device : str or torch.device
        ``"auto"`` works where the model is; another device works on a copy of the model there.
    seed : int
        The same seed gives the same samples (for ``masks="sample"``: with the same ``batch_size``).

    Returns
    -------
    samples : numpy.ndarray of shape (N, T, C), float32
        The confidences of each pass.
    confidences : numpy.ndarray of shape (N, C), float32
        Their mean over the passes.

    Raises
    ------
    DropoutError
        If the model has no dropout, if ``masks="pass"`` cannot share its masks, or if an output is not
        finite.
    ValueError
        If ``passes``, ``batch_size`` or ``masks`` is out of range, or the model does not return (N, C)
        logits.

    Notes
    -----
    Not seen: dropout that is off whenever ``self.training`` is false in code other than torch's dropout
    functions, as in ``scaled_dot_product_attention(dropout_p=p if self.training else 0)`` of a module of your
    own.

    References
    ----------
    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016. Masks shared by all records: Gal,
    Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017 (see BatchBALD's
    consistent dropout, 2019).
    """
    _check_arguments(passes, masks, batch_size)
    if device != "auto" and torch.device(device) != device_of(model):
        model = copy.deepcopy(model).to(device)
    place = device_of(model)
    data = as_inputs(inputs, dtype_of(model))
    if not len(data):
        raise ValueError("inputs must hold at least one record, got none")
    with torch.no_grad(), kept_modes(model), seeded(derived_seed(seed), place):
        stochastic = _stochastic_modules(model, data[:2].to(place, copy=True))
        trunk, head = _split(model, stochastic)
        with _dropout_on(stochastic, masks, seed, place) as begin_pass:
            samples = _sample(trunk, head, data, passes, batch_size, place, begin_pass)
    return samples, samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def _check_arguments(passes: int, masks: str, batch_size: int) -> None:
    if isinstance(passes, bool) or not isinstance(passes, int | np.integer) or passes < 2:
        raise ValueError(
            f"passes must be a whole number of at least 2, got {passes!r}: one pass shows no spread"
        )
    if masks not in ("sample", "pass"):
        raise ValueError(f'masks must be "sample" or "pass", got {masks!r}')
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")


# ------------------------------------------------------------------------------
# passes
# ------------------------------------------------------------------------------


def _sample(
    trunk: Sequence[nn.Module],
    head: Sequence[nn.Module],
    data: torch.Tensor,
    passes: int,
    batch_size: int,
    device: torch.device,
    begin_pass: Callable[[int, int], None],
) -> np.ndarray:
    """Run the trunk once and the head ``passes`` times on every batch."""
    samples: np.ndarray | None = None
    for start in range(0, len(data), batch_size):
        # a copy: a model that works in place must change neither the caller's inputs nor the next pass
        features = _run(trunk, data[start : start + batch_size].to(device, copy=True))
        rows = min(batch_size, len(data) - start)
        for number in range(passes):
            begin_pass(number, rows)
            logits = checked_logits(_run(head, _copied(features)), rows)
            if not torch.isfinite(logits).all():
                record = start + int(torch.nonzero(~torch.isfinite(logits).all(dim=1))[0])
                raise DropoutError(
                    f"the logits of record {record} in pass {number} are not finite: "
                    "check the record's input and the model's weights"
                )
            if samples is None:
                samples = np.empty((len(data), passes, logits.shape[1]), dtype=np.float32)
            samples[start : start + rows, number] = confidences_of(logits)
    assert samples is not None  # there is at least one record and one pass
    return samples


def _run(layers: Sequence[nn.Module], value: Any) -> Any:
    for layer in layers:
        value = layer(value)
    return value


def _copied(features: Any) -> Any:
    """Copy what the trunk gave, which may be a tuple, as from a recurrent module."""
    if isinstance(features, torch.Tensor):
        return features.clone()
    if type(features) in (tuple, list):
        return type(features)(_copied(part) for part in features)
    return copy.deepcopy(features)


def _split(model: nn.Module, stochastic: set[nn.Module]) -> tuple[list[nn.Module], list[nn.Module]]:
    """Split a model into what is the same in every pass and what is not."""
    layers = _layers(model)
    first = next(
        place for place, layer in enumerate(layers) if any(module in stochastic for module in layer.modules())
    )
    return layers[:first], layers[first:]


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that a model runs one after the other: its own, where it is a plain nn.Sequential."""
    plain = type(model).forward is nn.Sequential.forward
    hooked = (
        model._forward_hooks or model._forward_pre_hooks
    )  # these belong to the whole and run only with it
    if not plain or hooked:
        return [model]
    return [layer for child in model for layer in _layers(child)]


# ------------------------------------------------------------------------------
# finding dropout
# ------------------------------------------------------------------------------


def _stochastic_modules(model: nn.Module, few: torch.Tensor) -> set[nn.Module]:
    """Return the modules whose training flag turns dropout on."""
    found = {module for module in model.modules() if _drops_itself(module)}
    found |= _functional_droppers(model, few)
    if not found:
        raise DropoutError(
            "MC dropout would give identical passes: the model has no dropout with p above 0; "
            "add nn.Dropout before its last layers, or use a Committee"
        )
    # In evaluation mode this layer may take a fused path that passes its dropout modules by.
    fused = {module for module in model.modules() if isinstance(module, nn.TransformerEncoderLayer)}
    return found | {layer for layer in fused if any(module in found for module in layer.modules())}


def _drops_itself(module: nn.Module) -> bool:
    """Tell whether torch's own module drops units when it trains."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1


def _functional_droppers(model: nn.Module, few: torch.Tensor) -> set[nn.Module]:
    """Return the modules whose own forward calls functional dropout, found by watching one small batch."""
    watch = _Watch()
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(watch.enter).remove)
            stack.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        stack.enter_context(watch)
        model(few)
    both = watch.droppers & watch.normalisers
    if both:
        raise DropoutError(
            f"{_names(model, both)} calls functional dropout and functional batch norm by itself: its training "
            "flag would switch both; give it an nn.Dropout module"
        )
    return watch.droppers


class _Watch(TorchFunctionMode):
    """Sees the calls of functional dropout and batch norm, and in which module each happens."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[nn.Module] = []
        self.droppers: set[nn.Module] = set()
        self.normalisers: set[nn.Module] = set()

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
        if module is not None and name in _DROPOUT_FUNCTIONS:
            if kwargs.get("p", args[1] if len(args) > 1 else 0.5) > 0:
                self.droppers.add(module)
        elif module is not None and name in _NORM_FUNCTIONS:
            self.normalisers.add(module)
        return function(*args, **kwargs)


def _names(model: nn.Module, modules: set[nn.Module]) -> str:
    """Name modules as the model does, with their types."""
    named = [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module in modules
    ]
    return ", ".join(named)


# ------------------------------------------------------------------------------
# turning it on
# ------------------------------------------------------------------------------


@contextmanager
def _dropout_on(
    stochastic: set[nn.Module], masks: str, seed: int, device: torch.device
) -> Iterator[Callable[[int, int], None]]:
    """Turn dropout on; gives the function to call when a pass over some rows begins."""
    shared = masks == "pass"
    inner = {module for module in stochastic if not isinstance(module, _DropoutNd)}
    for module in inner if shared else stochastic:
        module.training = True
    if not shared:
        yield lambda number, rows: None
        return
    other = {type(module).__name__ for module in inner if not isinstance(module, nn.TransformerEncoderLayer)}
    if other:
        raise DropoutError(
            f'masks="pass" can share the masks of dropout modules only, and {", ".join(sorted(other))} drops units '
            'inside; use masks="sample"'
        )
    mask = _SharedMasks(seed, device)
    with ExitStack() as stack:
        for module in stochastic - inner:
            stack.callback(module.register_forward_hook(mask.apply).remove)
        yield mask.begin


@dataclass
class _SharedMasks:
    """Applies one mask to all records of a pass: a forward hook of dropout modules in evaluation mode."""

    seed: int
    device: torch.device
    number: int = 0
    rows: int = 0
    calls: int = 0

    def begin(self, number: int, rows: int) -> None:
        """Start a pass."""
        self.number, self.rows, self.calls = number, rows, 0

    def apply(self, module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        """Replace the untouched output of a dropout module by the masked one."""
        if output.shape[0] != self.rows:
            raise DropoutError(
                f'masks="pass" needs the records in the first dimension, but a {type(module).__name__} sees '
                f'{tuple(output.shape)} for {self.rows} records; use masks="sample"'
            )
        # the seed says which mask it is: of this pass and this call, whatever batch it is applied to
        seed = derived_seed(self.seed, self.number, self.calls)
        self.calls += 1
        # Every kind of dropout is x * scale + shift, element by element: what it does to 1 and 0 says all.
        shift = self._drop(module, torch.zeros_like(output[:1]), seed) if isinstance(module, _SHIFTING) else 0
        scale = self._drop(module, torch.ones_like(output[:1]), seed) - shift
        return output * scale + shift

    def _drop(self, module: nn.Module, row: torch.Tensor, seed: int) -> torch.Tensor:
        """Drop units of one row with the module's own forward, in training mode."""
        reseed(seed, self.device)
        module.training = True
        try:
            return type(module).forward(module, row)
        finally:
            module.training = False
