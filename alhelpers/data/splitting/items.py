"""Items that stand alone: totals that are exact, and strata that are as near as the totals allow."""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from alhelpers.data.splitting.groups import Group, position
from alhelpers.data.splitting.shares import exact_shares, whole_counts

# Costs of rounding are whole numbers, so that equal ones are equal: this many for one item.
_COST_OF_ITEM = 1_000_000
_NEVER = 1 << 60


def plan_items(
    levels: Mapping[str, str | None],
    rows: Mapping[str | None, int],
    columns: Mapping[str, int],
    fixed: Mapping[str, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[str, str]:
    """Give items groups, each by itself; `fixed` ones keep theirs, `rows` and `columns` number strata and groups."""
    weights = [group.weight for group in groups]
    taken = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for item_id, name in fixed.items():
        taken[rows[levels[item_id]], columns[name]] += 1
    lacking = np.maximum(whole_counts(len(levels), weights) - taken.sum(axis=0), 0)
    # In proportion to what each group lacks, and so never more than that.
    totals = taken.sum(axis=0) + whole_counts(len(levels) - len(fixed), lacking.tolist())
    waiting: list[list[tuple[float, str]]] = [[] for _ in rows]
    for item_id, level in levels.items():
        if item_id not in fixed:
            waiting[rows[level]].append((position(item_id, seed), item_id))
    sizes = taken.sum(axis=1) + [len(items) for items in waiting]
    exact = [exact_shares(int(size), weights) for size in sizes]
    table = totals[None] if len(rows) == 1 else _round_table(exact, taken, sizes, totals)
    plan = dict(fixed)
    for items, counts in zip(waiting, table - taken, strict=True):
        # By the position of the node's own rule, so that all but the items near an edge are where it puts them.
        names = itertools.chain.from_iterable(map(itertools.repeat, columns, counts.tolist()))
        plan |= {item_id: name for (_, item_id), name in zip(sorted(items), names, strict=True)}
    return plan


def _round_table(
    exact: Sequence[Sequence[Fraction]], least: np.ndarray, sizes: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Round a table of shares to whole numbers with given sums of rows and columns.

    A transport problem with convex costs. A number outside its share rounded down or up costs more than all
    that can be gained elsewhere by it; between the two the nearer one is the cheaper.

    Parameters
    ----------
    exact : sequence of sequence of Fraction, shape (strata, groups)
        The shares.
    least : numpy.ndarray, shape (strata, groups)
        What each cell holds already.
    sizes, totals : numpy.ndarray, shapes (strata,) and (groups,)
        The sums of the rows and of the columns.

    Returns
    -------
    numpy.ndarray, shape (strata, groups), int64
        The cheapest table.
    """
    floor = np.array([[math.floor(share) for share in row] for row in exact], dtype=np.int64)
    ceiling = np.array([[math.ceil(share) for share in row] for row in exact], dtype=np.int64)
    # What rounding up adds to the squared distance from the share e above the floor: (1 - e)^2 - e^2.
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
    # Each row is the cheapest by itself; now move single items along the cheapest ways until the columns are right.
    while (table.sum(axis=0) != totals).any():
        less = np.where(table > least, -one_more(table - 1), _NEVER)
        _move_items(table, less, one_more(table), table.sum(axis=0) - totals)
    return table


def _move_items(table: np.ndarray, less: np.ndarray, more: np.ndarray, excess: np.ndarray) -> None:
    """Move an item out of a column that has too many into one that has too few, by the cheapest way.

    Parameters
    ----------
    table : numpy.ndarray, shape (strata, groups)
        Is changed.
    less, more : numpy.ndarray, shape (strata, groups)
        What one item less or more costs in each cell.
    excess : numpy.ndarray, shape (groups,)
        How many items each column has too many.
    """
    columns = range(len(excess))
    step = np.array([(less[:, [start]] + more).min(axis=0) for start in columns])
    cost = [0 if excess[column] > 0 else _NEVER for column in columns]
    before: list[int | None] = [None for _ in columns]
    for _, start, end in itertools.product(columns, columns, columns):
        if cost[start] + step[start, end] < cost[end]:
            cost[end], before[end] = cost[start] + step[start, end], start
    end = min((column for column in columns if excess[column] < 0), key=lambda column: cost[column])
    ways = []
    start = before[end]
    while start is not None:
        ways.append((start, end))
        start, end = before[start], start
    for start, end in ways:
        price = less[:, start] + more[:, end]
        # A direct way stays the cheapest until the rows that offer it at this price are used up.
        room = min(excess[start], -excess[end]) if len(ways) == 1 else 1
        chosen = np.flatnonzero(price == price.min())[:room]
        table[chosen, start] -= 1
        table[chosen, end] += 1
