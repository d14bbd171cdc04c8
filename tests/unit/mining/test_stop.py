import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import cohen_kappa_score, f1_score

from alhelpers import mining


def rounds(count, records=60, classes=4, seed=0):
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, records)
    found = []
    for number in range(count):
        noise = draw.dirichlet(np.ones(classes), records)
        found.append(((number + 1) * np.eye(classes)[truth] + noise) / (number + 2))
    return found


def values(history, **options):
    return {each.name: each for each in mining.stop(history, **options)}


def test_criteria_are_those_of_the_peers():
    history = [np.random.default_rng(seed).dirichlet(np.ones(4) * 0.4, 60) for seed in range(4)]
    labels = [each.argmax(1) for each in history]
    found = values(history)
    kappas = [cohen_kappa_score(*pair) for pair in zip(labels, labels[1:], strict=False)]
    assert found["stabilising predictions"].value == pytest.approx(np.mean(kappas))
    assert found["classification change"].value == (labels[-1] != labels[-2]).mean()
    changes = [1 - f1_score(*pair, average="macro") for pair in zip(labels, labels[1:], strict=False)]
    assert found["delta F"].value == pytest.approx(max(changes))
    normalised = entropy(history[-1], axis=1) / np.log(4)
    assert found["overall uncertainty"].value == pytest.approx(normalised.mean(), rel=1e-5)
    assert found["max uncertainty"].value == pytest.approx(normalised.max(), rel=1e-5)
    assert not any(each.met for each in found.values())


def test_of_two_classes_delta_f_is_that_of_the_second():
    before, after = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 0, 0, 0, 1])
    history = [np.eye(2)[before], np.eye(2)[after]]
    assert values(history, window=1)["delta F"].value == pytest.approx(1 - 2 * 2 / (2 * 2 + 1 + 1))


def test_a_model_that_neither_changes_nor_doubts_stops():
    history = [np.eye(3)[[0, 1, 2, 0]]] * 4
    assert all(each.met for each in mining.stop(history))
    assert str(mining.stop(history)[0]) == "stabilising predictions: 1 (stops at >= 0.99): stop"


def test_too_few_rounds_decide_nothing():
    found = values(rounds(2))
    for name in ("stabilising predictions", "delta F"):
        assert np.isnan(found[name].value) and not found[name].met
    assert np.isnan(values(rounds(1))["classification change"].value)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_records_does_not_matter(seed):
    history = rounds(4, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    for one, other in zip(mining.stop(history), mining.stop([each[order] for each in history]), strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6)


@pytest.mark.parametrize(
    ("history", "options", "message"),
    [
        ([], {}, "history is empty"),
        ([np.ones((3, 2)) / 2, np.ones((4, 2)) / 2], {}, r"round 1 .* \(4, 2\), round 0 \(3, 2\)"),
        ([np.ones(3)], {}, "must be \\(records, classes\\)"),
        ([np.full((3, 2), np.nan)], {}, "round 0 .* not finite"),
        ([np.ones((3, 2)) / 2], {"window": 0}, "window must be"),
        ([np.ones((3, 2)) / 2], {"stable": 2}, "stable is 2: it must be between 0 and 1"),
    ],
)
def test_mistakes_are_named(history, options, message):
    with pytest.raises(mining.MiningError, match=message):
        mining.stop(history, **options)
