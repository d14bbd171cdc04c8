"""MC dropout: many predictions of one model, each with other units dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import nn

from alhelpers.uncertainty._dropout import DropoutError, stochastic_modules
from alhelpers.uncertainty._folded import folded
from alhelpers.uncertainty._masks import record_masks, shared_masks
from alhelpers.uncertainty._running import RunningScores, check_names
from alhelpers.uncertainty._split import GraphPlan, Plan, plan_for
from alhelpers.uncertainty._torch import (
    as_inputs,
    check_choice,
    check_passes,
    checked_logits,
    derived_seed,
    device_of,
    dtype_of,
    first_not_finite,
    kept_modes,
    reseed,
    seeded,
    working_device,
)

__all__ = ["DropoutError", "mc_dropout", "mc_dropout_scores"]

# Takes the first record of a batch, the number of a pass, and the outputs of the batch in the pass.
_Take = Callable[[int, int, np.ndarray], None]


def mc_dropout(
    model: nn.Module,
    inputs: torch.Tensor | np.ndarray,
    passes: int = 20,
    *,
    masks: Literal["sample", "pass"] = "sample",
    outputs: Literal["logits", "values"] = "logits",
    batch_size: int = 256,
    device: str | torch.device = "auto",
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample predictions with dropout left on and everything else, batch norm above all, in evaluation mode.

    Dropout is found by what it does, not by its name: dropout modules of every kind, attention and recurrent
    modules with dropout inside, and modules whose own ``forward`` calls functional dropout or attention with
    ``self.training``. What does not depend on dropout runs once a batch, the rest in every pass, if the outputs of
    the model split so are those of the whole. The model, its modes, the inputs and torch's random state are left as
    they were.

    Parameters
    ----------
    model : torch.nn.Module
        Takes a batch of inputs and returns logits of shape (batch, C), or (batch, C, H, W) for segmentation;
        the softmax is applied here.
    inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
        In main memory they are moved to ``device`` batch by batch; elsewhere they must be there already.
    passes : int
        The number T of passes, at least 2.
    masks : {"sample", "pass"}
        ``"sample"``: every record draws its own units to drop in every pass. ``"pass"``: one draw a pass, shared by
        all records, as if each pass were one thinned network. Means and variances stay the same, comparisons between
        records lose noise, and the result depends neither on ``batch_size`` nor, but for rounding, on the device. It
        needs dropout modules that see the records in the first dimension.
    outputs : {"logits", "values"}
        ``"values"``: what is sampled has any shape (batch, ...), such as in a regression; no softmax is applied.
    batch_size : int
        Records in one forward pass.
    device : str or torch.device
        ``"auto"``: a GPU if there is one, else where the model is. Elsewhere than there, a copy of the model works.
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
        If the model has no dropout, if ``masks="pass"`` cannot share its masks, or if an output is not
        finite.
    ValueError
        If an option is out of range, the inputs are on another device, or the model does not return what
        ``outputs`` names.

    Notes
    -----
    On a processor the masks of ``nn.Dropout`` are made of 16 random bits an element, some 30 times faster than torch:
    the probability of keeping a unit is rounded to 1/65536, and the others are scaled by its inverse, so that the mean
    is exact. A ``p`` below 0.01 or above 0.99 keeps torch's own masks. With ``masks="pass"`` and linear layers after
    the first dropout, the units that a pass drops are left out of the weights; at most 50 MB are kept between batches.

    Not found: dropout that a forward makes by itself, of random numbers, and calls of torch's functional dropout
    from other functions than methods of a module. A forward that stores something outside of its module stores it
    once a batch.

    References
    ----------
    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016. Masks shared by all records: Gal, Islam
    and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017, and "consistent dropout" in "BatchBALD".
    """
    samples: np.ndarray | None = None

    def take(start: int, number: int, values: np.ndarray) -> None:
        nonlocal samples
        if samples is None:
            samples = np.empty((len(inputs), passes, *values.shape[1:]), dtype=np.float32)
        samples[start : start + len(values), number] = values

    check_choice("outputs", outputs, ("logits", "values"))
    _run(model, inputs, passes, masks, outputs, batch_size, device, seed, take)
    assert samples is not None  # there is at least one record and one pass
    return samples, samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def mc_dropout_scores(
    model: nn.Module,
    inputs: torch.Tensor | np.ndarray,
    passes: int = 20,
    scores: Sequence[str] = ("mean_margin",),
    *,
    masks: Literal["sample", "pass"] = "sample",
    batch_size: int = 256,
    device: str | torch.device = "auto",
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Score records by MC dropout without keeping the samples: memory does not grow with the passes.

    The same passes as of :func:`mc_dropout` with the same options, summed up batch by batch; the scores are
    those of :mod:`alhelpers.scores` for its samples, to the rounding of float32.

    Parameters
    ----------
    model, inputs, passes, masks, batch_size, device, seed
        As for :func:`mc_dropout`; the model returns logits.
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
    found: dict[str, np.ndarray] = {}
    confidences: np.ndarray | None = None
    sums: RunningScores | None = None

    def take(start: int, number: int, values: np.ndarray) -> None:
        nonlocal confidences, sums
        shape, rows = values.shape, slice(start, start + len(values))
        pixels = np.moveaxis(values, 1, -1)
        flat = pixels.reshape(-1, shape[1])
        if sums is None or number == 0:
            sums = RunningScores(names, flat.shape)
        sums.add(flat)
        if number < passes - 1:
            return
        if confidences is None:
            confidences = np.empty((len(inputs), *shape[1:]), dtype=np.float32)
            found.update((name, np.empty((len(inputs), *shape[2:]), dtype=np.float32)) for name in names)
        confidences[rows] = np.moveaxis(sums.mean().reshape(pixels.shape), -1, 1)
        for name in names:
            found[name][rows] = sums.score(name).reshape(pixels.shape[:-1])

    _run(model, inputs, passes, masks, "logits", batch_size, device, seed, take)
    assert confidences is not None  # there is at least one record
    return found, confidences


# ------------------------------------------------------------------------------
# passes
# ------------------------------------------------------------------------------


def _run(
    model: nn.Module,
    inputs: torch.Tensor | np.ndarray,
    passes: int,
    masks: str,
    outputs: str,
    batch_size: int,
    device: str | torch.device,
    seed: int,
    take: _Take,
) -> None:
    """Run all passes over all batches, and pass the outputs of each to ``take``."""
    check_passes(passes, batch_size)
    check_choice("masks", masks, ("sample", "pass"))
    place = working_device(model, inputs, device)
    data = as_inputs(inputs, dtype_of(model))
    if not len(data):
        raise ValueError("inputs must hold at least one record, got none")
    if place != device_of(model):
        model = copy.deepcopy(model).to(place)
    with torch.no_grad(), kept_modes(model), seeded(derived_seed(seed), place):
        few = data[:2].to(place, copy=True)
        stochastic = stochastic_modules(model, few)
        for module in stochastic:
            module.training = True
        plan = plan_for(model, stochastic, few, seed)
        reseed(derived_seed(seed), place)
        with _masked(plan, stochastic, masks, seed, few) as (fastest, begin_pass):
            for start in range(0, len(data), batch_size):
                # a copy: a model that works in place must change neither the caller's inputs nor the next pass
                batch = data[start : start + batch_size].to(place, copy=True)
                shared = fastest.once(batch)
                for number in range(passes):
                    begin_pass(number, len(batch))
                    output = fastest.each(shared)
                    take(start, number, _numbers(output, outputs, len(batch), start, number))


@contextmanager
def _masked(
    plan: Plan, stochastic: set[nn.Module], masks: str, seed: int, few: torch.Tensor
) -> Iterator[tuple[Plan, Callable[[int, int], None]]]:
    """Put the masks in place; yield the plan to run with them, and a function to call when a pass begins."""
    if masks == "sample":
        with record_masks(stochastic, derived_seed(seed, 0)):
            yield plan, lambda number, rows: None
        return
    with shared_masks(stochastic, seed) as shared:
        smaller = folded(plan, shared, few) if isinstance(plan, GraphPlan) else None
        yield smaller or plan, shared.begin


def _numbers(output: object, outputs: str, rows: int, start: int, number: int) -> np.ndarray:
    """Return the model's output for a batch in a pass as confidences or values, float32."""
    tensor = _checked_values(output, rows) if outputs == "values" else _checked_logits(output, rows)
    row = first_not_finite(tensor)
    if row is not None:
        raise DropoutError(
            f"the {outputs} of record {start + row} in pass {number} are not finite: "
            "check the record's input and the model's weights"
        )
    numbers = tensor.float() if outputs == "values" else torch.softmax(tensor.float(), dim=1)
    return numbers.cpu().numpy()


def _checked_logits(output: object, rows: int) -> torch.Tensor:
    """Return logits of classes, or of the classes of each pixel."""
    if isinstance(output, torch.Tensor) and output.ndim == 4 and len(output) == rows and output.shape[1] > 1:
        return output
    return checked_logits(output, rows)


def _checked_values(output: object, rows: int) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim == 0 or len(output) != rows:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
        raise ValueError(f"the model must return values of shape (N, ...), here ({rows}, ...); got {shape}")
    return output
