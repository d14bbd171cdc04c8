"""Drawing the masks of dropout: fast ones for each record, and shared ones for a whole pass.

Both replace the ``forward`` of dropout modules while they are in use, so that every way of running the model, whole
or in parts, has the same masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from alhelpers.uncertainty._draws import DropoutError
from alhelpers.uncertainty._torch import derived_seed, reseed

_SHIFTING = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_CPU = torch.device("cpu")

# A fast mask has a keep probability of a whole number of 65536ths, so it is within 1/131072 of the module's. Outside
# of these limits that would be a change of more than 0.1 % of the rarer of the two cases.
_WORDS = 1 << 16
# Up to so many binary digits of the probability, as many random bits an element cost less than 16.
_FEW_DIGITS = 8
_FAST_P = (0.01, 0.99)
_BLOCK = 1 << 20  # elements masked at once: what a mask needs beside its result stays small

# Shared masks that are kept for the next batch, in elements: more of them are drawn again, which gives the same.
_KEPT_ELEMENTS = 1 << 22


@contextmanager
def _forward_of(module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Replace the ``forward`` of one module, but not its hooks and flags."""
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]


class Masks:
    """The masks in use; the listener is called with what each is put on, and whether that is changed in place."""

    listener: Callable[[torch.Tensor, bool], None] | None = None

    def begin(self, number: int, rows: int) -> None:
        """Start a pass over some rows."""

    def heard(self, given: torch.Tensor, module: nn.Module) -> None:
        """Tell the listener of a call of a module."""
        if self.listener is not None:
            self.listener(given, module.inplace)


# ------------------------------------------------------------------------------
# a mask for each record
# ------------------------------------------------------------------------------


@contextmanager
def record_masks(drawing: set[nn.Module], seed: int) -> Iterator[Masks]:
    """Draw the masks of ``nn.Dropout`` modules faster than torch on a processor, from the same distribution."""
    words, masks = np.random.SFC64(seed), Masks()
    with ExitStack() as stack:
        for module in drawing:
            # a subclass or a module with a forward of its own may do anything else
            if type(module) is nn.Dropout and "forward" not in module.__dict__:
                stack.enter_context(_forward_of(module, _FastDropout(module, words, masks)))
        yield masks


@dataclass
class _FastDropout:
    """The forward of one ``nn.Dropout`` with masks made of 1 to 16 random bits an element."""

    module: nn.Dropout
    words: np.random.BitGenerator
    masks: Masks

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        self.masks.heard(input, self.module)
        values = self._writable(input)
        if values is None:
            return nn.functional.dropout(input, self.module.p, self.module.training, self.module.inplace)
        output = input if self.module.inplace else torch.empty_like(input)
        thinned(values, self.module.p, self.words, out=output.detach().numpy())
        if self.module.inplace:
            torch.autograd.graph.increment_version(output)
        return output

    def _writable(self, given: torch.Tensor) -> np.ndarray | None:
        """Return the numbers of a tensor if the fast masks apply to it, else None."""
        fits = (
            type(given) in (torch.Tensor, nn.Parameter)
            and given.device == _CPU
            and given.layout == torch.strided
            and given.dtype in (torch.float32, torch.float64)
            and self.module.training
            and not (given.requires_grad and torch.is_grad_enabled())
            and _FAST_P[0] <= self.module.p <= _FAST_P[1]
            # an expanded tensor has one number in several places: torch refuses to change it in place
            and not (self.module.inplace and 0 in given.stride())
        )
        if not fits:
            return None
        try:
            return given.detach().numpy()
        except RuntimeError:  # inside torch.func.vmap there are no plain numbers
            return None


def thinned(values: np.ndarray, p: float, words: np.random.BitGenerator, out: np.ndarray) -> None:
    """Write ``values`` to ``out`` with each element dropped with probability ``p``, the others scaled up.

    The probability is rounded to 1/65536, and the scale is that of the rounded one, so that the mean is exact.
    """
    keep = round((1 - p) * _WORDS)
    scale = out.dtype.type(_WORDS / keep)
    # rows of the outermost dimension of the memory, so that no copy of a transposed tensor is needed
    order = np.argsort([-abs(step) for step in values.strides], kind="stable") if values.ndim else []
    source, target = (np.atleast_1d(array.transpose(order)) for array in (values, out))
    row = max(1, source[:1].size)
    step = max(1, _BLOCK // row)
    for start in range(0, len(source), step):
        part = source[start : start + step]
        scales = (
            _drawn(keep, part.size, words).reshape(part.shape).astype(out.dtype)
        )  # numpy is slow on two types
        scales *= scale
        np.multiply(part, scales, out=target[start : start + step])


def _drawn(keep: int, count: int, words: np.random.BitGenerator) -> np.ndarray:
    """Return so many random truth values, each true with a probability of ``keep`` 65536ths."""
    shared = keep & -keep  # the highest power of two that divides both
    share, digits = keep // shared, (_WORDS // shared).bit_length() - 1
    if digits > _FEW_DIGITS:
        threshold = np.int16(keep - _WORDS // 2)
        return words.random_raw(-(-count // 4)).view(np.int16)[:count] < threshold
    size = -(-count // 64)
    bits = words.random_raw(size)
    # Of bits that are set with probability q, "or" with random ones makes (1 + q) / 2, and "and" q / 2: the binary
    # digits of the share before those of q. The last digit is 1, as the share is odd.
    for place in range(1, digits):
        more = words.random_raw(size)
        bits = bits | more if share >> place & 1 else bits & more
    return np.unpackbits(bits.view(np.uint8), count=count).view(np.bool_)


# ------------------------------------------------------------------------------
# a mask for each pass
# ------------------------------------------------------------------------------


@contextmanager
def shared_masks(drawing: set[nn.Module], seed: int) -> Iterator[SharedMasks]:
    """Share the masks of a pass between all records."""
    refuse_sharing(drawing)
    masks = SharedMasks(seed)
    with ExitStack() as stack:
        for module in drawing:
            own = module.__dict__.get("forward")
            if own is not None:
                raise DropoutError(
                    f'masks="pass" cannot share the masks of a {type(module).__name__} with a forward of its own; '
                    'use masks="sample"'
                )
            stack.enter_context(_forward_of(module, masks.forward_of(module)))
        yield masks


def refuse_sharing(drawing: set[nn.Module]) -> None:
    """Raise if a module that draws random numbers is none of torch's dropout modules."""
    other = {type(module).__name__ for module in drawing if not isinstance(module, _DropoutNd)}
    if other:
        raise DropoutError(
            f'masks="pass" can share the masks of dropout modules only, and {", ".join(sorted(other))} draws random '
            'numbers inside; use masks="sample"'
        )


@dataclass
class SharedMasks(Masks):
    """One mask for each pass and call of a dropout module, the same for any batch and device."""

    seed: int
    number: int = 0
    rows: int = 0
    calls: int = 0
    kept: dict[tuple, tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)
    room: int = _KEPT_ELEMENTS

    def begin(self, number: int, rows: int) -> None:
        """Start a pass over some rows."""
        self.number, self.rows, self.calls = number, rows, 0

    def forward_of(self, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the forward of a dropout module with a mask shared by all records."""

        def forward(input: torch.Tensor) -> torch.Tensor:
            self.heard(input, module)
            if input.ndim == 0 or input.shape[0] != self.rows:
                raise DropoutError(
                    f'masks="pass" needs the records in the first dimension, but a {type(module).__name__} sees '
                    f'{tuple(input.shape)} for {self.rows} records; use masks="sample"'
                )
            scale, shift = self.mask(module, self.number, self.calls, input[:1])
            self.calls += 1
            output = input.mul_(scale) if module.inplace else input * scale
            return output if shift is None else output.add_(shift)

        return forward

    def mask(
        self, module: nn.Module, number: int, call: int, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the scale and the shift, each of one row, of a call of a module in a pass."""
        key = (number, call, module, like.shape, like.dtype)
        found = self.kept.get(key)
        if found is None:
            found = self._drawn(module, number, call, like)
            size = sum(part.numel() for part in found if part is not None)
            if size <= self.room:
                self.room -= size
                self.kept[key] = found
        return found

    def _drawn(
        self, module: nn.Module, number: int, call: int, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Draw a mask by the module's own rule, on the processor, so that it is the same for every device."""
        seed = derived_seed(self.seed, number, call)
        # Every kind of dropout is x * scale + shift, element by element: its values at 1 and 0 determine both.
        ones = torch.ones(like.shape, dtype=like.dtype, device=_CPU)
        scale = self._dropped(module, ones, seed)
        if not isinstance(module, _SHIFTING):
            return scale.to(like.device), None
        shift = self._dropped(module, torch.zeros_like(ones), seed)
        return (scale - shift).to(like.device), shift.to(like.device)

    def _dropped(self, module: nn.Module, row: torch.Tensor, seed: int) -> torch.Tensor:
        """Drop units of one row with the forward of the module's class."""
        reseed(seed, _CPU)
        return type(module).forward(module, row)
