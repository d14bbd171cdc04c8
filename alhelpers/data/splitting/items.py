"""Splits of single items: exact totals, and strata as near to their shares as the totals allow."""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from alhelpers.data.splitting.groups import Group, none_first, position
from alhelpers.data.splitting.shares import exact_shares, whole_counts

# Costs of rounding are integers, so that ties are exact; this is the cost of one item.
_COST_OF_ITEM = 1_000_000
_NEVER = 1 << 60


def plan_items(
    levels: Mapping[Any, Any],
    rows: Mapping[Any, int],
    columns: Mapping[str, int],
    fixed: Mapping[Any, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[Any, str]:
    """Assign each item to a group; `fixed` items keep theirs, `rows` and `columns` number strata and groups."""
    weights = [group.weight for group in groups]
    taken = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for item_id, name in fixed.items():
        taken[rows[levels[item_id]], columns[name]] += 1
    lacking = np.maximum(whole_counts(len(levels), weights) - taken.sum(axis=0), 0)
    # In proportion to the missing items of each group, and so never more than those.
    totals = taken.sum(axis=0) + whole_counts(len(levels) - len(fixed), lacking.tolist())
    waiting: list[list[Any]] = [[] for _ in rows]
    for item_id, level in levels.items():
        if item_id not in fixed:
            waiting[rows[level]].append(item_id)
    sizes = taken.sum(axis=1) + [len(items) for items in waiting]
    exact = [exact_shares(int(size), weights) for size in sizes]
    table = totals[None] if len(rows) == 1 else _round_table(exact, taken, sizes, totals)
    plan = dict(fixed)
    for items, counts in zip(waiting, table - taken, strict=True):
        # In the order of the node's positions, so that all items but those near an edge get the node's group.
        names = itertools.chain.from_iterable(map(itertools.repeat, columns, counts.tolist()))
        ordered = sorted(items, key=lambda item_id: (position(item_id, seed), none_first(item_id)))
        plan |= dict(zip(ordered, names, strict=True))
    return plan


def _round_table(
    exact: Sequence[Sequence[Fraction]], least: np.ndarray, sizes: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Round a table of shares, (strata, groups), to integers of at least `least` with given sums of rows and columns.

    A transport problem with convex costs. A number other than its share rounded down or up costs more than it can
    gain elsewhere; of these two the nearer one is cheaper.
    """
    floor = np.array([[math.floor(share) for share in row] for row in exact], dtype=np.int64)
    ceiling = np.array([[math.ceil(share) for share in row] for row in exact], dtype=np.int64)
    # Rounding up a share e above the floor adds (1 - e)^2 - e^2 to the squared distance.
    inside = np.array([[round((1 - 2 * (share % 1)) * _COST_OF_ITEM) for share in row] for row in exact])
    outside = 4 * len(totals) * _COST_OF_ITEM

    def one_more(table: np.ndarray, row: int | slice = slice(None)) -> np.ndarray:
        low, high = floor[row], ceiling[row]
        under, over = (2 * (table - low) + 1) * outside, (2 * (table - high) + 1) * outside
        return np.where(table < low, under, np.where(table < high, inside[row], over))

    table = np.maximum(floor, least)
    for row, size in enumerate(sizes):
        cells = table[row]
        while cells.sum() < size:
            cells[np.argmin(one_more(cells, row))] += 1
        while cells.sum() > size:
            cells[np.argmin(np.where(cells > least[row], -one_more(cells - 1, row), _NEVER))] -= 1
    # Each row is the cheapest by itself; now move single items along the cheapest paths until the columns are right.
    while (table.sum(axis=0) != totals).any():
        less = np.where(table > least, -one_more(table - 1), _NEVER)
        _move_items(table, less, one_more(table), table.sum(axis=0) - totals)
    return table


def _move_items(table: np.ndarray, less: np.ndarray, more: np.ndarray, excess: np.ndarray) -> None:
    """Move items from a column with too many to one with too few along the cheapest path, in place.

    `less` and `more` are the costs of one item less or more in each cell, `excess` the surplus of each column.
    """
    columns = range(len(excess))
    step = np.array([(less[:, [start]] + more).min(axis=0) for start in columns])
    cost = [0 if excess[column] > 0 else _NEVER for column in columns]
    before: list[int | None] = [None for _ in columns]
    for _, start, end in itertools.product(columns, columns, columns):
        if cost[start] + step[start, end] < cost[end]:
            cost[end], before[end] = cost[start] + step[start, end], start
    end = min((column for column in columns if excess[column] < 0), key=lambda column: cost[column])
    path = []
    start = before[end]
    while start is not None:
        path.append((start, end))
        start, end = before[start], start
    for start, end in path:
        price = less[:, start] + more[:, end]
        # A direct path stays the cheapest for all rows that have this price.
        count = min(excess[start], -excess[end]) if len(path) == 1 else 1
        chosen = np.flatnonzero(price == price.min())[:count]
        table[chosen, start] -= 1
        table[chosen, end] += 1
