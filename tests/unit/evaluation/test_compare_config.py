import copy
import json
import math
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from alhelpers.configurations import json_schema
from alhelpers.evaluation import CompareConfig, read_compare_config
from alhelpers.evaluation.compare_config import (
    DEFAULT_CONFIG,
    F1,
    Accuracy,
    Calibration,
    MeanAveragePrecision,
    PrecisionRecall,
)

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
CHECK = {"type": "plot", "figure": "loss", "legend": "val", "x_index": -1, "maximize": False, "min_delta": 0}


def wins(value):
    return read_compare_config({"accuracy": {}, "wins": value}).wins


def check(**changes):
    return read_compare_config({"checks": [CHECK | changes]}).checks[0]


def test_the_files_hold_the_documented_configurations():
    assert json.loads((CONFIGS / "compare_configurations.json").read_text()) == DEFAULT_CONFIG
    training = read_compare_config(
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
    default = read_compare_config(None)
    assert default == read_compare_config({}) == read_compare_config(DEFAULT_CONFIG)
    assert default.metrics == (PrecisionRecall(min_delta=0, iou_threshold=0.5),)
    assert (
        default.bootstrap.model_dump() == {"samples": 1000, "level": 0.95, "seed": 0}
        and default.wins == "all"
    )
    least = {key: CHECK[key] for key in ("figure", "legend", "maximize")}
    expected = least | {"type": "plot", "x_index": -1, "x_value": None, "min_delta": 0}
    assert read_compare_config({"checks": [least]}).checks[0].model_dump() == expected


def test_the_configuration_is_not_changed():
    config = {"precision_recall": {"iou_threshold": "0.6", "test_filter": {"filter": {"$and": []}}}, "f1": {}}
    before = copy.deepcopy(config)
    query = read_compare_config(config).test_query
    query["page"] = 0
    assert config == before


def test_unknown_metrics_are_ignored_with_a_warning():
    config = read_compare_config({"precision_recall": {"min_delta": 0.1}, "speed": {"a": 1}})
    assert config.metrics == (PrecisionRecall(min_delta=0.1),)
    assert len(config.warnings) == 1 and "metric 'speed' is not known and ignored" in config.warnings[0]
    with pytest.raises(ValueError, match="names nothing to compare"):
        read_compare_config({"speed": {}})


def test_every_metric_takes_its_own_numbers_in_the_order_given():
    config = read_compare_config(
        {
            "calibration": {"bins": 5.0, "iou_threshold": "0.75", "min_confidence": "0.9"},
            "f1": {"score_threshold": 0.3, "iou_threshold": 0.6, "min_delta": "1e-2"},
            "accuracy": None,
            "mean_average_precision": {},
            "wins": "ANY",
            "test_filter": {"filter": {}},
            "bootstrap": {"samples": 50.0, "level": "0.8", "seed": 3},
        }
    )
    assert config.metrics == (
        Calibration(bins=5, iou_threshold=0.75, min_confidence=0.9),
        F1(score_threshold=0.3, iou_threshold=0.6, min_delta=0.01),
        Accuracy(),
        MeanAveragePrecision(),
    )
    assert config.wins == "any" and config.bootstrap.model_dump() == {"samples": 50, "level": 0.8, "seed": 3}
    assert config.test_query == {"filter": {}} and not config.warnings


def test_the_filter_of_precision_recall_comes_first():
    both = {"precision_recall": {"test_filter": {"filter": {"a": 1}}}, "test_filter": {"filter": {"b": 1}}}
    assert read_compare_config(both).test_query == {"filter": {"a": 1}}
    assert read_compare_config({"accuracy": {}, "test_filter": {}}).test_query is None


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("compare_configurations*.json")), ids=lambda path: path.stem
)
def test_the_schema_takes_the_files_of_the_kit(path):
    Draft202012Validator(json_schema(CompareConfig, "x")).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("x", "must be an object"),
        ({"precision_recall": 5}, "precision_recall 5 must be an object such as {'iou_threshold': 0.5"),
        ({"precision_recall": {"iou_threshold": 0}}, "iou_threshold 0 must be a finite number above 0"),
        ({"precision_recall": {"iou_threshold": "half"}}, "iou_threshold 'half' must be a finite number"),
        ({"precision_recall": {"min_delta": math.nan}}, "min_delta nan must be a finite number"),
        ({"precision_recall": {"min_delta": -0.1}}, "min_delta -0.1 must be a finite number, 0 or more"),
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
        (
            {"checks": [CHECK | {"maximise": True}]},
            r"checks\[0\] has the unknown key 'maximise'; known are .*; did you mean 'maximize'\?",
        ),
        ({"checks": [CHECK | {"x_value": "soon"}]}, r"checks\[0\].x_value 'soon' must be a finite number"),
        ({"checks": [CHECK | {"min_delta": "1e999"}]}, r"checks\[0\].min_delta inf must be a finite number"),
        ({"precision_recall": {"speed": 1}}, "precision_recall has the unknown key 'speed'; known are"),
        ({"precision_recall": {}, "f1": {"bins": 3}}, "compare_config.f1 has the unknown key 'bins'"),
        (
            {"precision_recall": {"iou_threshold": "1.5"}},
            "iou_threshold 1.5 must be .* above 0 and at most 1",
        ),
        ({"accuracy": {"iou_threshold": 0.5}}, "accuracy has the unknown key 'iou_threshold'"),
        ({"accuracy": []}, r"compare_config.accuracy \[\] must be an object"),
        ({"f1": {"score_threshold": 2}}, "f1.score_threshold 2 must be a number from 0 to 1"),
        ({"calibration": {"bins": 0}}, "calibration.bins 0 must be an integer from 1"),
        ({"accuracy": {"min_confidence": 1}}, "min_confidence 1 must be a number above 0 and below 1"),
        ({"accuracy": {"min_confidence": "95 %"}}, "min_confidence '95 %' must be"),
        ({"accuracy": {"min_confidence": True}}, "min_confidence True must be"),
        ({"accuracy": {}, "wins": 0}, "compare_config.wins 0 must be a fraction above 0"),
        ({"accuracy": {}, "wins": "1.5"}, "wins 1.5 must be a fraction above 0"),
        ({"accuracy": {}, "test_filter": "test"}, "test_filter 'test' must be a query"),
        ({"accuracy": {}, "bootstrap": {"samples": 0}}, "bootstrap.samples 0 must be an integer from 1"),
        ({"accuracy": {}, "bootstrap": {"times": 5}}, "bootstrap has the unknown key 'times'"),
    ],
)
def test_an_unusable_configuration_is_refused_by_key(config, message):
    with pytest.raises(ValueError, match=message):
        read_compare_config(config)


@pytest.mark.parametrize(
    ("section", "key", "least", "most"),
    [
        ("f1", "score_threshold", 0, 1),
        ("calibration", "bins", 1, 1000),
        ("bootstrap", "samples", 1, 100_000),
        ("bootstrap", "seed", 0, 2**40),
        ("accuracy", "min_delta", 0, 1e30),
        ("f1", "iou_threshold", math.nextafter(0, 1), 1),
        ("accuracy", "min_confidence", math.nextafter(0, 1), math.nextafter(1, 0)),
    ],
)
def test_numbers_are_taken_up_to_their_bounds(section, key, least, most):
    for value in (least, most):
        config = read_compare_config({"accuracy": {}, section: {key: value}})
        assert getattr(getattr(config, section), key) == value
    beyond = [math.nextafter(least, -1) if 0 < least < 1 else least - 1]
    if most < 1e9:
        beyond.append(math.nextafter(most, 2) if most < 1 else most + 1)
    for value in beyond:
        with pytest.raises(ValueError, match=f"{section}.{key} {value} must be"):
            read_compare_config({"accuracy": {}, section: {key: value}})


@pytest.mark.parametrize(
    ("value", "maximizes"),
    [(value, True) for value in (True, 1, "true", "True", "TRUE", "yes")]
    + [(value, False) for value in (False, 0, "false", "No")],
)
def test_true_and_false_in_every_spelling(value, maximizes):
    assert check(maximize=value).maximize is maximizes


@pytest.mark.parametrize("value", [None, 2, "maybe", 1.5, [], ""])
def test_a_value_that_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ValueError, match="maximize .* must be true"):
        check(maximize=value)


def test_a_check_takes_numbers_as_text():
    assert check(x_index=" -2", x_value="1e1", min_delta="0.5").model_dump() == CHECK | {
        "x_index": -2,
        "x_value": 10.0,
        "min_delta": 0.5,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
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
def test_wins_is_read_in_every_spelling(value, expected):
    assert wins(value) == expected


@pytest.mark.parametrize("value", [0, -1, 1.1, 2, "some", None, True, math.nan, "", []])
def test_wins_that_mean_nothing_are_refused(value):
    with pytest.raises(ValueError, match="wins .* must be a fraction"):
        wins(value)
