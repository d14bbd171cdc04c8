"""A learner of any torch module that classifies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from alhelpers.data.arrays import each, parts_of
from alhelpers.files import replacing
from alhelpers.learners.predictions import Predictions, checked_names
from alhelpers.protocols import Dataset, History, Progress
from alhelpers.training import (
    Augmentation,
    as_tensors,
    checked_logits,
    floating_type,
    row_bytes,
    train,
    warn_of_probabilities,
)
from alhelpers.uncertainty import mc_dropout
from alhelpers.uncertainty._inputs import call_model
from alhelpers.uncertainty._torch import (
    called_with_seed,
    derived_seed,
    device_of,
    first_not_finite,
    is_count,
    kept_modes,
)

#: The file that :meth:`TorchClassifier.save` writes.
WEIGHTS = "weights.pt"

# Bytes of inputs that a prediction reads at once.
_CHUNK = 2**27


class TorchClassifier:
    """A classifier of any torch module; a :class:`~alhelpers.protocols.Learner`.

    Parameters
    ----------
    build : torch.nn.Module or callable
        A module, or what builds one under torch's random seed: ``build()``, or ``build(seed)`` if it has a parameter
        without default. The module takes a batch of a data set's inputs: an array as it is, a tuple as positional and
        a dict as keyword arguments.
    logits : callable, optional
        Returns the logits (B, C) from the module's output, such as ``lambda output: output["logits"]``.
    embedding : str, optional
        Name of the layer whose output is the embedding. The default is what goes into the last ``nn.Linear``.
    steps, batch_size, learning_rate, augmentation, patience, evaluations
        The recipe, as in :func:`alhelpers.training.train`.
    prediction_batch_size : int
        Rows in one forward pass of a prediction.
    seed : int
        Of the initial weights, where ``build`` is not a module.

    Attributes
    ----------
    network : torch.nn.Module
        The module with its current weights.

    Examples
    --------
    >>> learner = TorchClassifier(lambda seed: build_network(8, 10, seed=seed), steps=200)
    >>> history = learner.fit(labelled, validation=validation, seed=0)
    >>> predictions = learner.predict(pool, passes=20, embeddings=True)
    """

    def __init__(
        self,
        build: nn.Module | Callable[..., nn.Module],
        *,
        logits: Callable[[Any], torch.Tensor] | None = None,
        embedding: str | None = None,
        steps: int = 150,
        batch_size: int = 64,
        learning_rate: float = 6e-3,
        augmentation: bool | Augmentation = False,
        patience: int | None = None,
        evaluations: int = 10,
        prediction_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        if prediction_batch_size < 1:
            raise ValueError(f"prediction_batch_size is {prediction_batch_size}: it must be at least 1")
        self._options = {
            "logits": logits,
            "embedding": embedding,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "augmentation": augmentation,
            "patience": patience,
            "evaluations": evaluations,
            "prediction_batch_size": prediction_batch_size,
        }
        self._build = build
        self.network = build if isinstance(build, nn.Module) else _built(build, seed)
        self._first_weights = copy.deepcopy(build.state_dict()) if isinstance(build, nn.Module) else None
        # Those that it was fitted on, and whether its outputs are known to be logits.
        self._class_names: tuple[str, ...] | None = None
        self._is_checked = False

    def fit(
        self,
        dataset: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> History:
        """Train from the current weights with :func:`alhelpers.training.train`.

        Raises
        ------
        ValueError
            If the data set is empty, its labels are not class indices of the network, its inputs are not finite, or the
            validation data has other classes.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: label at least one row to learn from")
        names = checked_names(None, dataset)
        if validation is not None:
            checked_names(names, validation)
        recipe = ("steps", "batch_size", "learning_rate", "augmentation", "patience", "evaluations")
        history = train(
            self._called(dataset),
            dataset,
            **{name: self._options[name] for name in recipe},
            validation=validation,
            seed=seed,
            progress=progress,
        )
        self._class_names, self._is_checked = names, True
        return history

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> Predictions:
        """Predict without changing the model.

        Parameters
        ----------
        dataset : Dataset
            N rows, read part by part if they do not fit in memory.
        passes : int
            The number T of passes with dropout on (:func:`alhelpers.uncertainty.mc_dropout`): 0, or at least 2.
        embeddings : bool
            Whether to return embeddings.
        seed : int
            Of the passes.

        Returns
        -------
        Predictions
            ``confidences`` and ``logits`` (N, C), ``samples`` (N, T, C), ``embeddings`` (N, D).

        Raises
        ------
        ValueError
            If the data set is empty or has other classes, passes is not valid, an output is not finite, or there is no
            embedding.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: there is nothing to predict")
        if not is_count(passes, 0) or passes == 1:
            raise ValueError(f"passes is {passes!r}: it must be 0, or a whole number of at least 2")
        names = checked_names(self._class_names, dataset)
        network = self._called(dataset)
        parts = [
            self._predict_part(
                network, inputs, passes, embeddings, derived_seed(seed, number) if number else seed
            )
            for number, inputs in enumerate(self._parts(dataset))
        ]
        logits, vectors, samples = (
            None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        if logits.shape[1] == 1 and (not names or len(names) > 1):
            raise ValueError(
                "the network has one output, whose softmax is always 1: return the logits of each class, such as"
                " TorchClassifier(..., logits=lambda output: torch.cat([-output, output], 1) / 2)"
            )
        row = first_not_finite(logits)
        if row is not None:
            raise ValueError(
                f"the logits of record {dataset.ids[row]} are not finite: check its input and the network's weights, or"
                " train with a lower learning_rate"
            )
        if not self._is_checked:
            warn_of_probabilities(torch.from_numpy(logits))
            self._is_checked = True
        confidences = torch.from_numpy(logits).softmax(1).numpy()
        return Predictions(confidences, logits, vectors, samples, class_names=names)

    def fresh(self, seed: int) -> TorchClassifier:
        """Return an untrained learner of the same design.

        A builder is called under the seed; a module that was passed ready-made returns to its first weights.
        """
        if not isinstance(self._build, nn.Module):
            return TorchClassifier(self._build, **self._options, seed=seed)
        module = copy.deepcopy(self._build)
        module.load_state_dict(self._first_weights)
        return TorchClassifier(module, **self._options)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the weights into a folder, as ``weights.pt``: complete or not at all."""
        with replacing(Path(folder) / WEIGHTS) as part:
            torch.save(self.network.state_dict(), part)

    def load(self, folder: str | PathLike[str]) -> None:
        """Read the weights that :meth:`save` wrote; no code of the file runs.

        Raises
        ------
        ValueError
            If the file is damaged, or holds the weights of another network.
        """
        path = Path(folder) / WEIGHTS
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # a damaged file raises almost anything
            raise ValueError(f"{path} is damaged, or was not written by save: {error}") from error
        try:
            # By a copy first: layers that fit must not change if others do not.
            copy.deepcopy(self.network).load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds the weights of another network: {error}") from error
        self.network.load_state_dict(state)
        self.network.eval()

    def _called(self, dataset: Dataset) -> nn.Module:
        """Return the network as a module of one batch that returns logits."""
        few = dataset.inputs(np.arange(min(len(dataset), 1)))
        if self._options["logits"] is None and not isinstance(few, Mapping | tuple):
            return self.network
        return _Called(self.network, self._options["logits"])

    def _parts(self, dataset: Dataset) -> Iterator[Any]:
        """Read the inputs in parts of whole batches that fit in memory."""
        batch = self._options["prediction_batch_size"]
        most = max(int(_CHUNK / max(row_bytes(dataset), 1)) // batch, 1) * batch
        for rows in np.split(np.arange(len(dataset)), range(most, len(dataset), most)):
            yield as_tensors(dataset.inputs(rows), dtype=floating_type(self.network))

    def _predict_part(
        self, network: nn.Module, inputs: Any, passes: int, embeddings: bool, seed: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return logits, embeddings and samples of inputs in memory."""
        size = self._options["prediction_batch_size"]
        device = device_of(network)
        trunk, head = _cut(network, self._options["embedding"]) if passes else (None, network)
        values = inputs
        if trunk is not None:
            values, _ = _run(trunk, _batches(inputs, size, device), None, are_logits=False)
        logits, vectors = _run(head, _batches(values, size, device), self._options["embedding"])
        if embeddings and not vectors.shape[1]:
            raise ValueError(
                "the network has no nn.Linear whose input could be the embedding: name a layer, embedding='...'"
            )
        samples = None
        if passes:
            module = head.module if isinstance(head, _Called) else head
            samples, _ = mc_dropout(
                module, values, passes, logits=self._options["logits"], batch_size=size, seed=seed
            )
        return (
            logits.float().cpu().numpy(),
            vectors.float().cpu().numpy() if embeddings else None,
            samples,
        )


class _Called(nn.Module):
    """Calls a module with a batch of any form, and returns its logits."""

    def __init__(self, module: nn.Module, logits: Callable[[Any], torch.Tensor] | None) -> None:
        super().__init__()
        self.module, self.logits = module, logits

    def forward(self, batch: Any) -> torch.Tensor:
        output = call_model(self.module, batch)
        return output if self.logits is None else self.logits(output)

    def get_submodule(self, target: str) -> nn.Module:
        return self.module.get_submodule(target)


def _built(build: Callable[..., nn.Module], seed: int) -> nn.Module:
    module = called_with_seed(build, seed)
    if not isinstance(module, nn.Module):
        raise ValueError(f"build must return a torch.nn.Module, it returned a {type(module).__name__}")
    return module.eval()


def _cut(network: nn.Module, embedding: str | None) -> tuple[nn.Module | None, nn.Module]:
    """Cut a sequence of layers before its first dropout; what comes before is the same in every pass."""
    if type(network) is not nn.Sequential:
        return None, network
    names = [name for name, _ in network.named_children()]
    first = next((place for place, layer in enumerate(network) if not _is_deterministic(layer)), len(names))
    if embedding is not None:
        first = min(first, names.index(embedding)) if embedding in names else 0
    linear = any(isinstance(layer, nn.Linear) for layer in network[first:])
    return (network[:first], network[first:]) if first and linear else (None, network)


def _is_deterministic(layer: nn.Module) -> bool:
    """Whether a layer is known to do the same in every pass: torch's own, without any that drops units."""
    return all(
        type(module).__module__.startswith("torch.nn.modules")
        and not isinstance(module, nn.modules.dropout._DropoutNd | nn.RNNBase | nn.MultiheadAttention)
        and "Transformer" not in type(module).__name__
        for module in layer.modules()
    )


def _batches(inputs: Any, size: int, device: torch.device) -> Iterator[Any]:
    """Cut inputs into batches on a device."""
    for start in range(0, len(parts_of(inputs)[0]), size):
        yield each(lambda values, at=start: values[at : at + size].to(device), inputs)


def _run(
    network: nn.Module, batches: Iterable[Any], embedding: str | None, *, are_logits: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of a network in evaluation mode, and its embeddings, (N, D)."""
    outputs, embeddings = [], []
    with kept_modes(network), _kept_embeddings(network, embedding) as kept, torch.inference_mode():
        for batch in batches:
            outputs.append(network(batch))
            if are_logits:
                checked_logits(outputs[-1], len(parts_of(batch)[0]))
            embeddings.append(kept.pop().flatten(1) if kept else outputs[-1][:, :0])
            kept.clear()
    return torch.cat(outputs), torch.cat(embeddings)


@contextmanager
def _kept_embeddings(network: nn.Module, embedding: str | None) -> Iterator[list[torch.Tensor]]:
    """Collect the output of a layer, or by default the inputs of linear layers in the order of their calls."""
    kept: list[torch.Tensor] = []
    if embedding is None:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0])) for module in linear
        ]
    else:
        layer = network.get_submodule(embedding)
        hooks = [layer.register_forward_hook(lambda _, __, output: kept.append(output))]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
