"""How items are shared among assignees."""

from typing import Any

from ...errors import bad_request
from ...store import Document

# An assignee's share, in percent.
Workload = list[tuple[str, float]]


def parse(given: Any) -> Workload:
    """Check a workload: assignees (in lower case) and their percentages."""
    if not isinstance(given, list):
        raise bad_request(
            f"'workload' must be a list of {{'assigneeId': address, 'load': percent}}, got {given!r}"
        )
    shares: dict[str, float] = {}
    for unit in given:
        assignee = unit.get("assigneeId") if isinstance(unit, dict) else None
        load = unit.get("load", 0) if isinstance(unit, dict) else None
        if isinstance(load, bool) or not isinstance(load, int | float) or not 0 <= load <= 100:
            raise bad_request(f"'load' of a workload must be a number from 0 to 100, got {unit!r}")
        address = email(assignee)
        shares[address] = shares.get(address, 0) + load
    return list(shares.items())


def email(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise bad_request(f"an assignee must be an e-mail address, got {value!r}")
    return value.strip().lower()


def equal_shares(assignees: list[Any]) -> Workload:
    return parse([{"assigneeId": assignee, "load": 100 / len(assignees)} for assignee in assignees])


def to_json(workload: Workload) -> list[Document]:
    return [{"assigneeId": assignee, "load": load} for assignee, load in workload]


def share(item_ids: list[str], workload: Workload) -> list[tuple[str, list[str]]]:
    """Split a list of items, in order, into non-empty pieces whose sizes follow the loads to within one item."""
    total = sum(load for _, load in workload)
    if not total:
        workload, total = [(assignee, 1.0) for assignee, _ in workload], float(len(workload))
    pieces, reached, start = [], 0.0, 0
    for assignee, load in workload:
        reached += load
        stop = round(len(item_ids) * reached / total)
        if stop > start:
            pieces.append((assignee, item_ids[start:stop]))
        start = stop
    return pieces


def share_repeatedly(item_ids: list[str], workload: Workload, times: int) -> list[tuple[str, list[str]]]:
    """Assign each item to `times` different assignees, in turn."""
    pieces: dict[str, list[str]] = {assignee: [] for assignee, _ in workload}
    names = list(pieces)
    for place, item_id in enumerate(item_ids):
        for turn in range(times):
            pieces[names[(place * times + turn) % len(names)]].append(item_id)
    return [(assignee, piece) for assignee, piece in pieces.items() if piece]
