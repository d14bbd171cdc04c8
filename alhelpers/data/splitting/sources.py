"""Splits that keep the items of a source together: a packing problem, searched for the nearest totals."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alhelpers.data.splitting.groups import Group, none_first, position
from alhelpers.data.splitting.shares import exact_shares, whole_counts

# The most sources of a group considered in an exchange, the number of random orders, and the most totals tried.
_EXCHANGED_SOURCES = 300
_ORDERS = 8
_REACHABLE_TOTALS = 5_000


def plan_sources(
    levels: Mapping[Any, Any],
    rows: Mapping[Any, int],
    columns: Mapping[str, int],
    source: Mapping[Any, Any],
    fixed: Mapping[Any, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[Any, str]:
    """Assign the largest sources first, then move and exchange sources until nothing improves."""
    weights = [group.weight for group in groups]
    names = sorted(set(source.values()), key=none_first)
    index = {name: number for number, name in enumerate(names)}
    # A row for each source: its items of each stratum, and in the last column all of them.
    sizes = np.zeros((len(names), len(rows) + 1), dtype=np.int64)
    for item_id, level in levels.items():
        sizes[index[source[item_id]], [rows[level], -1]] += 1
    goal = np.empty((len(groups), len(rows) + 1))
    goal[:, :-1] = np.array([exact_shares(int(size), weights) for size in sizes[:, :-1].sum(axis=0)]).T
    goal[:, -1] = whole_counts(len(levels), weights)
    owner = np.full(len(names), -1)
    for item_id, name in fixed.items():
        owner[index[source[item_id]]] = columns[name]
    free = np.flatnonzero(owner < 0)
    usable = [column for column, weight in enumerate(weights) if weight > 0]
    places = [[position(names[number], f"{seed}/{order}") for number in free] for order in range(_ORDERS)]
    # With many sources the first order is as good as the others.
    orders = places[: _ORDERS if len(free) <= _EXCHANGED_SOURCES else 1]
    starts = [_assign_largest_first(sizes, owner, goal, free, usable, np.array(order)) for order in orders]
    nearest = _nearest_totals(sizes[:, -1], owner, goal[:, -1], free, usable)
    if nearest is not None:
        starts.append(nearest)
    price_of_total = len(levels) ** 2 + 1  # more than the strata can gain
    for start in starts:
        _exchange(sizes, start, goal, free, usable, price_of_total)
    best = min(starts, key=lambda owners: _distance(sizes, owners, goal))
    group_names = list(columns)
    return {item_id: group_names[best[index[name]]] for item_id, name in source.items()}


def _assign_largest_first(
    sizes: np.ndarray,
    owner: np.ndarray,
    goal: np.ndarray,
    free: np.ndarray,
    usable: Sequence[int],
    places: np.ndarray,
) -> np.ndarray:
    """Assign the free sources to groups, the largest first; `places` (0 to 1, one for each) vary the order."""
    owner = owner.copy()
    order = free[np.lexsort((places, -sizes[free, -1] * (1 + places)))]
    off = _table(sizes, owner, len(goal)) - goal
    for number in order:
        column = usable[int(np.argmin(off[usable] @ sizes[number]))]
        owner[number] = column
        off[column] += sizes[number]
    _exchange(sizes, owner, goal, order, usable, price_of_total=0)
    return owner


def _nearest_totals(
    sizes: np.ndarray, owner: np.ndarray, goal: np.ndarray, free: np.ndarray, usable: Sequence[int]
) -> np.ndarray | None:
    """Return the groups of the sources whose totals are the nearest of all, or None if there are too many totals.

    `sizes` and `owner` are the items of each source and its group, -1 for the `free` ones.
    """
    start = tuple(int(sizes[owner == column].sum()) for column in range(len(goal)))
    reached: list[dict[tuple[int, ...], tuple[tuple[int, ...], int]]] = []
    totals: Iterable[tuple[int, ...]] = [start]
    for number in free:
        layer: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = {}
        for before, column in itertools.product(totals, usable):
            after = (*before[:column], before[column] + int(sizes[number]), *before[column + 1 :])
            layer.setdefault(after, (before, column))
        if len(layer) > _REACHABLE_TOTALS:
            return None
        reached.append(layer)
        totals = layer
    end = min(totals, key=lambda total: float(np.abs(np.array(total) - goal).sum()))
    owner = owner.copy()
    for number, layer in zip(free[::-1], reached[::-1], strict=True):
        end, owner[number] = layer[end]
    return owner


def _table(sizes: np.ndarray, owner: np.ndarray, groups: int) -> np.ndarray:
    return np.array([sizes[owner == column].sum(axis=0) for column in range(groups)])


def _distance(sizes: np.ndarray, owner: np.ndarray, goal: np.ndarray) -> tuple[float, float]:
    off = _table(sizes, owner, len(goal)) - goal
    return float(np.abs(off[:, -1]).sum()), float((off[:, :-1] ** 2).sum())


def _exchange(
    sizes: np.ndarray,
    owner: np.ndarray,
    goal: np.ndarray,
    free: np.ndarray,
    usable: Sequence[int],
    price_of_total: int,
) -> None:
    """Move one source or exchange two, the best such change each time, until none reduces the distance.

    The distance is the sum of the squares over all strata and totals, plus the price for each missing or surplus
    item of a total.
    """
    while True:
        off = _table(sizes, owner, len(goal)) - goal
        gain, best = -1e-6, None
        for left, right in itertools.combinations(usable, 2):
            mine, theirs = (free[owner[free] == column][:_EXCHANGED_SOURCES] for column in (left, right))
            change = _changes(sizes[mine], sizes[theirs], off[left], off[right], price_of_total)
            if change.min() < gain:
                gain = change.min()
                best = (left, right, mine, theirs, *np.unravel_index(change.argmin(), change.shape))
        if best is None:
            return
        left, right, mine, theirs, first, second = best
        # The row and the column after the last source mean that nothing is moved.
        owner[mine[first : first + 1]] = right
        owner[theirs[second : second + 1]] = left


def _changes(
    mine: np.ndarray, theirs: np.ndarray, off_left: np.ndarray, off_right: np.ndarray, price_of_total: int
) -> np.ndarray:
    """Return the change of the distance for each pair of sources that two groups exchange, (M + 1, K + 1).

    `mine` and `theirs` are the sizes of the sources, (M, strata + 1) and (K, strata + 1), `off_left` and `off_right`
    the surplus of the groups, (strata + 1,). In the last row and column only one source is moved.
    """
    nothing = np.zeros((1, len(off_left)))
    mine, theirs = np.vstack([mine, nothing]), np.vstack([theirs, nothing])
    slope = off_right - off_left
    alone = [(side**2).sum(axis=1) + sign * (side @ slope) for side, sign in ((mine, 1), (theirs, -1))]
    squares = 2 * (alone[0][:, None] + alone[1][None] - 2 * mine @ theirs.T)
    moved = mine[:, -1][:, None] - theirs[:, -1][None]
    totals = np.abs(off_left[-1] - moved) + np.abs(off_right[-1] + moved)
    return squares + price_of_total * (totals - np.abs(off_left[-1]) - np.abs(off_right[-1]))
