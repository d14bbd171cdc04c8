"""The contracts between data, models and everything that uses them.

A :class:`Dataset` is learned from and predicted on, a :class:`Learner` learns and predicts, and :class:`Predictions`
become records. Any object with these methods takes part: nothing has to be subclassed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

__all__ = ["Dataset", "History", "Learner", "Predictions"]

Task = Literal["classification", "multilabel", "detection", "segmentation", "regression"]

#: Called with (step, steps) while a learner is fitted.
Progress = Callable[[int, int], None]


class History(NamedTuple):
    """The course of a training: the steps at which it was measured, and the values there.

    ``validation_loss`` and ``validation_accuracy`` are empty without validation data. The accuracy is the share of
    right classes, or for several labels a record the share of labels that are right at 0.5; a regression has none.
    """

    steps: list[int]
    loss: list[float]
    validation_loss: list[float]
    validation_accuracy: list[float]


@runtime_checkable
class Dataset(Protocol):
    """Inputs and labels in a fixed order, decoded when they are asked for."""

    @property
    def ids(self) -> Sequence[Any]:
        """Return one distinct id a row."""

    @property
    def class_names(self) -> Sequence[str] | None:
        """Return the name of each class, or None if the task has no classes."""

    @property
    def task(self) -> Task:
        """Return what the labels are."""

    def __len__(self) -> int: ...

    def inputs(self, rows: np.ndarray) -> Any:
        """Return a batch of inputs, as the learner takes them: an array (B, ...), or a dict or tuple of arrays."""

    def labels(self, rows: np.ndarray) -> Any:
        """Return the labels of the rows, in the form of the task.

        Class indices (B,), with several labels (B, C) of 0 and 1, or numbers (B,). For detection a list of dict, one a
        box, with ``image_id`` (its id in ``ids``), ``label`` (the class name), ``left``, ``top``, ``right`` and
        ``bottom`` in pixels; for segmentation the class index of each pixel (B, H, W), 255 where it does not count.
        """

    def take(self, rows: np.ndarray) -> Dataset:
        """Return the data set of the given rows, in the given order."""


@runtime_checkable
class Predictions(Protocol):
    """What a learner predicts for N rows: the task's outputs as arrays, each None if it does not apply.

    ``confidences`` (N, C), ``logits`` (N, C), ``embeddings`` (N, D), and ``samples`` (N, T, C) of several passes or
    (N, K, C) of several members; of a regression ``values`` (N,) or (N, O), and samples (N, T) or (N, T, O). Of a
    detection ``boxes`` (M, 4) and ``confidences`` (M, C) of all images, those of image ``k`` from ``offsets[k]`` to
    ``offsets[k + 1]``, and samples (M, T, 4) and (M, T, C); of a segmentation ``confidences`` (N, C, H, W). All are
    float32.
    """

    def __len__(self) -> int: ...

    def to_records(self, ids: Sequence[Any]) -> Any:
        """Return the predictions as records (:mod:`alhelpers.records`), one an id."""


@runtime_checkable
class Learner(Protocol):
    """A model that learns from a data set and predicts on another."""

    def fit(
        self,
        dataset: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> History:
        """Train from the current weights; the same data, weights and seed train the same model."""

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> Predictions:
        """Predict without changing the model; with ``passes``, also that many samples with dropout on."""

    def fresh(self, seed: int) -> Learner:
        """Return an untrained learner of the same design, with the initial weights of the seed."""

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the weights to a folder, without pickles."""

    def load(self, folder: str | PathLike[str]) -> None:
        """Read the weights that :meth:`save` wrote; no code of the files runs."""


#: A learner by name: the parameters of a configuration, and the class names, to an untrained learner.
LearnerFactory = Callable[[Mapping[str, Any], Sequence[str] | None], Learner]
