"""MC dropout of Keras models: a dropout layer that stays on, and samples as of :func:`uncertainty.mc_dropout`.

Needs the extra ``keras`` (``pip install "alhelpers[keras]"``) on the torch backend: set ``KERAS_BACKEND=torch`` in the
environment before anything imports keras. No other file of the kit imports this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from alhelpers import scores
from alhelpers.uncertainty import DropoutError
from alhelpers.uncertainty._draws import Mode, draws
from alhelpers.uncertainty._torch import check_choice, check_passes, derived_seed, seeded

_WAY_OUT = (
    'install it with pip install "alhelpers[keras]", and set KERAS_BACKEND=torch in the environment before keras is '
    "imported for the first time"
)
try:
    import keras
    from keras import tree
except ModuleNotFoundError as missing:
    raise ImportError(f"Keras or its backend cannot be imported ({missing}): {_WAY_OUT}") from missing
if keras.config.backend() != "torch":
    raise ImportError(f"Keras works on {keras.config.backend()} here, and the kit needs torch: {_WAY_OUT}")


@keras.saving.register_keras_serializable(package="alhelpers")
class MonteCarloDropout(keras.layers.Dropout):
    """Dropout that drops units while predicting too, so that every ``predict`` is one pass of MC dropout.

    It is saved and loaded like any layer, and registers itself as ``alhelpers>MonteCarloDropout``.

    Parameters
    ----------
    rate : float
        The share of units to drop, from 0 to 1; what is kept is scaled up by 1 / (1 - rate).
    noise_shape, seed, **kwargs
        As of :class:`keras.layers.Dropout`.

    References
    ----------
    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Drop units, whatever ``training`` is."""
        return super().call(inputs, training=True)


def mc_dropout(
    model: keras.Model,
    inputs: ArrayLike,
    passes: int = 20,
    *,
    outputs: Literal["confidences", "logits"] = "confidences",
    batch_size: int = 256,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample predictions of a Keras model with dropout on and everything else, batch norm above all, predicting.

    The model runs whole in every pass, with ``training=True`` but for the layers that update variables of their own
    then, such as batch norm, and those that augment images. Whatever draws random numbers draws them, dropout layers,
    recurrent cells, attention and noise alike. The model's variables and random state are left as they were.

    Parameters
    ----------
    model : keras.Model
        Takes a batch of inputs and returns (batch, C).
    inputs : array_like of shape (N, ...), or a list or dict of them
        What the model takes, the records first.
    passes : int
        The number T of passes, at least 2.
    outputs : {"confidences", "logits"}
        What the model returns: confidences where it ends in a softmax, as Keras classifiers do, else logits.
    batch_size : int
        Records in one forward pass.
    seed : int
        The same seed and batch size give the same samples.

    Returns
    -------
    samples : numpy.ndarray of shape (N, T, C), float32
        The confidences of each pass.
    confidences : numpy.ndarray of shape (N, C), float32
        Their mean over the passes.

    Raises
    ------
    DropoutError
        If the model draws no random numbers when it trains, or does so in a layer that also updates its own
        variables; or if an output is not finite.
    ValueError
        If an argument is out of range, or the model does not return (N, C) outputs of the stated kind.
    """
    check_passes(passes, batch_size)
    check_choice("outputs", outputs, ("confidences", "logits"))
    data = tree.map_structure(_array, inputs)
    lengths = {len(part) for part in tree.flatten(data)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"inputs must hold at least one record, as many in each array; got {sorted(lengths)}"
        )
    if not (model.built or model.weights):
        raise DropoutError("the model has no weights yet: call it once on a batch, and train it")
    (count,) = lengths
    seen = max(2, min(batch_size, count) * passes // 200)  # as many as cost little beside the passes
    samples: np.ndarray | None = None
    with torch.no_grad(), _restored(model, seed), ExitStack() as stack:
        _leave_only_dropout(model, _rows(data, 0, seen), stack)
        before = _states(model)
        for start in range(0, count, batch_size):
            batch = _rows(data, start, start + batch_size)
            for number in range(passes):
                one = keras.ops.convert_to_numpy(model(batch, training=True))
                if samples is None and one.ndim == 2:
                    samples = np.empty((count, passes, one.shape[1]), dtype=np.float32)
                rows = min(batch_size, count - start)
                confidences = _confidences(one, outputs, rows, f"batch from record {start}, pass {number}")
                samples[start : start + rows, number] = confidences
        changed = _changed(before)
        if changed:
            raise DropoutError(
                f"{' and '.join(layer.name for layer in changed)} updates variables of its own for some records, and "
                f"not for the first {seen}, so it was not kept predicting: pass records first that reach all layers"
            )
    return samples, samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def _array(part: Any) -> np.ndarray:
    """Return an array of inputs; Keras takes a list for several inputs, down to single numbers."""
    array = np.asarray(part)
    if array.ndim == 0:
        raise ValueError(
            f"inputs must be an array of records, or a list or dict of such arrays, got {part!r:.80} where an array "
            "is expected: convert nested lists by numpy.asarray"
        )
    return array


def _rows(data: Any, start: int, end: int) -> Any:
    return tree.map_structure(lambda part: part[start:end], data)


def _leave_only_dropout(model: keras.Model, few: Any, stack: ExitStack) -> None:
    """Keep the layers predicting that do more than draw random numbers when they train, until the stack is closed."""
    _keep_predicting(
        [each for each in model._flatten_layers() if ".preprocessing." in type(each).__module__], stack
    )
    drawn, updating = _training_run(model, few)
    if not drawn:
        raise DropoutError(
            "MC dropout would give identical passes: the model calls no dropout with a rate above 0; add "
            "MonteCarloDropout before its last layers"
        )
    _keep_predicting(updating, stack)
    if _training_run(model, few)[0] < drawn:
        raise DropoutError(
            f"{' or '.join(layer.name for layer in updating)} updates variables of its own and drops units by itself, "
            "so that its dropout cannot be on alone: give it a dropout layer"
        )


def _keep_predicting(layers: list[keras.layers.Layer], stack: ExitStack) -> None:
    for layer in layers:
        if "training" in signature(layer.call).parameters:
            # past Keras's own __setattr__, which takes what is set for a part of the model
            object.__setattr__(layer, "call", _predicting(layer.call))
            stack.callback(layer.__dict__.pop, "call", None)


def _predicting(call: Any) -> Any:
    return lambda *args, **kwargs: call(*args, **(kwargs | {"training": False}))


def _training_run(model: keras.Model, few: Any) -> tuple[int, list[keras.layers.Layer]]:
    """Return how often a run in training mode draws random numbers, and the layers whose variables it changes."""
    before = _states(model)
    watch = _Draws(_device(model))
    with watch:
        model(few, training=True)
    changed = _changed(before)
    for layer, values in before:
        _assign(_own(layer), values)
    return watch.count, changed


def _own(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return a layer's own variables but for seeds; spectral normalization updates also those that are trained."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _states(model: keras.Model) -> list[tuple[keras.layers.Layer, list[np.ndarray]]]:
    """Return the layers with the values of their variables."""
    return [(layer, _values(_own(layer))) for layer in model._flatten_layers()]


def _changed(before: list[tuple[keras.layers.Layer, list[np.ndarray]]]) -> list[keras.layers.Layer]:
    return [layer for layer, values in before if not all(map(np.array_equal, values, _values(_own(layer))))]


class _Draws(Mode):
    """Counts the operators that draw random numbers."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        drew, result = draws(self.device, function, args, kwargs or {})
        self.count += drew
        return result


@contextmanager
def _restored(model: keras.Model, seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside, from a layer's own state or else from torch's; restore both and all variables."""
    layers = model._flatten_layers
    states = [generator.state for layer in layers() for generator in layer._seed_generators]
    kept = [*states, *(variable for layer in layers() for variable in _own(layer))]
    former = _values(kept)
    try:
        for number, state in enumerate(states):
            state.assign(np.array([derived_seed(seed, number) % 2**31, 0], dtype=state.dtype))
        with seeded(derived_seed(seed), _device(model)):
            yield
    finally:
        _assign(kept, former)


def _device(model: keras.Model) -> torch.device:
    return next((variable.value.device for variable in model.variables), torch.device("cpu"))


def _values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable.value).copy() for variable in variables]


def _assign(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _confidences(output: np.ndarray, outputs: str, rows: int, where: str) -> np.ndarray:
    """Return a model's output as confidences, or raise if it is not of the stated kind."""
    if output.ndim != 2 or len(output) != rows or output.shape[1] < 2:
        raise ValueError(
            f"the model must return {outputs} of shape (N, C) with C at least 2, here ({rows}, C); it returned "
            f"{output.shape}"
        )
    if not np.isfinite(output).all():
        raise DropoutError(
            f"the output is not finite ({where}): check the record's input and the model's weights"
        )
    if outputs == "logits":
        return scores.confidences_from_logits(output)
    if (output < 0).any() or (np.abs(output.sum(axis=1) - 1) > 1e-3).any():
        raise ValueError(
            f"the model's outputs must be confidences, which sum to 1 ({where}): if they are logits, pass "
            'outputs="logits"'
        )
    return output
