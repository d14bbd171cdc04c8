import numpy as np
import pytest

from alhelpers import mining, records
from alhelpers.loop import Annotators, advise

NAMES = ["a", "b", "c"]
RISING = [(20, 0.5), (30, 0.6), (40, 0.66), (50, 0.7), (60, 0.73), (80, 0.77)]


def table(confidences, first=0, labels=None):
    truth = None if labels is None else [NAMES[label] for label in labels]
    ids = np.arange(first, first + len(confidences))
    return records.from_arrays(ids, confidences=np.array(confidences), class_names=NAMES, groundtruth=truth)


SURE, UNSURE = [0.98, 0.01, 0.01], [0.4, 0.35, 0.25]
REFERENCE = table([SURE] * 4, labels=[0, 0, 0, 1])  # the last label contradicts the model
POOL = table([UNSURE, SURE, UNSURE], first=10)


def test_new_and_doubted_records_share_the_budget():
    found = advise(REFERENCE, POOL, 3)
    assert not found.stop and sorted(found.label) == [10, 12] and found.relabel == [3] and found.cost == 3
    assert str(found).startswith("Label 2 new records and ask again about 1, cost 3: ")


def test_costs_decide_what_the_budget_buys():
    dear = advise(REFERENCE, POOL, 3, relabel_cost=100)
    assert dear.relabel == [] and sorted(dear.label) == [10, 11, 12]
    cheap = advise(REFERENCE, POOL, 3, relabel_cost=0.5)
    assert cheap.relabel[0] == 3 and cheap.cost == len(cheap.label) + 0.5 * len(cheap.relabel) <= 3
    assert advise(REFERENCE, POOL, 6, label_cost=2, relabel_cost=2).label == advise(REFERENCE, POOL, 3).label


def test_annotators_that_never_err_are_not_asked_again():
    found = advise(REFERENCE, POOL, 9, noise=0)
    assert found.relabel == [] and len(found.label) == 3


def test_a_strategy_picks_the_new_records():
    found = advise(REFERENCE, POOL, 2, strategy="random", noise=0, seed=1)
    assert found.label == list(mining.mine(POOL, "random", 2, seed=1).ids)


def test_it_stops_at_the_target_with_its_forecast():
    found = advise(REFERENCE, POOL, 3, curve=RISING, target=0.75)
    assert found.stop and found.label == found.relabel == [] and found.cost == 0
    assert str(found).startswith("Stop: 0.75 is reached with 80 labels")


def test_it_goes_on_with_the_labels_still_needed():
    many = table([UNSURE] * 400, first=10)
    found = advise(REFERENCE, many, 3, curve=RISING, target=0.8)
    assert not found.stop and found.forecast.low > 80
    assert "more labels to 0.8 (80%: " in str(found)


def test_it_stops_when_the_pool_is_too_small_for_the_target():
    found = advise(REFERENCE, POOL, 3, curve=RISING, target=0.95)
    assert found.stop and "0.95 is out of reach: all 3 that are left to ask" in found.reason


def test_answers_that_are_left_may_reach_what_the_pool_cannot():
    votes = np.full((4, 200), mining.MISSING)
    votes[:, 0] = [0, 0, 0, 1]
    options = {"curve": RISING, "target": 0.83}
    assert advise(REFERENCE, POOL, 3, annotations=votes[:, :1], **options).stop
    assert not advise(REFERENCE, POOL, 3, annotations=votes, **options).stop
    assert advise(REFERENCE, POOL, 3, annotations=votes, noise=0, **options).stop


def test_without_a_target_it_stops_when_predictions_are_stable():
    history = [np.array([SURE, SURE])] * 4
    assert (
        advise(REFERENCE, POOL, 3, history=history).reason == "predictions have stabilised (mean kappa 1.000)"
    )
    assert not advise(REFERENCE, POOL, 3, history=history, curve=RISING, target=0.78).stop
    assert not advise(REFERENCE, POOL, 3, history=history[:2]).stop


def test_it_stops_when_nothing_is_left():
    complete = [[0, 0], [0, 0], [0, 1], [1, 1]]
    assert advise(REFERENCE, None, 3, annotations=complete).reason == "nothing is left to ask"
    assert advise(REFERENCE, POOL, 0.5).reason == "a budget of 0.5 buys nothing"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget is 0: it must be above 0"),
        ({"budget": 3, "relabel_cost": -1}, "relabel_cost is -1"),
        ({"budget": 3, "noise": 1}, "noise is 1"),
        ({"budget": 3, "annotations": [[0]]}, "annotations have the shape"),
        ({"budget": 3, "curve": [(1, 0.5), (1, 0.6), (2, 0.7), (3, 0.8)]}, "they must rise"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        advise(REFERENCE, POOL, **options)


# ------------------------------------------------------------------------------
# annotators
# ------------------------------------------------------------------------------


def test_annotators_err_as_often_as_they_should():
    truth = np.arange(3000) % 3
    asked = Annotators(truth, 2, noise=[0.1, 0.4], cost=[1, 3], seed=0)
    for annotator, noise in enumerate([0.1, 0.4]):
        answers = asked.ask(np.arange(3000), annotator)
        # four standard errors: false once in 15,000
        assert (answers != truth).mean() == pytest.approx(noise, abs=4 * np.sqrt(noise * (1 - noise) / 3000))
        assert (asked.annotations[:, annotator] == answers).all()
    assert asked.spent == 3000 * 1 + 3000 * 3


def test_noise_can_depend_on_the_class():
    confusion = [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    asked = Annotators([0, 1, 2], 1, noise=confusion)
    assert asked.ask([0, 1, 2]).tolist() == [0, 2, 2]


def test_nobody_is_asked_twice_about_a_record():
    asked = Annotators(np.zeros(5, dtype=int), 3, classes=2, noise=0, seed=1)
    for _ in range(3):
        asked.ask([0, 4])
    assert (asked.annotations[[0, 4]] == 0).all() and (asked.annotations[1:4] == mining.MISSING).all()
    before = asked.annotations.copy()
    with pytest.raises(ValueError, match="record 0 has been labelled by all"):
        asked.ask([1, 0])
    assert (asked.annotations == before).all() and asked.spent == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, "class indices"),
        ({"labels": [0.5]}, "class indices"),
        ({"labels": [0, 1], "count": 0}, "count is 0"),
        ({"labels": [0, 2], "classes": 2}, "classes is 2"),
        ({"labels": [0, 1], "noise": 2}, "noise is 2"),
        ({"labels": [0, 1], "noise": [0.1]}, "1 numbers for 3 annotators"),
        ({"labels": [0, 1], "noise": np.ones((3, 3)) / 3}, "noise has the shape"),
        ({"labels": [0, 1], "noise": np.ones((2, 2))}, "does not sum to 1"),
        ({"labels": [0, 1], "cost": -1}, "cost is -1"),
    ],
)
def test_annotators_name_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        Annotators(**arguments)


@pytest.mark.parametrize(("rows", "message"), [([1, 1], "twice"), ([7], "there are 2 records")])
def test_rows_are_checked(rows, message):
    with pytest.raises(ValueError, match=message):
        Annotators([0, 1]).ask(rows)
