"""Which records each member of a committee learns from."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import numpy as np
import torch

from alhelpers.uncertainty._torch import derived_seed
from alhelpers.uncertainty.errors import CommitteeError, CommitteeWarning

Folds = Literal["leave_one_out", "bootstrap", "disjoint", "all"]

_BOOTSTRAP = 1  # keeps the draws of the rows apart from the members' seeds

_MORE_LABELS = {
    "leave_one_out": "label at least two records of each class",
    "disjoint": "label at least one record of each class a member",
    "bootstrap": "take another seed, label more",
}


def length_of(inputs: Any) -> int:
    """Return the number of rows; a sparse matrix has no length."""
    return inputs.shape[0] if hasattr(inputs, "shape") else len(inputs)


def class_indices(labels: Any, count: int) -> tuple[np.ndarray, list[Any] | None]:
    """Return labels as int64 class indices, and the classes if the labels are texts or truth values."""
    classes = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    names = None
    if classes.shape == (count,) and (
        classes.dtype.kind in "bU" or all(isinstance(one, str) for one in classes)
    ):
        values, classes = np.unique(classes, return_inverse=True)
        names = values.tolist()
    elif classes.dtype.kind == "f" and (classes == np.floor(classes)).all():
        classes = classes.astype(np.int64)
    if classes.shape != (count,) or classes.dtype.kind not in "iu" or (classes < 0).any():
        raise CommitteeError(
            f"labels must be {count} class indices from 0, or texts, one a record; got {classes.dtype} of shape "
            f"{classes.shape}"
        )
    if not count:
        raise CommitteeError("there is no labelled record to train on")
    return classes.astype(np.int64), names


def rows_of_members(
    classes: np.ndarray, members: int, folds: Folds | bool, seed: int, *, allow_missing: bool
) -> list[np.ndarray]:
    """Return the rows that each member trains on, K arrays in rising order; a bootstrap repeats some.

    ``classes`` are N class indices, all equal where the task has no classes.
    """
    folds = _named(folds)
    count = len(classes)
    if folds in ("leave_one_out", "disjoint") and count < members:
        raise CommitteeError(
            f"{count} records cannot be cut into {members} folds: "
            'label more, take fewer members, or pass folds="all" (False)'
        )
    if folds == "all":
        rows = [np.arange(count)] * members
    elif folds == "bootstrap":
        draws = (np.random.default_rng(derived_seed(seed, member, _BOOTSTRAP)) for member in range(members))
        rows = [np.sort(draw.integers(count, size=count)) for draw in draws]
    else:
        fold = stratified_folds(classes, members, seed)
        rows = [np.flatnonzero((fold == member) == (folds == "disjoint")) for member in range(members)]
    for member, own in enumerate(rows):
        _check_classes(classes, own, member, folds, allow_missing)
    return rows


def stratified_folds(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal the records out into folds, class after class, so that all classes are spread and the sizes even."""
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(len(classes), dtype=np.int64)
    fold[by_class] = np.arange(len(classes)) % count
    return fold


def rows_outside(rows: list[np.ndarray], count: int, folds: Folds | bool) -> list[np.ndarray]:
    """Return the rows that each member does not train on, to validate it."""
    outside = [np.setdiff1d(np.arange(count), own) for own in rows]
    for member, others in enumerate(outside):
        if folds == "disjoint" or not len(others):
            raise CommitteeError(
                f'member {member} has no records to validate it on with folds="{_named(folds)}": a patience needs '
                'folds="leave_one_out" or "bootstrap" and enough records, or validation=(inputs, labels)'
            )
    return outside


def _named(folds: Folds | bool) -> Folds:
    if isinstance(folds, bool):
        return "leave_one_out" if folds else "all"
    if folds not in get_args(Folds):
        raise CommitteeError(f"folds must be one of {', '.join(get_args(Folds))}, got {folds!r}")
    return folds


def _check_classes(
    classes: np.ndarray, rows: np.ndarray, member: int, folds: Folds, allow_missing: bool
) -> None:
    """Warn, or raise, if a member would not see every class."""
    missing = np.setdiff1d(classes, classes[rows])
    if not len(missing):
        return
    has = ", ".join(f"class {number} (it has {(classes == number).sum()})" for number in missing)
    message = (
        f'member {member} trains without any record of {has} with folds="{folds}": {_MORE_LABELS[folds]}, or'
        ' pass folds="all"'
    )
    if not allow_missing:
        raise CommitteeError(f"{message}, or allow_missing=True")
    warnings.warn(message, CommitteeWarning, stacklevel=4)
