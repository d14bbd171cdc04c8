import copy
import inspect
import json
import math
import os
import random
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sklearn.metrics import f1_score, recall_score

from alhelpers.dataloop.compare_models import (
    CONFIG_SCHEMA,
    DEFAULT_CONFIG,
    Check,
    CompareConfig,
    Metric,
    TestSet,
    check_wins,
    compare_metrics,
    compare_predictions,
    parse_config,
    parse_wins,
    pick_value,
)
from alhelpers.evaluation import Classifications, NoGroundTruth, paired_bootstrap

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
    assert parse_config(None).metrics == (Metric("precision_recall", min_delta=0, iou_threshold=0.5),)


def test_the_configuration_is_not_changed():
    config = {"precision_recall": {"iou_threshold": "0.6", "test_filter": {"filter": {"$and": []}}}, "f1": {}}
    before = copy.deepcopy(config)
    parse_config(config)
    assert config == before


def test_unknown_metrics_are_ignored_with_a_warning():
    parsed = parse_config({"precision_recall": {"min_delta": 0.1}, "speed": {"a": 1}})
    assert parsed.metrics == (Metric("precision_recall", min_delta=0.1),)
    assert len(parsed.warnings) == 1 and "metric 'speed' is not known and ignored" in parsed.warnings[0]
    with pytest.raises(ValueError, match="names nothing to compare"):
        parse_config({"speed": {}})


def test_every_metric_takes_its_own_numbers_in_the_order_given():
    parsed = parse_config(
        {
            "calibration": {"bins": 5.0, "iou_threshold": "0.75", "min_confidence": "0.9"},
            "f1": {"score_threshold": 0.3, "iou_threshold": 0.6, "min_delta": "1e-2"},
            "accuracy": None,
            "mean_average_precision": {},
            "wins": "ANY",
            "test_filter": {"filter": {}},
            "bootstrap": {"samples": 50, "level": "0.8", "seed": 3},
        }
    )
    assert parsed.metrics == (
        Metric("calibration", bins=5, iou_threshold=0.75, min_confidence=0.9),
        Metric("f1", score_threshold=0.3, iou_threshold=0.6, min_delta=0.01),
        Metric("accuracy"),
        Metric("mean_average_precision"),
    )
    assert (parsed.wins, parsed.samples, parsed.level, parsed.seed) == ("any", 50, 0.8, 3)
    assert parsed.test_filter == {"filter": {}} and not parsed.warnings


def subschemas(schema):
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("allOf", ())]
    for one in inner + ([schema["items"]] if "items" in schema else []):
        yield from subschemas(one)


def test_the_schema_is_one_and_says_what_every_value_must_be():
    Draft202012Validator.check_schema(CONFIG_SCHEMA)
    assert all(schema.get("description") for schema in subschemas(CONFIG_SCHEMA))
    assert json.loads(json.dumps(CONFIG_SCHEMA)) == CONFIG_SCHEMA
    for path in CONFIGS.glob("compare_configurations*.json"):
        Draft202012Validator(CONFIG_SCHEMA).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("x", "must be an object"),
        ({"precision_recall": 5}, "precision_recall 5 must be an object"),
        ({"precision_recall": {"iou_threshold": 0}}, "iou_threshold 0 must be above 0"),
        ({"precision_recall": {"iou_threshold": "half"}}, "iou_threshold 'half' must be a finite number"),
        ({"precision_recall": {"min_delta": math.nan}}, "min_delta nan must be a finite number"),
        ({"precision_recall": {"min_delta": -0.1}}, "min_delta -0.1 must be 0 or more"),
        ({"precision_recall": {"min_delta": True}}, "min_delta True must be a finite number"),
        ({"precision_recall": {"test_filter": "test"}}, "test_filter 'test' must be a query"),
        ({"wins": "all", "checks": []}, "at least one check"),
        ({"wins": 0.6, "checks": []}, "at least one check"),
        ({"wins": 0.6}, "at least one check"),
        ({"wins": 0.6, "checks": ["loss"]}, r"checks\[0\] 'loss' must be an object"),
        ({"checks": [CHECK | {"type": "table"}]}, r"checks\[0\].type 'table' must be 'plot', the only type"),
        ({"checks": [CHECK, CHECK | {"figure": None}]}, r"checks\[1\].figure None"),
        ({"checks": [CHECK | {"x_index": 0.5}]}, r"checks\[0\].x_index 0.5"),
        (
            {"checks": [{key: CHECK[key] for key in ("figure", "legend")}]},
            r"checks\[0\] lacks 'maximize', .* true",
        ),
        ({"checks": [CHECK | {"maximise": True}]}, r"checks\[0\] has the unknown key 'maximise'; known are"),
        ({"checks": [CHECK | {"x_value": "soon"}]}, r"checks\[0\].x_value 'soon' must be a finite number"),
        ({"checks": [CHECK | {"min_delta": "1e999"}]}, r"checks\[0\].min_delta inf must be a finite number"),
        ({"precision_recall": {"speed": 1}}, "precision_recall has the unknown key 'speed'; known are"),
        ({"precision_recall": {}, "f1": {"bins": 3}}, "compare_config.f1 has the unknown key 'bins'"),
        ({"precision_recall": {"iou_threshold": "1.5"}}, "iou_threshold 1.5 must be above 0 and at most 1"),
        ({"accuracy": {"iou_threshold": 0.5}}, "accuracy has the unknown key 'iou_threshold'"),
        ({"accuracy": []}, r"compare_config.accuracy \[\] must be an object"),
        ({"f1": {"score_threshold": 2}}, "f1.score_threshold 2 must be from 0 to 1"),
        ({"calibration": {"bins": 0}}, "calibration.bins 0 must be a whole number from 1"),
        ({"accuracy": {"min_confidence": 1}}, "min_confidence 1 must be above 0 and below 1"),
        ({"accuracy": {"min_confidence": "95 %"}}, "min_confidence '95 %' must be"),
        ({"accuracy": {"min_confidence": True}}, "min_confidence True must be"),
        ({"accuracy": {}, "wins": 0}, "compare_config.wins 0 must be a fraction above 0"),
        ({"accuracy": {}, "wins": "1.5"}, "wins 1.5 must be a fraction above 0"),
        ({"accuracy": {}, "test_filter": "test"}, "test_filter 'test' must be a query"),
        ({"accuracy": {}, "bootstrap": {"samples": 0}}, "bootstrap.samples 0 must be a whole number from 1"),
        ({"accuracy": {}, "bootstrap": {"times": 5}}, "bootstrap has the unknown key 'times'"),
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


def _decision_on_thirty_images():
    from alhelpers.dataloop.compare_models import TestSet, compare_predictions, parse_config

    names = [str(number) for number in range(30)]
    truth = [{"image_id": name, "label": "abc"[int(name) % 3]} for name in names]
    found = [
        {"image_id": name, "label": "abc"[int(name) % 2], "score": 0.5 + int(name) / 99} for name in names
    ]
    decision = compare_predictions(TestSet("class", names, truth, (found, found)), parse_config(None))
    return f"{decision.new} {decision.rows}"


def test_the_hash_seed_does_not_matter(printed_with_hash_seed):
    code = f"{inspect.getsource(_decision_on_thirty_images)}\nprint({_decision_on_thirty_images.__name__}())"
    other = 2 if os.environ.get("PYTHONHASHSEED") == "1" else 1
    assert printed_with_hash_seed(code, other).strip() == _decision_on_thirty_images()


def test_the_decision_can_be_printed_and_stored():
    result = compare_predictions(
        class_test("ab", class_rows("ba"), class_rows("ab")), parse_config({"x": 1} | DEFAULT_CONFIG)
    )
    text = str(result)
    assert "update model" in text and "macro" in text and "warning: metric 'x'" in text
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored["action"] == "update model" and stored["new"] == 1.0 and stored["test_items"] == 2
    assert stored["rows"][0] == {"name": "a", "previous": 0.0, "new": 1.0}


def test_an_empty_config_object_compares_nothing_by_itself():
    assert CompareConfig().checks == CompareConfig().metrics == ()


# ------------------------------------------------------------------------------
# several metrics, intervals, confidence
# ------------------------------------------------------------------------------


def by_name(comparison):
    return {metric["name"]: metric for metric in comparison.metrics}


def test_classifiers_are_compared_by_several_metrics_at_once():
    truth, old, new = "aaabbbccc", "aabbbccca", "aaabbbcca"
    test = class_test(truth, class_rows(old, score=0.9), class_rows(new, score=0.8))
    config = {"accuracy": {}, "f1": {}, "calibration": {"bins": 10}, "precision_recall": {}, "wins": "all"}
    result = compare_predictions(test, parse_config(config))
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
def test_wins_says_how_many_metrics_must_be_won(wins, better):
    # Right more often, and much too sure of itself.
    old, new = class_rows("aabb", score=0.5), class_rows("abab", score=1.0)
    test = class_test("abba", old, new)
    assert not compare_predictions(test, parse_config({"accuracy": {}})).better
    test = class_test("abaa", old, new)
    config = {"accuracy": {}, "calibration": {}, "wins": wins}
    result = compare_predictions(test, parse_config(config))
    assert [metric["won"] for metric in result.metrics] == [True, False]
    assert result.better is better and result.wins == wins
    assert "calibration" in result.message and "not won, as less than 0 is needed" in result.message


def test_the_interval_is_that_of_a_paired_bootstrap_and_one_seed_gives_one_interval():
    truth = "ab" * 30
    old, new = class_rows("ab" * 15 + "aa" * 15), class_rows("ab" * 24 + "ba" * 6)
    test = class_test(truth, old, new)
    config = {"accuracy": {}, "bootstrap": {"samples": 200, "level": 0.9, "seed": 5}}
    metric = compare_predictions(test, parse_config(config)).metrics[0]
    order = sorted(range(60), key=lambda place: f"i{place}")  # the items are taken in the order of their ids
    models = [
        Classifications([truth[k] for k in order], [rows[k]["label"] for k in order], [1] * 60)
        for rows in (old, new)
    ]
    bootstrap = paired_bootstrap(*(model.accuracy() for model in models), 200, 0.9, 5)
    expected = {"low": bootstrap.low, "high": bootstrap.high, "level": 0.9, "samples": 200, "seed": 5}
    assert metric["interval"] == expected
    assert metric["interval"]["low"] < metric["difference"] < metric["interval"]["high"]
    assert compare_predictions(test, parse_config(config)).metrics[0] == metric


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


def test_min_confidence_asks_for_more_than_luck():
    accuracy = {"min_delta": 0}
    few, many = lucky(8), lucky(20)
    assert compare_predictions(few, parse_config({"accuracy": accuracy})).better
    sure = parse_config({"accuracy": accuracy | {"min_confidence": 0.95}})
    result = compare_predictions(few, sure)
    assert not result.better and result.difference == pytest.approx(0.04)
    assert "min_confidence 0.95" in result.message and "may be luck: discard" in result.message
    interval = result.metrics[0]["interval"]
    assert interval["level"] == 0.95 and interval["low"] <= 0 < interval["high"]
    result = compare_predictions(many, sure)
    assert result.better and result.metrics[0]["interval"]["low"] > 0 and "luck" not in result.message
    # The interval must lie above min_delta, not only above zero.
    asked = {"min_delta": 0.1, "min_confidence": 0.95}
    assert not compare_predictions(many, parse_config({"accuracy": asked})).better
    # At a lower level less is asked.
    asked = {"min_confidence": 0.3}
    assert compare_predictions(few, parse_config({"accuracy": asked})).better


def test_min_confidence_of_an_error_looks_at_the_other_end():
    old, new = class_rows("ab" * 50, score=0.6), class_rows("ab" * 50, score=0.9)
    config = parse_config({"calibration": {"min_confidence": 0.95, "min_delta": 0.1}})
    result = compare_predictions(class_test("ab" * 50, old, new), config)
    assert result.better and result.difference == pytest.approx(-0.3)
    assert result.metrics[0]["interval"]["high"] < -0.1 and "must be less than -0.1" in result.message
    assert not compare_predictions(class_test("ab" * 50, new, old), config).better


def test_few_items_and_confidence_are_warned_of():
    config = parse_config({"accuracy": {"min_confidence": 0.95}})
    result = compare_predictions(class_test("ab", class_rows("ba"), class_rows("ab")), config)
    assert any("2 test items are too few for min_confidence" in warning for warning in result.warnings)


def test_detectors_are_compared_by_several_metrics_at_once():
    truth = boxes(*"aabb")
    shifted = [row | {"left": 2, "right": 12} for row in boxes(*"aabb", score=0.9)]  # IoU 2/3
    perfect = boxes(*"aabb", score=0.9)
    config = {"precision_recall": {}, "mean_average_precision": {}, "f1": {}, "calibration": {"bins": 10}}
    result = compare_predictions(box_test(truth, shifted, perfect), parse_config(config | {"wins": 0.25}))
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
            "accuracy cannot compare models that give 'box' annotations: use 'precision_recall'",
        ),
        ("class", "mean_average_precision", "mean_average_precision cannot compare .* 'class' annotations"),
    ],
)
def test_a_metric_that_does_not_fit_is_named_with_those_that_do(kind, metric, message):
    test = TestSet(kind, ["i0"], boxes("a"), (boxes("a", score=1), boxes("a", score=1)))
    with pytest.raises(ValueError, match=message):
        compare_predictions(test, parse_config({metric: {}}))


def test_a_metric_that_cannot_be_computed_names_the_model():
    truth = boxes("a")
    config = parse_config({"calibration": {}})
    with pytest.raises(ValueError, match="calibration of model 'new': .* there is none"):
        compare_predictions(box_test(truth, boxes("a", score=1), []), config)
    with pytest.raises(ValueError, match="calibration of model 'previous': .* has 7.0"):
        compare_predictions(box_test(truth, boxes("a", score=7), boxes("a", score=1)), config)


def test_a_classifier_that_predicts_nothing_has_nothing():
    config = parse_config({"precision_recall": {}, "accuracy": {}, "f1": {}})
    full = class_rows("ab", names="ab")
    result = compare_predictions(class_test("ab", full, []), config)
    assert [metric["new"] for metric in result.metrics] == [0, 0, 0] and not result.better
    assert "2 test items have no prediction of 'new': they count as misses" in result.warnings


def test_several_metrics_are_printed_as_tables_and_stored_as_plain_json():
    test = class_test("ab", class_rows("aa"), class_rows("ab"))
    result = compare_predictions(test, parse_config({"accuracy": {"min_confidence": 0.9}, "calibration": {}}))
    text = str(result)
    assert "accuracy, not won: +0.5000, 90 % interval" in text and "of 1000 resamples" in text
    assert "calibration, " in text and "min_delta 0, min_confidence 0.9" in text
    # A label that a model never predicted has no calibration: a dash, and null.
    line = next(line for line in text.splitlines()[::-1] if line.startswith("b "))
    assert line.split()[1] == "-"
    stored = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert stored == result.to_dict() and stored["metrics"][1]["rows"][1]["previous"] is None


def test_training_metrics_keep_how_many_must_be_won():
    values = {LOSS: [(1, 0.5)]}
    assert compare_metrics(values, values, metrics_config(wins="ANY")).to_dict()["wins"] == "any"
