"""The pipeline node "Model Data Split": every item belongs to one subset, always the same one.

The node sees one item at a time: its group follows from a hash of the seed and the item's id (or of what the
item comes from), so a retry, a second pipeline run and another machine agree, and an item that was trained on
can never turn up in the test subset later. `split_dataset` sees all items at once, so it can do better than
chance: exact totals, the same mix of labels in every subset, and no source in two of them.
"""

import bisect
import copy
import hashlib
import itertools
import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers import configurations

logger = logging.getLogger(__name__)

_GROUP_NAME = {
    "description": "a text with neither '.' nor '$': it becomes the key of a tag",
    "type": "string",
    "pattern": r"^[^.$]*[^.$\s][^.$]*$",
}
_DISTRIBUTION = {
    "description": "a number of 0 or more, such as 80 or '33.3%'",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*%?\s*$"},
    ],
}
#: What the pipeline's editor writes, and what is ours: seed, groupBy, clearModelInfo.
CONFIG_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "Model Data Split",
    "description": "an object with the groups of the split",
    "type": "object",
    "properties": {
        "name": {"description": "the node's name", "type": "string"},
        "distributeEqually": {
            "description": "true, for the same share for every group, or false",
            "type": "boolean",
        },
        "groups": {
            "description": "a list of at least one group with a name and a distribution, or {name: distribution}",
            "type": ["array", "object"],
            "minItems": 1,
            "minProperties": 1,
            "propertyNames": _GROUP_NAME,
            "items": {
                "description": "an object with 'name' and 'distribution'",
                "type": "object",
                "properties": {
                    "id": {"description": "a text or a number", "type": ["string", "number"]},
                    "name": _GROUP_NAME,
                    "distribution": {"description": "read unless 'distributeEqually' is true"},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        },
        "itemMetadata": {
            "description": "true, to tag the items with their group, or false",
            "type": "boolean",
        },
        "validation": {"description": "what the pipeline's editor found"},
        "ports": {"description": "a list of the node's ports", "type": ["array", "null"]},
        "seed": {
            "description": "a whole number or a text: another seed, another split",
            "type": ["integer", "string"],
        },
        "groupBy": {
            "description": "a dotted path into the item, such as 'metadata.user.source' or 'dir'",
            "type": "string",
            "pattern": r"^[^.\s]+(\.[^.]+)*$",
        },
        "clearModelInfo": {
            "description": "true, to make reviewed predictions ground truth, or false",
            "type": "boolean",
        },
    },
    "required": ["groups"],
    "additionalProperties": False,
    "if": {"properties": {"distributeEqually": {"const": True}}, "required": ["distributeEqually"]},
    "else": {
        "properties": {
            "groups": {
                "items": {"properties": {"distribution": _DISTRIBUTION}, "required": ["distribution"]},
                "additionalProperties": _DISTRIBUTION,
            }
        }
    },
}

DEFAULT_CONFIG: dict[str, Any] = {
    "name": "Model Data Split",
    "distributeEqually": False,
    "groups": [
        {"id": "train", "name": "train", "distribution": 80},
        {"id": "validation", "name": "validation", "distribution": 10},
        {"id": "test", "name": "test", "distribution": 10},
    ],
    "itemMetadata": True,
}
# Keys under which a prediction says which model made it; `prediction` is where this kit's adapters keep the
# full confidence vector.
_MODEL_INFO_KEYS = (("system", "model"), ("user", "model"), ("user", "prediction"))
_IDS_PER_QUERY = 500
_PARALLEL_UPDATES = 8
# Costs of rounding are whole numbers, so that equal ones are equal: this many for one item.
_COST_OF_ITEM = 1_000_000
_NEVER = 1 << 60
# Sources of one group that an exchange looks at, the orders in which sources are dealt out, and the totals that
# are all tried out.
_EXCHANGED_SOURCES = 300
_DEALS = 8
_REACHABLE_TOTALS = 5_000


@dataclass(frozen=True)
class Group:
    """One group of the split.

    Parameters
    ----------
    name : str
        The group's name: the node's action and the tag that the item gets.
    weight : float
        Its share of the items, relative to the other groups.
    """

    name: str
    weight: float


@dataclass
class SplitResult:
    """What `split_dataset` did.

    Parameters
    ----------
    counts : dict of str to int
        Items of each group now, the ones that had the tag already included.
    wanted : dict of str to int
        Items that each group should have by its share of the items that were listed.
    assigned : int
        Items that were tagged now.
    kept : int
        Items that had their tag already and kept it.
    skipped : int
        Items that are no images and were left alone.
    deleted : int
        Items that were deleted while the split ran.
    strata : list of dict
        For a stratified split a row for every stratum and group: ``stratum`` (None: without a label),
        ``group``, ``wanted`` (the exact share, a float) and ``reached``.
    warnings : list of str
        What the caller should know.
    """

    counts: dict[str, int]
    wanted: dict[str, int] = field(default_factory=dict)
    assigned: int = 0
    kept: int = 0
    skipped: int = 0
    deleted: int = 0
    strata: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------


def parse_weight(name: str, value: Any) -> float:
    """Read one group's distribution.

    Parameters
    ----------
    name : str
        The group's name, for the error.
    value : float, int or str
        A number, or a text such as ``"33.3"`` or ``"80%"``.

    Returns
    -------
    float
        The weight, 0 or more.

    Raises
    ------
    ValueError
        When it is missing, no number, negative, or not finite.
    """
    text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
    try:
        # bool is an int in Python, but `true` is no share of anything.
        weight = math.nan if isinstance(text, bool) or text is None else float(text)
    except (TypeError, ValueError):
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(
            f"group {name!r}: distribution {value!r} must be a number of 0 or more, such as 80 or '33.3%'"
        )
    return weight


def parse_groups(
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]], distribute_equally: bool = False
) -> tuple[Group, ...]:
    """Check the groups of a split.

    Parameters
    ----------
    groups : mapping of name to distribution, or iterable of Group or of ``{"name", "distribution"}``
        The groups as the node's configuration holds them, or as a notebook writes them: ``{"train": 80,
        "test": 20}``.
    distribute_equally : bool
        Give every group the same share and ignore the distributions.

    Returns
    -------
    tuple of Group
        The groups, in the given order.

    Raises
    ------
    ValueError
        For no groups, an empty, duplicate or untaggable name, an unreadable distribution, or a total of 0.
    """
    parsed = []
    for name, distribution in _name_and_distribution(groups):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"group name {name!r} is empty: every group of the split needs a name")
        # A dot or a dollar would make the filter on the tag look elsewhere and find nothing.
        if "." in name or "$" in name:
            raise ValueError(f"group name {name!r} may not hold '.' or '$': it becomes a metadata key")
        parsed.append(Group(name, 1.0 if distribute_equally else parse_weight(name, distribution)))
    names = [group.name.strip() for group in parsed]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"group name {duplicates[0]!r} is used more than once: rename one of the groups")
    if not parsed:
        raise ValueError("the split has no groups: give at least one name with a distribution")
    if sum(group.weight for group in parsed) <= 0:
        raise ValueError(f"the distributions of {names} add up to 0: give at least one group a share")
    return tuple(parsed)


def _name_and_distribution(
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
) -> list[tuple[Any, Any]]:
    if isinstance(groups, Mapping):
        return list(groups.items())
    pairs: list[tuple[Any, Any]] = []
    for group in groups:
        if isinstance(group, Group):
            pairs.append((group.name, group.weight))
        elif isinstance(group, Mapping):
            pairs.append((group.get("name"), group.get("distribution")))
        else:
            raise ValueError(f"group {group!r} must be an object with 'name' and 'distribution'")
    return pairs


def check_total(groups: Sequence[Group]) -> str | None:
    """Say when the distributions are neither fractions nor percentages of a whole.

    Parameters
    ----------
    groups : sequence of Group
        The groups.

    Returns
    -------
    str or None
        The warning, or None when they add up to 1 or to 100 (three thirds written as 33.3 do).
    """
    total = sum(group.weight for group in groups)
    # The tolerance of the fractions is the one of the percentages, a hundredth of it.
    if abs(total - 100) <= 0.1 + 1e-9 or abs(total - 1) <= 0.001 + 1e-9:
        return None
    shares = ", ".join(f"{group.name} {100 * group.weight / total:.1f} %" for group in groups)
    return f"the distributions add up to {total:g}, neither 1 nor 100; they are used as shares: {shares}"


def assign_group(
    item_id: str, groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]], seed: int | str = 0
) -> str:
    """Choose an item's group from its id alone.

    Parameters
    ----------
    item_id : str
        The item's id, or a name that all items of one source share, to keep them together.
    groups : mapping or iterable
        The groups, as `parse_groups` takes or returns them.
    seed : int or str
        Another seed, another split.

    Returns
    -------
    str
        The group's name. The same arguments give the same name in every process and at every time.

    Raises
    ------
    ValueError
        As `parse_groups`.

    Examples
    --------
    >>> assign_group("65f1", {"train": 80, "validation": 10, "test": 10}, seed=0)
    'train'
    """
    drawable = [group for group in parse_groups(groups) if group.weight > 0]
    edges = list(itertools.accumulate(group.weight for group in drawable))
    index = bisect.bisect_right(edges, _position(item_id, seed) * edges[-1])
    return drawable[min(index, len(drawable) - 1)].name


def _position(key: str, seed: int | str) -> float:
    """Hash a key to a place from 0 to below 1."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    # 53 bits are what a float holds exactly: more could round up to 1.0, outside every group.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def value_at(item: dl.Item, path: str) -> str | None:
    """Read a value of an item as text.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        A dotted path into the item's JSON, such as ``"metadata.user.source"`` or ``"dir"``.

    Returns
    -------
    str or None
        The value; a number or a truth value as JSON writes it. None when it is missing or empty.

    Raises
    ------
    ValueError
        When the value is an object or a list.
    """
    first, *rest = path.split(".")
    # Most paths lead into the metadata, and the whole item takes long to write as JSON.
    value = item.metadata if first == "metadata" else item.to_json().get(first)
    for key in rest:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value == "":
        return None
    if isinstance(value, Mapping | list):
        raise ValueError(f"item {item.filename!r} ({item.id}): {path!r} {value!r} must be a text or a number")
    return value if isinstance(value, str) else json.dumps(value)


def source_of(item: dl.Item, path: str) -> str:
    """Read what an item comes from.

    Parameters
    ----------
    item : dl.Item
        The item.
    path : str
        As in `value_at`.

    Returns
    -------
    str
        The source; items of one source belong in one subset.

    Raises
    ------
    ValueError
        When the item does not name its source.
    """
    source = value_at(item, path)
    if source is None:
        raise ValueError(
            f"item {item.filename!r} ({item.id}) has no {path!r}, so the items of its source cannot be kept "
            "together: write it into the item, or group by something that every item has"
        )
    return source


def current_group(
    metadata: Mapping[str, Any] | None, groups: Sequence[Group], item_id: str = "?"
) -> str | None:
    """Read which of the groups an item is tagged with.

    Parameters
    ----------
    metadata : mapping or None
        The item's metadata. Tags that are no groups of this split, and groups that are not `True`, do not
        count.
    groups : sequence of Group
        The groups of this split.
    item_id : str
        For the error.

    Returns
    -------
    str or None
        The group's name, or None when the item has none yet.

    Raises
    ------
    ValueError
        When the item is tagged with two of the groups: only its owner knows which one is right.
    """
    tags = ((metadata or {}).get("system") or {}).get("tags") or {}
    found = [group.name for group in groups if tags.get(group.name) is True]
    if len(found) > 1:
        raise ValueError(
            f"item {item_id} is tagged with several groups of the split, {found}: it would be trained and "
            "tested on. Remove all but one of them from metadata.system.tags"
        )
    return found[0] if found else None


def without_model_info(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """Copy an annotation's metadata without the marks of the model that predicted it.

    Parameters
    ----------
    metadata : mapping or None
        The annotation's metadata; it is not changed.

    Returns
    -------
    cleaned : dict
        The metadata without model info.
    changed : bool
        Whether there was any.
    """
    cleaned = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in (metadata or {}).items()
    }
    changed = False
    for section, key in _MODEL_INFO_KEYS:
        part = cleaned.get(section)
        if isinstance(part, dict) and part.get(key) is not None:
            del part[key]
            changed = True
    return cleaned, changed


# ---------------------------------------------------------------------------------- all items at once


def whole_counts(total: int, weights: Sequence[float]) -> list[int]:
    """Share out whole items by the largest remainder.

    Parameters
    ----------
    total : int
        How many items there are.
    weights : sequence of float
        Each group's share, relative to the others.

    Returns
    -------
    list of int
        The groups' numbers of items; they add up to `total`, and each is its exact share rounded down or up.
        Among equal remainders the earlier group is rounded up.

    Examples
    --------
    >>> whole_counts(14, [70, 10, 20])
    [10, 1, 3]
    """
    exact = _exact_shares(total, weights)
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def _exact_shares(total: int, weights: Sequence[float]) -> list[Fraction]:
    # The number as it is written: 0.1 is a tenth, and not the binary fraction beside it.
    written = [Fraction(repr(float(weight))) for weight in weights]
    whole = sum(written) or Fraction(1)
    return [total * weight / whole for weight in written]


def plan_split(
    item_ids: Sequence[str],
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
    seed: int | str = 0,
    *,
    strata: Sequence[str | None] | None = None,
    sources: Sequence[str] | None = None,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Choose the groups of all items at once.

    Parameters
    ----------
    item_ids : sequence of str, length N
        The items; their order does not matter.
    groups : mapping or iterable
        The groups, as `parse_groups` takes or returns them.
    seed : int or str
        Another seed, another split.
    strata : sequence of str or None, length N, optional
        The stratum of each item, such as its label: every group gets its share of each. None is a stratum
        like the others.
    sources : sequence of str, length N, optional
        What each item comes from: all items of one source get the same group.
    kept : mapping of str to str, optional
        The groups of items that have one already; they keep it.

    Returns
    -------
    dict of str to str
        The group of every item.

        Without sources the totals are those of `whole_counts`, unless the kept items stand against it, and
        then as near as can be. Of all tables of strata and groups with these totals it is the nearest to the
        exact shares: every number is its share rounded down or up wherever the totals allow it.

        With sources the totals come first, then the strata. Dividing sources is a packing problem: the
        totals are the nearest of all when there are few to try out (with two groups, up to thousands of
        items), else, as always for the strata, the best of several searches. Where all that is kept agrees
        with the plan that nothing was kept for, the two plans are the same: a split that was cut off ends as
        one that was not.

    Raises
    ------
    ValueError
        As `parse_groups`; for an id that is there twice, or strata or sources of another number than the items;
        when items of one source are kept in two groups.

    Examples
    --------
    >>> plan = plan_split(["a", "b", "c", "d"], {"train": 50, "test": 50}, strata=["x", "x", "y", "y"])
    >>> sorted(plan[item_id] for item_id in "ab")
    ['test', 'train']
    """
    parsed = parse_groups(groups)
    ids = list(item_ids)
    repeated = [item_id for item_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"item {repeated[0]!r} is there more than once: give every id once")
    for argument, values in (("strata", strata), ("sources", sources)):
        if values is not None and len(values) != len(ids):
            raise ValueError(f"{argument} has {len(values)} values for {len(ids)} items: give one for each")
    levels = dict(zip(ids, strata if strata is not None else [None] * len(ids), strict=True))
    source = None if sources is None else dict(zip(ids, sources, strict=True))
    fixed = {item_id: name for item_id, name in (kept or {}).items() if item_id in levels}
    if source is not None:
        fixed = _whole_sources(source, fixed)
    if fixed:
        plan = _plan(levels, source, {}, parsed, seed)
        if all(plan[item_id] == name for item_id, name in fixed.items()):
            return plan
    return _plan(levels, source, fixed, parsed, seed)


def _whole_sources(source: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Keep the rest of a source where some of its items are."""
    found: dict[str, set[str]] = defaultdict(set)
    for item_id, name in kept.items():
        found[source[item_id]].add(name)
    broken = sorted(name for name, groups in found.items() if len(groups) > 1)
    if broken:
        raise ValueError(
            f"items of source {broken[0]!r} are in several groups already, {sorted(found[broken[0]])}: remove "
            "their tags from metadata.system.tags, and all of them are put into one"
            + (f" ({len(broken)} sources are divided so)" if len(broken) > 1 else "")
        )
    return {item_id: min(found[name]) for item_id, name in source.items() if name in found}


def _plan(
    levels: Mapping[str, str | None],
    source: Mapping[str, str] | None,
    fixed: Mapping[str, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[str, str]:
    rows = {level: row for row, level in enumerate(sorted(set(levels.values()), key=_none_first))}
    columns = {group.name: column for column, group in enumerate(groups)}
    if source is None:
        return _plan_items(levels, rows, columns, fixed, groups, seed)
    return _plan_sources(levels, rows, columns, source, fixed, groups, seed)


def _none_first(level: str | None) -> tuple[bool, str]:
    return level is not None, level or ""


# ------------------------------------------------------------------------------- items that stand alone


def _plan_items(
    levels: Mapping[str, str | None],
    rows: Mapping[str | None, int],
    columns: Mapping[str, int],
    fixed: Mapping[str, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[str, str]:
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
            waiting[rows[level]].append((_position(item_id, seed), item_id))
    sizes = taken.sum(axis=1) + [len(items) for items in waiting]
    exact = [_exact_shares(int(size), weights) for size in sizes]
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


# ------------------------------------------------------------------------------ items that stay together


def _plan_sources(
    levels: Mapping[str, str | None],
    rows: Mapping[str | None, int],
    columns: Mapping[str, int],
    source: Mapping[str, str],
    fixed: Mapping[str, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[str, str]:
    """Deal out the largest sources first, then move and exchange sources until nothing gets better."""
    weights = [group.weight for group in groups]
    names = sorted(set(source.values()))
    index = {name: number for number, name in enumerate(names)}
    # A row a source: its items of each stratum, and at the end all of them.
    sizes = np.zeros((len(names), len(rows) + 1), dtype=np.int64)
    for item_id, level in levels.items():
        sizes[index[source[item_id]], [rows[level], -1]] += 1
    goal = np.empty((len(groups), len(rows) + 1))
    goal[:, :-1] = np.array([_exact_shares(int(size), weights) for size in sizes[:, :-1].sum(axis=0)]).T
    goal[:, -1] = whole_counts(len(levels), weights)
    owner = np.full(len(names), -1)
    for item_id, name in fixed.items():
        owner[index[source[item_id]]] = columns[name]
    free = np.flatnonzero(owner < 0)
    usable = [column for column, weight in enumerate(weights) if weight > 0]
    places = [[_position(names[number], f"{seed}/{deal}") for number in free] for deal in range(_DEALS)]
    # With many sources the first deal is as near as the others.
    deals = places[: _DEALS if len(free) <= _EXCHANGED_SOURCES else 1]
    starts = [_deal_out(sizes, owner, goal, free, usable, np.array(deal)) for deal in deals]
    nearest = _nearest_totals(sizes[:, -1], owner, goal[:, -1], free, usable)
    if nearest is not None:
        starts.append(nearest)
    price_of_total = len(levels) ** 2 + 1  # more than the strata can ever gain
    for start in starts:
        _exchange(sizes, start, goal, free, usable, price_of_total)
    best = min(starts, key=lambda dealt: _distance(sizes, dealt, goal))
    group_names = list(columns)
    return {item_id: group_names[best[index[name]]] for item_id, name in source.items()}


def _deal_out(
    sizes: np.ndarray,
    owner: np.ndarray,
    goal: np.ndarray,
    free: np.ndarray,
    usable: Sequence[int],
    places: np.ndarray,
) -> np.ndarray:
    """Give the free sources owners; `places` (0 to 1, one for each) vary the order."""
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
    """Try out all totals that can be reached, source by source; None when they are too many.

    Parameters
    ----------
    sizes, owner : numpy.ndarray, shape (sources,)
        Items of each source, and its group, -1 for a free one.
    goal : numpy.ndarray, shape (groups,)
        The wanted totals.
    free, usable
        The free sources, and the groups that may get them.

    Returns
    -------
    numpy.ndarray or None, shape (sources,)
        Owners whose totals are the nearest of all.
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
    """Move one source, or exchange two, always the best such change, until none makes the distance smaller.

    The distance is the sum of the squares over all strata and totals, plus the price for each item that a
    total is off.
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
        # The row and the column after the last source stand for giving nothing.
        owner[mine[first : first + 1]] = right
        owner[theirs[second : second + 1]] = left


def _changes(
    mine: np.ndarray, theirs: np.ndarray, off_left: np.ndarray, off_right: np.ndarray, price_of_total: int
) -> np.ndarray:
    """Say how the distance changes with each pair of sources that two groups exchange.

    Parameters
    ----------
    mine, theirs : numpy.ndarray, shapes (M, strata + 1) and (K, strata + 1)
        The sources' sizes.
    off_left, off_right : numpy.ndarray, shape (strata + 1,)
        What the groups have too many.
    price_of_total : int
        As in `_exchange`.

    Returns
    -------
    numpy.ndarray, shape (M + 1, K + 1)
        Negative is better; the last row and column give nothing in return.
    """
    nothing = np.zeros((1, len(off_left)))
    mine, theirs = np.vstack([mine, nothing]), np.vstack([theirs, nothing])
    slope = off_right - off_left
    alone = [(side**2).sum(axis=1) + sign * (side @ slope) for side, sign in ((mine, 1), (theirs, -1))]
    squares = 2 * (alone[0][:, None] + alone[1][None] - 2 * mine @ theirs.T)
    moved = mine[:, -1][:, None] - theirs[:, -1][None]
    totals = np.abs(off_left[-1] - moved) + np.abs(off_right[-1] + moved)
    return squares + price_of_total * (totals - np.abs(off_left[-1]) - np.abs(off_right[-1]))


# -------------------------------------------------------------------------------------------- on the platform


def clear_model_info(item: dl.Item) -> int:
    """Make an item's annotations ground truth.

    An adapter's training download leaves out every annotation that still names a model
    (`metadata.system.model.name`), so a reviewed prediction counts only once its model info is gone.

    Parameters
    ----------
    item : dl.Item
        The item.

    Returns
    -------
    int
        How many annotations were changed.

    Raises
    ------
    RuntimeError
        When the platform did not take some of the changes; calling again is safe.
    """
    stale = []
    for annotation in item.annotations.list():
        cleaned, changed = without_model_info(annotation.metadata)
        if changed:
            annotation.metadata = cleaned
            stale.append(annotation)
    if not stale:
        return 0
    # The SDK logs failed updates and returns the others, so the count is the only sign of a failure.
    updated = item.annotations.update(stale, system_metadata=True)
    if len(updated) != len(stale) or any(without_model_info(one.metadata)[1] for one in updated):
        raise RuntimeError(
            f"item {item.id}: the model info of some of its {len(stale)} predicted annotations could not be "
            "cleared; they would be left out of training. Run the split again"
        )
    return len(stale)


def tag_item(item: dl.Item, group: str) -> dl.Item:
    """Write an item's group into its system tags and keep every other tag.

    Parameters
    ----------
    item : dl.Item
        The item, freshly read.
    group : str
        The group's name.

    Returns
    -------
    dl.Item
        The item as the platform holds it now.
    """
    item.metadata = item.metadata or {}
    for key in ("system", "tags"):
        parent = item.metadata if key == "system" else item.metadata["system"]
        parent[key] = parent.get(key) or {}
    item.metadata["system"]["tags"][group] = True
    return item.update(system_metadata=True)


def split_dataset(
    dataset: dl.Dataset,
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
    seed: int | str = 0,
    filters: dl.Filters | None = None,
    *,
    stratify: str | None = None,
    group_by: str | None = None,
    images_only: bool = True,
    clear_models: bool = False,
) -> SplitResult:
    """Split a whole dataset in exact proportions, in a handful of calls.

    Items that have the tag of a group keep it, and count. An item that waits goes where the node would put it,
    unless the exact totals need it elsewhere.

    Parameters
    ----------
    dataset : dl.Dataset
        The dataset.
    groups : mapping or iterable
        As `parse_groups` takes them, e.g. ``{"train": 80, "validation": 10, "test": 10}``.
    seed : int or str
        As in `assign_group`.
    filters : dl.Filters, optional
        Which items to split; all files by default.
    stratify : str, optional
        Give every group its share of each stratum too: ``"label"`` for the items' ground-truth classification,
        or a dotted path into the item, such as ``"metadata.user.camera"``. Items without it are a stratum of
        their own.
    group_by : str, optional
        Keep items of one source in one group: the dotted path to what names the source, such as
        ``"metadata.user.source"`` or ``"dir"``. The totals are then as near as the sources' sizes allow.
    images_only : bool
        Leave items of other types alone, and say so.
    clear_models : bool
        Turn predictions on the items into ground truth, as the node does. Off here, because a whole dataset
        may hold predictions that nobody has reviewed.

    Returns
    -------
    SplitResult
        What was wanted and what was reached. Running it again changes nothing, and finishes a run that was cut
        off as that would have ended. Items that are deleted meanwhile are left out and counted.

    Raises
    ------
    ValueError
        When there is nothing to split, for unusable groups, when an item has two of the groups' tags or does
        not name its source, or when a source is divided already.
    RuntimeError
        When the platform holds other tags afterwards than were written; running again is safe.

    Examples
    --------
    >>> groups = {"train": 80, "validation": 10, "test": 10}
    >>> result = split_dataset(dataset, groups, stratify="label", group_by="metadata.user.writer")  # doctest: +SKIP
    >>> result.counts  # doctest: +SKIP
    {'train': 480, 'validation': 60, 'test': 60}
    """
    parsed = parse_groups(groups)
    items, skipped = _items_to_split(dataset, filters, images_only)
    had = {item.id: current_group(item.metadata, parsed, item.id) for item in items}
    kept = {item_id: name for item_id, name in had.items() if name is not None}
    strata = None if stratify is None else _strata(dataset, items, stratify)
    plan = plan_split(
        list(had),
        parsed,
        seed,
        strata=strata,
        sources=None if group_by is None else [source_of(item, group_by) for item in items],
        kept=kept,
    )
    if clear_models:
        _clear_models(items)
    _tag_all(dataset, [item for item in items if item.id not in kept], plan, parsed)
    now, added = _read_back(dataset, filters, images_only, items, parsed)
    result = _result(parsed, plan, kept, now)
    result.skipped = skipped
    if strata is not None:
        level_of = dict(zip(had, strata, strict=True))
        result.strata = _strata_table(parsed, level_of, now)
    result.warnings = _warnings(dataset, parsed, result, added)
    for warning in result.warnings:
        logger.warning(warning)
    return result


def _items_to_split(
    dataset: dl.Dataset, filters: dl.Filters | None, images_only: bool
) -> tuple[list[dl.Item], int]:
    """List the files to split, and count the ones that are left out."""
    listed = _list_files(dataset, filters)
    chosen = [item for item in listed.values() if not images_only or _is_image(item)]
    if not chosen:
        where = "" if filters is None else f" that match {filters.prepare().get('filter')}"
        hint = "; none of the files there is an image (images_only=False splits them all)" if listed else ""
        raise ValueError(f"dataset {dataset.name!r} has no items to split{where}{hint}: upload some first")
    return chosen, len(listed) - len(chosen)


def _list_files(dataset: dl.Dataset, filters: dl.Filters | None) -> dict[str, dl.Item]:
    # The SDK writes the page into the filters it is given. A list that changes meanwhile may name an item twice.
    listed = dataset.items.list(filters=copy.deepcopy(filters)).all()
    return {item.id: item for item in listed if item.type != "dir"}


def _is_image(item: dl.Item) -> bool:
    return (item.mimetype or "").startswith("image")


def _strata(dataset: dl.Dataset, items: Sequence[dl.Item], stratify: str) -> list[str | None]:
    if stratify != "label":
        return [value_at(item, stratify) for item in items]
    labels: dict[str, set[str]] = defaultdict(set)
    for ids in _chunks([item.id for item in items]):
        filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
        filters.add(field="itemId", values=list(ids), operator=dl.FiltersOperations.IN)
        filters.add(field="type", values="class")
        # The rule of an adapter's training download: what names a model is no ground truth.
        filters.add(field="metadata.system.model.name", values=False, operator=dl.FiltersOperations.EXISTS)
        for annotation in dataset.annotations.list(filters=filters).all():
            if not without_model_info(annotation.metadata)[1]:
                labels[annotation.item_id].add(annotation.label)
    return [", ".join(sorted(labels[item.id])) if item.id in labels else None for item in items]


def _clear_models(items: Sequence[dl.Item]) -> None:
    annotated = [item for item in items if item.annotated or item.annotations_count]
    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(_unless_deleted(clear_model_info), annotated))


def _unless_deleted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call pass by an item that is not there any more; reading back counts it."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except dl.exceptions.NotFound:
            return None

    return call


def _tag_all(
    dataset: dl.Dataset, items: Sequence[dl.Item], plan: Mapping[str, str], groups: Sequence[Group]
) -> None:
    """Tag items without any tag in bulk, and the others one by one: a bulk update could drop their own tags."""
    for group in groups:
        bare = [item.id for item in items if plan[item.id] == group.name and not _tags(item)]
        for ids in _chunks(bare):
            query = _by_ids(ids)
            # An item that a pipeline has tagged meanwhile keeps that group.
            for other in groups:
                query.add(f"metadata.system.tags.{other.name}", True, dl.FiltersOperations.NOT_EQUAL)
            dataset.items.update(
                filters=query, system_update_values={"tags": {group.name: True}}, system_metadata=True
            )

    def tag_one(item: dl.Item) -> None:
        fresh = dataset.items.get(item_id=item.id)
        if current_group(fresh.metadata, groups, fresh.id) is None:
            tag_item(fresh, plan[item.id])

    with ThreadPoolExecutor(_PARALLEL_UPDATES) as pool:
        list(pool.map(_unless_deleted(tag_one), [item for item in items if _tags(item)]))


def _read_back(
    dataset: dl.Dataset,
    filters: dl.Filters | None,
    images_only: bool,
    items: Sequence[dl.Item],
    groups: Sequence[Group],
) -> tuple[dict[str, str], int]:
    """Read the items' groups from the platform, because a bulk update reports no failures of single items.

    Returns
    -------
    now : dict of str to str
        The group of each item that is still there.
    added : int
        Items that came after the list was made, and have no group.
    """
    listed = _list_files(dataset, filters)
    known = {item.id for item in items}
    added = [
        item
        for item in listed.values()
        if item.id not in known
        and (_is_image(item) or not images_only)
        and current_group(item.metadata, groups, item.id) is None
    ]
    # Not listed any more: deleted, or only no match for the filter.
    for ids in _chunks([item.id for item in items if item.id not in listed]):
        listed |= _list_files(dataset, _by_ids(ids))
    now = {
        item.id: current_group(listed[item.id].metadata, groups, item.id)
        for item in items
        if item.id in listed
    }
    missing = sum(name is None for name in now.values())
    if missing:
        raise RuntimeError(
            f"{missing} of {len(now)} items of dataset {dataset.name!r} did not get the tag of their group; run "
            "the split again: items that have a tag keep it"
        )
    return {item_id: name for item_id, name in now.items() if name is not None}, len(added)


def _result(
    groups: Sequence[Group], plan: Mapping[str, str], kept: Mapping[str, str], now: Mapping[str, str]
) -> SplitResult:
    names = [group.name for group in groups]
    counts = Counter(now.values())
    assigned = sum(item_id not in kept and plan[item_id] == name for item_id, name in now.items())
    return SplitResult(
        counts={name: counts[name] for name in names},
        wanted=dict(zip(names, whole_counts(len(plan), [group.weight for group in groups]), strict=True)),
        assigned=assigned,
        kept=len(now) - assigned,
        deleted=len(plan) - len(now),
    )


def _strata_table(
    groups: Sequence[Group], level_of: Mapping[str, str | None], now: Mapping[str, str]
) -> list[dict[str, Any]]:
    sizes = Counter(level_of.values())
    reached = Counter((level_of[item_id], name) for item_id, name in now.items())
    table = []
    for level in sorted(sizes, key=_none_first):
        exact = _exact_shares(sizes[level], [group.weight for group in groups])
        table += [
            {
                "stratum": level,
                "group": group.name,
                "wanted": float(share),
                "reached": reached[level, group.name],
            }
            for group, share in zip(groups, exact, strict=True)
        ]
    return table


def _warnings(dataset: dl.Dataset, groups: Sequence[Group], result: SplitResult, added: int) -> list[str]:
    where = f"of dataset {dataset.name!r}"
    total = check_total(groups)
    warnings = [] if total is None else [total]
    if result.skipped:
        warnings.append(f"{result.skipped} items {where} are no images and were not split")
    if result.deleted:
        warnings.append(
            f"{result.deleted} items {where} were deleted while it was split; the groups lack them"
        )
    if added:
        warnings.append(
            f"{added} items {where} came while it was split and have no group: run the split again"
        )
    if not result.deleted and result.counts != result.wanted:
        warnings.append(
            f"the groups have {result.counts} items and not {result.wanted}: items that had a tag keep it, and "
            "sources are not divided"
        )
    empty = [group.name for group in groups if group.weight > 0 and not result.counts[group.name]]
    if empty:
        count = sum(result.counts.values())
        warnings.append(
            f"no item is in {', '.join(map(repr, empty))}: {count} are too few, or of too few sources"
        )
    return warnings


def _tags(item: dl.Item) -> Mapping[str, Any]:
    return ((item.metadata or {}).get("system") or {}).get("tags") or {}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _IDS_PER_QUERY] for start in range(0, len(ids), _IDS_PER_QUERY)]


def _by_ids(ids: Sequence[str]) -> dl.Filters:
    filters = dl.Filters(use_defaults=False)
    filters.add(field="id", values=list(ids), operator=dl.FiltersOperations.IN)
    return filters


# --------------------------------------------------------------------------------------------------


class DataSplitter(dl.BaseServiceRunner):
    """The service behind the node "Model Data Split"."""

    @staticmethod
    def data_split(
        item: dl.Item, progress: dl.Progress | None = None, context: dl.Context | None = None
    ) -> dl.Item:
        """Assign an item to one group, and make its annotations ground truth.

        The item is read again first, so an outdated copy cannot add a second tag. Its annotations lose their
        model info before it is tagged, also when it was tagged earlier: an item arrives here reviewed, and
        what still names a model would be left out of training. Set ``"clearModelInfo": false`` in the node's
        configuration (ours) to keep it, where predictions of an evaluation lie on the same items.

        Parameters
        ----------
        item : dl.Item
            The item.
        progress : dl.Progress, optional
            Gets the group's name as the action.
        context : dl.Context, optional
            Its node's ``metadata['customNodeConfig']`` is the configuration, as `CONFIG_SCHEMA` describes it:
            ``{name, distributeEqually, groups: [{id, name, distribution}], itemMetadata}`` and ours, ``seed``,
            ``clearModelInfo`` and ``groupBy``: the dotted path to what names an item's source, whose items
            are kept together. Without a context (in a notebook) the items are split 80/10/10 into train,
            validation and test, and tagged. `alhelpers.nodes.node_context` makes one.

        Returns
        -------
        dl.Item
            The item as the platform holds it now.

        Raises
        ------
        ValueError
            For an unusable configuration, a folder, an item with two of the groups' tags, or one that does not
            name its source.
        RuntimeError
            When the model info could not be cleared; the item is then not tagged, and a retry is safe.

        Examples
        --------
        >>> item = DataSplitter.data_split(item)  # doctest: +SKIP
        >>> context = node_context(project, {"groups": [{"name": "train", "distribution": 1}]})  # doctest: +SKIP
        >>> item = DataSplitter.data_split(item, progress=dl.Progress(), context=context)  # doctest: +SKIP
        """
        config = DEFAULT_CONFIG if context is None else _node_config(context)
        groups = parse_groups(config["groups"], config.get("distributeEqually", False))
        warning = None if config.get("distributeEqually") else check_total(groups)
        if warning:
            logger.warning(warning)
        item = item.items.get(item_id=item.id, fetch=True)
        if item.type == "dir":
            raise ValueError(f"{item.filename!r} ({item.id}) is a folder: split the files in it")
        kept = current_group(item.metadata, groups, item.id)
        path = config.get("groupBy")
        key = source_of(item, path) if path else item.id
        group = kept or assign_group(key, groups, config.get("seed", 0))
        if config.get("clearModelInfo", True) and (item.annotated or item.annotations_count):
            clear_model_info(item)
        if kept is None and config.get("itemMetadata"):
            item = tag_item(item, group)
        if progress is not None:
            progress.update(action=group, message=f"{item.filename} belongs to {group!r}")
        return item


def _node_config(context: dl.Context) -> Mapping[str, Any]:
    """Read a node's configuration.

    Raises
    ------
    ValueError
        When the context is of no pipeline node, or the node has no configuration.
    """
    if context.node is None:
        raise ValueError(
            "the context has no pipeline node; pass context=None, or one from alhelpers.nodes.node_context"
        )
    config = context.node.metadata.get("customNodeConfig")
    if not isinstance(config, Mapping):
        raise ValueError(
            f"node {context.node.name!r} has no metadata.customNodeConfig with its groups: configure the node"
        )
    groups = config.get("groups")
    if isinstance(groups, list | Mapping):
        # Before the schema, because these errors name the group.
        parse_groups(groups, config.get("distributeEqually") is True)
    configurations.check(config, CONFIG_SCHEMA, "customNodeConfig")
    return config
