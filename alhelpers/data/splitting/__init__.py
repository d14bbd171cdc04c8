"""Splitting items into groups such as train, validation and test, on plain ids: by a hash, or exactly.

:func:`assign_group` chooses the group of one item at a time, :func:`plan_split` those of all items at once.
"""

from alhelpers.data.splitting.configuration import DEFAULT_CONFIG, SplitConfiguration
from alhelpers.data.splitting.groups import (
    Group,
    assign_group,
    check_total,
    none_first,
    parse_groups,
    parse_weight,
)
from alhelpers.data.splitting.plan import plan_split
from alhelpers.data.splitting.report import SplitResult, report
from alhelpers.data.splitting.shares import exact_shares, whole_counts

__all__ = [
    "DEFAULT_CONFIG",
    "Group",
    "SplitConfiguration",
    "SplitResult",
    "assign_group",
    "check_total",
    "exact_shares",
    "none_first",
    "parse_groups",
    "parse_weight",
    "plan_split",
    "report",
    "whole_counts",
]
