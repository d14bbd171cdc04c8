"""The report of a split: what was planned, what was reached, and what is warned of."""

import pytest

from alhelpers.data.splitting import parse_groups, report

GROUPS = parse_groups({"train": 50, "test": 50})
PLAN = {"a": "train", "b": "test", "c": "train", "d": "test"}


def test_a_split_that_went_well_has_no_warning():
    found = report(GROUPS, PLAN, {"a": "train"}, PLAN, strata=dict(zip("abcd", [0, 0, None, 0], strict=True)))
    assert found.counts == found.wanted == {"train": 2, "test": 2} and found.warnings == []
    assert (found.assigned, found.kept, found.skipped, found.deleted) == (3, 1, 0, 0)
    assert found.strata == [
        {"stratum": level, "group": name, "wanted": wanted, "reached": reached}
        for level, name, wanted, reached in [
            (None, "train", 0.5, 1),
            (None, "test", 0.5, 0),
            (0, "train", 1.5, 1),
            (0, "test", 1.5, 2),
        ]
    ]


@pytest.mark.parametrize(
    ("change", "options", "counts", "warnings"),
    [
        ({"b": None}, {}, (3, 0, 1), ["1 items of x were deleted"]),
        (
            {},
            {"skipped": 2, "added": 3},
            (4, 0, 0),
            ["2 items of x are not images", "3 items of x were added"],
        ),
        (
            {"b": "train", "d": "train"},
            {"kept": {"b": "train", "d": "train"}},
            (2, 2, 0),
            [r"groups have {'train': 4, 'test': 0} items instead of", "no item is in 'test': 4 are too few"],
        ),
        # An item that got another group than the planned one meanwhile was not assigned by the split.
        ({"b": "train"}, {}, (3, 1, 0), ["groups have {'train': 3, 'test': 1} items instead of"]),
        (
            {},
            {"groups": parse_groups({"train": 1, "test": 1})},
            (4, 0, 0),
            ["add up to 2, neither 1 nor 100"],
        ),
    ],
)
def test_what_differs_from_the_plan_is_counted_and_warned_of(change, options, counts, warnings):
    now = {item: name for item, name in (PLAN | change).items() if name is not None}
    options = {"groups": GROUPS, "kept": {}} | options
    found = report(plan=PLAN, now=now, where="of x", **options)
    assert (found.assigned, found.kept, found.deleted) == counts
    assert len(found.warnings) == len(warnings)
    assert all(part in warning for part, warning in zip(warnings, found.warnings, strict=True))
