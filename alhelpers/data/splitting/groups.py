"""The groups of a split, and the choice of an item's group by its id alone."""

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any


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
        If it is missing, not a number, negative, or not finite.
    """
    text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
    try:
        # bool is an int in Python, but `true` is not a share.
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
        If there are no groups, a name is empty, duplicate or not valid as a tag, a distribution is not valid, or
        the total is 0.
    """
    parsed = []
    for name, distribution in _name_and_distribution(groups):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"group name {name!r} is empty: every group of the split needs a name")
        # With a dot or a dollar the filter on the tag would read another key and find nothing.
        if "." in name or "$" in name:
            raise ValueError(f"group name {name!r} may not hold '.' or '$': it becomes a metadata key")
        parsed.append(Group(name, 1.0 if distribute_equally else parse_weight(name, distribution)))
    names = [group.name.strip() for group in parsed]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"group name {duplicates[0]!r} is used more than once: rename one of the groups")
    if not parsed:
        raise ValueError("the split has no groups: give at least one name with a distribution")
    total = sum(group.weight for group in parsed)
    if not 0 < total < math.inf:
        raise ValueError(
            f"the distributions of {names} add up to {total:g}: give at least one group a share, and none too much"
        )
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
    """Return a warning if the distributions are neither fractions nor percentages of a whole.

    Parameters
    ----------
    groups : sequence of Group
        The groups.

    Returns
    -------
    str or None
        The warning, or None if they add up to 1 or to 100 (three times 33.3 is accepted).
    """
    total = sum(group.weight for group in groups)
    # The tolerance of fractions is a hundredth of that of percentages.
    if abs(total - 100) <= 0.1 + 1e-9 or abs(total - 1) <= 0.001 + 1e-9:
        return None
    shares = ", ".join(f"{group.name} {100 * group.weight / total:.1f} %" for group in groups)
    return f"the distributions add up to {total:g}, neither 1 nor 100; they are used as shares: {shares}"


def assign_group(
    item_id: Any, groups: Mapping[str, Any] | Iterable[Group | Mapping[str, Any]], seed: int | str = 0
) -> str:
    """Choose an item's group from its id alone.

    Parameters
    ----------
    item_id : str or int
        The item's id, or a name that all items of one source share, to keep them together; 7 is the same as "7".
    groups : mapping or iterable
        The groups, as `parse_groups` takes or returns them.
    seed : int or str
        Another seed, another split.

    Returns
    -------
    str
        The group's name, the same for the same arguments in every process and version.

    Raises
    ------
    ValueError
        As `parse_groups`, and if the id is missing.

    Examples
    --------
    >>> assign_group("65f1", {"train": 80, "validation": 10, "test": 10}, seed=0)
    'train'
    """
    if is_missing(item_id):
        raise ValueError(f"item id {item_id!r} is missing: all items without one would get the same group")
    drawable = [group for group in parse_groups(groups) if group.weight > 0]
    edges = list(itertools.accumulate(group.weight for group in drawable))
    index = bisect.bisect_right(edges, position(item_id, seed) * edges[-1])
    return drawable[min(index, len(drawable) - 1)].name


def is_missing(value: Any) -> bool:
    """Return whether a label, source or id is None or NaN, which mean "missing" in lists and in tables."""
    # pandas has a value of its own, whose comparisons are neither true nor false.
    return value is None or type(value).__name__ == "NAType" or value != value


def position(key: Any, seed: int | str) -> float:
    """Hash a key to a place from 0 to below 1."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    # A float holds 53 bits exactly: more could be rounded up to 1.0, outside every group.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def none_first(level: Any) -> tuple[bool, str, Any]:
    """Return a key that sorts values of several types: None, then the numbers, then those of each other type."""
    number = level is None or isinstance(level, Real)
    return level is not None, "" if number else type(level).__name__, 0 if level is None else level
