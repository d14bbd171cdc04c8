"""Finding what turns a model's dropout on, by the random numbers that its modules draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack, _pop_mode

from alhelpers.uncertainty._inputs import copied
from alhelpers.uncertainty._torch import seeded

#: Of operators whose results Python code can branch on.
_READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

#: Takes a batch and returns the output of a model.
Call = Callable[[Any], Any]


class DropoutError(ValueError):
    """A model that MC dropout cannot sample; the message names the reason and the module."""


class Mode(TorchDispatchMode):
    """A mode that sees the operators of torch that run in it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and turning torch's compiler off would import it."""
        return False


@contextmanager
def modes_removed() -> Iterator[None]:
    """Take off torch's stack what an interrupt has left there: it would see all that torch does later."""
    depth = len(_get_current_dispatch_mode_stack())
    try:
        yield
    finally:
        for _ in _get_current_dispatch_mode_stack()[depth:]:
            _pop_mode()


class Reads(TorchFunctionMode):
    """Notes whether code reads the numbers of tensors past torch's operators."""

    seen = False
    functions = (
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.Tensor.__array__,
        torch.Tensor.data_ptr,
        torch.Tensor.__dlpack__,
    )

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen |= function in self.functions
        return function(*args, **(kwargs or {}))


def draws(device: torch.device, function: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """Run an operator of torch; return whether it drew random numbers, and its result."""
    if torch.Tag.nondeterministic_seeded not in function.tags:
        return False, function(*args, **kwargs)
    before = _random_state(device)
    result = function(*args, **kwargs)
    # the state tells, as attention has the tag also without dropout; a model's own generator has another, and
    # for no elements none is drawn
    drew = kwargs.get("generator") is not None or any(
        isinstance(a, torch.Tensor) and not a.numel() for a in args
    )
    return drew or not torch.equal(before, _random_state(device)), result


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


class Dropout:
    """What must be in training mode so that a model draws the random numbers that it draws when all of it trains.

    It is observed on some records. The model, which is in evaluation mode, is left as it was.

    Attributes
    ----------
    drawing : set of torch.nn.Module
        The modules that draw random numbers themselves, and torch's own dropout.
    on : set of torch.nn.Module
        Those to put into training mode: of the former, of the modules around them that ask their own flag, and those
        that these records do not call.
    generators : dict of torch.Generator to torch.Tensor
        The model's own, and their states.
    varies : bool
        Whether the model reads numbers of its inputs: other records may then take other branches of its code.
    """

    def __init__(self, model: nn.Module, call: Call, few: Any, device: torch.device) -> None:
        self.model, self.call, self.few, self.device = model, call, few, device
        self.generators: dict[torch.Generator, torch.Tensor] = {}
        self.own_forwards = {module for module in model.modules() if "forward" in module.__dict__}
        if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
            raise DropoutError(
                "the model has lazy modules that have no weights yet: call it once on a batch, and train it"
            )
        self._refuse_compiled()
        quiet = self._observed(())
        try:
            trained = self._observed(None)
        except Exception as error:  # noqa: BLE001 - a model may need its targets to train
            self.drawing = self.on = self._modules_only(quiet, error)
            self.varies = False
            return
        self.varies = quiet.reads or trained.reads
        normalising = trained.normalising - quiet.normalising
        on = trained.called & trained.training & _dropout_modules(model)
        on |= {module for module in trained.drawn if trained.drawn[module] > quiet.drawn[module]}
        self._refuse_normalising(on & normalising)
        if not on and not quiet.drawn:
            idle = self._names(_dropout_modules(model))
            raise DropoutError(
                "MC dropout would give identical passes: "
                + (f"{idle} is not called" if idle else "the model has no dropout with p above 0")
                + "; add nn.Dropout before its last layers, or use a Committee"
            )
        # other records may call more modules, such as experts, in which there may be dropout
        idle = trained.training - quiet.called - trained.called
        self.drawing = on | set(trained.drawn) | (idle & _dropout_modules(model))
        self.on = self._with_guards(on | idle, trained, trained.training - normalising)

    def extend(self, batch: Any) -> set[nn.Module]:
        """Add what only the records of a batch reach to ``on``; return the modules that draw there, beyond the known.

        The masks may be in place; the random state is left as it was.
        """
        self.few = batch
        states = [(generator, generator.get_state()) for generator in self.generators]
        try:
            with seeded(0, self.device):
                trained = self._observed(None)
            with seeded(0, self.device):
                found = self._observed(self.on)
            late = {module for module, count in trained.drawn.items() if found.drawn[module] < count}
            if late:
                normalising = trained.normalising - self._observed(()).normalising
                self._refuse_normalising(late & normalising)
                with seeded(0, self.device):
                    self.on = self._with_guards(self.on | late, trained, trained.training - normalising)
        finally:
            for generator, state in states:
                generator.set_state(state)
        return late - self.drawing

    def _refuse_compiled(self) -> None:
        """Raise if a module is no longer its Python code, so that its training flag switches nothing."""
        for module in self.model.modules():
            exported = any(each.__module__.startswith("torch.export") for each in type(module).__mro__)
            if exported or isinstance(module, torch.jit.ScriptModule):
                what = "exported" if exported else "scripted or traced"
                raise DropoutError(
                    f"{self._names({module})} is {what}, so its dropout cannot be switched by itself: "
                    "pass the module that it was made from"
                )

    def _refuse_normalising(self, both: set[nn.Module]) -> None:
        if both:
            raise DropoutError(
                f"{self._names(both)} calls functional dropout and functional batch norm by itself: its "
                "training flag would switch both; give it an nn.Dropout module"
            )

    def _with_guards(self, on: set[nn.Module], trained: _Calls, most: set[nn.Module]) -> set[nn.Module]:
        """Add the modules around those that draw, from the inside, where these are called only if they train."""
        while True:
            found = self._observed(on)
            short = [module for module, count in trained.drawn.items() if found.drawn[module] < count]
            if not short:
                return on
            added = set()
            for module in short:
                around = [outer for outer in trained.around[module] if outer in most - on]
                # else another module's flag is asked
                added |= {around[-1]} if around else most - on
            if not added:
                raise DropoutError(
                    f"{self._names(set(short))} drops units after train() of the model, and not when only the training "
                    "flags of its modules are set, and not those of its batch norm: let it ask its own flag, training"
                )
            on = on | added

    def _modules_only(self, quiet: _Calls, error: Exception) -> set[nn.Module]:
        """Return the dropout modules of a model that cannot run in training mode on its inputs alone."""
        on = _dropout_modules(self.model)
        found = self._observed(on)
        idle = {module for module in on if not found.drawn[module] and module.p < 1}
        if idle or not (on or quiet.drawn):
            raise DropoutError(
                f"{self._names(idle) or 'the model'} drops no units with its training flag on, and the whole model "
                f"does not run in training mode on these inputs ({error}), so its dropout cannot be found"
            ) from error
        return on

    def _observed(self, on: Collection[nn.Module] | None) -> _Calls:
        """Run the model on a copy of the batch with some modules in training mode, and undo what that changes.

        None: those that its own ``train()`` puts into training mode, batch norm excepted.
        """
        found = _Calls()
        watch = _Watch(self.device, found, self.generators)
        with ExitStack() as stack:
            stack.enter_context(_undone(self.model))
            for module in set(self.model.modules()) - self.own_forwards:
                module.__dict__.pop("forward", None)  # of masks, which draw past torch's operators
            if on is None:
                self.model.train()
            for module in self.model.modules():
                module.training = (
                    module in on if on is not None else module.training and not isinstance(module, _NormBase)
                )
            found.training = {module for module in self.model.modules() if module.training}
            # not hooks of the modules: with those, attention takes another path, whose dropout is on
            stack.callback(register_module_forward_pre_hook(watch.enter).remove)
            stack.callback(register_module_forward_hook(watch.leave, always_call=True).remove)
            # not where modules train: attention takes another path in it
            reads = stack.enter_context(Reads()) if on == () else Reads()
            stack.enter_context(watch)
            self.call(copied(self.few))
            found.reads |= reads.seen
        for generator, state in self.generators.items():
            generator.set_state(state)
        return found

    def _names(self, modules: set[nn.Module]) -> str:
        named = [
            f"{name or 'the model'} ({type(module).__name__})"
            for name, module in self.model.named_modules()
            if module in modules
        ]
        return ", ".join(named)


def _dropout_modules(model: nn.Module) -> set[nn.Module]:
    return {module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0}


@dataclass
class _Calls:
    """What the modules did in a run; an operator belongs to the innermost module."""

    training: set[nn.Module] = field(default_factory=set)
    called: set[nn.Module] = field(default_factory=set)
    drawn: Counter[nn.Module] = field(default_factory=Counter)  # operators that drew random numbers
    around: dict[nn.Module, list[nn.Module]] = field(
        default_factory=dict
    )  # at the first of them, outermost first
    normalising: set[nn.Module] = field(default_factory=set)  # by the statistics of the batch
    reads: bool = False  # numbers of tensors, or sizes that depend on them


class _Watch(Mode):
    """Notes the operators that draw random numbers or normalise by the batch, and the module that calls them."""

    def __init__(
        self, device: torch.device, found: _Calls, generators: dict[torch.Generator, torch.Tensor]
    ) -> None:
        super().__init__()
        self.device, self.found, self.generators = device, found, generators
        self.inside: list[nn.Module] = []
        self.thread = get_ident()

    def enter(self, module: nn.Module, _: Any) -> None:
        if get_ident() == self.thread:
            self.inside.append(module)
            self.found.called.add(module)

    def leave(self, *_: Any) -> None:
        if get_ident() == self.thread:
            self.inside.pop()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None and generator not in self.generators:
            self.generators[generator] = generator.get_state()
        drew, result = draws(self.device, function, args, kwargs)
        self.found.reads |= not _READING.isdisjoint(function.tags)
        if self.inside:
            module = self.inside[-1]
            if drew:
                self.found.drawn[module] += 1
                self.found.around.setdefault(module, self.inside[:-1])
            # (input, weight, bias, running mean, running variance, whether by the statistics of the batch, ...)
            if "batch_norm" in function.name() and len(args) > 5 and args[5] is True:
                self.found.normalising.add(module)
        return result


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Restore the attributes of all modules and the values of their parameters and buffers at the end."""
    holders = [
        each for module in model.modules() for each in (vars(module), module._parameters, module._buffers)
    ]
    former = [(holder, dict(holder)) for holder in holders]
    values = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    try:
        yield
    finally:
        for holder, own in former:
            holder.clear()
            holder.update(own)
        for tensor, value in values:
            if not torch.equal(tensor, value):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.copy_(value)
