"""The members of a committee: their training, as jobs that can run in another process, and their predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from alhelpers.protocols import Dataset, History, Learner, Predictions
from alhelpers.training import train
from alhelpers.uncertainty._committee_estimators import as_features, take_rows
from alhelpers.uncertainty._torch import (
    as_inputs,
    checked_logits,
    confidences_of,
    device_of,
    dtype_of,
    kept_modes,
    seeded,
)
from alhelpers.uncertainty.errors import CommitteeError


@dataclasses.dataclass
class ArrayJob:
    """One member, a torch module or an estimator, and the rows of common arrays that it learns from."""

    model: Any
    seed: int
    inputs: Any
    classes: np.ndarray
    rows: np.ndarray
    outside: np.ndarray | None
    train: Callable[..., Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class LearnerJob:
    """One member that is a learner, and the data that it learns from."""

    learner: Learner
    seed: int
    dataset: Dataset
    validation: Dataset | None


def train_member(job: ArrayJob | LearnerJob) -> tuple[Any, Any]:
    """Train a member; return it, and what its training returned."""
    if isinstance(job, LearnerJob):
        return job.learner, job.learner.fit(job.dataset, validation=job.validation, seed=job.seed)
    if isinstance(job.model, nn.Module):
        return job.model, _train_module(job)
    features, classes = take_rows(as_features(job.inputs), job.rows), job.classes[job.rows]
    if job.train is not train:
        return job.model, job.train(job.model, features, classes, seed=job.seed, **job.options)
    job.model.fit(features, classes)
    return job.model, None


def _train_module(job: ArrayJob) -> Any:
    device = device_of(job.model)
    data, targets = as_inputs(job.inputs, dtype_of(job.model)), torch.from_numpy(job.classes)
    options = dict(job.options)
    if job.outside is not None:
        options["validation"] = data[job.outside].to(device), targets[job.outside].to(device)
    with seeded(job.seed, device):
        return job.train(
            job.model, data[job.rows].to(device), targets[job.rows].to(device), seed=job.seed, **options
        )


def mean_history(histories: list[History]) -> History:
    """Return the mean of the members' histories, up to the end of the shortest."""
    steps, *values = (
        [list(row) for row in zip(*columns, strict=False)] for columns in zip(*histories, strict=True)
    )
    return History([row[0] for row in steps], *([float(np.mean(row)) for row in rows] for rows in values))


def combined(predictions: Sequence[Predictions], passes: int | None) -> Predictions:
    """Return the predictions of learners as those of their committee."""
    first = predictions[0]
    name = "values" if first.confidences is None else "confidences"
    outputs = np.stack([getattr(each, name) for each in predictions], axis=1)
    samples = np.stack([each.samples for each in predictions], axis=1) if passes else outputs
    mean = outputs.mean(axis=1, dtype=np.float64).astype(np.float32)
    changed = {name: mean, "samples": samples, "logits": None, "sampled_by": "query_by_committee"}
    return dataclasses.replace(first, **changed)


def check_distinct(models: Sequence[Any]) -> None:
    """Raise if two members are one, or torch models and estimators are mixed."""
    for model in models:
        if isinstance(model, nn.Module) != isinstance(models[0], nn.Module):
            raise CommitteeError(
                f"build made a {type(models[0]).__name__} and a {type(model).__name__}: the members must be all torch"
                " models or all estimators"
            )
    parts = [[model, *(model.parameters() if isinstance(model, nn.Module) else ())] for model in models]
    identities = [id(part) for own in parts for part in {id(part): part for part in own}.values()]
    if len(set(identities)) < len(identities):
        raise CommitteeError(
            "build returned the same model or weights twice: it must make a new one at each call"
        )


def predict_module(
    model: nn.Module, inputs: torch.Tensor | np.ndarray, batch_size: int, member: int
) -> np.ndarray:
    """Return one member's confidences, (N, C)."""
    data, device = as_inputs(inputs, dtype_of(model)), device_of(model)
    parts = []
    with torch.no_grad(), kept_modes(model):
        for start in range(0, len(data), batch_size):
            batch = data[start : start + batch_size].to(device, copy=True)  # a model may work in place
            logits = checked_logits(model(batch), len(batch))
            if not torch.isfinite(logits).all():
                record = start + int(torch.nonzero(~torch.isfinite(logits).all(dim=1))[0])
                raise CommitteeError(
                    f"member {member} returns logits that are not finite for record {record}"
                )
            parts.append(confidences_of(logits))
    return np.concatenate(parts)
