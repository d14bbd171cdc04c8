import copy
import inspect
import json
import math
import os
import random

import pytest
from sklearn.metrics import f1_score, recall_score

from alhelpers.evaluation import (
    Classifications,
    NoGroundTruth,
    TestSet,
    compare_metrics,
    compare_predictions,
    paired_bootstrap,
    read_compare_config,
)
from alhelpers.evaluation.compare_config import DEFAULT_CONFIG
from alhelpers.evaluation.comparing import pick_value

CHECK = {"type": "plot", "figure": "loss", "legend": "val", "x_index": -1, "maximize": False, "min_delta": 0}


LOSS = ("loss", "val")
ACCURACY = ("accuracy", "val")


def check(**changes):
    return read_compare_config({"checks": [CHECK | changes]}).checks[0]


def decide(test, config=None):
    return compare_predictions(test, read_compare_config(config))


def metrics_config(*checks, **wins):
    return read_compare_config({"checks": [CHECK | check for check in checks or [{}]], **wins})


# ----------------------------------------------------------------------------------------------- tra


def test_samples_are_taken_in_the_order_of_x():
    samples = [(10, 0.1), (2, 0.9), (1, 0.95)]
    assert pick_value(samples, check(), "m") == 0.1
    assert pick_value(samples, check(x_index=0), "m") == 0.95
    assert pick_value(samples, check(x_value=2.0), "m") == 0.9
    # A training that was run again writes its epochs once more: the last run counts.
    assert pick_value([*samples, (10, 0.05)], check(), "m") == 0.05


@pytest.mark.parametrize(
    ("samples", "changes", "message"),
    [
        ([], {}, "no samples"),
        ([(1, math.nan)], {}, "x = 1: the value nan must be a finite number"),
        ([(1, None)], {}, "the value None must be a finite number"),
        ([("first", 1.0)], {}, "x 'first' must be a finite number"),
        ([(1, 1.0)], {"x_index": 1}, "no sample 1; there are 1"),
        ([(1, 1.0)], {"x_index": -2}, "no sample -2"),
        ([(1, 1.0), (3, 1.0)], {"x_value": 2}, "no sample at x = 2; there are 1 to 3"),
    ],
)
def test_a_missing_value_names_the_model_and_the_metric(samples, changes, message):
    with pytest.raises(ValueError, match=rf"model 'm', metric 'loss' / 'val'.*{message}"):
        pick_value(samples, check(**changes), "m")


@pytest.mark.parametrize("side", ["previous", "new"])
def test_nan_on_either_side_is_an_error_that_names_it(side):
    values = {"previous": {LOSS: [(1, 0.5)]}, "new": {LOSS: [(1, 0.5)]}}
    values[side] = {LOSS: [(1, math.nan)]}
    with pytest.raises(ValueError, match=f"model '{side}', metric 'loss' / 'val'"):
        compare_metrics(values["previous"], values["new"], metrics_config())


def test_checks_minimize_and_maximize_and_mind_the_delta():
    accuracy = {"figure": "accuracy", "maximize": "true"}
    previous = {LOSS: [(1, 0.5)], ACCURACY: [(1, 0.8)]}
    new = {LOSS: [(1, 0.25)], ACCURACY: [(1, 0.875)]}
    result = compare_metrics(previous, new, metrics_config({}, accuracy, wins="all"))
    assert result.better and result.action == "update model" and "won 2 of 2" in result.message
    assert [row["won"] for row in result.rows] == [True, True]
    close = metrics_config({"min_delta": 0.25}, accuracy, wins="all")
    assert not compare_metrics(previous, new, close).better
    assert compare_metrics(previous, new, metrics_config({"min_delta": 0.25}, accuracy, wins=0.5)).better
    assert not compare_metrics(previous, previous, metrics_config({}, accuracy, wins="any")).better
    assert compare_metrics(new, previous, metrics_config({}, accuracy, wins="any")).action == "discard"


@pytest.mark.parametrize(
    ("won", "wins", "better"),
    [
        ("yyynn", 0.6, True),
        ("yynnn", 0.6, False),
        ("ynn", "any", True),
        ("nnn", "any", False),
        ("yn", "all", False),
        ("yy", "all", True),
        ("yn", 1, False),
        ("ynn", 1 / 3, True),
        ("yyyyyyynnn", 0.7, True),
    ],
)
def test_the_part_of_the_checks_that_must_be_won(won, wins, better):
    old, new = ({LOSS: [(1, 0.5)]}, {LOSS: [(1, 0.25)]})
    checks = [{"min_delta": 0 if each == "y" else 1} for each in won]
    result = compare_metrics(old, new, metrics_config(*checks, wins=wins))
    assert result.better is better and f"won {won.count('y')} of {len(won)}" in result.message


def test_a_metric_that_was_not_written_is_named_with_those_that_were():
    with pytest.raises(ValueError, match=r"'new' has no metric 'loss' / 'val'; it has 'accuracy' / 'val'"):
        compare_metrics({LOSS: [(1, 1)]}, {ACCURACY: [(1, 1)]}, metrics_config())


# ----------------------------------------------------------------------------------------------- pre


def boxes(*labels, size=10, **more):
    return [
        {
            "annotation_id": f"a{i}",
            "image_id": f"i{i}",
            "label": label,
            "left": 0,
            "top": 0,
            "right": size,
            "bottom": size,
        }
        | more
        for i, label in enumerate(labels)
    ]


def box_test(truth, previous, new):
    return TestSet("box", [f"i{i}" for i in range(len(truth))], truth, (previous, new))


def test_a_perfect_detector_has_one_and_wrong_classes_have_nothing():
    truth = boxes("cat", "dog", "dog")
    perfect = boxes("cat", "dog", "dog", score=0.9)
    wrong = boxes("dog", "cat", "cat", score=0.9)
    result = decide(box_test(truth, wrong, perfect))
    assert (result.previous, result.new, result.better) == (0.0, 1.0, True)
    assert {row["name"]: (row["previous"], row["new"]) for row in result.rows} == {
        "cat": (0, 1),
        "dog": (0, 1),
    }
    back = decide(box_test(truth, perfect, wrong))
    assert back.action == "discard" and back.difference == -1.0


def test_recall_counts_the_label_alone():
    # One cat found among three dogs missed: the cat's own recall is 1, not a quarter.
    truth = boxes("cat", "dog", "dog", "dog")
    result = decide(box_test(truth, [], boxes("cat", score=0.5)))
    assert {row["name"]: row["new"] for row in result.rows} == {"cat": 1.0, "dog": 0.0}
    assert result.new == 0.5


def test_no_predictions_are_zero_and_no_ground_truth_is_an_error():
    truth = boxes("cat")
    result = decide(box_test(truth, [], []))
    assert (result.previous, result.new, result.better) == (0.0, 0.0, False)
    for kind in ("box", "class"):
        with pytest.raises(NoGroundTruth, match="none of the 2 test items has ground-truth annotations"):
            decide(TestSet(kind, ["a", "b"], [], (truth, truth)))


def test_the_new_model_must_be_more_than_min_delta_better():
    truth = boxes(*"abcd")
    config = {"precision_recall": {"min_delta": 0.25}}
    three, four = boxes(*"abc", score=0.5), boxes(*"abcd", score=0.5)
    assert not decide(box_test(truth, three, four), config).better
    assert decide(box_test(truth, boxes(*"ab", score=0.5), four), config).better
    assert not decide(box_test(truth, four, four)).better


def class_rows(labels, score=0.9, names=None):
    rows = []
    for i, label in enumerate(labels):
        row = {"annotation_id": f"p{i}", "image_id": f"i{i}", "label": label, "score": score}
        if names:
            row["confidences"] = {
                name: score if name == label else (1 - score) / (len(names) - 1) for name in names
            }
        rows.append(row)
    return rows


def class_test(truth, previous, new):
    ground_truth = [
        {"annotation_id": f"g{i}", "image_id": f"i{i}", "label": label} for i, label in enumerate(truth)
    ]
    return TestSet("class", [f"i{i}" for i in range(len(truth))], ground_truth, (previous, new))


@pytest.mark.parametrize("names", [None, "abc"])
def test_a_classifier_that_is_always_wrong_does_not_win(names):
    truth = "aabbcc"
    perfect, wrong = class_rows(truth, names=names), class_rows("bbccaa", names=names)
    result = decide(class_test(truth, wrong, perfect))
    assert result.new == 1.0 and result.previous < 0.5 and result.better
    assert not decide(class_test(truth, perfect, wrong)).better


def test_the_method_is_named_and_is_the_same_for_both():
    full, top = class_rows("ab", names="ab"), class_rows("ab")
    assert "full confidences" in decide(class_test("ab", full, full)).method
    mixed = decide(class_test("ab", full, top))
    assert "top-1" in mixed.method and any("full confidences" in warning for warning in mixed.warnings)


def test_full_confidences_rank_models_that_the_top_class_does_not():
    truth = "ab" * 10
    sure = class_rows("ab" * 10, names="ab", score=0.9)
    unsure = copy.deepcopy(sure)
    for row in unsure[:4]:
        row["confidences"] = {"a": 0.5, "b": 0.5}
    result = decide(class_test(truth, unsure, sure))
    assert result.better and result.previous < result.new


def test_models_of_different_classes_and_missing_predictions_are_evaluated():
    old, new = class_rows("aaaa", names="ab"), class_rows("abc", names="abc")
    result = decide(class_test("abcc", old, new))
    by_label = {row["name"]: row["new"] for row in result.rows}
    assert by_label["a"] == by_label["b"] == 1.0 and by_label["c"] < 1.0 and result.better


def test_items_without_one_class_are_left_out_and_counted():
    test = class_test("abb", class_rows("abb"), class_rows("abb"))
    test.item_ids.append("i9")
    for item in ("i1", "i2"):
        test.ground_truth.insert(0, {"annotation_id": f"g{item}", "image_id": item, "label": "a"})
    result = decide(test)
    assert result.test_items == 1
    several = "2 items have several ground-truth classes and are left out, the first is i1 with ['a', 'b']"
    assert {several, "1 of 4 test items have no ground truth and are left out"} <= set(result.warnings)


def test_the_order_of_the_rows_does_not_matter():
    truth, old = "abcabcabc", class_rows("abbabcaac", names="abc")
    new = class_rows("abcabcabb", names="abc", score=0.7)
    expected = decide(class_test(truth, old, new))
    shuffled = class_test(truth, old, new)
    for rows in (shuffled.ground_truth, *shuffled.predictions):
        random.Random(3).shuffle(rows)
    assert decide(shuffled) == expected


def _results():
    import numpy as np

    from alhelpers.evaluation import TestSet, compare_predictions, read_compare_config, top1_average_precision

    rng = np.random.default_rng(0)
    classes = [rng.choice(list(names), 300) for names in ("abcdef", "abcdefxyz")]
    ap = top1_average_precision(*classes, rng.uniform(size=300))
    names = [str(number) for number in range(30)]
    truth = [{"image_id": name, "label": "abc"[int(name) % 3]} for name in names]
    found = [
        {"image_id": name, "label": "abc"[int(name) % 2], "score": 0.5 + int(name) / 99} for name in names
    ]
    test = TestSet("class", names, truth, (found, found))
    decision = compare_predictions(test, read_compare_config(None))
    return f"{decision.new} {decision.rows} {ap.macro} {ap.micro} {list(ap.per_label)} {ap.warnings}"


def test_the_hash_seed_does_not_matter(printed_with_hash_seed):
    code = f"{inspect.getsource(_results)}\nprint({_results.__name__}())"
    other = 2 if os.environ.get("PYTHONHASHSEED") == "1" else 1
    assert printed_with_hash_seed(code, other).strip() == _results()


def test_the_decision_can_be_printed_and_stored():
    result = decide(class_test("ab", class_rows("ba"), class_rows("ab")), {"x": 1} | DEFAULT_CONFIG)
    text = str(result)
    with pytest.raises(AttributeError, match="cannot assign to field 'better'"):
        result.better = False
    assert "update model" in text and "macro" in text and "warning: metric 'x'" in text
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored["action"] == "update model" and stored["new"] == 1.0 and stored["test_items"] == 2
    assert stored["rows"][0] == {"name": "a", "previous": 0.0, "new": 1.0, "low": 1.0, "high": 1.0}


# ------------------------------------------------------------------------------
# several metrics, intervals, confidence
# ------------------------------------------------------------------------------


def by_name(comparison):
    return {metric["name"]: metric for metric in comparison.metrics}


def test_classifiers_are_compared_by_several_metrics_at_once():
    truth, old, new = "aaabbbccc", "aabbbccca", "aaabbbcca"
    test = class_test(truth, class_rows(old, score=0.9), class_rows(new, score=0.8))
    config = {"accuracy": {}, "f1": {}, "calibration": {"bins": 10}, "precision_recall": {}, "wins": "all"}
    result = decide(test, config)
    found = by_name(result)
    assert list(found) == ["accuracy", "f1", "calibration", "precision_recall"]
    assert (found["accuracy"]["previous"], found["accuracy"]["new"]) == (6 / 9, 8 / 9)
    names = sorted(set(truth))
    for side, labels in (("previous", old), ("new", new)):
        assert found["f1"][side] == pytest.approx(f1_score(list(truth), list(labels), average="macro"))
        recalls = recall_score(list(truth), list(labels), labels=names, average=None)
        assert [row[side] for row in found["accuracy"]["rows"]] == pytest.approx(recalls.tolist())
    assert found["calibration"]["previous"] == pytest.approx(0.9 - 6 / 9)
    assert found["calibration"]["new"] == pytest.approx(8 / 9 - 0.8)
    assert found["calibration"]["difference"] < 0 and found["calibration"]["won"]
    assert result.better and "won 4 of 4 metrics" in result.message and "(needed: all)" in result.message
    # What a single metric has is the first one's.
    assert result.metric == "accuracy" and result.rows == found["accuracy"]["rows"]
    assert (result.previous, result.new, result.test_items) == (6 / 9, 8 / 9, 9)


@pytest.mark.parametrize(("wins", "better"), [("all", False), ("any", True), (0.5, True), (0.6, False)])
def test_wins_sets_how_many_metrics_must_be_won(wins, better):
    # Right more often, and much too sure of itself.
    old, new = class_rows("aabb", score=0.5), class_rows("abab", score=1.0)
    test = class_test("abba", old, new)
    assert not decide(test, {"accuracy": {}}).better
    test = class_test("abaa", old, new)
    config = {"accuracy": {}, "calibration": {}, "wins": wins}
    result = decide(test, config)
    assert [metric["won"] for metric in result.metrics] == [True, False]
    assert result.better is better and result.wins == wins
    assert "calibration" in result.message and "not won, as less than 0 is needed" in result.message


def test_the_interval_is_that_of_a_paired_bootstrap_and_one_seed_gives_one_interval():
    truth = "ab" * 30
    old, new = class_rows("ab" * 15 + "aa" * 15), class_rows("ab" * 24 + "ba" * 6)
    test = class_test(truth, old, new)
    config = {"accuracy": {}, "bootstrap": {"samples": 200, "level": 0.9, "seed": 5}}
    metric = decide(test, config).metrics[0]
    order = sorted(range(60), key=lambda place: f"i{place}")  # the items are taken in the order of their ids
    models = [
        Classifications([truth[k] for k in order], [rows[k]["label"] for k in order], [1] * 60)
        for rows in (old, new)
    ]
    bootstrap = paired_bootstrap(*(model.accuracy() for model in models), 200, 0.9, 5)
    expected = {"low": bootstrap.low, "high": bootstrap.high, "level": 0.9, "samples": 200, "seed": 5}
    assert metric["interval"] == expected
    assert metric["interval"]["low"] < metric["difference"] < metric["interval"]["high"]
    assert decide(test, config).metrics[0] == metric


def lucky(better_items, items=100):
    """A new model that is right on a few more of many items, and wrong on some that the old one knew."""
    truth = "ab" * (items // 2)
    old = class_rows("".join("ba"["ab".index(c)] if i < 20 else c for i, c in enumerate(truth)))
    new = class_rows(
        "".join(
            "ba"["ab".index(c)] if better_items <= i < 20 or 20 <= i < 24 else c for i, c in enumerate(truth)
        )
    )
    return class_test(truth, old, new)


def test_min_confidence_requires_more_than_luck():
    accuracy = {"min_delta": 0}
    few, many = lucky(8), lucky(20)
    assert decide(few, {"accuracy": accuracy}).better
    sure = {"accuracy": accuracy | {"min_confidence": 0.95}}
    result = decide(few, sure)
    assert not result.better and result.difference == pytest.approx(0.04)
    assert "min_confidence 0.95" in result.message and "may be luck: discard" in result.message
    interval = result.metrics[0]["interval"]
    assert interval["level"] == 0.95 and interval["low"] <= 0 < interval["high"]
    result = decide(many, sure)
    assert result.better and result.metrics[0]["interval"]["low"] > 0 and "luck" not in result.message
    # The interval must lie above min_delta, not only above zero.
    asked = {"min_delta": 0.1, "min_confidence": 0.95}
    assert not decide(many, {"accuracy": asked}).better
    # At a lower level less is asked.
    asked = {"min_confidence": 0.3}
    assert decide(few, {"accuracy": asked}).better


def test_min_confidence_of_an_error_takes_the_upper_end():
    old, new = class_rows("ab" * 50, score=0.6), class_rows("ab" * 50, score=0.9)
    config = {"calibration": {"min_confidence": 0.95, "min_delta": 0.1}}
    result = decide(class_test("ab" * 50, old, new), config)
    assert result.better and result.difference == pytest.approx(-0.3)
    assert result.metrics[0]["interval"]["high"] < -0.1 and "must be less than -0.1" in result.message
    assert not decide(class_test("ab" * 50, new, old), config).better


def test_few_items_and_confidence_are_warned_of():
    config = {"accuracy": {"min_confidence": 0.95}}
    result = decide(class_test("ab", class_rows("ba"), class_rows("ab")), config)
    assert any("2 test items are too few for min_confidence" in warning for warning in result.warnings)


def test_detectors_are_compared_by_several_metrics_at_once():
    truth = boxes(*"aabb")
    shifted = [row | {"left": 2, "right": 12} for row in boxes(*"aabb", score=0.9)]  # IoU 2/3
    perfect = boxes(*"aabb", score=0.9)
    config = {"precision_recall": {}, "mean_average_precision": {}, "f1": {}, "calibration": {"bins": 10}}
    result = decide(box_test(truth, shifted, perfect), config | {"wins": 0.25})
    found = by_name(result)
    assert (found["precision_recall"]["previous"], found["precision_recall"]["new"]) == (1, 1)
    assert found["mean_average_precision"]["previous"] == pytest.approx(0.4)  # .50, .55, .60, .65 of ten
    assert (found["f1"]["new"], found["calibration"]["new"]) == (1, pytest.approx(0.1))
    assert [metric["won"] for metric in result.metrics] == [False, True, False, False] and result.better


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        (
            "box",
            "accuracy",
            "accuracy cannot compare models that predict 'box' annotations: use 'precision_recall'",
        ),
        ("class", "mean_average_precision", "mean_average_precision cannot compare .* 'class' annotations"),
    ],
)
def test_a_metric_that_does_not_fit_is_named_with_those_that_do(kind, metric, message):
    test = TestSet(kind, ["i0"], boxes("a"), (boxes("a", score=1), boxes("a", score=1)))
    with pytest.raises(ValueError, match=message):
        decide(test, {metric: {}})


def test_a_metric_that_cannot_be_computed_names_the_model():
    truth = boxes("a")
    config = {"calibration": {}}
    with pytest.raises(ValueError, match="calibration of model 'new': .* needs at least one prediction"):
        decide(box_test(truth, boxes("a", score=1), []), config)
    with pytest.raises(ValueError, match="calibration of model 'previous': .* has 7.0"):
        decide(box_test(truth, boxes("a", score=7), boxes("a", score=1)), config)


def test_a_classifier_that_predicts_nothing_has_nothing():
    config = {"precision_recall": {}, "accuracy": {}, "f1": {}}
    full = class_rows("ab", names="ab")
    result = decide(class_test("ab", full, []), config)
    assert [metric["new"] for metric in result.metrics] == [0, 0, 0] and not result.better
    assert "2 test items have no prediction of 'new': they count as misses" in result.warnings


def test_several_metrics_are_printed_as_tables_and_stored_as_plain_json():
    test = class_test("ab", class_rows("aa"), class_rows("ab"))
    result = decide(test, {"accuracy": {"min_confidence": 0.9}, "calibration": {}})
    text = str(result)
    assert "accuracy, not won: +0.5000, 90 % interval" in text and "of 1000 resamples" in text
    assert "calibration, " in text and "min_delta 0, min_confidence 0.9" in text
    # A label that a model never predicted has no calibration: a dash, and null.
    tables = [line.split() for line in text.splitlines() if line.startswith(("a ", "b "))]
    assert tables[0] == ["a", "1.0000", "1.0000", "+0.0000"]
    assert tables[1] == ["b", "0.0000", "1.0000", "+1.0000"]
    assert tables[3] == ["b", "-", "0.1000", "-"]
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored == result.to_dict() and stored["metrics"][1]["rows"][1]["previous"] is None


def test_training_metrics_keep_how_many_must_be_won():
    values = {LOSS: [(1, 0.5)]}
    assert compare_metrics(values, values, metrics_config(wins="ANY")).to_dict()["wins"] == "any"
