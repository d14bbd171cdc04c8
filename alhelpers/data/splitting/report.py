"""What a split wanted and what it reached."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alhelpers.data.splitting.groups import Group, check_total, is_missing, none_first
from alhelpers.data.splitting.shares import exact_shares, whole_counts


@dataclass
class SplitResult:
    """The outcome of a split of a whole data set.

    Parameters
    ----------
    counts : dict of str to int
        Items of each group now, including those that were tagged before.
    wanted : dict of str to int
        Items that each group should have by its share of the listed items.
    assigned : int
        Items that were tagged now.
    kept : int
        Items that were tagged before and kept their group.
    skipped : int
        Items that are not images and were left alone.
    deleted : int
        Items that were deleted while the split ran.
    strata : list of dict
        For a stratified split a row for every stratum and group: ``stratum`` (None: without a label),
        ``group``, ``wanted`` (the exact share, a float) and ``reached``.
    warnings : list of str
        What the caller should check.
    """

    counts: dict[str, int]
    wanted: dict[str, int] = field(default_factory=dict)
    assigned: int = 0
    kept: int = 0
    skipped: int = 0
    deleted: int = 0
    strata: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def report(
    groups: Sequence[Group],
    plan: Mapping[str, str],
    kept: Mapping[str, str],
    now: Mapping[str, str],
    *,
    strata: Mapping[Any, Any] | None = None,
    skipped: int = 0,
    added: int = 0,
    where: str = "",
) -> SplitResult:
    """Compare the groups that items have now with the plan.

    Parameters
    ----------
    groups : sequence of Group
        The groups of the split.
    plan : mapping of str to str
        The planned group of each item.
    kept : mapping of str to str
        The groups of the items that were tagged before.
    now : mapping of str to str
        The group of each item that still exists.
    strata : mapping of str to str, number or None, optional
        The stratum of each item of a stratified split.
    skipped, added : int
        Items that are not images, and items that arrived while the split ran.
    where : str
        Names the data set in the warnings, such as ``"of dataset 'raw'"``.

    Returns
    -------
    SplitResult
        Counts, the table of the strata, and the warnings.
    """
    if strata is not None:
        strata = {item_id: None if is_missing(level) else level for item_id, level in strata.items()}
    names = [group.name for group in groups]
    counts = Counter(now.values())
    assigned = sum(item_id not in kept and plan[item_id] == name for item_id, name in now.items())
    result = SplitResult(
        counts={name: counts[name] for name in names},
        wanted=dict(zip(names, whole_counts(len(plan), [group.weight for group in groups]), strict=True)),
        assigned=assigned,
        kept=len(now) - assigned,
        skipped=skipped,
        deleted=len(plan) - len(now),
        strata=[] if strata is None else _strata_table(groups, strata, now),
    )
    result.warnings = _warnings(groups, result, added, where)
    return result


def _strata_table(
    groups: Sequence[Group], strata: Mapping[Any, Any], now: Mapping[Any, str]
) -> list[dict[str, Any]]:
    sizes = Counter(strata.values())
    reached = Counter((strata[item_id], name) for item_id, name in now.items())
    weights = [group.weight for group in groups]
    return [
        {"stratum": level, "group": group.name, "wanted": float(share), "reached": reached[level, group.name]}
        for level in sorted(sizes, key=none_first)
        for group, share in zip(groups, exact_shares(sizes[level], weights), strict=True)
    ]


def _warnings(groups: Sequence[Group], result: SplitResult, added: int, where: str) -> list[str]:
    total = check_total(groups)
    warnings = [] if total is None else [total]
    if result.skipped:
        warnings.append(f"{result.skipped} items {where} are not images and were not split")
    if result.deleted:
        warnings.append(
            f"{result.deleted} items {where} were deleted while it was split; the groups lack them"
        )
    if added:
        warnings.append(
            f"{added} items {where} were added while it was split and have no group: run the split again"
        )
    if not result.deleted and result.counts != result.wanted:
        warnings.append(
            f"the groups have {result.counts} items instead of {result.wanted}: items that were tagged before "
            "keep their group, and sources are not divided"
        )
    empty = [group.name for group in groups if group.weight > 0 and not result.counts[group.name]]
    if empty:
        count = sum(result.counts.values())
        warnings.append(
            f"no item is in {', '.join(map(repr, empty))}: {count} are too few, or of too few sources"
        )
    return warnings
