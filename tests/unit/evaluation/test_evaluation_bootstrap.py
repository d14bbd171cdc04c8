import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score
from test_evaluation_metrics import plain_calibration_error, random_scene

from alhelpers.evaluation import (
    COCO_THRESHOLDS,
    Classifications,
    Detections,
    EvaluationError,
    NoGroundTruth,
    average_precision,
    classification_average_precision,
    decision,
    paired_bootstrap,
    resamples,
    top1_average_precision,
)
from alhelpers.evaluation.curves import curve_of, interpolated_area, step_area
from alhelpers.evaluation.measures import Ranking, fold, running, unfold

SAMPLES = 60


def drawn(counts):
    """The places of a resample, one entry a draw."""
    return np.repeat(np.arange(len(counts)), counts)


def brute_force(evaluate, items, seed):
    """Evaluate both models on the rows of each resample; where there is nothing to evaluate it is left out."""
    differences = []
    for counts in np.concatenate(list(resamples(items, SAMPLES, seed)), axis=1).T:
        try:
            differences.append(evaluate("new", drawn(counts)) - evaluate("previous", drawn(counts)))
        except NoGroundTruth:
            continue
    return np.array(differences)


def copies(rows, places):
    """The rows of drawn images; an image that is drawn twice is two images."""
    return [
        row | {"image_id": copy}
        for copy, place in enumerate(places.tolist())
        for row in rows
        if row["image_id"] == place
    ]


IMAGES = 8
BOX_METRICS = {
    "average precision": (
        lambda model: model.average_precision(0.4),
        lambda truth, rows: average_precision(truth, rows, 0.4).macro,
    ),
    "mean average precision": (
        lambda model: model.mean_average_precision(),
        lambda truth, rows: np.mean([average_precision(truth, rows, t).macro for t in COCO_THRESHOLDS]),
    ),
    "f1": (
        lambda model: model.f1(0.5, 0.3),
        lambda truth, rows: Detections(truth, rows).f1(0.5, 0.3).value,
    ),
    "calibration error": (
        lambda model: model.calibration_error(5),
        lambda truth, rows: Detections(truth, rows).calibration_error(5).value,
    ),
}


@pytest.mark.parametrize("metric", BOX_METRICS)
@pytest.mark.parametrize("seed", range(6))
def test_boxes_bootstrapped_equal_boxes_evaluated_again(metric, seed):
    measure, evaluate = BOX_METRICS[metric]
    # Few boxes, so that labels and whole images are without ground truth in many resamples.
    truth, rows = random_scene(seed, images=IMAGES, count=16 if seed % 2 else 80)
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        rows = [row | {"score": round(row["score"], 1)} for row in rows]  # ties
    rows = {
        "previous": rows,
        "new": [row | {"score": 1 - row["score"]} for row in rows if rng.uniform() < 0.9],
    }
    previous, new = (measure(Detections(truth, rows[name], items=range(IMAGES))) for name in rows)
    found = paired_bootstrap(previous, new, SAMPLES, seed=seed)
    expected = brute_force(
        lambda name, places: evaluate(copies(truth, places), copies(rows[name], places)), IMAGES, seed
    )
    np.testing.assert_allclose(found.differences, expected, rtol=0, atol=1e-12)
    assert found.difference == pytest.approx(evaluate(truth, rows["new"]) - evaluate(truth, rows["previous"]))
    np.testing.assert_allclose([found.low, found.high], np.quantile(expected, [0.025, 0.975]), atol=1e-12)


CLASSES = ["a", "b", "c", "rare"]


def class_models(seed, items):
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, size=items, p=[0.4, 0.3, 0.25, 0.05])
    confidences = {name: rng.dirichlet(np.ones(4), size=items) for name in ("previous", "new")}
    if seed % 2:
        confidences = {name: np.round(values, 1) for name, values in confidences.items()}  # ties
    return labels, confidences


def macro_f1(labels, predicted):
    return f1_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0)


def top(confidences):
    return np.array(CLASSES)[confidences.argmax(axis=1)], confidences.max(axis=1)


CLASS_METRICS = {
    "average precision": (
        lambda labels, full: Classifications(labels, *top(full), full, CLASSES).average_precision(),
        lambda labels, full: classification_average_precision(labels, full, CLASSES).macro,
    ),
    "average precision of the top class": (
        lambda labels, full: Classifications(labels, *top(full)).average_precision(),
        lambda labels, full: top1_average_precision(labels, *top(full)).macro,
    ),
    "accuracy": (
        lambda labels, full: Classifications(labels, *top(full)).accuracy(),
        lambda labels, full: accuracy_score(labels, top(full)[0]),
    ),
    "f1": (
        lambda labels, full: Classifications(labels, *top(full)).f1(),
        lambda labels, full: macro_f1(labels, top(full)[0]),
    ),
    "calibration error": (
        lambda labels, full: Classifications(labels, *top(full)).calibration_error(4),
        lambda labels, full: plain_calibration_error(top(full)[1], top(full)[0] == labels, 4),
    ),
}


@pytest.mark.parametrize("metric", CLASS_METRICS)
@pytest.mark.parametrize("seed", range(6))
def test_classes_bootstrapped_equal_classes_evaluated_again(metric, seed):
    measure, evaluate = CLASS_METRICS[metric]
    labels, full = class_models(seed, 25)
    found = paired_bootstrap(
        measure(labels, full["previous"]), measure(labels, full["new"]), SAMPLES, seed=seed
    )
    expected = brute_force(lambda name, places: evaluate(labels[places], full[name][places]), 25, seed)
    np.testing.assert_allclose(found.differences, expected, rtol=0, atol=1e-12)
    assert found.difference == pytest.approx(
        evaluate(labels, full["new"]) - evaluate(labels, full["previous"])
    )


def test_resamples_without_any_ground_truth_are_left_out():
    box = dict(image_id=0, label="a", left=0, top=0, right=4, bottom=4)
    models = [
        Detections([box], rows, items=range(3)).average_precision() for rows in ([], [box | {"score": 1}])
    ]
    found = paired_bootstrap(*models, samples=200)
    without = sum((counts[0] == 0).sum() for counts in resamples(3, 200))
    assert 0 < without < 200 and len(found.differences) == 200 - without
    assert found.low == found.high == found.difference == 1


@pytest.mark.parametrize("at_once", [1, 7, 100, 1000])
def test_the_resamples_do_not_depend_on_how_many_are_made_at_once(at_once):
    whole = np.concatenate(list(resamples(13, 250, seed=5, at_once=1000)), axis=1)
    parts = list(resamples(13, 250, seed=5, at_once=at_once))
    assert max(part.shape[1] for part in parts) <= at_once
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert (whole.sum(axis=0) == 13).all()


def test_memory_is_bounded_by_batches_that_change_nothing(monkeypatch):
    labels, full = class_models(1, 40)
    models = [Classifications(labels, *top(full[name])).f1() for name in ("previous", "new")]
    whole = paired_bootstrap(*models, samples=300, seed=2)
    monkeypatch.setattr(decision, "NUMBERS_AT_ONCE", 90)
    np.testing.assert_array_equal(
        paired_bootstrap(*models, samples=300, seed=2).differences, whole.differences
    )
    assert not np.array_equal(paired_bootstrap(*models, samples=300, seed=3).differences, whole.differences)


CROWD = dict(image_id=0, label="a", left=0, top=0, right=4, bottom=4, score=0.5)
FULL = Detections([CROWD] * 30, [CROWD] * 70, items=range(5))
MANY = Classifications("ab" * 50, "a" * 100, [0.5] * 100)


@pytest.mark.parametrize(
    ("measure", "rows"),
    [
        (FULL.average_precision(), 72),  # 70, in columns of 8
        (FULL.f1(), 70),
        (FULL.calibration_error(), 70),
        (Detections([CROWD] * 70, [CROWD] * 30, items=range(5)).f1(), 70),
        (Detections([CROWD], [], items=range(50)).f1(), 50),
        (MANY.average_precision(), 104),
        (MANY.accuracy(), 100),
    ],
)
def test_a_batch_holds_as_many_resamples_as_fit(measure, rows, monkeypatch):
    sizes = []
    monkeypatch.setattr(decision, "NUMBERS_AT_ONCE", 2000)
    monkeypatch.setattr(decision, "resamples", lambda *given: sizes.append(given[-1]) or resamples(*given))
    paired_bootstrap(measure, measure, samples=40)
    assert sizes == [2000 // rows]


@settings(max_examples=100)
@given(
    rows=st.integers(0, 700),
    draws=st.integers(1, 3),
    combine=st.sampled_from([np.add, np.maximum]),
    seed=st.integers(0, 9),
)
def test_running_is_accumulate(rows, draws, combine, seed):
    values = np.random.default_rng(seed).integers(10, size=(rows, draws))
    expected = combine.accumulate(values, axis=0)
    np.testing.assert_array_equal(unfold(running(combine, fold(values)))[:rows], expected)
    backward = running(combine, fold(values, 0)[::-1, ::-1])[::-1, ::-1]
    expected = combine.accumulate(values[::-1], axis=0)[::-1]
    np.testing.assert_array_equal(unfold(backward)[:rows], expected)


@settings(max_examples=200)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 12), interpolated=st.booleans())
def test_runs_of_right_predictions_make_the_curve_of_all(seed, levels, interpolated):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 40)
    item, score = rng.integers(6, size=size), rng.integers(levels, size=size) / levels
    rights = [rng.uniform(size=size) < share for share in rng.uniform(size=3 if interpolated else 1)]
    counts = rng.integers(3, size=(6, 2)).astype(np.int32)
    truth_item = np.concatenate([np.arange(6), item])
    found = Ranking.build(item, score, rights, truth_item, interpolated).values(counts)
    area = interpolated_area if interpolated else step_area
    for draw in range(2):
        rows = np.repeat(np.arange(size), counts[item, draw])
        total = counts[truth_item, draw].sum()
        areas = [area(curve_of(score[rows], right[rows], max(total, 1))) for right in rights]
        expected = np.mean(areas) if total else np.nan
        np.testing.assert_allclose(found[draw], expected, rtol=0, atol=1e-12)


# Two models on the same items: both right, only the previous one, only the new one, neither.
RIGHT = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
REPEATS = 500


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("shares", [[0.6, 0.1, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1]])
def test_the_interval_covers_the_true_difference_of_accuracies(level, shares):
    rng = np.random.default_rng(11)
    labels = np.repeat("a", 150)
    covered = beyond = 0
    for repeat in range(REPEATS):
        right = RIGHT[rng.choice(4, size=150, p=shares)]
        models = [
            Classifications(labels, np.where(one, "a", "b"), np.ones(150)).accuracy() for one in right.T
        ]
        found = paired_bootstrap(*models, samples=400, level=level, seed=repeat)
        covered += found.low <= shares[2] - shares[1] <= found.high
        beyond += found.low > shares[2] - shares[1]
    # With 150 items a percentile interval covers within two points of its level. If it does, each side of this
    # fails with other seeds once in a million.
    low, high = binom.ppf(1e-6, REPEATS, level - 0.02), binom.isf(1e-6, REPEATS, level + 0.02)
    assert low <= covered <= high
    # And it lies wholly above the truth in about half of the misses: what min_confidence relies on.
    assert beyond <= binom.isf(1e-6, REPEATS, (1 - level) / 2 + 0.015)


def ranked_items(rng, count, strengths=(0.8, 1.1)):
    """Labels, and what two models of some strength rank the classes by."""
    labels = rng.integers(3, size=count)
    signal = np.eye(3)[labels]
    noise = rng.normal(0, 1, (count, 3))
    return labels, [strength * signal + noise + rng.normal(0, 0.7, (count, 3)) for strength in strengths]


def test_the_interval_covers_the_true_difference_of_average_precisions():
    rng = np.random.default_rng(12)

    def measures(labels, confidences):
        return [
            Classifications(labels, one.argmax(axis=1), one.max(axis=1), one, range(3)).average_precision()
            for one in confidences
        ]

    truth = [one.value for one in measures(*ranked_items(rng, 400_000))]
    covered = 0
    for repeat in range(300):
        found = paired_bootstrap(*measures(*ranked_items(rng, 200)), samples=300, seed=repeat)
        covered += found.low <= truth[1] - truth[0] <= found.high
    # Average precision is biased on few items, so the interval may cover less: 92 % or more of the time is what
    # we rely on. If that holds, this fails with other seeds once in a million; also above, at 98 %.
    assert binom.ppf(1e-6, 300, 0.92) <= covered <= binom.isf(1e-6, 300, 0.98)


def test_equally_calibrated_models_seldom_differ_beyond_the_interval():
    rng, apart = np.random.default_rng(13), 0
    for repeat in range(400):
        labels, confidences = ranked_items(rng, 150, strengths=(1.0, 1.0))
        full = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in confidences]
        models = [Classifications(labels, one.argmax(axis=1), one.max(axis=1)) for one in full]
        found = paired_bootstrap(*(model.calibration_error() for model in models), samples=300, seed=repeat)
        apart += found.low > 0 or found.high < 0
    # The interval of a calibration error may be too near to zero, so it covers no less than 95 % here. If so,
    # this fails with other seeds once in a million.
    assert apart <= binom.isf(1e-6, 400, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples must be an integer, 1 or more, got 0"),
        ({"samples": 1.5}, "samples must be an integer"),
        ({"samples": True}, "samples must be an integer"),
        ({"level": 1}, "level must be above 0 and below 1, got 1"),
        ({"level": float("nan")}, "level must be above 0"),
    ],
)
def test_numbers_out_of_range_are_named(change, message):
    model = Classifications(["a"], ["a"], [1]).accuracy()
    with pytest.raises(EvaluationError, match=message):
        paired_bootstrap(model, model, **change)


def test_a_bootstrap_that_never_has_a_value_is_an_error():
    box = dict(image_id=0, label="a", left=0, top=0, right=4, bottom=4)
    model = Detections([box], [], items=range(1000)).average_precision()
    absent = next(seed for seed in range(100) if next(resamples(1000, 1, seed))[0, 0] == 0)
    with pytest.raises(EvaluationError, match="no resample has ground truth"):
        paired_bootstrap(model, model, samples=1, seed=absent)
