"""Which records each member of a committee learns from."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from alhelpers.uncertainty._torch import derived_seed

Folds = Literal["leave_one_out", "bootstrap", "disjoint", "all"]

_BOOTSTRAP = 1  # keeps the draws of the rows apart from the members' seeds


def named_folds(folds: Folds | bool) -> Folds:
    """Return the name of a way to cut the data; True and False are short for two of them.

    Raises
    ------
    ValueError
        If there is no such way.
    """
    if isinstance(folds, bool):
        return "leave_one_out" if folds else "all"
    if folds not in get_args(Folds):
        raise ValueError(f"folds must be one of {', '.join(get_args(Folds))}, got {folds!r}")
    return folds


def rows_of_members(classes: np.ndarray, members: int, folds: Folds, seed: int) -> list[np.ndarray]:
    """Return the rows that each member trains on.

    Parameters
    ----------
    classes : numpy.ndarray of shape (N,), int64
        The labels.
    members : int
        The number K of members.
    folds : {"leave_one_out", "bootstrap", "disjoint", "all"}
        See :meth:`Committee.fit`.
    seed : int
        Of the folds.

    Returns
    -------
    list of numpy.ndarray
        K arrays of row numbers, in order; a bootstrap draws N rows with replacement, so some come twice.

    Raises
    ------
    ValueError
        If there are fewer records than folds.
    """
    count = len(classes)
    if folds in ("leave_one_out", "disjoint") and count < members:
        raise ValueError(
            f"{count} records cannot be cut into {members} folds: "
            'label more, take fewer members, or pass folds="all" (False)'
        )
    if folds == "all":
        return [np.arange(count)] * members
    if folds == "bootstrap":
        draws = (np.random.default_rng(derived_seed(seed, member, _BOOTSTRAP)) for member in range(members))
        return [np.sort(draw.integers(count, size=count)) for draw in draws]
    fold = stratified_folds(classes, members, seed)
    alone = folds == "disjoint"
    return [np.flatnonzero((fold == member) == alone) for member in range(members)]


def stratified_folds(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal the records out into folds, class after class, so that all classes are spread and the sizes even."""
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(len(classes), dtype=np.int64)
    fold[by_class] = np.arange(len(classes)) % count
    return fold
