import copy
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from alhelpers.evaluation import NoGroundTruth
from alhelpers.nodes.compare_models import (
    DEFAULT_CONFIG,
    Check,
    CompareConfig,
    TestSet,
    check_wins,
    compare_metrics,
    compare_predictions,
    parse_config,
    parse_wins,
    pick_value,
    prediction_owner,
)

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
CHECK = {"type": "plot", "figure": "loss", "legend": "val", "x_index": -1, "maximize": False, "min_delta": 0}


def metrics_config(*checks, **wins):
    return parse_config({"checks": [CHECK | check for check in checks or [{}]], **wins})


# ------------------------------------------------------------------------------------------- configu


def test_the_files_hold_the_documented_configurations():
    assert json.loads((CONFIGS / "compare_configurations.json").read_text()) == DEFAULT_CONFIG
    training = parse_config(
        json.loads((CONFIGS / "compare_configurations_training_metrics.json").read_text())
    )
    assert training.wins == 0.6 and {check.maximize for check in training.checks} == {True, False}
    for subset in ("train", "validation", "test"):
        tags = {"metadata": {"system": {"tags": {subset: True}}}}
        assert json.loads((CONFIGS / f"{subset}_subset_filter.json").read_text()) == {
            "filter": {"$and": [{"hidden": False}, {"$or": [tags]}, {"type": "file"}]}
        }


def test_no_configuration_is_the_default_wherever_we_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parse_config(None) == parse_config({}) == parse_config(DEFAULT_CONFIG)
    assert parse_config(None).precision_recall and parse_config(None).iou_threshold == 0.5


def test_the_configuration_is_not_changed():
    config = {"precision_recall": {"iou_threshold": "0.6", "test_filter": {"filter": {"$and": []}}}, "f1": {}}
    before = copy.deepcopy(config)
    parse_config(config)
    assert config == before


def test_unknown_metrics_are_ignored_with_a_warning():
    parsed = parse_config({"precision_recall": {"min_delta": 0.1, "speed": 1}, "f1": {"a": 1}})
    assert parsed.min_delta == 0.1
    assert any("'f1'" in warning for warning in parsed.warnings)
    assert any("precision_recall.speed" in warning for warning in parsed.warnings)
    with pytest.raises(ValueError, match="names nothing to compare"):
        parse_config({"f1": {}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("x", "must be an object"),
        ({"precision_recall": 5}, "precision_recall 5 must be an object"),
        ({"precision_recall": {"iou_threshold": 0}}, "iou_threshold 0.0 must be above 0"),
        ({"precision_recall": {"iou_threshold": "half"}}, "iou_threshold 'half' must be a finite number"),
        ({"precision_recall": {"min_delta": math.nan}}, "min_delta nan must be a finite number"),
        ({"precision_recall": {"min_delta": -0.1}}, "min_delta -0.1 must be 0 or more"),
        ({"precision_recall": {"min_delta": True}}, "min_delta True must be a finite number"),
        ({"precision_recall": {"test_filter": "test"}}, "test_filter 'test' must be a query"),
        ({"wins": "all", "checks": []}, "at least one check"),
        ({"wins": 0.6, "checks": []}, "at least one check"),
        ({"wins": 0.6}, "at least one check"),
        ({"wins": 0.6, "checks": ["loss"]}, r"checks\[0\] 'loss' must be an object"),
        ({"checks": [CHECK | {"type": "table"}]}, r"checks\[0\].type 'table' is not supported"),
        ({"checks": [CHECK, CHECK | {"figure": None}]}, r"checks\[1\].figure None"),
        ({"checks": [CHECK | {"x_index": 0.5}]}, r"checks\[0\].x_index 0.5"),
        ({"checks": [{key: CHECK[key] for key in ("figure", "legend")}]}, r"checks\[0\].maximize None"),
    ],
)
def test_an_unusable_configuration_is_refused_by_key(config, message):
    with pytest.raises(ValueError, match=message):
        parse_config(config)


@pytest.mark.parametrize("value", [True, 1, "true", "True", "TRUE", "yes"])
def test_what_means_true_maximizes(value):
    assert metrics_config({"maximize": value}).checks[0].maximize is True


@pytest.mark.parametrize("value", [False, 0, "false", "No"])
def test_what_means_false_minimizes(value):
    assert metrics_config({"maximize": value}).checks[0].maximize is False


@pytest.mark.parametrize("value", [None, 2, "maybe", 1.5, [], ""])
def test_what_means_neither_is_refused(value):
    with pytest.raises(ValueError, match="maximize .* must be true"):
        metrics_config({"maximize": value})


# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "parsed"),
    [
        ("0.6", 0.6),
        (0.6, 0.6),
        (1, 1.0),
        (1.0, 1.0),
        ("1", 1.0),
        ("ALL", "all"),
        (" Any ", "any"),
        ("all", "all"),
    ],
)
def test_wins_is_read_in_every_spelling(wins, parsed):
    assert parse_wins(wins) == parsed
    assert check_wins([True, True, True], wins)
    assert not check_wins([False, False, False], wins)


@pytest.mark.parametrize("wins", [0, -1, 1.1, 2, "some", None, True, math.nan, "", []])
def test_wins_that_means_nothing_is_refused(wins):
    with pytest.raises(ValueError, match="wins"):
        parse_wins(wins)


@pytest.mark.parametrize(
    ("won", "wins", "expected"),
    [
        ([True, True, True, False, False], 0.6, True),
        ([True, True, False, False, False], 0.6, False),
        ([True, False, False], "any", True),
        ([True, False], "all", False),
        ([True, False], 1, False),
        ([True, False, False], 1 / 3, True),
        ([True] * 7 + [False] * 3, 0.7, True),
    ],
)
def test_the_part_that_must_be_won(won, wins, expected):
    assert check_wins(won, wins) is expected


@pytest.mark.parametrize("wins", ["all", "any", 0.6])
def test_without_checks_nobody_wins(wins):
    with pytest.raises(ValueError, match="no checks"):
        check_wins([], wins)


# ----------------------------------------------------------------------------------------------- tra


def test_samples_are_taken_in_the_order_of_x():
    samples = [(10, 0.1), (2, 0.9), (1, 0.95)]
    assert pick_value(samples, Check("loss", "val", False), "m") == 0.1
    assert pick_value(samples, Check("loss", "val", False, x_index=0), "m") == 0.95
    assert pick_value(samples, Check("loss", "val", False, x_value=2.0), "m") == 0.9
    # A training that was run again writes its epochs once more: the last run counts.
    assert pick_value([*samples, (10, 0.05)], Check("loss", "val", False), "m") == 0.05


@pytest.mark.parametrize(
    ("samples", "check", "message"),
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
def test_a_missing_value_names_the_model_and_the_metric(samples, check, message):
    with pytest.raises(ValueError, match=rf"model 'm', metric 'loss' / 'val'.*{message}"):
        pick_value(samples, Check("loss", "val", False, **check), "m")


LOSS = ("loss", "val")
ACCURACY = ("accuracy", "val")


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
    result = compare_predictions(box_test(truth, wrong, perfect), parse_config(None))
    assert (result.previous, result.new, result.better) == (0.0, 1.0, True)
    assert {row["name"]: (row["previous"], row["new"]) for row in result.rows} == {
        "cat": (0, 1),
        "dog": (0, 1),
    }
    back = compare_predictions(box_test(truth, perfect, wrong), parse_config(None))
    assert back.action == "discard" and back.difference == -1.0


def test_recall_counts_the_label_alone():
    # One cat found among three dogs missed: the cat's own recall is 1, not a quarter.
    truth = boxes("cat", "dog", "dog", "dog")
    result = compare_predictions(box_test(truth, [], boxes("cat", score=0.5)), parse_config(None))
    assert {row["name"]: row["new"] for row in result.rows} == {"cat": 1.0, "dog": 0.0}
    assert result.new == 0.5


def test_no_predictions_are_zero_and_no_ground_truth_is_an_error():
    truth = boxes("cat")
    result = compare_predictions(box_test(truth, [], []), parse_config(None))
    assert (result.previous, result.new, result.better) == (0.0, 0.0, False)
    for kind in ("box", "class"):
        with pytest.raises(NoGroundTruth, match="none of the 2 test items has ground-truth annotations"):
            compare_predictions(TestSet(kind, ["a", "b"], [], (truth, truth)), parse_config(None))


def test_the_new_model_must_be_more_than_min_delta_better():
    truth = boxes(*"abcd")
    config = parse_config({"precision_recall": {"min_delta": 0.25}})
    three, four = boxes(*"abc", score=0.5), boxes(*"abcd", score=0.5)
    assert not compare_predictions(box_test(truth, three, four), config).better
    assert compare_predictions(box_test(truth, boxes(*"ab", score=0.5), four), config).better
    assert not compare_predictions(box_test(truth, four, four), parse_config(None)).better


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
    result = compare_predictions(class_test(truth, wrong, perfect), parse_config(None))
    assert result.new == 1.0 and result.previous < 0.5 and result.better
    assert not compare_predictions(class_test(truth, perfect, wrong), parse_config(None)).better


def test_the_method_is_said_and_is_the_same_for_both():
    full, top = class_rows("ab", names="ab"), class_rows("ab")
    assert "full confidences" in compare_predictions(class_test("ab", full, full), parse_config(None)).method
    mixed = compare_predictions(class_test("ab", full, top), parse_config(None))
    assert "top-1" in mixed.method and any("full confidences" in warning for warning in mixed.warnings)


def test_full_confidences_rank_models_that_the_top_class_does_not():
    truth = "ab" * 10
    sure = class_rows("ab" * 10, names="ab", score=0.9)
    unsure = copy.deepcopy(sure)
    for row in unsure[:4]:
        row["confidences"] = {"a": 0.5, "b": 0.5}
    result = compare_predictions(class_test(truth, unsure, sure), parse_config(None))
    assert result.better and result.previous < result.new


def test_models_of_different_classes_and_missing_predictions_are_evaluated():
    old, new = class_rows("aaaa", names="ab"), class_rows("abc", names="abc")
    result = compare_predictions(class_test("abcc", old, new), parse_config(None))
    by_label = {row["name"]: row["new"] for row in result.rows}
    assert by_label["a"] == by_label["b"] == 1.0 and by_label["c"] < 1.0 and result.better


def test_items_without_one_class_are_left_out_and_counted():
    test = class_test("ab", class_rows("ab"), class_rows("ab"))
    test.item_ids.append("i9")
    test.ground_truth.append({"annotation_id": "g9", "image_id": "i1", "label": "a"})
    result = compare_predictions(test, parse_config(None))
    assert result.test_items == 1
    assert any("several ground-truth classes" in warning and "i1" in warning for warning in result.warnings)
    assert any("1 of 3 test items have no ground truth" in warning for warning in result.warnings)


def test_the_order_of_the_rows_does_not_matter():
    truth, old = "abcabcabc", class_rows("abbabcaac", names="abc")
    new = class_rows("abcabcabb", names="abc", score=0.7)
    expected = compare_predictions(class_test(truth, old, new), parse_config(None))
    shuffled = class_test(truth, old, new)
    for rows in (shuffled.ground_truth, *shuffled.predictions):
        random.Random(3).shuffle(rows)
    assert compare_predictions(shuffled, parse_config(None)) == expected


def test_the_hash_seed_does_not_matter():
    code = (
        "from alhelpers.nodes.compare_models import TestSet, compare_predictions, parse_config\n"
        "t = [{'image_id': str(i), 'label': 'abc'[i % 3]} for i in range(30)]\n"
        "p = [{'image_id': str(i), 'label': 'abc'[i % 2], 'score': 0.5 + i / 99} for i in range(30)]\n"
        "r = compare_predictions(TestSet('class', [str(i) for i in range(30)], t, (p, p)), parse_config(None))\n"
        "print(r.new, r.rows)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(outputs) == 1


def test_the_decision_can_be_printed_and_stored():
    result = compare_predictions(
        class_test("ab", class_rows("ba"), class_rows("ab")), parse_config({"x": 1} | DEFAULT_CONFIG)
    )
    text = str(result)
    assert "update model" in text and "macro" in text and "warning: metric 'x'" in text
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored["action"] == "update model" and stored["new"] == 1.0 and stored["test_items"] == 2
    assert stored["rows"][0] == {"name": "a", "previous": 0.0, "new": 1.0}


def test_who_made_an_annotation():
    assert prediction_owner({"system": {"model": {"model_id": "1", "name": "m"}}}) == ("1", "m")
    assert prediction_owner({"system": {}, "user": {"model": {"model_id": "2"}}}) == ("2", None)
    assert prediction_owner({"user": {"model": {"name": "m"}}}) == (None, "m")
    for none in (
        None,
        {},
        {"user": None, "system": None},
        {"system": {"model": None}},
        {"user": {"model": {}}},
    ):
        assert prediction_owner(none) == (None, None)


def test_an_empty_config_object_compares_nothing_by_itself():
    assert CompareConfig().checks == () and not CompareConfig().precision_recall
