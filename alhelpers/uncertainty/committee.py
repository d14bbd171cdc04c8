"""Committees: several models that were trained differently, and disagree where the data leaves them free to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from operator import call
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from alhelpers import parallel
from alhelpers.files import replacing
from alhelpers.protocols import Dataset, History, Learner, Progress
from alhelpers.training import train
from alhelpers.training.devices import Device, named_device
from alhelpers.uncertainty._committee_folds import (
    Folds,
    class_indices,
    length_of,
    rows_of_members,
    rows_outside,
)
from alhelpers.uncertainty._committee_members import (
    all_classes,
    as_features,
    check_distinct,
    combined,
    logits_of,
    mean_history,
    set_random_states,
    train_learner,
    train_model,
    workers_for,
)
from alhelpers.uncertainty._torch import (
    called_with_seed,
    confidences_of,
    derived_seed,
    first_not_finite,
    is_count,
)
from alhelpers.uncertainty.errors import CommitteeError
from alhelpers.uncertainty.mc_dropout import mc_dropout

_default_train = train


class Committee:
    """A committee of models that share a design and differ in their start and their training data.

    Of a learner, it is a :class:`~alhelpers.protocols.Learner` itself: it is fitted and predicts on data sets. Of a
    function that builds models, it is fitted and predicts on arrays.

    Parameters
    ----------
    build : Learner, sequence of Learner, or callable
        A learner, of which each member is a fresh one; or several, which are the members as they are, such as detectors
        that were trained elsewhere (:class:`alhelpers.learners.DetectorFunction`); or a function that makes one
        untrained member, ``build()``, or ``build(seed)`` if it has a parameter without default: a ``torch.nn.Module``
        that returns logits, or a classifier with scikit-learn's ``fit`` and ``predict_proba``. torch's random numbers
        and every ``random_state`` are seeded for each member, so the members start differently.
    members : int, optional
        The number K of members, at least 2. None: 5, or as many as ``build`` has.
    device : str or torch.device, optional
        Where torch members are trained and predict; between calls each is where it was. None: where it is, but from the
        CPU it goes to a GPU if torch finds one. Learners have their own. A function that is passed as ``train`` gets
        the members where they are.

    Attributes
    ----------
    models : list
        The members, once they are fitted or loaded; learners are there from the start.
    rows : list of numpy.ndarray
        The rows that each member was trained on, once they are fitted.
    histories : list of alhelpers.protocols.History
        The course of each member's training, if ``train`` returned it.
    threads : int or None
        The number of threads of each member's training, once they are fitted.
    class_names : list or None
        The classes of labels that were not class indices, once they are fitted.

    Notes
    -----
    The members are trained side by side in processes (:func:`alhelpers.parallel.run`), with one thread each unless
    ``threads`` is set. Their weights depend on ``threads`` in the last bits, and not on ``workers``. On a GPU they are
    trained one after another.

    References
    ----------
    Seung, Opper and Sompolinsky, "Query by committee", COLT 1992; Lakshminarayanan, Pritzel and Blundell,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017; Breiman,
    "Bagging predictors", 1996, for the bootstrap.
    """

    def __init__(
        self,
        build: Learner | Sequence[Learner] | Callable[..., Any],
        members: int | None = None,
        *,
        device: Device = None,
    ) -> None:
        ready = [*build] if isinstance(build, list | tuple) else []
        if wrong := [each for each in ready if not isinstance(each, Learner) or isinstance(each, type)]:
            raise CommitteeError(f"members must be learners, got a {type(wrong[0]).__name__}")
        if ready and members not in (None, len(ready)):
            raise CommitteeError(
                f"members is {members!r}, but {len(ready)} learners were passed: leave it out"
            )
        members = (len(ready) if isinstance(build, list | tuple) else 5) if members is None else members
        if not is_count(members, 2):
            raise CommitteeError(f"members must be a whole number of at least 2, got {members!r}")
        self.build = build
        self.members = int(members)
        named_device(device)
        self.device = device
        self.rows: list[np.ndarray] = []
        self.histories: list[History] = []
        self.threads: int | None = None
        self.class_names: list[Any] | None = None
        self._classes = 0  # how many the labels have, for estimators: they know those that they have seen
        self._of_learners = bool(ready) or (isinstance(build, Learner) and not isinstance(build, type))
        if self._of_learners and device is not None:
            raise CommitteeError(
                f"device is {device!r}, but learners have their own: build them with device=..."
            )
        self.models: list[Any] = ready or (self._fresh_learners(0) if self._of_learners else [])

    def fit(
        self,
        inputs: Any,
        labels: torch.Tensor | np.ndarray | None = None,
        folds: Folds | bool = "leave_one_out",
        seed: int = 0,
        *,
        validation: Any = None,
        progress: Progress | None = None,
        patience: int | None = None,
        allow_missing: bool = True,
        workers: Any = None,
        threads: int = 1,
        train: Callable[..., Any] = train,
        **training: Any,
    ) -> Any:
        """Train the members side by side: learners from their current weights, other members anew.

        Parameters
        ----------
        inputs : Dataset, or torch.Tensor, numpy.ndarray, sparse matrix or data frame of shape (N, ...)
            A data set for learners, else what the members take.
        labels : torch.Tensor or numpy.ndarray of shape (N,), optional
            Class indices from 0; or texts or truth values, whose sorted values are the classes. Not for a data set.
        folds : {"leave_one_out", "bootstrap", "disjoint", "all"} or bool
            What member k trains on. ``"leave_one_out"`` (True): all but the k-th of K folds, stratified by class where
            a record has one.
            ``"bootstrap"``: N records drawn with replacement. ``"disjoint"``: the k-th fold alone, a K-th of the
            labels, which loses to random. ``"all"`` (False): everything, from other starts.
        seed : int
            The same seed gives the same committee; torch's global random state is left as it was.
        validation : Dataset or (inputs, labels), optional
            Passed to each member's training.
        progress : callable, optional
            Called with (members trained, members) where they are learners, else passed on to ``train``.
        patience : int, optional
            Stop a member after this many evaluations in a row without a lower loss on the records that it does not
            train on, or on ``validation``, and keep its best weights. Learners have their own.
        allow_missing : bool
            Whether a member may train without any record of a class, with a warning; estimators return a confidence of
            0 for it. False: it is an error.
        workers : int, dask.distributed.Client or concurrent.futures.Executor, optional
            How many members are trained at a time, or who trains them. The default is one a core; but with functions
            of the caller's among the options, all are trained in this process.
        threads : int
            Threads of each training.
        train : callable
            ``train(model, inputs, labels, seed=seed, **training)`` trains a member in place.
        **training
            Options of ``train``, as of :func:`alhelpers.training.train`. Estimators and learners have none.

        Returns
        -------
        Committee or History
            Itself; of learners, the mean of the members' histories.

        Raises
        ------
        CommitteeError
            If there are no records, or fewer than members (with folds), labels that do not fit, a class that a member
            would not see without ``allow_missing``, or no validation data with a ``patience``.

        Warns
        -----
        CommitteeWarning
            If a member's rows hold no record of a class, with ``allow_missing``.
        """
        given = {"validation": validation, "patience": patience}
        options = training | {name: value for name, value in given.items() if value is not None}
        if self._of_learners:
            if labels is not None or set(options) - {"validation"} or train is not _default_train:
                raise CommitteeError(
                    "a committee of learners is fitted to a data set, such as alhelpers.data.ArrayDataset(inputs, "
                    "labels); the options of the training belong to its learner"
                )
            classes, names = _classes_of(inputs, getattr(self.models[0], "task", inputs.task)), None
        elif labels is None:
            raise CommitteeError(
                "labels must be passed, one a record: only a committee of learners, such as"
                " Committee(TorchClassifier(build)), is fitted to a data set"
            )
        else:
            classes, names = class_indices(labels, length_of(inputs))
            options |= {} if progress is None else {"progress": progress}
            if workers is None and (train is not _default_train or any(map(callable, options.values()))):
                workers = 1
        rows = rows_of_members(classes, self.members, folds, seed, allow_missing=allow_missing)
        if self._of_learners:
            jobs = [
                partial(train_learner, learner, inputs.take(own), validation=validation)
                for learner, own in zip(self.models, rows, strict=True)
            ]
        else:
            jobs = self._model_jobs(inputs, classes, rows, folds, seed, train, options)
        workers = workers_for([job.args[0] for job in jobs], self.device, workers)
        jobs = [partial(job, seed=derived_seed(seed, member)) for member, job in enumerate(jobs)]
        trained = []
        for member in parallel.run(call, jobs, workers=workers, threads=threads):
            trained.append(member)
            if progress is not None and self._of_learners:
                progress(len(trained), self.members)
        self.models = [model for model, _ in trained]
        self.histories = [history for _, history in trained if isinstance(history, History)]
        self.rows, self.threads = rows, threads
        self.class_names, self._classes = names, int(classes.max()) + 1
        return mean_history(self.histories) if self._of_learners else self

    def predict(
        self,
        inputs: Any,
        batch_size: int = 256,
        *,
        passes: int | None = None,
        masks: Literal["sample", "pass"] = "sample",
        embeddings: bool = False,
        seed: int = 0,
    ) -> Any:
        """Predict with every member, in evaluation mode, or with its dropout on.

        Parameters
        ----------
        inputs : Dataset, or torch.Tensor, numpy.ndarray, sparse matrix or data frame of shape (N, ...)
            A data set for learners, else what the members take.
        batch_size : int
            Records in one forward pass. Learners have their own.
        passes : int, optional
            The number T of passes of every member with its dropout on (:func:`mc_dropout`). None or 0: no dropout.
        masks, seed : str, int
            As in :func:`mc_dropout`; they count only with ``passes``. Learners have masks of their own.
        embeddings : bool
            Whether to return the first learner's embeddings.

        Returns
        -------
        Predictions, or numpy.ndarray of shape (N, K, C), or with passes (N, K, T, C), float32
            Of learners, what their predictions return of ``merged``: of classes these confidences as ``samples``, and
            their means over the members without dropout as ``confidences``; the same of the ``values`` of a regression;
            boxes merged where they overlap; mean confidences of pixels. Else the confidences of each member, in each
            pass.

        Raises
        ------
        CommitteeError
            If the committee was neither fitted nor loaded, there is no record, or an output is not finite.
        ValueError
            What the learners raise; with passes, what :func:`mc_dropout` raises, such as for members without dropout.
        """
        if self._of_learners:
            predictions = [
                learner.predict(
                    inputs, passes=passes or 0, embeddings=embeddings, seed=derived_seed(seed, member)
                )
                for member, learner in enumerate(self.models)
            ]
            return combined(predictions)
        self._check_ready("predict")
        if not length_of(inputs):
            raise CommitteeError("inputs must hold at least one record, got none")
        if not is_count(batch_size):
            raise CommitteeError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if not passes:
            samples = [self._confidences(member, inputs, batch_size) for member in range(self.members)]
        elif not isinstance(self.models[0], nn.Module):
            raise CommitteeError("passes are for torch members: estimators have no dropout")
        else:
            options = {"masks": masks, "batch_size": batch_size, "device": self.device}
            samples = [
                mc_dropout(model, inputs, passes, seed=derived_seed(seed, member), **options)[0]
                for member, model in enumerate(self.models)
            ]
        return np.stack(samples, axis=1)

    def fresh(self, seed: int) -> Committee:
        """Return an untrained committee of the same design; the members of one of learners start from the seed."""
        fresh = Committee(self.build, self.members, device=self.device)
        if self._of_learners:
            fresh.models = self._fresh_learners(seed)
        return fresh

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the members' weights: ``member_0.pt``, ``member_1.pt``, ... as plain state dicts.

        Of learners, each writes a folder of its own: ``member_0``, ``member_1``, ...

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
        if not self._of_learners and not isinstance(self.models[0], nn.Module):
            raise CommitteeError(
                f"the members are of type {type(self.models[0]).__name__}, which only a pickle can hold, and a pickle"
                " runs code when it is read: keep the labelled records and the seed, and fit again, which gives the"
                " same committee; or store committee.models yourself, with skops or ONNX"
            )
        for member, model in enumerate(self.models):
            target = Path(folder) / f"member_{member}"
            if self._of_learners:
                model.save(target)
                continue
            with replacing(target.with_suffix(".pt")) as part:
                torch.save(model.state_dict(), part)
        for stale in self._saved_members(folder)[self.members :]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()

    def load(self, folder: str | PathLike[str]) -> Committee:
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
        files = self._saved_members(folder)
        if len(files) != self.members:
            raise CommitteeError(f"{folder} holds {len(files)} members, this committee has {self.members}")
        if self._of_learners:
            models = self._fresh_learners(0)
            for learner, file in zip(models, files, strict=True):
                learner.load(file)
        else:
            models = [self._loaded(member, file) for member, file in enumerate(files)]
            check_distinct(models)
        self.models, self.rows, self.histories, self.threads = models, [], [], None
        return self

    def _model_jobs(
        self,
        inputs: Any,
        classes: np.ndarray,
        rows: list[np.ndarray],
        folds: Folds | bool,
        seed: int,
        train: Callable[..., Any],
        options: dict[str, Any],
    ) -> list[partial[Any]]:
        models = [self._built(seed, member) for member in range(self.members)]
        check_distinct(models)
        if not isinstance(models[0], nn.Module) and train is _default_train and options:
            raise CommitteeError(
                f"{', '.join(options)}: options of torch's training; set an estimator's own where build makes it"
            )
        outside: list[np.ndarray | None] = [None] * self.members
        if "patience" in options and "validation" not in options:
            outside = rows_outside(rows, len(classes), folds)
        if isinstance(models[0], nn.Module) and train is _default_train:
            options = {"device": self.device, **options}
        return [
            partial(train_model, model, inputs, classes, own, others, train, **options)
            for model, own, others in zip(models, rows, outside, strict=True)
        ]

    def _fresh_learners(self, seed: int) -> list[Learner]:
        each = [*self.build] if isinstance(self.build, list | tuple) else [self.build] * self.members
        return [learner.fresh(derived_seed(seed, member)) for member, learner in enumerate(each)]

    def _built(self, seed: int, member: int) -> Any:
        """Build a member from its own seed."""
        model = called_with_seed(self.build, derived_seed(seed, member))
        if isinstance(model, nn.Module):
            return model
        if not all(callable(getattr(model, name, None)) for name in ("fit", "predict_proba")):
            raise CommitteeError(
                f"build must return a torch.nn.Module, or an estimator with fit and predict_proba; it returned a"
                f" {type(model).__name__}"
            )
        set_random_states(model, derived_seed(seed, member))
        return model

    def _loaded(self, member: int, file: Path) -> nn.Module:
        model = self._built(0, member)
        if not isinstance(model, nn.Module):
            raise CommitteeError(
                f"build makes a {type(model).__name__}, and only torch models are saved and loaded: fit it again"
            )
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            model.load_state_dict(state)
        except (UnpicklingError, EOFError, TypeError) as error:
            raise CommitteeError(f"{file} is damaged, or was not written by save: {error}") from error
        except RuntimeError as error:
            raise CommitteeError(f"{file} does not fit the model that build makes: {error}") from error
        return model.eval()

    def _confidences(self, member: int, inputs: Any, batch_size: int) -> np.ndarray:
        model = self.models[member]
        is_module = isinstance(model, nn.Module)
        values = (
            logits_of(model, inputs, batch_size, self.device)
            if is_module
            else all_classes(model, as_features(inputs), self._classes)
        )
        row = first_not_finite(values)
        if row is not None:
            outputs = "logits" if is_module else "confidences"
            raise CommitteeError(f"member {member} returns {outputs} that are not finite for record {row}")
        return confidences_of(values) if is_module else values

    def _saved_members(self, folder: str | PathLike[str]) -> list[Path]:
        """Return the members' files, or the folders of learners, in their order."""
        found = Path(folder).glob("member_*" if self._of_learners else "member_*.pt")
        members = [path for path in found if path.stem[7:].isdecimal() and path.is_dir() == self._of_learners]
        return sorted(members, key=lambda path: int(path.stem[7:]))

    def _check_ready(self, what: str) -> None:
        if not self.models:
            raise CommitteeError(f"the committee has no trained member: call fit or load before {what}")


def _classes_of(dataset: Dataset, task: str) -> np.ndarray:
    """Return the class indices of a data set, all equal where the task has no single class a record."""
    if not len(dataset):
        raise CommitteeError("there is no labelled record to train on")
    if task != "classification" or dataset.task != "classification":
        return np.zeros(len(dataset), dtype=np.int64)
    labels = np.asarray(dataset.labels(np.arange(len(dataset))))
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise CommitteeError(
            f"labels hold {labels[labels != np.floor(labels)][0]} ({labels.dtype}), which is no class index: for"
            " numbers, give the data set task='regression'"
        )
    return class_indices(labels, len(dataset))[0]
