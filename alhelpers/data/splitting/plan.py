"""Choose the groups of all items at once: exact totals, the same mix of strata in each group, no divided source."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alhelpers.data.splitting.groups import Group, parse_groups
from alhelpers.data.splitting.items import plan_items
from alhelpers.data.splitting.sources import plan_sources


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
        The source of each item: all items of one source get the same group.
    kept : mapping of str to str, optional
        The groups of items that have one already and keep it.

    Returns
    -------
    dict of str to str
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
        As `parse_groups`; if an id occurs twice, strata or sources are not as many as the items, or items of one
        source are kept in two groups.

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
        raise ValueError(f"item {repeated[0]!r} occurs more than once: every id must be unique")
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
    """Return the groups of all items whose source has kept items."""
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
    rows = {level: row for row, level in enumerate(sorted(set(levels.values()), key=none_first))}
    columns = {group.name: column for column, group in enumerate(groups)}
    if source is None:
        return plan_items(levels, rows, columns, fixed, groups, seed)
    return plan_sources(levels, rows, columns, source, fixed, groups, seed)


def none_first(level: str | None) -> tuple[bool, str]:
    """Sort strata by name, the items without one first."""
    return level is not None, level or ""
