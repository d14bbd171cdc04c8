"""MC dropout: many predictions of one model, each with other units dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from alhelpers.data.arrays import each
from alhelpers.training._layout import channels_last
from alhelpers.training._outputs import are_confidences
from alhelpers.training.devices import Device
from alhelpers.uncertainty._draws import Call, Dropout, DropoutError, modes_removed
from alhelpers.uncertainty._folded import folded
from alhelpers.uncertainty._inputs import batches, call_model, copied, rows_in
from alhelpers.uncertainty._masks import Masks, SharedMasks, record_masks, refuse_sharing, shared_masks
from alhelpers.uncertainty._prefix import Diverged, Passes, Prefix, learned
from alhelpers.uncertainty._running import RunningScores, check_names
from alhelpers.uncertainty._torch import (
    check_choice,
    check_passes,
    check_real,
    checked_logits,
    derived_seed,
    device_of,
    first_not_finite,
    kept_modes,
    refuse_confidences,
    reseed,
    seeded,
    softmax,
    working_device,
)

__all__ = ["DropoutError", "mc_dropout", "mc_dropout_scores"]

# Takes the first record of a batch, the number of a pass, and the outputs of the batch in the pass.
_Take = Callable[[int, int, np.ndarray], None]


def mc_dropout(
    model: nn.Module,
    inputs: Any,
    passes: int = 20,
    *,
    masks: Literal["sample", "pass"] = "sample",
    outputs: Literal["logits", "confidences", "values"] = "logits",
    logits: Callable[[Any], torch.Tensor] | None = None,
    batch_size: int = 256,
    device: Device = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample predictions with dropout left on and everything else, batch norm above all, in evaluation mode.

    Dropout is found by what it does, not by its name: the model is run on a few records in training mode, but for its
    batch norm, and every module that draws random numbers then must draw as many in the passes. Where the model's code
    reads numbers of its inputs, and so may branch on them, it is run on all records. What comes before
    the first random number runs once a batch, the rest in every pass, if two records show that this changes nothing.
    Threads that call this function wait for each other, as torch's random numbers are the same for all.
    The model, its modes, the inputs and torch's random state are left as they were.

    Parameters
    ----------
    model : torch.nn.Module
        Takes a batch of inputs and returns logits of shape (batch, C), or (batch, C, H, W) for segmentation;
        the softmax is applied here. A model that ``torch.compile`` made runs uncompiled.
    inputs : array_like of shape (N, ...), tuple or dict of them, or torch.utils.data.DataLoader
        A tuple is passed as positional and a dict as keyword arguments. Tensors in main memory are moved to
        ``device`` batch by batch; elsewhere they must be there already. A loader must not shuffle; its batches may
        hold labels after the inputs.
    passes : int
        The number T of passes, at least 2.
    masks : {"sample", "pass"}
        ``"sample"``: every record draws its own units to drop in every pass. ``"pass"``: one draw a pass, shared by
        all records, as if each pass were one thinned network. Means and variances stay the same, comparisons between
        records lose noise, and the result depends neither on ``batch_size`` nor, but for rounding, on the device. It
        needs dropout modules that see the records in the first dimension.
    outputs : {"logits", "confidences", "values"}
        What the model returns. ``"confidences"``: it ends in a softmax. ``"values"``: what is sampled has any shape
        (batch, ...), such as in a regression, and stays as it is. Confidences of several labels a record are values,
        too, with ``logits=torch.sigmoid``.
    logits : callable, optional
        Returns the tensor to sample from the model's output, such as ``lambda output: output["logits"]``.
    batch_size : int
        Records in one forward pass; a loader has its own.
    device : str or torch.device, optional
        None: where the model is, but from the CPU it goes to where the inputs are, or to a GPU if torch finds one.
        Elsewhere than where the model is, a copy of it works.
    seed : int
        The same seed gives the same samples (for ``masks="sample"``: with the same ``batch_size`` and device).

    Returns
    -------
    samples : numpy.ndarray of shape (N, T, C), (N, T, C, H, W) or, of values, (N, T, ...), float32
        The confidences, or the values, of each pass.
    confidences : numpy.ndarray of shape (N, C), (N, C, H, W) or (N, ...), float32
        Their mean over the passes.

    Raises
    ------
    DropoutError
        If the model has no dropout, or has some that cannot be switched by itself, as in scripted modules; if
        ``masks="pass"`` cannot share its masks; or if an output is not finite.
    ValueError
        If an option is out of range, the inputs are on another device or shuffled, or the model does not return what
        ``outputs`` names, such as confidences instead of logits.

    Notes
    -----
    On a processor the masks of ``nn.Dropout`` are made of as many random bits an element as ``p`` has binary
    digits, at most 16: the probability of keeping a unit is rounded to 1/65536, and the others are scaled by its
    inverse, so that the mean is exact. A ``p`` below 0.01 or above 0.99 keeps torch's own masks. With
    ``masks="pass"`` and linear layers after the first dropout, the units that a pass drops are left out of the
    weights; at most 50 MB are kept between batches.

    Not found: dropout of random numbers that are not torch's, and functional dropout in a branch of the code that is
    taken by chance, because of the units that are dropped before it.

    References
    ----------
    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016. Masks shared by all records: Gal, Islam
    and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017, and "consistent dropout" in "BatchBALD".
    """
    check_choice("outputs", outputs, ("logits", "confidences", "values"))
    parts: list[np.ndarray] = []

    def take(start: int, number: int, values: np.ndarray) -> None:
        if not number:
            parts.append(np.empty((len(values), passes, *values.shape[1:]), dtype=np.float32))
        parts[-1][:, number] = values

    _run(model, inputs, passes, masks, outputs, logits, batch_size, device, seed, take)
    samples = np.concatenate(parts)
    return samples, samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def mc_dropout_scores(
    model: nn.Module,
    inputs: Any,
    passes: int = 20,
    scores: Sequence[str] = ("mean_margin",),
    *,
    masks: Literal["sample", "pass"] = "sample",
    outputs: Literal["logits", "confidences"] = "logits",
    logits: Callable[[Any], torch.Tensor] | None = None,
    batch_size: int = 256,
    device: Device = None,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Score records by MC dropout without keeping the samples: memory does not grow with the passes.

    The same passes as of :func:`mc_dropout` with the same options, summed up batch by batch; the scores are
    those of :mod:`alhelpers.scores` for its samples, to the rounding of float32.

    Parameters
    ----------
    model, inputs, passes, masks, outputs, logits, batch_size, device, seed
        As for :func:`mc_dropout`; the outputs are of classes.
    scores : sequence of str
        Names out of ``predictive_entropy``, ``mean_margin``, ``bald``, ``variance``, ``variation_ratio`` and
        ``vote_entropy``.

    Returns
    -------
    scores : dict of str to numpy.ndarray of shape (N,), float32
        The scores by name; for segmentation maps of shape (N, H, W).
    confidences : numpy.ndarray of shape (N, C) or (N, C, H, W), float32
        The mean confidences of the passes.

    Raises
    ------
    DropoutError, ValueError
        As for :func:`mc_dropout`, and if a score has another name.
    """
    names = check_names(scores)
    check_choice("outputs", outputs, ("logits", "confidences"))
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    confidences: list[np.ndarray] = []
    sums: RunningScores | None = None

    def take(start: int, number: int, values: np.ndarray) -> None:
        nonlocal sums
        pixels = np.moveaxis(values, 1, -1)
        flat = pixels.reshape(-1, values.shape[1])
        if sums is None or not number:
            sums = RunningScores(names, flat.shape)
        sums.add(flat)
        if number < passes - 1:
            return
        confidences.append(np.moveaxis(sums.mean().reshape(pixels.shape), -1, 1))
        for name in names:
            found[name].append(sums.score(name).reshape(pixels.shape[:-1]).astype(np.float32, copy=False))

    _run(model, inputs, passes, masks, outputs, logits, batch_size, device, seed, take)
    return {name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(confidences)


# ------------------------------------------------------------------------------
# passes
# ------------------------------------------------------------------------------


def _run(
    model: nn.Module,
    inputs: Any,
    passes: int,
    masks: str,
    outputs: str,
    logits: Callable[[Any], torch.Tensor] | None,
    batch_size: int,
    device: Device,
    seed: int,
    take: _Take,
) -> None:
    """Run all passes over all batches, and pass the outputs of each to ``take``."""
    check_passes(passes, batch_size)
    check_choice("masks", masks, ("sample", "pass"))
    place = working_device(model, inputs, device)
    if place != device_of(model):
        model = copy.deepcopy(model).to(place)
    all_batches = batches(model, inputs, batch_size, place)
    first = next(all_batches, None)
    if first is None or not rows_in(first):
        raise ValueError("inputs must hold at least one record, got none")
    with _alone(model, seed, place) as model, ExitStack() as stack:
        call = _caller(model, logits)
        few = _records(first, 2)
        dropout = _dropout(model, call, first, passes, place)
        masked = partial(_masked, masks, dropout, seed, place)
        if not dropout.varies:
            stack.enter_context(channels_last(model, partial(_tried, call, few, masked)))
        _switch_on(dropout)
        prefix = learned(model, call, few, place, masked)
        with masked() as used:
            smaller = folded(model, call, used, few) if isinstance(used, SharedMasks) else None
            start = 0
            for batch in chain([first], all_batches):
                rows = rows_in(batch)
                if start and dropout.varies:
                    late = dropout.extend(batch)
                    if masks == "pass":
                        refuse_sharing(late)
                    _switch_on(dropout)
                run = smaller and smaller.passes(batch)
                run = run or _passes(call, used, prefix, batch, place)
                for number in range(passes):
                    used.begin(number, rows)
                    output = run()
                    if not start and not number and outputs == "logits":
                        refuse_confidences(output)
                    take(start, number, _numbers(output, outputs, rows, start, number))
                start += rows


@contextmanager
def _alone(model: nn.Module, seed: int, device: torch.device) -> Iterator[nn.Module]:
    """Put the model into evaluation mode, and seed torch's random numbers, while no other thread does that."""
    with modes_removed(), ExitStack() as stack:
        # in inference mode the changes of tensors are not counted
        for context in (seeded(derived_seed(seed), device), torch.inference_mode(False), torch.no_grad()):
            stack.enter_context(context)
        uncompiled = stack.enter_context(_uncompiled(model))
        stack.enter_context(kept_modes(uncompiled))
        yield uncompiled


def _records(batch: Any, count: int) -> Any:
    return each(lambda part: part[:count].clone(), batch)


def _dropout(model: nn.Module, call: Call, batch: Any, passes: int, device: torch.device) -> Dropout:
    """Find the dropout on as many records as cost little beside the passes, or on all if these may not show it."""
    try:
        found = Dropout(model, call, _records(batch, max(2, rows_in(batch) * passes // 200)), device)
        if not found.varies:
            return found
    except DropoutError:
        pass
    return Dropout(model, call, batch, device)


def _tried(call: Call, few: Any, masked: Callable[[], AbstractContextManager[Masks]]) -> Any:
    """Return the output for a few records, with no dropout but that which is shared or always on."""
    with masked() as used:
        used.begin(0, rows_in(few))
        return call(copied(few))


def _switch_on(dropout: Dropout) -> None:
    for module in dropout.on:
        module.training = True


def _caller(model: nn.Module, logits: Callable[[Any], torch.Tensor] | None) -> Call:
    """Return the function from a batch to the outputs that are sampled."""
    if logits is None:
        return lambda batch: call_model(model, batch)
    return lambda batch: logits(call_model(model, batch))


@contextmanager
def _masked(masks: str, dropout: Dropout, seed: int, device: torch.device) -> Iterator[Masks | SharedMasks]:
    """Seed the random numbers and put the masks in place, the same at each call."""
    reseed(derived_seed(seed), device)
    for generator in dropout.generators:
        generator.manual_seed(derived_seed(seed))
    context = shared_masks if masks == "pass" else record_masks
    try:
        with context(dropout.drawing, seed if masks == "pass" else derived_seed(seed, 0)) as used:
            yield used
    finally:
        for generator, state in dropout.generators.items():
            generator.set_state(state)


def _passes(
    call: Call, masks: Masks, prefix: Prefix | None, batch: Any, device: torch.device
) -> Callable[[], Any]:
    """Return what runs the next pass over a batch: with the prefix of the model replayed, or whole."""
    replayed = None if prefix is None else Passes(call, masks, prefix, batch, device)

    def run() -> Any:
        nonlocal replayed
        if replayed is not None:
            try:
                return replayed.output()
            except Diverged:
                replayed = None
        return call(copied(batch))

    return run


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[nn.Module]:
    """Take the compiled modules of a model back to what they were compiled from."""
    root = nn.ModuleList([model])
    with ExitStack() as stack:
        for module in list(root.modules()):
            for name, child in module._modules.items():
                if "_orig_mod" in getattr(child, "_modules", {}):  # what torch.compile returns
                    stack.callback(module._modules.__setitem__, name, child)
                    module._modules[name] = child._orig_mod
            if module._compiled_call_impl is not None:  # what model.compile() sets
                stack.callback(setattr, module, "_compiled_call_impl", module._compiled_call_impl)
                module._compiled_call_impl = None
        yield root[0]


def _numbers(output: Any, outputs: str, rows: int, start: int, number: int) -> np.ndarray:
    """Return the model's output for a batch in a pass as confidences or values, float32."""
    tensor = _checked_values(output, rows) if outputs == "values" else _checked_logits(output, rows)
    row = first_not_finite(tensor)
    if row is not None:
        raise DropoutError(
            f"the {outputs} of record {start + row} in pass {number} are not finite: "
            "check the record's input and the model's weights"
        )
    if outputs == "confidences" and not are_confidences(tensor):
        raise ValueError(
            f"the outputs of the model must be confidences, which sum to 1 (batch from record {start}, pass "
            f'{number}): if they are logits, pass outputs="logits"'
        )
    numbers = softmax(tensor) if outputs == "logits" else tensor.float()
    return numbers.cpu().numpy()


def _checked_logits(output: object, rows: int) -> torch.Tensor:
    """Return logits of classes, or of the classes of each pixel."""
    if isinstance(output, torch.Tensor) and output.ndim == 4 and len(output) == rows and output.shape[1] > 1:
        check_real(output)
        return output
    return checked_logits(output, rows)


def _checked_values(output: object, rows: int) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim == 0 or len(output) != rows:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
        raise ValueError(f"the model must return values of shape (N, ...), here ({rows}, ...); got {shape}")
    check_real(output)
    return output
