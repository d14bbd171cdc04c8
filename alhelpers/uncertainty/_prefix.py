"""Running what a model computes before its first random number once a batch, instead of in every pass.

The operators of torch that a model calls before it draws its first random number have the same results in every pass
over a batch. The first pass keeps those that the model still holds then. In later passes the model's own code runs
again, and each of these operators returns its result at once. Whether a model's passes begin alike is tried on a small
batch, against passes of the whole model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.weak import TensorWeakRef

from alhelpers.data.arrays import parts_of
from alhelpers.training._layout import nearly_equal
from alhelpers.uncertainty._draws import Call, Mode, Reads, draws
from alhelpers.uncertainty._inputs import copied, rows_in
from alhelpers.uncertainty._masks import Masks

_TRIED_PASSES = 3  # the third shows whether the second has spoiled what they share


class Diverged(RuntimeError):
    """A pass did not begin as the first one did."""


@dataclass
class Prefix:
    """The operators before the first random number, as they ran on a small batch.

    Tensors are numbered: those of the batch -1, -2, ..., the operators' results from 0.
    """

    operators: list[Any] = field(default_factory=list)
    first_draw: Any = None  # the operator that ends it; None where a mask does
    results: list[list[int]] = field(default_factory=list)  # the numbers of the tensors that each returned
    changed: set[int] = field(default_factory=set)  # one tensor of each memory that the rest changes in place
    everything: bool = (
        False  # keep all results: code of the model's stores or shows them, or reads their numbers
    )
    nothing: dict[torch.dtype, torch.Tensor] = field(
        default_factory=dict
    )  # memory of results that are not kept


def learned(
    model: nn.Module,
    call: Call,
    few: Any,
    device: torch.device,
    masked: Callable[[], AbstractContextManager[Masks]],
) -> Prefix | None:
    """Return the prefix of a model, or None if its passes do not begin alike.

    ``masked()`` puts the masks in place, the same ones at each call.
    """
    with masked() as masks:
        expected = [_pass(lambda: call(copied(few)), masks, few, number) for number in range(_TRIED_PASSES)]
    before = _attributes(model)
    batch = copied(few)
    learning = _Learning(device, batch)
    with masked() as masks:
        _pass(lambda: learning.run(call, masks, batch), masks, few, 0)
    with Reads() as reads:
        call(copied(few))
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    shown = hooked or reads.seen or not _same(before, _attributes(model))
    if learning.writes_elsewhere or not learning.prefix.operators or (shown and learning.writes):
        return None
    prefix = replace(learning.prefix, everything=shown)
    return prefix if _agrees(prefix, call, few, device, masked, expected) else None


def _agrees(
    prefix: Prefix,
    call: Call,
    few: Any,
    device: torch.device,
    masked: Callable[[], AbstractContextManager[Masks]],
    expected: list[Any],
) -> bool:
    """Return whether replayed passes have the outputs of whole ones with the same random numbers."""
    with masked() as masks:
        passes = Passes(call, masks, prefix, few, device)
        try:
            found = [_pass(passes.output, masks, few, number) for number in range(_TRIED_PASSES)]
        except Diverged:
            return False
    return all(map(nearly_equal, found, expected))


def _pass(run: Callable[[], Any], masks: Masks, few: Any, number: int) -> Any:
    masks.begin(number, rows_in(few))
    return run()


class Passes:
    """The passes over one batch: the first one records the results of the prefix, the others replay them."""

    def __init__(self, call: Call, masks: Masks, prefix: Prefix, batch: Any, device: torch.device) -> None:
        self.call, self.masks, self.prefix, self.device = call, masks, prefix, device
        self.batch = copied(batch)
        self.recorded: list[tuple[Any, Any]] = []  # the arguments and the result of each operator
        self.tensors = {-1 - place: part for place, part in enumerate(parts_of(self.batch))}
        self.saved: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self.shared: list[torch.Tensor] = []  # what must not change from pass to pass
        self.versions: list[tuple[torch.Tensor, int | None]] = []

    def output(self) -> Any:
        """Return the model's output in the next pass.

        Raises
        ------
        Diverged
            If the pass does not begin as it did on the small batch, or the one before has changed what they share;
            it has drawn no random number yet.
        """
        mode = _Recording(self) if self.saved is None else _Replaying(self)
        if any(_version(tensor) != version for tensor, version in self.versions):
            raise Diverged
        for tensor, saved in self.saved or ():
            _memory(tensor).copy_(saved)
        return mode.run(self.call, self.masks, self.batch)

    def note_versions(self) -> None:
        """Note how often what the passes share has changed: the replayed prefix counts, too."""
        self.versions = [(tensor, _version(tensor)) for tensor in self.shared]


# ------------------------------------------------------------------------------
# modes
# ------------------------------------------------------------------------------


class _Mode(Mode):
    """Sees the operators of a pass up to its first random number."""

    device: torch.device
    past = False  # the first random number was drawn
    left = False

    def run(self, call: Call, masks: Masks, batch: Any) -> Any:
        """Return the output of a model in this mode."""
        masks.listener = self.masking
        self.__enter__()
        try:
            output = call(batch)
        finally:
            masks.listener = None
            if not self.left:
                self.__exit__(None, None, None)
        if not self.past:
            self.end(None)
        return output

    def masking(self, tensor: torch.Tensor, writes: bool) -> None:
        """Note that a mask, which may draw past torch's operators, is about to be put on a tensor."""
        if not self.past:
            self.end(None)
        if not self.left:  # the other operators of the pass run faster outside of the mode
            self.left = True
            self.__exit__(None, None, None)

    def end(self, operator: Any) -> None:
        """Note the end of the prefix, before an operator that draws random numbers, or a mask (None)."""
        self.past = True


class _Learning(_Mode):
    """Learns the prefix of a model from a small batch, all of whose tensors are held."""

    def __init__(self, device: torch.device, batch: Any) -> None:
        super().__init__()
        self.device, self.prefix = device, Prefix()
        self.held: list[torch.Tensor] = []
        self.numbers: dict[int, int] = {}  # of tensors, by their id
        self.memory: dict[int, int] = {}  # the first tensor of each memory
        self.writes = self.writes_elsewhere = False
        for place, part in enumerate(parts_of(batch)):
            self._number(part, -1 - place)

    def masking(self, tensor: torch.Tensor, writes: bool) -> None:
        """Note also what the mask changes, and stay in the mode."""
        self.past = True
        self.note([tensor] if writes else [])

    def note(self, written: list[torch.Tensor]) -> None:
        """Note what comes after the prefix changes in place."""
        self.prefix.changed |= {self.memory[key] for key in map(_key, written) if key in self.memory}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        written = _written(function, args, kwargs)
        drew, result = (False, None) if self.past else draws(self.device, function, args, kwargs)
        if drew:
            self.past, self.prefix.first_draw = True, function
            self.note(written)
            return result
        if self.past:
            self.note(written)
            return function(*args, **kwargs)
        self.writes |= bool(written)
        self.writes_elsewhere |= any(_key(tensor) not in self.memory for tensor in written)
        self.prefix.operators.append(function)
        self.prefix.results.append([self._number(tensor, len(self.held)) for tensor in _tensors(result)])
        return result

    def _number(self, tensor: torch.Tensor, number: int) -> int:
        """Return the number of a tensor, a new one where it was not seen before."""
        if id(tensor) not in self.numbers:
            self.held.append(tensor)
            self.numbers[id(tensor)] = number
            self.memory.setdefault(_key(tensor), number)
        return self.numbers[id(tensor)]


class _Recording(_Mode):
    """Runs the prefix on a batch, and keeps what later passes need of it.

    That is what the model still holds at the end of the prefix: it has no way to read the rest.
    """

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self.passes, self.device = passes, passes.device
        self.results: dict[int, TensorWeakRef] = {}  # by the id of the tensor that may stand in for each

    def end(self, operator: Any) -> None:
        """Keep the results that are held, and save the memory that each pass changes."""
        super().end(operator)
        prefix, tensors, recorded = self.passes.prefix, self.passes.tensors, self.passes.recorded
        if len(recorded) < len(prefix.operators) or operator is not prefix.first_draw:
            raise Diverged
        self.passes.recorded = [(given, _mapped(self._held, result)) for given, result in recorded]
        self.passes.saved = [(tensors[number], _memory(tensors[number]).clone()) for number in prefix.changed]
        saved = {_key(tensor) for tensor, _ in self.passes.saved}
        shared = [*tensors.values(), *_tensors([result for _, result in self.passes.recorded])]
        self.passes.shared = [tensor for tensor in shared if _key(tensor) not in saved]
        self.passes.note_versions()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        prefix, recorded = self.passes.prefix, self.passes.recorded
        kwargs = kwargs or {}
        if not self.past and len(recorded) == len(prefix.operators):
            self.end(function)
        if self.past:
            return function(*args, **kwargs)
        place = len(recorded)
        given = _plain((args, kwargs))
        drew, result = draws(self.device, function, args, kwargs)
        numbers = prefix.results[place]
        if drew or function is not prefix.operators[place] or len(_tensors(result)) != len(numbers):
            raise Diverged
        remaining = iter(numbers)
        recorded.append((given, _mapped(lambda tensor: self._stand_in(tensor, next(remaining)), result)))
        self.held = (
            result  # torch detaches the results of factories that are held, as all are in the other modes
        )
        return result

    def _held(self, stand_in: torch.Tensor) -> torch.Tensor:
        """Return the result that a tensor stands in for if the model holds it, else the tensor."""
        result = self.results[id(stand_in)]() if id(stand_in) in self.results else None
        return stand_in if result is None else result

    def _stand_in(self, tensor: torch.Tensor, number: int) -> torch.Tensor:
        """Return a tensor if it is needed, else one of the same form, whose memory all of these share."""
        if self.passes.prefix.everything or number in self.passes.prefix.changed:
            return self.passes.tensors.setdefault(number, tensor)
        size = 1 + sum(
            (length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True)
        )
        nothing = self.passes.prefix.nothing.get(tensor.dtype)
        if nothing is None or len(nothing) < size:
            nothing = torch.full(
                (max(size, 0),),
                torch.nan if tensor.is_floating_point() else 0,
                dtype=tensor.dtype,
                device=tensor.device,
            )
            self.passes.prefix.nothing[tensor.dtype] = nothing
        stand_in = nothing.as_strided(tensor.shape, tensor.stride())
        self.results[id(stand_in)] = TensorWeakRef(tensor)
        return stand_in


class _Replaying(_Mode):
    """Returns the recorded results of the prefix."""

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self.passes, self.recorded, self.prefix, self.place = passes, passes.recorded, passes.prefix, 0

    def end(self, operator: Any) -> None:
        """Check that this is where the first pass ended its prefix."""
        super().end(operator)
        if self.place < len(self.recorded) or operator is not self.prefix.first_draw:
            raise Diverged
        self.passes.note_versions()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.past and self.place == len(self.recorded):
            self.end(function)
        if self.past:
            return function(*args, **kwargs)
        given, result = self.recorded[self.place]
        if function is not self.prefix.operators[self.place] or given != _plain((args, kwargs)):
            raise Diverged
        self.place += 1
        # torch refuses to be returned one view twice
        return _mapped(torch.ops.aten.alias.default, result) if function.is_view else result


# ------------------------------------------------------------------------------
# arguments and memory of operators
# ------------------------------------------------------------------------------


def _tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors of nested values."""
    found: list[torch.Tensor] = []
    _mapped(found.append, values)
    return found


def _mapped(function: Callable[[torch.Tensor], Any], values: Any) -> Any:
    """Apply a function to the tensors of nested values."""
    if isinstance(values, torch.Tensor):
        return function(values)
    if isinstance(values, dict):
        return {name: _mapped(function, value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)([_mapped(function, value) for value in values])
    return values


def _plain(values: Any) -> Any:
    """Return nested values with the shapes of tensors in their places, to be compared."""
    return _mapped(lambda tensor: (torch.Tensor, tensor.shape), values)


def _written(function: Any, args: tuple, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Return the arguments that an operator changes in place."""
    if not function._schema.is_mutable:
        return []
    schema = function._schema.arguments
    given = {argument.name: value for argument, value in zip(schema, args, strict=False)} | kwargs
    writes = [argument.name for argument in schema if argument.alias_info and argument.alias_info.is_write]
    return _tensors([given.get(name) for name in writes])


def _key(tensor: torch.Tensor) -> int:
    """Return what tells the memory of a tensor, while it is held, from others."""
    return tensor.untyped_storage()._cdata


def _version(tensor: torch.Tensor) -> int | None:
    """Return the number of changes in place, which tensors made in inference mode do not count."""
    return None if tensor.is_inference() else tensor._version


def _memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return all bytes of the memory that a tensor, which may be a view, is a part of."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())


def _attributes(model: nn.Module) -> list[Any]:
    """Return the names and values of the modules' attributes, and what their containers hold."""
    found: list[Any] = []
    for module in model.modules():
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
