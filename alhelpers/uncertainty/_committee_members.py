"""The members of a committee: their training, which can run in another process, and their predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from alhelpers import parallel
from alhelpers.data.arrays import rows_of
from alhelpers.data.labels import MissingClassWarning
from alhelpers.protocols import Dataset, History, Learner
from alhelpers.training import floating_type, train
from alhelpers.training.devices import CPU, Device, device_for, device_of, working_on
from alhelpers.uncertainty._inputs import as_tensors
from alhelpers.uncertainty._torch import (
    checked_logits,
    is_count,
    kept_modes,
    refuse_confidences,
    seeded,
)
from alhelpers.uncertainty.errors import CommitteeError

# ------------------------------------------------------------------------------
# training
# ------------------------------------------------------------------------------


def train_learner(
    learner: Learner, dataset: Dataset, *, validation: Dataset | None, seed: int
) -> tuple[Learner, History]:
    """Train a member that is a learner; return it and its history."""
    with warnings.catch_warnings(action="ignore", category=MissingClassWarning):  # the committee warns itself
        return learner, learner.fit(dataset, validation=validation, seed=seed)


def train_model(
    model: Any,
    inputs: Any,
    classes: np.ndarray,
    rows: np.ndarray,
    outside: np.ndarray | None,
    train_function: Callable[..., Any],
    /,
    *,
    seed: int,
    **options: Any,
) -> tuple[Any, Any]:
    """Train a torch module or an estimator on rows of arrays; return it, and what its training returned."""
    if isinstance(model, nn.Module):
        device = device_of(model)
        data, targets = as_tensors(inputs, floating_type(model)), torch.from_numpy(classes)
        if outside is not None:
            options["validation"] = data[outside].to(device), targets[outside].to(device)
        with seeded(seed, device):
            return model, train_function(
                model, data[rows].to(device), targets[rows].to(device), seed=seed, **options
            )
    features = as_features(inputs)
    own = rows_of(features, rows)
    if train_function is not train:
        return model, train_function(model, own, classes[rows], seed=seed, **options)
    model.fit(own, classes[rows])
    return model, None


def workers_for(models: Sequence[Any], device: Device, workers: Any) -> Any:
    """Return who trains the members: on a GPU this process alone, as processes would have to share it."""
    places = []
    for model in models:
        network = getattr(model, "network", model)
        if isinstance(network, nn.Module):
            if device_of(network) != CPU:
                return 1
            own = device if network is model else getattr(model, "device", None)
            places.append(device_for(network, own))
    if any(place != CPU for place in places) and (workers is None or is_count(workers)):
        return 1
    return parallel.cores() if workers is None and places else workers


def mean_history(histories: list[History]) -> History:
    """Return the mean of the members' histories, up to the end of the shortest."""
    steps, *values = (
        [list(row) for row in zip(*columns, strict=False)] for columns in zip(*histories, strict=True)
    )
    return History([row[0] for row in steps], *([float(np.mean(row)) for row in rows] for rows in values))


def check_distinct(models: Sequence[Any]) -> None:
    """Raise if two members are one, or torch models and estimators are mixed."""
    for model in models:
        if isinstance(model, nn.Module) != isinstance(models[0], nn.Module):
            raise CommitteeError(
                f"build made a {type(models[0]).__name__} and a {type(model).__name__}: the members must be all torch"
                " models or all estimators"
            )
    parts = [{id(part) for part in (model, *_parameters(model))} for model in models]
    if len(set().union(*parts)) < sum(map(len, parts)):
        raise CommitteeError(
            "build returned the same model or weights twice: it must make a new one at each call"
        )


def _parameters(model: Any) -> list[nn.Parameter]:
    return [*model.parameters()] if isinstance(model, nn.Module) else []


# ------------------------------------------------------------------------------
# estimators of scikit-learn, or what works as these do
# ------------------------------------------------------------------------------


def set_random_states(estimator: Any, seed: int) -> None:
    """Set every ``random_state`` of an estimator, and of those inside it."""
    parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
    states = [name for name in parameters if name == "random_state" or name.endswith("__random_state")]
    if states:
        estimator.set_params(**dict.fromkeys(states, seed % 2**32))


def as_features(inputs: Any) -> Any:
    """Return inputs as estimators take them: sparse matrices, by rows, and data frames stay what they are."""
    if isinstance(inputs, torch.Tensor):
        return inputs.cpu().numpy()
    if hasattr(inputs, "tocsr"):
        return inputs.tocsr()  # some other forms cannot be indexed
    return inputs if hasattr(inputs, "iloc") else np.asarray(inputs)


def all_classes(estimator: Any, features: Any, count: int) -> np.ndarray:
    """Return confidences of all classes, (N, C) float32; those that the estimator never saw have 0."""
    known = np.asarray(estimator.predict_proba(features))
    confidences = np.zeros((len(known), count), dtype=np.float32)
    confidences[:, np.asarray(estimator.classes_)] = known
    return confidences


# ------------------------------------------------------------------------------
# predictions
# ------------------------------------------------------------------------------


def logits_of(
    model: nn.Module, inputs: torch.Tensor | np.ndarray, batch_size: int, device: Device
) -> torch.Tensor:
    """Return a module's logits in evaluation mode, (N, C)."""
    data = as_tensors(inputs, floating_type(model))
    with working_on(device, model) as place, torch.no_grad(), kept_modes(model):
        # copies, as a model may work in place
        batches = (batch.to(place, copy=True) for batch in data.split(batch_size))
        logits = torch.cat([checked_logits(model(batch), len(batch)) for batch in batches])
    refuse_confidences(logits)
    return logits


def combined(predictions: Sequence[Any]) -> Any:
    """Return the predictions of learners as those of their committee, merged as predictions of their kind are."""
    kind = type(predictions[0])
    if not hasattr(kind, "merged"):
        raise CommitteeError(
            f"the learners return {kind.__name__}, which have no way of being merged: add a class method"
            " merged(predictions), which returns the predictions of a committee from those of its members"
        )
    return kind.merged(predictions)
