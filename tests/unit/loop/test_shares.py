import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alhelpers.loop import budget_shares


def rows_of(curves, labels=(20, 40, 80)):
    """Rows for each strategy's list of curves, one a seed; each image holds two boxes."""
    return [
        {"strategy": name, "seed": seed, "labels": count, "boxes": 2 * count, "ap50": value}
        for name, many in curves.items()
        for seed, curve in enumerate(many)
        for count, value in zip(labels, curve, strict=True)
    ]


def test_a_share_is_where_the_line_between_two_numbers_of_labels_meets_the_target():
    rows = rows_of({"random": [(0.2, 0.3, 0.4)], "ours": [(0.2, 0.5, 0.6)]})
    for cost in ("labels", "boxes"):
        found = budget_shares(rows, "ap50", cost=cost)
        assert found.loc["random", "mean"] == 1
        assert found.loc["ours", "mean"] == pytest.approx((20 + 20 * 2 / 3) / 80)
    rows = [row | {"boxes": row["labels"] ** 2} for row in rows]
    needed = (20**2 + (40**2 - 20**2) * 2 / 3) / 80**2
    assert budget_shares(rows, "ap50", cost="boxes").loc["ours", "mean"] == pytest.approx(needed)


def test_each_seed_has_its_own_target_and_the_interval_is_that_of_scipy():
    curves = {"random": [(0.2, 0.3, 0.4), (0.1, 0.2, 0.6), (0, 0.4, 0.5)], "ours": [(0.2, 0.4, 0.6)] * 3}
    found = budget_shares(rows_of(curves), "ap50", level=0.9).loc["ours"]
    shares = np.array([40, 80, 60]) / 80
    assert found["mean"] == pytest.approx(shares.mean())
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.9, 2, shares.mean(), stats.sem(shares))
    )
    assert (found.reached, found.seeds) == (3, 3)


def test_what_is_not_reached_is_no_share():
    curves = {"random": [(0.2, 0.3, 0.4)] * 2, "ours": [(0.2, 0.4, 0.5), (0.1, 0.2, 0.3)]}
    found = budget_shares(rows_of(curves), "ap50").loc["ours"]
    assert np.isinf(found["mean"]) and np.isnan(found.low) and found.reached == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(1, 50))
def test_the_baseline_needs_at_most_all_of_its_budget_whatever_its_unit(curve, factor):
    rows = rows_of({"random": [curve]}, labels=(20 * factor, 40 * factor, 80 * factor))
    share = budget_shares(rows, "ap50").loc["random", "mean"]
    assert 0.25 <= share <= 1
    assert budget_shares(rows, "ap50", cost="boxes").loc["random", "mean"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (rows_of({"ours": [(0, 0, 0)]}), {}, "no rows of 'random'"),
        (rows_of({"random": [(0, 0, 0)]}), {"cost": "minutes"}, "no 'minutes'"),
        (rows_of({"random": [(0, 0, 0)], "ours": [(0, 0, 0)] * 2}), {}, "has seed 1"),
    ],
)
def test_rows_that_cannot_be_compared_are_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        budget_shares(rows, "ap50", **options)
