import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from alhelpers.loop import learning_curves
from alhelpers.loop.comparison import compare, holm, paired_p

LABELS = [20, 30, 50, 90]


def tidy(curves, labels=LABELS):
    """Rows of results for each strategy's list of curves, one a seed."""
    return [
        {"strategy": name, "seed": seed, "labels": count, "value": value}
        for name, many in curves.items()
        for seed, curve in enumerate(many)
        for count, value in zip(labels, curve, strict=True)
    ]


def noisy(names="ab", seeds=6, gap=0.0, seed=0):
    random = np.random.default_rng(seed)
    base = np.linspace(0.5, 0.9, len(LABELS)) + random.normal(0, 0.03, (seeds, len(LABELS)))
    return {
        name: base + gap * number + random.normal(0, 0.01, base.shape) for number, name in enumerate(names)
    }


# ------------------------------------------------------------------------------------------- means and areas


def test_means_and_t_intervals_are_those_of_scipy():
    values = noisy()
    mean = learning_curves(tidy(values), level=0.9).mean()
    assert list(mean.columns) == ["strategy", "labels", "mean", "low", "high", "seeds"]
    assert list(mean.strategy.unique()) == ["a", "b"] and set(mean.seeds) == {6}
    for name, part in mean.groupby("strategy"):
        low, high = stats.t.interval(0.9, 5, values[name].mean(0), stats.sem(values[name]))
        np.testing.assert_allclose(
            part[["mean", "low", "high"]].T, [values[name].mean(0), low, high], rtol=1e-12
        )


def test_bootstrap_intervals_are_percentiles_of_means_of_resamples():
    values = np.array([[0.0], [1.0]])
    # The mean of two draws is 0, 1/2 or 1, with probabilities 1/4, 1/2 and 1/4.
    for level, expected in [(0.4, (0.5, 0.5)), (0.8, (0.0, 1.0))]:
        row = learning_curves(tidy({"a": values}, [10]), level=level, interval="bootstrap").mean().iloc[0]
        assert (row.low, row.high) == expected
    values = noisy()
    peer = stats.bootstrap((values["a"],), np.mean, method="percentile", axis=0, random_state=1)
    ours = learning_curves(tidy(values), interval="bootstrap").mean().query("strategy == 'a'")
    # Two draws of 2000 and 9999 resamples: percentiles of a mean whose standard error is about 0.012.
    np.testing.assert_allclose(ours.low, peer.confidence_interval.low, atol=0.003)
    np.testing.assert_allclose(ours.high, peer.confidence_interval.high, atol=0.003)


def test_a_single_seed_has_no_interval():
    curves = learning_curves(tidy({"a": [[0.1, 0.2, 0.3, 0.4]]}))
    assert curves.mean()[["low", "high"]].isna().all(axis=None)
    assert "nan" not in curves.markdown(0.3)


def test_the_area_is_the_mean_height():
    # Trapezes by hand: (10 * 0.2 + 20 * 0.4 + 40 * 0.7) / 70.
    curves = learning_curves(tidy({"a": [[0.1, 0.3, 0.5, 0.9]], "flat": [[0.5] * 4]}))
    assert curves.area()["mean"].to_dict() == pytest.approx({"a": 38 / 70, "flat": 0.5})
    assert learning_curves(tidy({"a": [[0.3]]}, [10])).area().loc["a", "mean"] == 0.3


# --------------------------------------------------------------------------------------- labels to a target


def isotonic_by_definition(curve):
    """The min-max formula of isotonic regression."""
    size = len(curve)
    return np.array(
        [max(min(curve[j : k + 1].mean() for k in range(i, size)) for j in range(i + 1)) for i in range(size)]
    )


def crossing_by_search(labels, curve, target):
    """The least number of labels whose value on the polygon reaches the target, by bisection."""
    for left in range(len(labels)):
        if curve[left] >= target:
            if left == 0:
                return labels[0]
            low, high = labels[left - 1], labels[left]
            for _ in range(60):
                middle = (low + high) / 2
                reached = np.interp(middle, labels[left - 1 : left + 1], curve[left - 1 : left + 1]) >= target
                low, high = (low, middle) if reached else (middle, high)
            return high
    return np.inf


@settings(max_examples=60)
@given(
    arrays.arrays(float, (3, 4), elements=st.floats(0, 1, width=16)),
    st.floats(0.0625, 1, width=16),
)
def test_labels_needed_by_definition(values, target):
    curves = learning_curves(tidy({"a": values}))
    for crossing, fit in [("isotonic", isotonic_by_definition), ("interpolated", lambda curve: curve)]:
        row = curves.labels_to(target, crossing).loc["a"]
        expected = [
            crossing_by_search(LABELS, np.round(fit(curve), 12), round(target, 12)) for curve in values
        ]
        if np.abs(np.array([fit(curve) for curve in values]) - target).min() > 1e-9:  # else by the last bit
            assert row["median"] == pytest.approx(np.median(expected), rel=1e-6)
            assert (row.least, row.most) == pytest.approx((min(expected), max(expected)), rel=1e-6)
            assert row.reached == np.isfinite(expected).sum() and row.seeds == 3


def test_labels_needed_by_hand():
    curves = {"random": [[0.5, 0.6, 0.7, 0.8]] * 3, "best": [[0.5, 0.9, 0.9, 0.9], [0.8] * 4, [0.1] * 4]}
    needed = learning_curves(tidy(curves)).labels_to(0.7)
    assert needed.loc["random"].to_list() == pytest.approx([50, 50, 50, 3, 3, 50])
    assert needed.loc["best"].to_list()[:5] == pytest.approx([25, 20, np.inf, 2, 3])
    # A point that is high by luck: the nearest rising curve does not believe it.
    lucky = learning_curves(tidy({"a": [[0.5, 0.9, 0.5, 1.0]]}))
    assert lucky.labels_to(0.8, "interpolated").loc["a", "median"] == pytest.approx(27.5)
    assert lucky.labels_to(0.8).loc["a", "median"] == pytest.approx(50 + 40 / 3)


# ------------------------------------------------------------------------------------------------ comparisons


def test_paired_tests_are_those_of_scipy():
    random = np.random.default_rng(0)
    for size in (2, 3, 7, 12):
        one, other = random.normal(0, 1, size), random.normal(0.5, 1, size)
        assert paired_p(one - other, "t") == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-9)
        assert paired_p(one - other, "wilcoxon") == stats.wilcoxon(one, other).pvalue
        peer = stats.permutation_test(
            (one, other),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        )
        assert paired_p(one - other, "permutation") == pytest.approx(peer.pvalue)


@settings(max_examples=40)
@given(arrays.arrays(float, st.integers(2, 7), elements=st.floats(-1, 1, width=16)))
def test_sign_flips_by_definition(differences):
    signs = itertools.product([-1, 1], repeat=len(differences))
    reached = [abs(np.dot(flips, differences)) >= abs(differences.sum()) - 1e-12 for flips in signs]
    assert paired_p(differences, "permutation") == np.mean(reached)


def test_many_seeds_are_flipped_at_random():
    differences = np.random.default_rng(0).normal(0.3, 1, 20)
    # The standard error of the share of 9999 flips is below 0.005.
    assert paired_p(differences, "permutation") == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, abs=0.02
    )


def test_differences_without_spread():
    for test in ("t", "wilcoxon", "permutation"):
        assert paired_p(np.zeros(5), test) == 1
    assert paired_p(np.full(5, 0.25), "t") == 0
    assert paired_p(np.full(5, 0.25), "permutation") == 2 / 2**5


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(pvalues, alpha):
    rejected, order = set(), sorted(range(len(pvalues)), key=lambda index: pvalues[index])
    for step, index in enumerate(order):
        if (len(pvalues) - step) * pvalues[index] >= alpha:
            break
        rejected.add(index)
    corrected = holm(np.array(pvalues))
    assert set(np.flatnonzero(corrected < alpha)) == rejected
    assert (corrected >= pvalues).all() and (corrected <= 1).all()


def test_the_matrix_holds_wins_and_losses():
    curves = learning_curves(tidy(noisy("abc", gap=0.05)))
    found = curves.compare()
    assert found.matrix().to_numpy().tolist() == [
        ["", "loss", "loss"],
        ["win", "", "loss"],
        ["win", "win", ""],
    ]
    assert len(found.pvalues) == 3 and set(found.pvalues.labels) == {"area"}
    each = curves.compare("labels", test="t")
    assert len(each.pvalues) == 3 * 4 and each.tests == 4
    for row, column in itertools.product(range(3), range(3)):
        if row != column:
            wins, ties, losses = map(int, each.matrix().iloc[row, column].split(" / "))
            assert (
                wins + ties + losses == 4
                and wins == each.wins[row, column]
                and losses == each.wins[column, row]
            )
    assert "| b | win |  | loss |" in found.markdown()


def test_a_strategy_against_itself_is_a_tie():
    values = noisy("a")["a"]
    found = learning_curves(tidy({"a": values, "again": values})).compare("labels")
    assert found.matrix().loc["a", "again"] == "0 / 4 / 0" and found.wins.sum() == 0


def test_false_wins_are_as_rare_as_promised():
    # Five strategies that are the same: a false win in one of twenty matrices or fewer; of 100, more than 13 have one
    # with a probability below 0.001.
    random, false = np.random.default_rng(0), 0
    for _ in range(100):
        areas = random.normal(0, 1, (5, 6))
        values = {name: pd.DataFrame({"area": row}) for name, row in zip("abcde", areas, strict=True)}
        false += compare(values).wins.any()
    assert false <= 13


def test_only_seeds_that_both_have_are_paired():
    rows = tidy(noisy(gap=0.1))
    fewer = [row for row in rows if row["strategy"] == "a" or row["seed"] < 3]
    whole = learning_curves([row for row in rows if row["seed"] < 3]).compare()
    assert learning_curves(fewer).compare().pvalues.p[0] == pytest.approx(whole.pvalues.p[0])
    with pytest.raises(ValueError, match="'a' and 'b' share 1 seeds: a paired test needs at least two"):
        learning_curves([row for row in rows if row["strategy"] == "a" or row["seed"] < 1]).compare()


# ----------------------------------------------------------------------------------------- what is taken and shown


def test_rows_of_runs_unfold_to_points():
    values = noisy()
    runs = [
        {"strategy": name, "seed": seed, "counts": LABELS, "accuracy": list(curve), "run.state": "done"}
        for name, many in values.items()
        for seed, curve in enumerate(many)
    ]
    failed = {"strategy": "a", "seed": 9, "counts": None, "accuracy": None, "run.state": "failed"}
    unfolded = learning_curves(pd.DataFrame([*runs, failed]), labels="counts", value="accuracy")
    pd.testing.assert_frame_equal(unfolded.mean(), learning_curves(tidy(values)).mean())
    arrays = [
        row | {"counts": np.array(row["counts"]), "accuracy": np.array(row["accuracy"])} for row in runs
    ]
    again = learning_curves(pd.DataFrame(arrays), labels="counts", value="accuracy")
    pd.testing.assert_frame_equal(again.mean(), unfolded.mean())


def test_the_order_of_rows_and_their_types_do_not_matter():
    rows = tidy(noisy(), [5, 30, 50, 100])
    texts = [{name: str(value) for name, value in row.items()} for row in rows]
    np.testing.assert_array_equal(learning_curves(texts).area(), learning_curves(rows).area())
    rows = tidy(noisy())
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    one, other = learning_curves(rows), learning_curves(shuffled)
    pd.testing.assert_frame_equal(one.area().sort_index(), other.area().sort_index())
    np.testing.assert_array_equal(one.labels, LABELS)


ROWS = tidy({"a": [[0.1, 0.2, 0.3, 0.4]] * 2})


@pytest.mark.parametrize(
    "rows, options, message",
    [
        (ROWS, {"value": "accuracy"}, "no column 'accuracy': they have strategy, seed, labels, value"),
        (ROWS, {"level": 95}, "level is 95"),
        (ROWS, {"interval": "sd"}, "interval is 'sd': choose 't' or 'bootstrap'"),
        ([row | {"run.state": "failed"} for row in ROWS], {}, "no run that has finished"),
        ([*ROWS, ROWS[0] | {"strategy": None}], {}, "row 8 of the results has no strategy or no seed"),
        ([*ROWS, ROWS[0] | {"seed": np.nan}], {}, "row 8 of the results has no strategy or no seed"),
        ([{**row, "strategy": name} for name in (1, "1") for row in ROWS], {}, "strategy '1', seed 0 has 20"),
        ([*ROWS, ROWS[5]], {}, "strategy 'a', seed 1 has 30 labels twice: select the runs of one setting"),
        (ROWS[:-1], {}, "strategy 'a', seed 1 has no value at 90 labels, which others have"),
        ([*ROWS, ROWS[0] | {"labels": 99}], {}, "strategy 'a', seed 1 has no value at 99 labels"),
        ([*ROWS[:-1], ROWS[-1] | {"value": None}], {}, "strategy 'a', seed 1: value is nan at 90 labels"),
        ([{**ROWS[0], "labels": [1, 2], "value": [0.1]}], {}, "seed 0: 2 numbers of labels, but 1 values"),
    ],
)
def test_what_can_not_be_compared_is_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        learning_curves(rows, **options)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda curves: curves.labels_to(0.5, "first"), "crossing is 'first'"),
        (lambda curves: curves.compare("mean"), "over is 'mean'"),
        (lambda curves: curves.compare(test="z"), "test is 'z'"),
    ],
)
def test_unknown_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(learning_curves(ROWS))


def test_the_table_in_markdown():
    curves = {
        "random": [[0.5, 0.6, 0.7, 0.8]] * 2,
        "entropy": [[0.5, 0.9, 0.9, 0.9]] * 2,
        "slow": [[0.1] * 4] * 2,
    }
    assert learning_curves(tidy(curves), value="value").markdown(0.7) == (
        "| strategy | mean value | at 90 labels | labels to 0.7 | random needs |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| entropy | 0.871 (0.871 to 0.871) | 0.900 (0.900 to 0.900) | 25 | 2.0 times |\n"
        "| random | 0.693 (0.693 to 0.693) | 0.800 (0.800 to 0.800) | 50 | 1.0 times |\n"
        "| slow | 0.100 (0.100 to 0.100) | 0.100 (0.100 to 0.100) | not reached |  |\n"
    )
    unreached = learning_curves(tidy(curves)).markdown(0.85)
    assert "| entropy" in unreached and "> 3.1 times" in unreached
    assert "random needs" not in learning_curves(ROWS).markdown(0.3)


def test_the_plot_has_a_line_a_band_and_a_name_for_each_strategy():
    from matplotlib import pyplot as plt

    values = noisy(["random", "entropy"])
    curves = learning_curves(tidy(values), value="value")
    figure = curves.plot(target=0.8)
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.lines}
    for name in values:
        np.testing.assert_allclose(lines[name].get_ydata(), values[name].mean(0))
    assert lines["random"].get_linestyle() == "--" and len(axis.collections) == 2
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["random", "entropy"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("labels", "value")
    assert curves.plot(axis=axis) is figure
    plt.close(figure)
    assert all(name in curves.alt() for name in values) and "20 to 90 labels" in curves.alt()
