"""Choose the groups of all items at once: exact totals, the same mix of strata in each group, no divided source."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alhelpers.data.splitting.groups import Group, is_missing, none_first, parse_groups
from alhelpers.data.splitting.items import plan_items
from alhelpers.data.splitting.sources import plan_sources


def plan_split(
    item_ids: Sequence[Any],
    groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]],
    seed: int | str = 0,
    *,
    strata: Sequence[Any] | None = None,
    sources: Sequence[Any] | None = None,
    kept: Mapping[Any, str] | None = None,
) -> dict[Any, str]:
    """Choose the groups of all items at once.

    Parameters
    ----------
    item_ids : sequence of str or int, length N
        The items; their order does not matter.
    groups : mapping or iterable
        The groups, as `parse_groups` takes or returns them.
    seed : int or str
        Another seed, another split.
    strata : sequence of str, number, bool or None, length N, optional
        The stratum of each item, such as its label: every group gets its share of each. None, or NaN, means
        unlabelled, which is a stratum like the others. The number 1 and the text "1" are two strata.
    sources : sequence of str or number, length N, optional
        The source of each item: all items of one source get the same group. Where each item has a source of its own,
        such as its path, the plan is that of items whose ids are the sources: the same for other ids.
    kept : mapping of item id to str, optional
        The groups of items that have one already and keep it.

    Returns
    -------
    dict of item id to str
        The group of every item.

        Without sources the totals are those of `whole_counts`, or as near to them as the kept items allow. Of
        all tables of strata and groups with these totals the plan's is the nearest to the exact shares: every
        number is its share rounded down or up if the totals allow it.

        With sources the totals come first, then the strata. Assigning sources is a packing problem: the totals
        are optimal if there are few to try (with two groups, up to thousands of items), else, as always for
        the strata, the best of several searches. If the kept items agree with the plan without them, that plan
        is returned: an interrupted split that is run again ends as one that was not interrupted.

    Raises
    ------
    ValueError
        As `parse_groups`; if an id is missing or occurs twice, strata or sources are not as many as the items, an item
        has no source, an item is kept in a group that is not of the split, or items of one source in two groups.

    Examples
    --------
    >>> plan = plan_split(["a", "b", "c", "d"], {"train": 50, "test": 50}, strata=["x", "x", "y", "y"])
    >>> sorted(plan[item_id] for item_id in "ab")
    ['test', 'train']
    """
    parsed = parse_groups(groups)
    ids = _scalars("item_ids", item_ids)
    repeated = [item_id for item_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"item {repeated[0]!r} occurs more than once: every id must be unique")
    if None in ids:
        raise ValueError("an item has no id (None or NaN): every item needs one")
    levels = dict.fromkeys(ids)
    if strata is not None:
        levels = dict(zip(ids, _scalars("strata", strata, len(ids)), strict=True))
    source = None
    if sources is not None:
        source = dict(zip(ids, _scalars("sources", sources, len(ids)), strict=True))
        without = next((item_id for item_id, name in source.items() if name is None), None)
        if without is not None:
            raise ValueError(f"item {without!r} has no source: give it one, its own id if it is alone")
    kept = kept or {}
    by_text = {str(item_id): item_id for item_id in levels} if kept else {}
    for item_id in kept:
        if item_id not in levels and str(item_id) in by_text:
            raise ValueError(
                f"kept has the item {item_id!r}, and the items hold {by_text[str(item_id)]!r}: pass ids of one type, "
                "or its group is not kept"
            )
    fixed = {item_id: name for item_id, name in kept.items() if item_id in levels}
    unknown = sorted(set(fixed.values()) - {group.name for group in parsed})
    if unknown:
        raise ValueError(
            f"kept has the group {unknown[0]!r}, which is not one of the split: leave its items out, or add it"
        )
    if source is not None:
        fixed = _whole_sources(source, fixed)
    if fixed:
        plan = _plan(levels, source, {}, parsed, seed)
        if all(plan[item_id] == name for item_id, name in fixed.items()):
            return plan
    return _plan(levels, source, fixed, parsed, seed)


def _whole_sources(source: Mapping[Any, Any], kept: Mapping[Any, str]) -> dict[Any, str]:
    """Return the groups of all items whose source has kept items."""
    found: dict[Any, set[str]] = defaultdict(set)
    for item_id, name in kept.items():
        found[source[item_id]].add(name)
    broken = sorted((name for name, groups in found.items() if len(groups) > 1), key=none_first)
    if broken:
        raise ValueError(
            f"items of source {broken[0]!r} are in several groups already, {sorted(found[broken[0]])}: remove "
            "their tags from metadata.system.tags, and all of them are put into one"
            + (f" ({len(broken)} sources are divided so)" if len(broken) > 1 else "")
        )
    return {item_id: min(found[name]) for item_id, name in source.items() if name in found}


def _scalars(name: str, values: Sequence[Any], count: int | None = None) -> list[Any]:
    """Return values as Python's own, so that 1 of numpy is 1, and NaN as None; there must be ``count`` of them."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if count is not None and len(plain) != count:
        raise ValueError(f"{name} has {len(plain)} values for {count} items: give one for each")
    wrong = next((value for value in plain if not isinstance(value, Hashable)), None)
    if wrong is not None:
        raise ValueError(f"{name} hold {wrong!r}: they must be texts, numbers or bools")
    return [None if is_missing(value) else value for value in plain]


def _plan(
    levels: Mapping[Any, Any],
    source: Mapping[Any, Any] | None,
    fixed: Mapping[Any, str],
    groups: Sequence[Group],
    seed: int | str,
) -> dict[Any, str]:
    rows = {level: row for row, level in enumerate(sorted(set(levels.values()), key=none_first))}
    columns = {group.name: column for column, group in enumerate(groups)}
    if source is None:
        return plan_items(levels, rows, columns, fixed, groups, seed)
    if len(set(source.values())) == len(source):  # nothing to keep together: the names stand for the ids
        by_name = {source[item_id]: level for item_id, level in levels.items()}
        kept = {source[item_id]: name for item_id, name in fixed.items()}
        plan = plan_items(by_name, rows, columns, kept, groups, seed)
        return {item_id: plan[name] for item_id, name in source.items()}
    return plan_sources(levels, rows, columns, source, fixed, groups, seed)
