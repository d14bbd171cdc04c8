"""Committees: several models that were trained differently, and disagree where the data leaves them free to."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from alhelpers.training import History, train
from alhelpers.uncertainty._committee_estimators import is_estimator, predict_all_classes, start_from
from alhelpers.uncertainty._committee_folds import Folds, named_folds, rows_of_members
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
from alhelpers.uncertainty.batched import BatchedNetwork, NotBatchable
from alhelpers.uncertainty.mc_dropout import mc_dropout
from alhelpers.uncertainty.training_together import Lesson, same_batches, train_together

_CPU = torch.device("cpu")
_default_train = train


class CommitteeError(ValueError):
    """A committee that cannot be built, trained, asked, or loaded; the message says why and the way out."""


class CommitteeWarning(UserWarning):
    """A member was trained without one of the classes, as ``allow_missing`` permits."""


class Way(NamedTuple):
    """How the members of a committee were trained: as one batched network or one after another, and why so."""

    batched: bool
    reason: str


class Committee:
    """A committee of classifiers that share a design and differ in their start and their training data.

    Parameters
    ----------
    build : callable
        Makes one untrained member: ``build()``, or ``build(seed)`` where it has a parameter without default. A
        ``torch.nn.Module`` that returns logits, or a classifier with scikit-learn's ``fit`` and
        ``predict_proba``. Either way torch's random numbers are seeded for each member, and every
        ``random_state`` of an estimator is set, so the members start differently.
    members : int
        The number K of members, at least 2.

    Attributes
    ----------
    models : list
        The members, once they are fitted or loaded.
    rows : list of numpy.ndarray
        The rows that each member was trained on, once they are fitted.
    way : Way or None
        Whether ``fit`` trained the members as one batched network, and why or why not.
    histories : list of alhelpers.training.History
        The course of each member's training, if ``train`` returned it.

    References
    ----------
    Seung, Opper and Sompolinsky, "Query by committee", COLT 1992; Lakshminarayanan, Pritzel and Blundell,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017; Breiman,
    "Bagging predictors", 1996, for the bootstrap.
    """

    def __init__(self, build: Callable[..., Any], members: int = 5) -> None:
        if isinstance(members, bool) or not isinstance(members, int | np.integer) or members < 2:
            raise CommitteeError(f"members must be a whole number of at least 2, got {members!r}")
        self.build = build
        self.members = int(members)
        self.models: list[Any] = []
        self.rows: list[np.ndarray] = []
        self.way: Way | None = None
        self.histories: list[History] = []
        self._classes = 0  # how many the labels have, for estimators: they know those that they have seen

    def fit(
        self,
        inputs: torch.Tensor | np.ndarray,
        labels: torch.Tensor | np.ndarray,
        folds: Folds | bool = "leave_one_out",
        seed: int = 0,
        *,
        patience: int | None = None,
        batched: bool = True,
        allow_missing: bool = True,
        train: Callable[..., Any] = train,
        **training: Any,
    ) -> Committee:
        """Build and train the members, as one batched network where their layers allow it.

        Parameters
        ----------
        inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
            What the members take.
        labels : torch.Tensor or numpy.ndarray of shape (N,)
            Class indices from 0.
        folds : {"leave_one_out", "bootstrap", "disjoint", "all"} or bool
            What member k trains on. ``"leave_one_out"`` (True): all but the k-th of K stratified folds.
            ``"bootstrap"``: N records drawn with replacement. ``"disjoint"``: the k-th fold alone, a K-th of the
            labels, which loses to random. ``"all"`` (False): everything, from other starts.
        seed : int
            The same seed gives the same committee; torch's global random state is left as it was.
        patience : int, optional
            Stop a member after this many looks in a row without a lower loss on the records that it does not
            train on (or on ``validation=`` if that is passed on to ``train``), and keep its best weights.
        batched : bool
            Whether to train all members as one network where that is possible. The members are the same either
            way, but for rounding; ``way`` tells which it was. On a GPU the dropout masks differ too.
        allow_missing : bool
            Whether a member may train without any record of a class, as is common in the first rounds: then a
            warning says so, and estimators give the class a confidence of 0. False: it is an error.
        train : callable
            ``train(model, inputs, labels, seed=seed, **training)`` trains a member in place. Another one than the
            default trains one after another.
        **training
            Options of ``train``; for the default see :func:`alhelpers.training.train`. Estimators have none.

        Returns
        -------
        Committee
            Itself.

        Raises
        ------
        CommitteeError
            If there are fewer records than members (with folds), no record, labels that do not fit, a class that
            a member would not see without ``allow_missing``, or nothing to look at with a ``patience``.

        Warns
        -----
        CommitteeWarning
            If a member's rows hold no record of a class, with ``allow_missing``.
        """
        classes = _class_indices(labels, len(inputs))
        try:
            folds = named_folds(folds)
            rows = rows_of_members(classes, self.members, folds, seed)
        except ValueError as error:
            raise CommitteeError(str(error)) from error
        for member in range(self.members):
            missing = _missing_class(classes, rows[member], member, folds)
            if missing and not allow_missing:
                raise CommitteeError(f"{missing}, or allow_missing=True")
            if missing:
                warnings.warn(missing, CommitteeWarning, stacklevel=2)
        built = [self._built(seed, member) for member in range(self.members)]
        models = [model for model, _ in built]
        _check_distinct(models)
        looked_at = patience is not None and training.get("validation") is None
        outside = [
            _outside(rows[member], len(classes), member, folds)
            for member in range(self.members if looked_at else 0)
        ]
        lessons = [
            Lesson(rows[member], outside[member] if looked_at else np.empty(0, np.int64), member_seed)
            for member, (_, member_seed) in enumerate(built)
        ]
        if patience is not None:
            training["patience"] = patience
        if not isinstance(models[0], nn.Module):
            way, histories = Way(False, "the members are estimators"), []
            _fit_estimators(models, inputs, classes, lessons, train, training)
        else:
            way = self._way(models, inputs, batched, train, lessons, training)
            fit = _fit_together if way.batched else _fit_one_after_another
            histories = fit(models, inputs, classes, lessons, train, training)
        self.models, self.rows, self.way = models, rows, way
        self.histories = [history for history in histories if isinstance(history, History)]
        self._classes = int(classes.max()) + 1
        return self

    def predict(
        self,
        inputs: torch.Tensor | np.ndarray,
        batch_size: int = 256,
        *,
        passes: int | None = None,
        masks: Literal["sample", "pass"] = "sample",
        seed: int = 0,
    ) -> np.ndarray:
        """Ask every member, in evaluation mode, or with its dropout on.

        Parameters
        ----------
        inputs : torch.Tensor or numpy.ndarray of shape (N, ...)
            What the members take.
        batch_size : int
            Records in one forward pass.
        passes : int, optional
            Ask every member T times with its dropout on, as :func:`mc_dropout` does. The members draw masks of
            their own.
        masks, seed : str, int
            As in :func:`mc_dropout`; they count only with ``passes``.

        Returns
        -------
        numpy.ndarray of shape (N, K, C), or with passes (N, K, T, C), float32
            The confidences of each member, in each pass.

        Raises
        ------
        CommitteeError
            If the committee was neither fitted nor loaded, there is no record, or an output is not finite.
        ValueError
            With passes: what :func:`mc_dropout` raises, such as for members without dropout.
        """
        self._check_ready("predict")
        if not len(inputs):
            raise CommitteeError("inputs must hold at least one record, got none")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise CommitteeError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if not isinstance(self.models[0], nn.Module):
            return self._predict_estimators(inputs, passes)
        if passes is not None:
            return np.stack(
                [
                    mc_dropout(
                        model,
                        inputs,
                        passes,
                        masks=masks,
                        batch_size=batch_size,
                        seed=derived_seed(seed, member),
                    )[0]
                    for member, model in enumerate(self.models)
                ],
                axis=1,
            )
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
            If the committee was neither fitted nor loaded, or its members are estimators: these can be stored
            only as pickles, which run code when they are read.
        """
        self._check_ready("save")
        if not isinstance(self.models[0], nn.Module):
            raise CommitteeError(
                f"the members are of type {type(self.models[0]).__name__}, which only a pickle can hold, and a pickle"
                " runs code when it is read: keep the labelled records and the seed, and fit again, which gives the"
                " same committee; or store committee.models yourself, with skops or ONNX"
            )
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = [target / f"member_{member}.pt" for member in range(self.members)]
        parts = [file.with_suffix(".pt.part") for file in files]
        for model, part in zip(self.models, parts, strict=True):
            torch.save(model.state_dict(), part)
        for part, file in zip(parts, files, strict=True):  # an interrupted write leaves the old files whole
            os.replace(part, file)
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
            if not isinstance(model, nn.Module):
                raise CommitteeError(
                    f"build makes a {type(model).__name__}, and only torch models are saved and loaded: fit it again"
                )
            try:
                state = torch.load(file, map_location=device_of(model), weights_only=True)
                model.load_state_dict(state)
            except (UnpicklingError, EOFError, TypeError) as error:
                raise CommitteeError(f"{file} is damaged, or no weights that save wrote: {error}") from error
            except RuntimeError as error:
                raise CommitteeError(f"{file} does not fit the model that build makes: {error}") from error
            models.append(model)
        _check_distinct(models)
        for model in models:
            model.eval()
        self.models, self.rows, self.way, self.histories = models, [], None, []
        return self

    def _built(self, seed: int, member: int) -> tuple[Any, int]:
        """Build a member from its own seed."""
        member_seed = derived_seed(seed, member)
        with seeded(member_seed, _CPU):
            model = self.build(member_seed) if _takes_seed(self.build) else self.build()
        if isinstance(model, nn.Module):
            return model, member_seed
        if not is_estimator(model):
            raise CommitteeError(
                f"build must return a torch.nn.Module, or an estimator with fit and predict_proba; it returned a"
                f" {type(model).__name__}"
            )
        start_from(model, member_seed)
        return model, member_seed

    def _way(
        self,
        models: Sequence[nn.Module],
        inputs: torch.Tensor | np.ndarray,
        batched: bool,
        train: Callable[..., Any],
        lessons: Sequence[Lesson],
        training: dict[str, Any],
    ) -> Way:
        """Tell whether the members can be trained as one network."""
        if not batched:
            return Way(False, "batched=False")
        if train is not _default_train:
            return Way(False, "the members are trained by a function of the caller's")
        try:
            stack = BatchedNetwork(models)
            few = as_inputs(inputs, dtype_of(models[0]))[:2].to(device_of(models[0]), copy=True)
            with torch.no_grad(), kept_modes(models[0]):
                models[0](few.clone())  # what the member itself refuses, it names itself
                stack.eval()
                stack(few[:, None].expand(-1, self.members, *few.shape[1:]))
        except NotBatchable as error:
            return Way(False, str(error))
        options = _bound(training)
        sizes = [len(group) for group in same_batches(lessons, max(options["batch_size"], 1))]
        groups = (
            "" if len(sizes) == 1 else f", in groups of {' and '.join(map(str, sizes))} with equal batches"
        )
        return Way(True, f"all layers can be batched{groups}")

    def _predict_estimators(self, inputs: torch.Tensor | np.ndarray, passes: int | None) -> np.ndarray:
        if passes is not None:
            raise CommitteeError("passes are for torch members: estimators have no dropout")
        data = _as_array(inputs)
        samples = []
        for member, model in enumerate(self.models):
            try:
                samples.append(predict_all_classes(model, data, self._classes))
            except ValueError as error:
                raise CommitteeError(f"member {member} gives {error}") from error
        return np.stack(samples, axis=1)

    def _check_ready(self, what: str) -> None:
        if not self.models:
            raise CommitteeError(f"the committee has no trained member: call fit or load before {what}")


# ------------------------------------------------------------------------------
# training
# ------------------------------------------------------------------------------


def _fit_together(
    models: Sequence[nn.Module],
    inputs: torch.Tensor | np.ndarray,
    classes: np.ndarray,
    lessons: Sequence[Lesson],
    train: Callable[..., Any],
    training: dict[str, Any],
) -> list[History]:
    """Train the members as one batched network."""
    data = as_inputs(inputs, dtype_of(models[0])).to(device_of(models[0]))
    return train_together(
        models, data, torch.from_numpy(classes).to(data.device), lessons, **_bound(training)
    )


def _fit_one_after_another(
    models: Sequence[nn.Module],
    inputs: torch.Tensor | np.ndarray,
    classes: np.ndarray,
    lessons: Sequence[Lesson],
    train: Callable[..., Any],
    training: dict[str, Any],
) -> list[Any]:
    """Train the members one after another; return what ``train`` returns."""
    returned = []
    for model, lesson in zip(models, lessons, strict=True):
        device = device_of(model)
        data, target = as_inputs(inputs, dtype_of(model)), torch.from_numpy(classes)
        options = dict(training)
        if len(lesson.validation_rows):
            rows = lesson.validation_rows
            options["validation"] = (data[rows].to(device), target[rows].to(device))
        with seeded(lesson.seed, device):
            returned.append(
                train(
                    model,
                    data[lesson.rows].to(device),
                    target[lesson.rows].to(device),
                    seed=lesson.seed,
                    **options,
                )
            )
    return returned


def _fit_estimators(
    models: Sequence[Any],
    inputs: torch.Tensor | np.ndarray,
    classes: np.ndarray,
    lessons: Sequence[Lesson],
    train: Callable[..., Any],
    training: dict[str, Any],
) -> None:
    """Fit estimators, or train them with a function of the caller's."""
    if train is _default_train and training:
        raise CommitteeError(
            f"{', '.join(training)}: options of torch's training; set an estimator's own where build makes it"
        )
    data = _as_array(inputs)
    for model, lesson in zip(models, lessons, strict=True):
        if train is _default_train:
            model.fit(data[lesson.rows], classes[lesson.rows])
        else:
            train(model, data[lesson.rows], classes[lesson.rows], seed=lesson.seed, **training)


def _bound(training: dict[str, Any]) -> dict[str, Any]:
    """Return all options of the default training; one that it does not have is a TypeError, as in a call."""
    bound = inspect.signature(_default_train).bind(None, None, None, **training)
    bound.apply_defaults()
    return {name: value for name, value in bound.kwargs.items() if name != "seed"}


def _outside(rows: np.ndarray, count: int, member: int, folds: str) -> np.ndarray:
    """Return the rows that a member does not train on, to look at."""
    outside = np.setdiff1d(np.arange(count), rows)
    if folds == "disjoint" or not len(outside):
        raise CommitteeError(
            f'member {member} has no records to look at with folds="{folds}": a patience needs '
            'folds="leave_one_out" or "bootstrap" and enough records, or validation=(inputs, labels)'
        )
    return outside


def _missing_class(classes: np.ndarray, rows: np.ndarray, member: int, folds: Folds) -> str | None:
    """Say what a member would not learn, and the way out; None where it sees every class."""
    missing = np.setdiff1d(classes, classes[rows])
    if not len(missing):
        return None
    has = ", ".join(f"class {number} (it has {(classes == number).sum()})" for number in missing)
    more = {
        "leave_one_out": "label at least two records of each class",
        "disjoint": "label at least one record of each class a member",
        "bootstrap": "take another seed, label more",
    }
    return (
        f'member {member} trains without any record of {has} with folds="{folds}": {more[folds]}, or'
        ' pass folds="all"'
    )


def _check_distinct(models: Sequence[Any]) -> None:
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


def _as_array(inputs: torch.Tensor | np.ndarray) -> np.ndarray:
    return inputs.cpu().numpy() if isinstance(inputs, torch.Tensor) else np.asarray(inputs)


# ------------------------------------------------------------------------------
# labels, building, predicting, files
# ------------------------------------------------------------------------------


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
