import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from alhelpers.loop import forecast, forecasts, lasting_crossing

LABELS = np.unique(np.round(20 * 1.06 ** np.arange(60)).astype(int))


def curve(limit=0.97, rise=1.2, power=0.5, noise=0.005, seed=0):
    draw = np.random.default_rng(seed)
    return limit - rise * LABELS**-power + draw.normal(0, noise, len(LABELS))


def test_the_interval_holds_the_truth_of_simulated_curves():
    # 24 curves that are in one of the families: at a coverage of 80 % fewer than 14 inside have a probability of 0.7 %.
    inside = []
    for seed in range(24):
        power = 0.3 + 0.02 * seed
        values = curve(rise=0.6 * 20**power, power=power, seed=seed)
        found = forecast(LABELS[:30], values[:30])
        _, low, high = found.value_at(LABELS[-1])
        inside.append(low <= 0.97 - 0.6 * (20 / LABELS[-1]) ** power <= high)
    assert sum(inside) >= 14


def test_the_labels_needed_are_those_of_the_curve():
    truth = (1.2 / (0.97 - 0.9)) ** 2
    found = forecast(LABELS[:40], curve()[:40], 0.9)
    assert found.low <= truth <= found.high
    assert found.labels_to(0.9) == (found.labels, found.low, found.high)
    assert found.probability(found.horizon) >= found.probability(truth) >= 0.1
    assert found.more == found.labels - LABELS[39]


def test_a_target_is_reached_by_the_curve_not_by_a_lucky_round():
    values = curve(noise=0.0005)
    values[30] += 0.05
    target = values[30] - 0.002
    assert forecast(LABELS[:31], values[:31], target).reached < 0.1
    after = np.flatnonzero(0.97 - 1.2 * LABELS**-0.5 > target)[2]
    found = forecast(LABELS[: after + 1], values[: after + 1], target)
    assert found.reached > 0.5 and found.labels == LABELS[after]
    assert str(found).startswith(f"{target:g} is reached with {LABELS[after]} labels")


def test_curves_rise_and_stay_below_the_ceiling():
    found = forecast(LABELS[:12], curve()[:12], ceiling=0.98)
    values = [found.value_at(count) for count in np.geomspace(found.labels_now, found.horizon, 20)]
    assert all(low <= middle <= high <= 0.98 for middle, low, high in values)
    assert (np.diff([middle for middle, *_ in values]) >= 0).all()


def test_wrong_forecasts_of_earlier_rounds_widen_the_interval():
    steady = np.linspace(0.5, 0.6, 40)
    jump = np.where(np.arange(40) < 25, steady, steady + 0.2)
    assert forecast(LABELS[:40], jump).widened > forecast(LABELS[:40], curve()[:40]).widened
    assert forecast(LABELS[:40], jump).widened > 1.5


@pytest.mark.parametrize("values", [[0.9, 0.8, 0.7, 0.6], [0.5] * 4, [0.0] * 4, [1.0] * 4])
def test_curves_that_do_not_rise_are_forecast_too(values):
    found = forecast([10, 20, 30, 40], values)
    middle, low, high = found.value_at(80)
    assert values[-1] - 0.2 < low <= middle <= high <= 1


def test_of_several_seeds_the_mean_is_forecast():
    several = np.stack([curve(seed=seed) for seed in range(3)])
    assert forecast(LABELS, several).value_at(2000) == forecast(LABELS, several.mean(0)).value_at(2000)


def test_the_same_seed_forecasts_the_same():
    one, other = (forecast(LABELS, curve(), 0.96, seed=3) for _ in range(2))
    assert (one.labels, one.low, one.high) == (other.labels, other.low, other.high)
    assert str(one).endswith(")")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_the_rising_curve_is_isotonic_regression(values):
    np.testing.assert_allclose(forecasts._rising(np.array(values)), isotonic_regression(values), atol=1e-9)


def test_a_lasting_crossing_is_not_left_again():
    assert lasting_crossing([10, 20, 30, 40], [0.5, 0.9, 0.7, 0.8], 0.8) == 40
    assert lasting_crossing([10, 20], [0.9, 0.8], 0.8) == 10
    assert lasting_crossing([10, 20], [0.9, 0.7], 0.8) == float("inf")


@pytest.mark.parametrize(
    ("labels", "values", "options", "message"),
    [
        ([1, 2, 3], [0.1, 0.2, 0.3], {}, "there are 3 rounds: a forecast needs at least 4"),
        ([1, 2, 2, 3], [0.1] * 4, {}, "they must rise"),
        ([1, 2, 3, 4], [0.1] * 3, {}, "pass one value a round"),
        ([1, 2, 3, 4], [0.1, 0.2, np.nan, 0.3], {}, "at 3 labels is nan"),
        ([1, 2, 3, 4], [0.1, 0.2, 1.3, 0.3], {}, "at most the ceiling, 1"),
        ([1, 2, 3, 4], [0.1] * 4, {"level": 80}, "level is 80"),
        ([1, 2, 3, 4], [0.1] * 4, {"target": 95}, "target is 95"),
    ],
)
def test_mistakes_are_named(labels, values, options, message):
    with pytest.raises(ValueError, match=message):
        forecast(labels, values, **options)


def test_a_forecast_has_an_end_and_a_beginning():
    found = forecast(LABELS, curve())
    with pytest.raises(ValueError, match="the forecast reaches from"):
        found.value_at(20)
    with pytest.raises(ValueError, match="has no target"):
        found.probability(900)


def test_what_is_said_of_a_target_that_is_near():
    near = forecast([8, 16, 24, 32], [0.72, 0.85, 0.97, 1.0], 0.99)
    assert near.reached < 0.5 and near.labels - near.labels_now < 0.5
    assert re.fullmatch(r"0\.99 is close \(probability \d+%; 80%: 0 to \d+ more labels\)", str(near))
