"""MC dropout of Keras models: a dropout layer that stays on, and samples as of :func:`uncertainty.mc_dropout`.

Needs the extra ``keras`` (``pip install "alhelpers[keras]"``) on the torch backend: set ``KERAS_BACKEND=torch`` in the
environment before anything imports keras. No other file of the kit imports this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from alhelpers import scores
from alhelpers.uncertainty import DropoutError
from alhelpers.uncertainty._torch import check_choice, check_passes, derived_seed, seeded

_WAY_OUT = (
    'install it with pip install "alhelpers[keras]", and set KERAS_BACKEND=torch in the environment before keras is '
    "imported for the first time"
)
try:
    import keras
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

    Dropout layers of every kind drop units, :class:`MonteCarloDropout` or not, and so do recurrent layers with
    dropout. The model runs whole in every pass. Its weights, statistics and random state are left as they were.

    Parameters
    ----------
    model : keras.Model
        Takes a batch of inputs and returns (batch, C).
    inputs : array_like of shape (N, ...)
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
        If the model has no dropout, or an output is not finite.
    ValueError
        If an argument is out of range, or the model does not return (N, C) outputs of the stated kind.

    Notes
    -----
    Not found: ``keras.random.dropout`` that a layer of your own calls; use a dropout layer in it instead.
    """
    check_passes(passes, batch_size)
    check_choice("outputs", outputs, ("confidences", "logits"))
    data = np.asarray(inputs)
    if not len(data):
        raise ValueError("inputs must hold at least one record, got none")
    layers = _dropout_layers(model)
    if not layers:
        raise DropoutError(
            "MC dropout would give identical passes: the model has no dropout with a rate above 0; add "
            "MonteCarloDropout before its last layers"
        )
    samples: np.ndarray | None = None
    with torch.no_grad(), _dropout_on(layers), _seeded(model, seed):
        for start in range(0, len(data), batch_size):
            batch = data[start : start + batch_size]
            for number in range(passes):
                one = keras.ops.convert_to_numpy(model(batch, training=False))
                if samples is None and one.ndim == 2:
                    samples = np.empty((len(data), passes, one.shape[1]), dtype=np.float32)
                confidences = _confidences(
                    one, outputs, len(batch), f"batch from record {start}, pass {number}"
                )
                samples[start : start + len(batch), number] = confidences
    return samples, samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def _dropout_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers that drop units when they train, and do nothing else then."""
    kinds = (keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout)
    return [
        layer
        for layer in model._flatten_layers()
        if (isinstance(layer, kinds) and layer.rate > 0)
        or (
            isinstance(layer, keras.layers.RNN)
            and max(getattr(layer, "dropout", 0), getattr(layer, "recurrent_dropout", 0)) > 0
        )
    ]


@contextmanager
def _dropout_on(layers: list[keras.layers.Layer]) -> Iterator[None]:
    """Call these layers as if in training, and all others as the model does."""

    def training(call: Any) -> Any:
        return lambda *args, **kwargs: call(*args, **(kwargs | {"training": True}))

    try:
        for layer in layers:
            # past Keras's own __setattr__, which takes what is set for a part of the model
            object.__setattr__(layer, "call", training(layer.call))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("call", None)


@contextmanager
def _seeded(model: keras.Model, seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside, from a layer's own state or else from torch's, and restore both afterwards."""
    device = next((variable.value.device for variable in model.variables), torch.device("cpu"))
    states = [generator.state for layer in model._flatten_layers() for generator in layer._seed_generators]
    former = [keras.ops.convert_to_numpy(state.value).copy() for state in states]
    try:
        for number, state in enumerate(states):
            state.assign(np.array([derived_seed(seed, number) % 2**31, 0], dtype=state.dtype))
        with seeded(derived_seed(seed), device):
            yield
    finally:
        for state, value in zip(states, former, strict=True):
            state.assign(value)


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
