"""What the learners of torch modules share: training, predicting, weights in files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from alhelpers.data.labels import indices_of, warn_of_missing_classes
from alhelpers.learners._torch_passes import Called, Preprocess, Preprocessed, batches_of, cut, run
from alhelpers.learners.predictions import Predictions, check_request, checked_names
from alhelpers.learners.weights import WithWeights
from alhelpers.protocols import Dataset, History, Progress
from alhelpers.training import Augmentation, Loss, as_tensors, floating_type, row_bytes, train
from alhelpers.training._outputs import (
    TorchTask,
    check_names,
    checked_outputs,
    warn_of_probabilities,
)
from alhelpers.training.devices import Device, device_of, named_device, working_on
from alhelpers.uncertainty import mc_dropout
from alhelpers.uncertainty._torch import (
    called_with_seed,
    derived_seed,
    first_not_finite,
)

# Bytes of inputs that a prediction reads at once.
_CHUNK = 2**27


class TorchLearner(WithWeights):
    """A learner of any torch module; its subclasses name the tasks, and their parameters are described there."""

    #: The tasks that the class is for; the first is the default.
    _tasks: tuple[TorchTask, ...] = ()

    def __init__(
        self,
        build: nn.Module | Callable[..., nn.Module],
        *,
        task: TorchTask | None = None,
        preprocess: Preprocess | None = None,
        logits: Callable[[Any], torch.Tensor] | None = None,
        embedding: str | None = None,
        loss: Loss | None = None,
        steps: int = 150,
        batch_size: int = 64,
        learning_rate: float = 6e-3,
        augmentation: bool | Augmentation = False,
        patience: int | None = None,
        evaluations: int = 10,
        prediction_batch_size: int = 256,
        device: Device = None,
        seed: int = 0,
    ) -> None:
        self.task = self._tasks[0] if task is None else task
        if self.task not in self._tasks:
            raise ValueError(
                f"task is {task!r}, which is none of {type(self).__name__}: TorchClassifier is for 'classification' and"
                " 'multilabel', TorchRegressor for 'regression'"
            )
        if prediction_batch_size < 1:
            raise ValueError(f"prediction_batch_size is {prediction_batch_size}: it must be at least 1")
        self._options = {
            "task": self.task,
            "preprocess": preprocess,
            "logits": logits,
            "embedding": embedding,
            "loss": loss,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "augmentation": augmentation,
            "patience": patience,
            "evaluations": evaluations,
            "prediction_batch_size": prediction_batch_size,
            "device": device,
        }
        self.device = device
        named_device(device)
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
            If the data set is empty, its labels do not fit the network's outputs or the class names, its inputs are not
            finite, or the validation data has other classes.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: label at least one row to learn from")
        names = checked_names(None, dataset)
        if validation is not None:
            checked_names(names, validation)
        dataset = self._prepared(dataset)
        validation = None if validation is None else self._prepared(validation)
        recipe = (
            "task",
            "loss",
            "steps",
            "batch_size",
            "learning_rate",
            "augmentation",
            "patience",
            "evaluations",
            "device",
        )
        history = train(
            self._called(dataset),
            dataset,
            **{name: self._options[name] for name in recipe},
            validation=validation,
            seed=seed,
            progress=progress,
        )
        self._class_names, self._is_checked = names, True
        if self.task != "regression":
            labels = np.asarray(dataset.labels(np.arange(len(dataset))))
            warn_of_missing_classes(labels if labels.ndim > 1 else indices_of(labels, names), names)
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
            ``confidences`` and ``logits`` (N, C), ``samples`` (N, T, C), ``embeddings`` (N, D); of a regression
            ``values`` (N,) and ``samples`` (N, T), or with several outputs (N, O) and (N, T, O).

        Raises
        ------
        ValueError
            If the data set is empty or has other classes or another number of them than the network has outputs, passes
            is not valid, an output is not finite, or there is no embedding.
        """
        check_request(dataset, passes)
        names = checked_names(self._class_names, dataset)
        dataset = self._prepared(dataset)
        network, parts = self._called(dataset), []
        with working_on(self.device, self.network):
            for number, (first, inputs) in enumerate(self._parts(dataset)):
                part_seed, ids = derived_seed(seed, number) if number else seed, dataset.ids[first:]
                parts.append(self._predict_part(network, inputs, passes, embeddings, part_seed, ids, names))
        outputs, vectors, samples = (
            None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        if self.task == "regression":
            values, samples = (
                array if array is None or array.shape[-1] > 1 else array[..., 0]
                for array in (outputs, samples)
            )
            return Predictions(values=values, embeddings=vectors, samples=samples, task="regression")
        if not self._is_checked:
            warn_of_probabilities(torch.from_numpy(outputs), self.task)
            self._is_checked = True
        logits = torch.from_numpy(outputs)
        confidences = (logits.softmax(1) if self.task == "classification" else logits.sigmoid()).numpy()
        return Predictions(confidences, outputs, vectors, samples, class_names=names, task=self.task)

    def fresh(self, seed: int) -> Self:
        """Return an untrained learner of the same design.

        A builder is called under the seed; a module that was passed ready-made returns to its first weights.
        """
        if not isinstance(self._build, nn.Module):
            return type(self)(self._build, **self._options, seed=seed)
        module = copy.deepcopy(self._build)
        module.load_state_dict(self._first_weights)
        return type(self)(module, **self._options)

    def _prepared(self, dataset: Dataset) -> Dataset:
        preprocess = self._options["preprocess"]
        return dataset if preprocess is None else Preprocessed(dataset, preprocess)

    def _called(self, dataset: Dataset) -> nn.Module:
        """Return the network as a module of one batch that returns logits or values."""
        few = dataset.inputs(np.arange(min(len(dataset), 1)))
        if self._options["logits"] is None and not isinstance(few, Mapping | tuple):
            return self.network
        return Called(self.network, self._options["logits"])

    def _parts(self, dataset: Dataset) -> Iterator[tuple[int, Any]]:
        """Read the inputs in parts of whole batches that fit in memory, each with its first row."""
        batch = self._options["prediction_batch_size"]
        most = max(int(_CHUNK / max(row_bytes(dataset), 1)) // batch, 1) * batch
        for rows in np.split(np.arange(len(dataset)), range(most, len(dataset), most)):
            yield int(rows[0]), as_tensors(dataset.inputs(rows), dtype=floating_type(self.network))

    def _predict_part(
        self,
        network: nn.Module,
        inputs: Any,
        passes: int,
        embeddings: bool,
        seed: int,
        ids: Sequence[Any],
        names: Sequence[str] | None,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return outputs, embeddings and samples of inputs in memory."""
        size = self._options["prediction_batch_size"]
        device = device_of(network)
        trunk, head = cut(network, self._options["embedding"]) if passes else (None, network)
        values = inputs
        if trunk is not None:
            values, _ = run(trunk, batches_of(inputs, size, device), None)
        check = partial(checked_outputs, task=self.task)
        outputs, vectors = run(head, batches_of(values, size, device), self._options["embedding"], check)
        self._check(outputs, ids, names)
        if embeddings and not vectors.shape[1]:
            raise ValueError(
                "the network has no nn.Linear whose input could be the embedding: name a layer, embedding='...'"
            )
        samples = None
        if passes:
            module = head.module if isinstance(head, Called) else head
            options = {"batch_size": size, "device": device, "seed": seed, **self._sampled()}
            samples, _ = mc_dropout(module, values, passes, **options)
        return (
            outputs.float().cpu().numpy(),
            vectors.float().cpu().numpy() if embeddings else None,
            samples if samples is None or samples.ndim > 2 else samples[..., None],
        )

    def _sampled(self) -> dict[str, Any]:
        """Return what mc_dropout samples: confidences from logits, or sigmoids or values as they are."""
        hook = self._options["logits"]
        if self.task == "classification":
            return {"outputs": "logits", "logits": hook}
        if self.task == "regression":
            return {"outputs": "values", "logits": hook}
        return {
            "outputs": "values",
            "logits": torch.sigmoid if hook is None else lambda out: hook(out).sigmoid(),
        }

    def _check(self, outputs: torch.Tensor, ids: Sequence[Any], names: Sequence[str] | None) -> None:
        """Raise a ValueError unless there is an output for each class, and all outputs are finite."""
        if self.task == "classification" and outputs.shape[1] == 1 and (not names or len(names) > 1):
            raise ValueError(
                "the network has one output, whose softmax is always 1: return the logits of each class, such as"
                " TorchClassifier(..., logits=lambda output: torch.cat([-output, output], 1) / 2)"
            )
        if self.task != "regression":
            check_names(outputs.shape[1], names)
        row = first_not_finite(outputs)
        if row is not None:
            raise ValueError(
                f"the {'values' if self.task == 'regression' else 'logits'} of record {ids[row]} are not finite: check"
                " its input and the network's weights, or train with a lower learning_rate"
            )


def _built(build: Callable[..., nn.Module], seed: int) -> nn.Module:
    module = called_with_seed(build, seed)
    if not isinstance(module, nn.Module):
        raise ValueError(f"build must return a torch.nn.Module, it returned a {type(module).__name__}")
    return module.eval()
