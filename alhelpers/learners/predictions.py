"""What a learner predicts, as arrays and as records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alhelpers import records
from alhelpers.protocols import Dataset
from alhelpers.uncertainty._torch import is_count

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of N rows; what does not apply is None, all arrays are float32.

    Attributes
    ----------
    confidences : numpy.ndarray of shape (N, C)
        Rows that sum to 1; with ``task="multilabel"`` each label's own, from 0 to 1.
    logits : numpy.ndarray of shape (N, C)
    embeddings : numpy.ndarray of shape (N, D)
    samples : numpy.ndarray of shape (N, T, C), (N, K, C) or (N, K, T, C)
        Confidences of T passes, of K members, or of the passes of each member. For regression, values (N, T) or
        (N, K), with O outputs (N, T, O) or (N, K, O), and (N, K, T, O) of the passes of each member.
    sampled_by : {"mc_dropout", "query_by_committee"}
        What the samples with three dimensions come from, named as their field in records is.
    values : numpy.ndarray of shape (N,) or (N, O)
        Predicted numbers of a regression.
    class_names : tuple of str
    task : {"classification", "multilabel", "regression"}
        What the outputs are.
    """

    confidences: np.ndarray | None = None
    logits: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    samples: np.ndarray | None = None
    sampled_by: Literal["mc_dropout", "query_by_committee"] = "mc_dropout"
    values: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    task: Literal["classification", "multilabel", "regression"] = "classification"

    def __len__(self) -> int:
        outputs = (self.confidences, self.values, self.logits, self.samples, self.embeddings)
        return next((len(output) for output in outputs if output is not None), 0)

    @classmethod
    def merged(cls, predictions: Sequence[Predictions]) -> Predictions:
        """Return the predictions of a committee from those of its members.

        Confidences or values are the means of those without dropout. ``samples`` are those of the members, or if these
        have passes, the samples of all.
        """
        first = predictions[0]
        name = "values" if first.confidences is None else "confidences"
        outputs = np.stack([getattr(each, name) for each in predictions], axis=1)
        samples = outputs
        if first.samples is not None:
            samples = np.stack([each.samples for each in predictions], axis=1)
            samples = samples[..., None] if samples.ndim == 3 else samples  # of one number a record
        mean = outputs.mean(axis=1, dtype=np.float64).astype(np.float32)
        changed = {name: mean, "samples": samples, "logits": None, "sampled_by": "query_by_committee"}
        return dataclasses.replace(first, **changed)

    def fields(self) -> dict[str, np.ndarray]:
        """Return the arrays that are there by their names in records.

        Samples of several members and passes become both the passes of all members, (N, K T, C), and the means
        of each member, (N, K, C).
        """
        named = {"confidences": self.confidences, "logits": self.logits, "embeddings": self.embeddings}
        if self.samples is not None and self.samples.ndim == 4:
            count, members, passes, classes = self.samples.shape
            named["mc_dropout"] = self.samples.reshape(count, members * passes, classes)
            named["query_by_committee"] = self.samples.mean(axis=2)
        elif self.samples is not None:
            named[self.sampled_by] = self.samples if self.samples.ndim == 3 else self.samples[..., None]
        return {name: values for name, values in named.items() if values is not None}

    def to_records(self, ids: Sequence[Any]) -> pa.Table:
        """Return the predictions as records.

        Parameters
        ----------
        ids : sequence of length N
            All strings or all whole numbers, each once.

        Returns
        -------
        pyarrow.Table
            As :func:`alhelpers.records.from_arrays` returns it; the values of a regression are in ``metadata``. Records
            with several labels have no ``class_name`` and no ``confidence``.
        """
        names = None if self.class_names is None else list(self.class_names)
        values = None if self.values is None else [{"value": value} for value in self.values.tolist()]
        table = records.from_arrays(ids, class_names=names, metadata=values, **self.fields())
        single = ["class_name", "confidence"] if self.task == "multilabel" else []
        return table.drop_columns([name for name in single if name in table.column_names])


def listed_names(class_names: Any) -> tuple[str, ...]:
    """Return class names as texts; raise a ValueError unless they are a list of distinct ones, and at least one."""
    if isinstance(class_names, str) or not isinstance(class_names, Iterable):
        raise ValueError(
            f"class_names is {class_names!r}: it must be a list of names, such as ['cat', 'dog']"
        )
    names = tuple(map(str, class_names))
    if not names or len(set(names)) < len(names):
        raise ValueError(f"class_names are {names}: they must be distinct, and at least one")
    return names


def checked_names(fitted: tuple[str, ...] | None, dataset: Dataset) -> tuple[str, ...] | None:
    """Return the class names of a data set; raise a ValueError if a learner was fitted on others, or in another order.

    A class is its place among the names: predictions for a data set with another order would be of the wrong classes.
    """
    names = None if dataset.class_names is None else tuple(map(str, dataset.class_names))
    if fitted is not None and names is not None and names != fitted:
        raise ValueError(
            f"the class names of the data set are {', '.join(names)}, but those that the learner is fitted on are"
            f" {', '.join(fitted)}: use the same names in the same order"
        )
    return names


def check_request(dataset: Dataset, passes: int) -> None:
    """Raise a ValueError unless there is something to predict, and passes are none or at least two."""
    if not len(dataset):
        raise ValueError("the data set is empty: there is nothing to predict")
    if not is_count(passes, 0) or passes == 1:
        raise ValueError(f"passes is {passes!r}: it must be 0, or a whole number of at least 2")


def check_members(predictions: Sequence[Any]) -> None:
    """Raise a ValueError unless predictions to merge are at least one, of as many images and of the same classes."""
    if not len(predictions):
        raise ValueError("there are no predictions to merge: pass those of at least one member")
    first = predictions[0]
    for number, one in enumerate(predictions):
        if one.class_names != first.class_names:
            raise ValueError(
                f"the class names of predictions {number} are {', '.join(one.class_names)}, and those of predictions 0"
                f" {', '.join(first.class_names)}: use the same names in the same order"
            )
        if len(one) != len(first):
            raise ValueError(
                f"predictions {number} are of {len(one)} images, and predictions 0 of {len(first)}: predict the same"
                " images with each"
            )
