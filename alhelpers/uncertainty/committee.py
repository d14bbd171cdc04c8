"""Committees: several models that were trained differently, and disagree where the data leaves them free to."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from alhelpers.training import train
from alhelpers.uncertainty._torch import (
    as_inputs,
    checked_logits,
    confidences_of,
    derived_seed,
    device_of,
    dtype_of,
    kept_modes,
    seeded,
)

_CPU = torch.device("cpu")


class CommitteeError(ValueError):
    """A committee that cannot be built, trained, asked, or loaded; the message says why and the way out."""


class CommitteeWarning(UserWarning):
    """A member was trained without one of the classes."""


class Committee:
    """A committee of classifiers that share a design and differ in their start and their training data.

    Parameters
    ----------
    build : callable
        Makes one untrained member: ``build()``, or ``build(seed)`` where it has a parameter without default.
        Either way torch's random numbers are seeded for each member, so the initial weights differ.
    members : int
        The number K of members, at least 2.

    Attributes
    ----------
    models : list of torch.nn.Module
        The members, once they are fitted or loaded.

    References
    ----------
    Seung, Opper and Sompolinsky, "Query by committee", COLT 1992; Lakshminarayanan, Pritzel and Blundell,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017.
    """

    def __init__(self, build: Callable[..., nn.Module], members: int = 5) -> None:
        if isinstance(members, bool) or not isinstance(members, int | np.integer) or members < 2:
            raise CommitteeError(f"members must be a whole number of at least 2, got {members!r}")
        self.build = build
        self.members = int(members)
        self.models: list[nn.Module] = []

    def fit(
        self,
        inputs: torch.Tensor | np.ndarray,
        labels: torch.Tensor | np.ndarray,
        folds: bool = True,
        seed: int = 0,
        *,
        train: Callable[..., Any] = train,
        **training: Any,
    ) -> Committee:
        """Build and train the members.

        Parameters
        ----------
        inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
            What the members take.
        labels : torch.Tensor or numpy.ndarray of shape (N,)
            Class indices from 0.
        folds : bool
            True: member k trains on all data but the k-th of K stratified folds (disjoint folds would leave
            each member a K-th of the labels, and lose to random). False: all members train on all data, from
            other starts.
        seed : int
            The same seed gives the same committee; torch's global random state is left as it was.
        train : callable
            ``train(model, inputs, labels, seed=seed, **training)`` trains a member in place.
        **training
            Options of ``train``; for the default see :func:`alhelpers.training.train`.

        Returns
        -------
        Committee
            Itself.

        Raises
        ------
        CommitteeError
            If there are fewer records than members (with folds), no record, or labels that do not fit.

        Warns
        -----
        CommitteeWarning
            If a fold holds all records of a class, so that its member never sees the class.
        """
        classes = _class_indices(labels, len(inputs))
        if folds and len(classes) < self.members:
            raise CommitteeError(
                f"{len(classes)} records cannot be cut into {self.members} folds: "
                "label more, take fewer members, or pass folds=False"
            )
        fold = _folds(classes, self.members, seed) if folds else np.full(len(classes), -1)
        models = []
        for member in range(self.members):
            rows = np.flatnonzero(fold != member)
            self._warn_of_missing(classes, rows, member)
            model, member_seed = self._built(seed, member)
            data = as_inputs(inputs, dtype_of(model))[rows].to(device_of(model))
            target = torch.from_numpy(classes[rows]).to(data.device)
            with seeded(member_seed, device_of(model)):
                train(model, data, target, seed=member_seed, **training)
            models.append(model)
        self.models = models
        return self

    def predict(self, inputs: torch.Tensor | np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Ask every member, in evaluation mode.

        Parameters
        ----------
        inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
            What the members take.
        batch_size : int
            Records in one forward pass.

        Returns
        -------
        numpy.ndarray of shape (N, K, C), float32
            The confidences of each member.

        Raises
        ------
        CommitteeError
            If the committee was neither fitted nor loaded, there is no record, or an output is not finite.
        """
        self._check_ready("predict")
        if not len(inputs):
            raise CommitteeError("inputs must hold at least one record, got none")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise CommitteeError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        return np.stack(
            [_predict(model, inputs, batch_size, member) for member, model in enumerate(self.models)], axis=1
        )

    def save(self, folder: str | Path) -> None:
        """Write the members' weights: ``member_0.pt``, ``member_1.pt``, ... as plain state dicts.

        Parameters
        ----------
        folder : str or pathlib.Path
            Made if missing. Members of a larger committee saved there before are removed.

        Raises
        ------
        CommitteeError
            If the committee was neither fitted nor loaded.
        """
        self._check_ready("save")
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for member, model in enumerate(self.models):
            part = target / f"member_{member}.pt.part"  # an interrupted write leaves the old file whole
            torch.save(model.state_dict(), part)
            os.replace(part, target / f"member_{member}.pt")
        for stale in set(_member_files(target)[self.members :]):
            stale.unlink()

    def load(self, folder: str | Path) -> Committee:
        """Read the weights that :meth:`save` wrote, as data only: no code of the files runs.

        Parameters
        ----------
        folder : str or pathlib.Path
            The folder that they were saved in.

        Returns
        -------
        Committee
            Itself.

        Raises
        ------
        CommitteeError
            If the folder does not hold exactly K members, or their weights do not fit what ``build`` makes.
        """
        files = _member_files(Path(folder))
        if len(files) != self.members:
            raise CommitteeError(f"{folder} holds {len(files)} members, this committee has {self.members}")
        models = []
        for member, file in enumerate(files):
            model, _ = self._built(0, member)
            try:
                model.load_state_dict(torch.load(file, map_location=device_of(model), weights_only=True))
            except RuntimeError as error:
                raise CommitteeError(f"{file} does not fit the model that build makes: {error}") from error
            models.append(model)
        self.models = models
        return self

    def _built(self, seed: int, member: int) -> tuple[nn.Module, int]:
        """Build a member from its own seed."""
        member_seed = derived_seed(seed, member)
        with seeded(member_seed, _CPU):
            model = self.build(member_seed) if _takes_seed(self.build) else self.build()
        if not isinstance(model, nn.Module):
            raise CommitteeError(f"build must return a torch.nn.Module, it returned a {type(model).__name__}")
        return model, member_seed

    def _check_ready(self, what: str) -> None:
        if not self.models:
            raise CommitteeError(f"the committee has no trained member: call fit or load before {what}")

    def _warn_of_missing(self, classes: np.ndarray, rows: np.ndarray, member: int) -> None:
        missing = sorted(set(classes.tolist()) - set(classes[rows].tolist()))
        if missing:
            warnings.warn(
                f"member {member} trains without any record of class {', '.join(map(str, missing))}: "
                "label at least two records of each class, or pass folds=False",
                CommitteeWarning,
                stacklevel=3,
            )


def _class_indices(labels: torch.Tensor | np.ndarray, count: int) -> np.ndarray:
    """Return labels as int64 class indices."""
    classes = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if classes.shape != (count,) or classes.dtype.kind not in "iu" or (classes < 0).any():
        raise CommitteeError(
            f"labels must be {count} class indices from 0, one a record; got {classes.dtype} of shape "
            f"{classes.shape}"
        )
    if not count:
        raise CommitteeError("there is no labelled record to train on")
    return classes.astype(np.int64)


def _folds(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal the records out into folds, class after class, so that all classes are spread and the sizes even."""
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(len(classes), dtype=np.int64)
    fold[by_class] = np.arange(len(classes)) % count
    return fold


def _takes_seed(build: Callable[..., nn.Module]) -> bool:
    """Tell whether ``build`` has a positional parameter without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        parameter.kind in kinds and parameter.default is inspect.Parameter.empty
        for parameter in inspect.signature(build).parameters.values()
    )


def _predict(model: nn.Module, inputs: torch.Tensor | np.ndarray, batch_size: int, member: int) -> np.ndarray:
    """Return one member's confidences, (N, C)."""
    data, device = as_inputs(inputs, dtype_of(model)), device_of(model)
    parts = []
    with torch.no_grad(), kept_modes(model):
        for start in range(0, len(data), batch_size):
            batch = data[start : start + batch_size].to(device, copy=True)  # a model may work in place
            logits = checked_logits(model(batch), len(batch))
            if not torch.isfinite(logits).all():
                record = start + int(torch.nonzero(~torch.isfinite(logits).all(dim=1))[0])
                raise CommitteeError(f"member {member} gives logits that are not finite for record {record}")
            parts.append(confidences_of(logits))
    return np.concatenate(parts)


def _member_files(folder: Path) -> list[Path]:
    """Return the members' files in their order."""
    return sorted(folder.glob("member_*.pt"), key=lambda file: (len(file.name), file.name))
