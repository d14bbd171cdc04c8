"""The pipeline node "Compare Models": whether the new model replaces the one in use.

Two ways to tell, as the node's configuration says: metrics of both models on the same test items, each with
the interval in which its difference lies when the items are drawn again; or the metrics that both models wrote
while they were trained.
"""

import copy
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers import configurations, evaluation
from alhelpers.dataloop import reading
from alhelpers.evaluation import Classifications, Detections, Measure

logger = logging.getLogger(__name__)

UPDATE_MODEL = "update model"
DISCARD = "discard"
DEFAULT_CONFIG: dict[str, Any] = {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}}
# The key of the new model's user metadata that keeps the decision: system metadata is the platform's own.
SUMMARY_KEY = "compare"
# On fewer items a bootstrap interval is too narrow to be relied on.
_FEW_ITEMS = 30
_TRUE = {"true", "yes", "1"}

# ------------------------------------------------------------------------------
# the configuration's schema
# ------------------------------------------------------------------------------

# The pipeline's editor writes numbers as text too. Their range is checked once they are read.
_NUMBER: dict[str, Any] = {
    "description": "a finite number",
    "type": ["number", "string"],
    "pattern": r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$",
}


def _number_with(description: str, **limits: float) -> dict[str, Any]:
    return {"description": description, "allOf": [_NUMBER, {"description": description, **limits}]}


_MIN_DELTA = _number_with("0 or more: a worse model must not replace a better one", minimum=0)
_IOU_THRESHOLD = _number_with("above 0 and at most 1", exclusiveMinimum=0, maximum=1)
_TEST_FILTER = {
    "description": "a query like that of test_subset_filter.json",
    "type": ["object", "null"],
}
_LEVEL = "above 0 and below 1, such as 0.95"


def _metric(description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": f"an object such as {description}",
        "type": ["object", "null"],
        "properties": {
            **properties,
            "min_delta": _MIN_DELTA,
            "min_confidence": {
                "description": f"{_LEVEL}, or null for off",
                "anyOf": [
                    {"description": "null, for off", "type": "null"},
                    _number_with(_LEVEL, exclusiveMinimum=0, exclusiveMaximum=1),
                ],
            },
        },
        "additionalProperties": False,
    }


_METRICS: dict[str, dict[str, Any]] = {
    "precision_recall": _metric(
        str(DEFAULT_CONFIG["precision_recall"]), iou_threshold=_IOU_THRESHOLD, test_filter=_TEST_FILTER
    ),
    "accuracy": _metric("{'min_delta': 0}"),
    "f1": _metric(
        "{'iou_threshold': 0.5, 'score_threshold': 0.5, 'min_delta': 0}",
        iou_threshold=_IOU_THRESHOLD,
        score_threshold=_number_with("from 0 to 1", minimum=0, maximum=1),
    ),
    "mean_average_precision": _metric("{'min_delta': 0}"),
    "calibration": _metric(
        "{'bins': 10, 'min_delta': 0}",
        bins={
            "description": "a whole number from 1 to 1000",
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
        },
        iou_threshold=_IOU_THRESHOLD,
    ),
}
_TRUTH = "true (more is better) or false (less is better)"
_CHECK = {
    "description": "an object with 'figure', 'legend' and 'maximize'",
    "type": "object",
    "properties": {
        "type": {"description": "'plot', the only type that is supported", "const": "plot"},
        "figure": {
            "description": "the figure that the training wrote",
            "type": "string",
            "minLength": 1,
        },
        "legend": {
            "description": "the legend that the training wrote",
            "type": "string",
            "minLength": 1,
        },
        "maximize": {
            "description": _TRUTH,
            "type": ["boolean", "integer", "string"],
            "minimum": 0,
            "maximum": 1,
            "pattern": r"^\s*([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|0)\s*$",
        },
        "x_index": {
            "description": "a whole number: 0 is the first sample, -1 the last",
            "type": ["integer", "string"],
            "pattern": r"^\s*[+-]?\d+\s*$",
        },
        "x_value": {
            "description": "a finite number, or null",
            "anyOf": [{"description": "null", "type": "null"}, _NUMBER],
        },
        "min_delta": _MIN_DELTA,
    },
    "required": ["figure", "legend", "maximize"],
    "additionalProperties": False,
}
_WINS = {
    "description": "a fraction above 0 and at most 1, 'any' or 'all'",
    "type": ["number", "string"],
    "exclusiveMinimum": 0,
    "maximum": 1,
    "pattern": r"^\s*([Aa][Nn][Yy]|[Aa][Ll][Ll]|\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*$",
}

#: A name that is not here is a metric of somebody else's: it is ignored, with a warning.
CONFIG_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "Compare Models",
    "description": f"an object such as {DEFAULT_CONFIG}",
    "type": "object",
    "properties": {
        **_METRICS,
        "checks": {
            "description": "a list with at least one check: without one no model can win",
            "type": "array",
            "minItems": 1,
            "items": _CHECK,
        },
        "wins": _WINS,
        "test_filter": _TEST_FILTER,
        "bootstrap": {
            "description": "an object such as {'samples': 1000, 'level': 0.95, 'seed': 0}",
            "type": "object",
            "properties": {
                "samples": {
                    "description": "a whole number from 1 to 100000",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100_000,
                },
                "level": _number_with(_LEVEL, exclusiveMinimum=0, exclusiveMaximum=1),
                "seed": {"description": "a whole number, 0 or more", "type": "integer", "minimum": 0},
            },
            "additionalProperties": False,
        },
    },
}


# ------------------------------------------------------------------------------
# the configuration
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One training metric to compare.

    Parameters
    ----------
    figure, legend : str
        Which metric, by the names that the training wrote it under.
    maximize : bool
        Whether more is better.
    x_index : int
        Which sample, in the order of x: -1 is the last epoch.
    x_value : float or None
        The sample at this x instead.
    min_delta : float
        By how much more than this the new model must be better.
    """

    figure: str
    legend: str
    maximize: bool
    x_index: int = -1
    x_value: float | None = None
    min_delta: float = 0.0


@dataclass(frozen=True)
class Metric:
    """One metric to compare on the test items.

    Parameters
    ----------
    name : str
        ``"precision_recall"`` (average precision), ``"accuracy"`` (of classes), ``"f1"``,
        ``"mean_average_precision"`` (of boxes) or ``"calibration"`` (expected calibration error, less is better).
    min_delta : float
        By how much more than this the new model must be better.
    min_confidence : float or None
        The level of the interval that must lie wholly beyond ``min_delta`` for the new model to win.
    iou_threshold : float
        For boxes: the intersection over union from which on one is right.
    score_threshold : float
        For the F1 of boxes: the least score of one that counts.
    bins : int
        For the calibration: how many ranges of confidence.
    """

    name: str
    min_delta: float = 0.0
    min_confidence: float | None = None
    iou_threshold: float = 0.5
    score_threshold: float = 0.5
    bins: int = 10


@dataclass(frozen=True)
class CompareConfig:
    """A checked configuration of the node.

    Parameters
    ----------
    metrics : tuple of Metric
        What to compare on the test items.
    test_filter : dict or None
        A query for the test items of all metrics, in the form of ``test_subset_filter.json``.
    checks : tuple of Check
        The training metrics.
    wins : float, "any" or "all"
        Which part of the metrics, or of the checks, the new model must win.
    samples, level, seed : int, float, int
        How the interval of a difference is made: resamples, the share of them inside, and what draws them.
    warnings : tuple of str
        What was ignored.
    """

    metrics: tuple[Metric, ...] = ()
    test_filter: dict[str, Any] | None = None
    checks: tuple[Check, ...] = ()
    wins: float | str = "all"
    samples: int = 1000
    level: float = 0.95
    seed: int = 0
    warnings: tuple[str, ...] = ()


def parse_config(config: Mapping[str, Any] | None) -> CompareConfig:
    """Read and check a configuration; the given object is not changed.

    Parameters
    ----------
    config : mapping or None
        As `CONFIG_SCHEMA` says. Metrics on the test items, ``{"precision_recall": {"iou_threshold": 0.5,
        "min_delta": 0}, "accuracy": {}, "f1": {}, "mean_average_precision": {}, "calibration": {"bins": 10}}``,
        each with ``min_delta`` and ``min_confidence``; or training metrics, ``{"checks": [{"type": "plot",
        "figure", "legend", "x_index" | "x_value", "maximize", "min_delta"}]}``; and ``"wins": 0.6 | "any" |
        "all"``, how many of them must be won. ``test_filter`` (of precision_recall, or beside the metrics) and
        ``bootstrap`` are ours. None and ``{}`` mean `DEFAULT_CONFIG`.

    Returns
    -------
    CompareConfig
        The configuration.

    Raises
    ------
    ValueError
        For an unknown key or a value that cannot be used, and when nothing to compare is left.
    """
    given = DEFAULT_CONFIG if config is None or config == {} else config
    configurations.check(given, CONFIG_SCHEMA, "compare_config")
    given = _numbers_read(given)
    configurations.check(given, CONFIG_SCHEMA, "compare_config")
    known = ", ".join(map(repr, (*_METRICS, "checks")))
    warnings = tuple(
        f"metric {key!r} is not known and ignored; known are {known} with 'wins'"
        for key in given
        if key not in CONFIG_SCHEMA["properties"]
    )
    metrics = tuple(_metric_of(name, given[name] or {}) for name in given if name in _METRICS)
    if not metrics and "checks" not in given:
        if "wins" in given:
            raise ValueError(
                f"compare_config {dict(given)!r} has 'wins' and needs at least one check or metric: without one no "
                "model can win"
            )
        raise ValueError(
            f"compare_config {dict(given)!r} names nothing to compare: use for example {DEFAULT_CONFIG}"
        )
    inner_filter = (given.get("precision_recall") or {}).get("test_filter")
    test_filter = inner_filter or given.get("test_filter")
    return CompareConfig(
        metrics=metrics,
        test_filter=copy.deepcopy(dict(test_filter)) if test_filter else None,
        checks=tuple(_check_of(check) for check in given.get("checks", ())),
        wins=parse_wins(given.get("wins", "all")),
        **_bootstrap_of(given.get("bootstrap", {})),
        warnings=warnings,
    )


_NUMBERS = {"iou_threshold", "score_threshold", "min_delta", "min_confidence", "x_index", "x_value", "level"}


def _numbers_read(value: Any, key: str = "") -> Any:
    """Copy a configuration with the numbers that came as text read; queries are left alone."""
    if key == "test_filter":
        return value
    if isinstance(value, Mapping):
        return {name: _numbers_read(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_read(inner) for inner in value]
    return float(value) if key in _NUMBERS and isinstance(value, str) else value


def _bootstrap_of(section: Mapping[str, Any]) -> dict[str, Any]:
    # JSON may write a whole number as 10.0.
    return {key: value if key == "level" else int(value) for key, value in section.items()}


def _metric_of(name: str, section: Mapping[str, Any]) -> Metric:
    given = {key: value for key, value in section.items() if key != "test_filter"}
    return Metric(name, **given | ({"bins": int(given["bins"])} if "bins" in given else {}))


def _check_of(check: Mapping[str, Any]) -> Check:
    return Check(
        figure=check["figure"],
        legend=check["legend"],
        maximize=str(check["maximize"]).strip().lower() in _TRUE,
        x_index=int(check.get("x_index", -1)),
        x_value=check.get("x_value"),
        min_delta=check.get("min_delta", 0),
    )


def parse_wins(wins: Any) -> float | str:
    """Read which part of the metrics or checks must be won.

    Parameters
    ----------
    wins : float, int or str
        A fraction above 0 and at most 1 (1 is all of them), ``"any"`` or ``"all"`` in any case, or a number
        as text.

    Returns
    -------
    float or str
        The fraction, ``"any"`` or ``"all"``.

    Raises
    ------
    ValueError
        For anything else.
    """
    configurations.check(wins, _WINS, "wins")
    if isinstance(wins, str):
        if wins.strip().lower() in ("any", "all"):
            return wins.strip().lower()
        return parse_wins(float(wins))
    return float(wins)


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where} {value!r} must be a finite number")
    return number


# ------------------------------------------------------------------------------
# the decision
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Why the new model replaces the previous one, or does not. Printing it shows tables.

    Parameters
    ----------
    metric : str
        ``"training_metrics"``, or the name of the metric; of several the first, and so are ``previous``, ``new``,
        ``difference``, ``min_delta``, ``rows`` and ``method``.
    better : bool
        Whether the new model won.
    message : str
        The decision in one sentence.
    previous_model, new_model : str
        The models' names.
    previous, new, difference, min_delta : float or None
        The metric of both models, new minus previous, and what is asked; None for training metrics.
    rows : list of dict
        A row a label (or a check): ``name``, ``previous``, ``new``, and for checks ``won``.
    test_items : int
        How many items were evaluated.
    method : str
        How the values were computed.
    metrics : list of dict
        Each metric: ``name``, ``method``, ``previous``, ``new``, ``difference``, ``higher_is_better``,
        ``min_delta``, ``min_confidence``, ``interval`` (``low``, ``high``, ``level``, ``samples``, ``seed``: where the
        difference lies when the test items are drawn again), ``won``, and ``rows``, by label.
    wins : float or str
        Which part of the metrics or checks had to be won.
    warnings : list of str
        What to keep in mind about them.
    """

    metric: str
    better: bool
    message: str
    previous_model: str
    new_model: str
    previous: float | None = None
    new: float | None = None
    difference: float | None = None
    min_delta: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    test_items: int = 0
    method: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    wins: float | str = "all"
    warnings: list[str] = field(default_factory=list)

    @property
    def action(self) -> str:
        """The node's action: ``"update model"`` or ``"discard"``."""
        return UPDATE_MODEL if self.better else DISCARD

    def to_dict(self) -> dict[str, Any]:
        """Give what is stored in the new model's metadata.

        Returns
        -------
        dict
            The fields and the action, ready for JSON.
        """
        return {**asdict(self), "action": self.action}

    def __str__(self) -> str:
        lines = [self.message]
        for metric in self.metrics:
            lines += ["", _verdict(metric), *_table(metric["rows"], metric)]
        if not self.metrics:
            lines += _table(self.rows)
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def _verdict(metric: Mapping[str, Any]) -> str:
    asked = f"min_delta {metric['min_delta']:g}"
    if metric["min_confidence"] is not None:
        asked += f", min_confidence {metric['min_confidence']:g}"
    samples = metric["interval"]["samples"]
    return (
        f"{metric['name']}, {'won' if metric['won'] else 'not won'}: {metric['difference']:+.4f}, {_interval(metric)} "
        f"of {samples} resamples, {asked}"
    )


def _interval(metric: Mapping[str, Any]) -> str:
    interval = metric["interval"]
    return f"{100 * interval['level']:g} % interval {interval['low']:+.4f} to {interval['high']:+.4f}"


def _table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None = None) -> list[str]:
    if total is not None:
        whole = "all" if total["name"] in ("accuracy", "calibration") else "macro"
        rows = [{"name": whole, "previous": total["previous"], "new": total["new"]}, *rows]
    width = max([len(str(row["name"])) for row in rows] + [5])
    lines = [f"{'':{width}}  {'previous':>10}  {'new':>10}  {'difference':>10}"]
    for row in rows:
        old, new = row["previous"], row["new"]
        change = None if old is None or new is None else new - old
        lines.append(f"{row['name']!s:{width}}  {_cell(old)}  {_cell(new)}  {_cell(change, '+')}")
    return lines


def _cell(value: float | None, sign: str = "") -> str:
    return f"{'-':>10}" if value is None else f"{value:{sign}10.4f}"


def check_wins(won: Sequence[bool], wins: float | str) -> bool:
    """Tell whether enough metrics or checks were won.

    Parameters
    ----------
    won : sequence of bool
        The result of each.
    wins : float or str
        As `parse_wins` takes it: the part that must be won at least.

    Returns
    -------
    bool
        Whether the new model wins.

    Raises
    ------
    ValueError
        When there is nothing to win, or `wins` is unusable.
    """
    if not won:
        raise ValueError("no checks and no metrics: without one no model can win")
    needed = parse_wins(wins)
    if needed == "any":
        return any(won)
    share = 1.0 if needed == "all" else float(needed)
    # 0.6 of 5 checks is 3, whatever the floats say.
    return sum(won) >= share * len(won) - 1e-9


def pick_value(samples: Iterable[tuple[Any, Any]], check: Check, model_name: str) -> float:
    """Choose the sample of a training metric that counts.

    Parameters
    ----------
    samples : iterable of (x, y)
        The metric's samples in the order they were written; a later one replaces an earlier one at the same x
        (a training that was run again).
    check : Check
        Which one: by its place in the order of x, or at an x.
    model_name : str
        For the errors.

    Returns
    -------
    float
        The metric's value.

    Raises
    ------
    ValueError
        When there is no such sample, or its value is no finite number.
    """
    what = f"model {model_name!r}, metric {check.figure!r} / {check.legend!r}"
    by_x = {_number(x, f"{what}: x"): y for x, y in samples}
    ordered = sorted(by_x)
    if not ordered:
        raise ValueError(f"{what}: no samples; train the model with this metric, or correct the check")
    if check.x_value is not None:
        if check.x_value not in by_x:
            raise ValueError(
                f"{what}: no sample at x = {check.x_value}; there are {ordered[0]:g} to {ordered[-1]:g}"
            )
        x = check.x_value
    else:
        if not -len(ordered) <= check.x_index < len(ordered):
            raise ValueError(f"{what}: no sample {check.x_index}; there are {len(ordered)}")
        x = ordered[check.x_index]
    return _number(by_x[x], f"{what}, x = {x:g}: the value")


Samples = Mapping[tuple[str, str], Sequence[tuple[Any, Any]]]


def compare_metrics(
    previous: Samples, new: Samples, config: CompareConfig, names: tuple[str, str] = ("previous", "new")
) -> Comparison:
    """Compare two models by their training metrics.

    Parameters
    ----------
    previous, new : mapping of (figure, legend) to samples
        The metrics of either model; a sample is (x, y).
    config : CompareConfig
        The checks and how many of them must be won.
    names : (str, str)
        The models' names.

    Returns
    -------
    Comparison
        The decision.

    Raises
    ------
    ValueError
        When a model lacks a metric, or its value is no finite number; it names the model and the metric.
    """
    rows = []
    for check in config.checks:
        old = _value_of(previous, check, names[0])
        young = _value_of(new, check, names[1])
        pair = (young, old) if check.maximize else (old, young)
        rows.append(
            {
                "name": f"{check.figure} / {check.legend}",
                "previous": old,
                "new": young,
                "maximize": check.maximize,
                "min_delta": check.min_delta,
                "won": bool(evaluation.is_better(*pair, check.min_delta)),
            }
        )
    won = [row["won"] for row in rows]
    better = check_wins(won, config.wins)
    message = (
        f"{names[1]!r} won {sum(won)} of {len(won)} training metrics against {names[0]!r} (needed: {config.wins}): "
        f"{UPDATE_MODEL if better else DISCARD}"
    )
    return Comparison(
        metric="training_metrics",
        better=better,
        message=message,
        previous_model=names[0],
        new_model=names[1],
        rows=rows,
        method="training metrics",
        wins=config.wins,
        warnings=list(config.warnings),
    )


def _value_of(samples: Samples, check: Check, model_name: str) -> float:
    key = (check.figure, check.legend)
    if key not in samples:
        known = ", ".join(f"{figure!r} / {legend!r}" for figure, legend in sorted(samples)) or "none at all"
        raise ValueError(
            f"model {model_name!r} has no metric {check.figure!r} / {check.legend!r}; it has {known}. Train it, "
            "or correct the check's figure and legend"
        )
    return pick_value(samples[key], check, model_name)


@dataclass
class TestSet:
    """The annotations of the test items, as plain rows.

    Parameters
    ----------
    output_type : str
        ``"class"`` or ``"box"``.
    item_ids : list of str
        The items.
    ground_truth : list of dict
        ``image_id``, ``label``, and for boxes ``left``, ``top``, ``right``, ``bottom``.
    predictions : (list of dict, list of dict)
        The same of the previous and of the new model, with ``score``, and ``confidences`` (a dict by class
        name) where the full vector is known.
    warnings : list of str
        What was odd about them.
    """

    # pytest would take the name for a test.
    __test__ = False

    output_type: str
    item_ids: list[str]
    ground_truth: list[dict[str, Any]]
    predictions: tuple[list[dict[str, Any]], list[dict[str, Any]]]
    warnings: list[str] = field(default_factory=list)


#: What each metric can compare, and what it is called in a sentence.
_FITS: dict[str, tuple[tuple[str, ...], str]] = {
    "precision_recall": (("class", "box"), "average precision"),
    "accuracy": (("class",), "accuracy"),
    "f1": (("class", "box"), "F1"),
    "mean_average_precision": (("box",), "mean average precision"),
    "calibration": (("class", "box"), "calibration error"),
}


def check_fit(config: CompareConfig, output_type: str) -> None:
    """Raise unless every metric can compare the models' annotations.

    Parameters
    ----------
    config : CompareConfig
        The metrics.
    output_type : str
        What the models give, such as ``"class"`` or ``"box"``.

    Raises
    ------
    ValueError
        Names the metric, the type, and the metrics that fit it.
    """
    fitting = [name for name, (types, _) in _FITS.items() if output_type in types]
    for metric in config.metrics:
        if metric.name not in fitting:
            instead = ", ".join(map(repr, fitting)) or "training metrics ('checks')"
            raise ValueError(
                f"{metric.name} cannot compare models that give {output_type!r} annotations: use {instead}"
            )


def compare_predictions(
    test: TestSet, config: CompareConfig, names: tuple[str, str] = ("previous", "new")
) -> Comparison:
    """Compare two models by one or several metrics on the same test items.

    Parameters
    ----------
    test : TestSet
        Ground truth and both models' predictions.
    config : CompareConfig
        The metrics, and how many of them must be won.
    names : (str, str)
        The models' names.

    Returns
    -------
    Comparison
        The decision.

    Raises
    ------
    alhelpers.evaluation.NoGroundTruth
        When the test items have no ground truth: nothing can be compared then.
    ValueError
        When a metric does not fit the annotations, or cannot be computed; it names the metric and the model.
    """
    check_fit(config, test.output_type)
    if not test.ground_truth:
        raise evaluation.NoGroundTruth(
            f"cannot compare {names[0]!r} and {names[1]!r}: none of the {len(test.item_ids)} test items has "
            f"ground-truth annotations of type {test.output_type!r}. Label the test subset first"
        )
    warnings = [*config.warnings, *test.warnings]
    models: tuple[Classifications | Detections, ...]
    if test.output_type == "class":
        models = _classifications(test, config, names, warnings)
    else:
        models = tuple(Detections(test.ground_truth, rows, test.item_ids) for rows in test.predictions)
    results = []
    for metric in config.metrics:
        old, new = (_measure(model, metric, name) for model, name in zip(models, names, strict=True))
        for name, measure in zip(names, (old, new), strict=True):
            warnings += [f"{name}: {warning}" for warning in measure.warnings]
        results.append(_judge(metric, old, new, config))
    count = len(old.items)
    if count < _FEW_ITEMS and any(metric.min_confidence for metric in config.metrics):
        warnings.append(
            f"{count} test items are too few for min_confidence: an interval of fewer than {_FEW_ITEMS} is too narrow"
        )
    won = [result["won"] for result in results]
    better = check_wins(won, config.wins)
    first = results[0]
    return Comparison(
        metric=first["name"],
        better=better,
        message=_message(results, better, config, names, count),
        previous_model=names[0],
        new_model=names[1],
        **{key: first[key] for key in ("previous", "new", "difference", "min_delta", "rows", "method")},
        test_items=count,
        metrics=results,
        wins=config.wins,
        warnings=list(dict.fromkeys(warnings)),
    )


def _measure(model: Classifications | Detections, metric: Metric, model_name: str) -> Measure:
    boxes = isinstance(model, Detections)
    overlap = {"iou_threshold": metric.iou_threshold} if boxes else {}
    try:
        if metric.name == "precision_recall":
            return model.average_precision(**overlap)
        if metric.name == "f1":
            return model.f1(**overlap, **({"score_threshold": metric.score_threshold} if boxes else {}))
        if metric.name == "calibration":
            return model.calibration_error(bins=metric.bins, **overlap)
        return model.mean_average_precision() if boxes else model.accuracy()
    except evaluation.EvaluationError as error:
        raise evaluation.EvaluationError(f"{metric.name} of model {model_name!r}: {error}") from error


def _judge(metric: Metric, old: Measure, new: Measure, config: CompareConfig) -> dict[str, Any]:
    """Compare one metric of both models: what is stored of it."""
    level = config.level if metric.min_confidence is None else metric.min_confidence
    bootstrap = evaluation.paired_bootstrap(old, new, config.samples, level, config.seed)
    pair = (new.value, old.value) if new.higher_is_better else (old.value, new.value)
    least_gain = bootstrap.low if new.higher_is_better else -bootstrap.high
    won = evaluation.is_better(*pair, metric.min_delta)
    if metric.min_confidence is not None:
        won = won and least_gain > metric.min_delta
    labels = sorted({*old.per_label, *new.per_label}, key=str)
    return {
        "name": metric.name,
        "method": new.method,
        "previous": float(old.value),
        "new": float(new.value),
        "difference": float(bootstrap.difference),
        "higher_is_better": new.higher_is_better,
        "min_delta": metric.min_delta,
        "min_confidence": metric.min_confidence,
        "interval": {
            "low": bootstrap.low,
            "high": bootstrap.high,
            "level": level,
            "samples": len(bootstrap.differences),
            "seed": config.seed,
        },
        "won": bool(won),
        "rows": [
            {"name": label, "previous": old.per_label.get(label), "new": new.per_label.get(label)}
            for label in labels
        ],
    }


def _message(
    results: Sequence[Mapping[str, Any]],
    better: bool,
    config: CompareConfig,
    names: tuple[str, str],
    count: int,
) -> str:
    action = UPDATE_MODEL if better else DISCARD
    if len(results) == 1:
        result = results[0]
        return (
            f"{_FITS[result['name']][1]} {result['new']:.4f} of {names[1]!r} against {result['previous']:.4f} of "
            f"{names[0]!r} on {count} test items: a difference of {result['difference']:+.4f} ({_interval(result)}), "
            f"{_asked(result)}: {action}"
        )
    each = "; ".join(
        f"{result['name']} {result['difference']:+.4f} ({_interval(result)}), "
        f"{'won' if result['won'] else f'not won, as {_asked(result)}'}"
        for result in results
    )
    won = sum(result["won"] for result in results)
    return (
        f"{names[1]!r} won {won} of {len(results)} metrics against {names[0]!r} on {count} test items "
        f"(needed: {config.wins}): {each}: {action}"
    )


def _asked(result: Mapping[str, Any]) -> str:
    """Say what the difference must be, and whether it is the interval that falls short."""
    more = result["higher_is_better"]
    bound = result["min_delta"] if more else -result["min_delta"] or 0
    limit = f"{'more' if more else 'less'} than {bound:g}"
    if result["min_confidence"] is None:
        return f"{limit} is needed"
    asked = f"the whole interval must be {limit} (min_confidence {result['min_confidence']:g})"
    gain = result["difference"] if more else -result["difference"]
    if not result["won"] and gain > result["min_delta"]:
        asked += ", and it is not, so the difference may be luck"
    return asked


def _classifications(
    test: TestSet, config: CompareConfig, names: tuple[str, str], warnings: list[str]
) -> tuple[Classifications, ...]:
    """Set both classifiers beside the truth in the same way: by full confidences if both kept them."""
    truth = _one_label_an_item(test, warnings)
    best = tuple(_best_prediction(rows) for rows in test.predictions)
    full = all(row.get("confidences") for rows in best for row in rows.values())
    if not full and any(metric.name == "precision_recall" for metric in config.metrics):
        warnings.append(
            "not every prediction holds the full confidences (metadata.user.prediction), so both models are "
            "compared by the confidence of the predicted class alone"
        )
    for name, rows in zip(names, best, strict=True):
        missing = len(truth.keys() - rows.keys())
        if missing:
            warnings.append(f"{missing} test items have no prediction of {name!r}: they count as misses")
    classes = sorted(
        {name for rows in best for row in rows.values() for name in row.get("confidences", ())}
        | {*truth.values()}
    )
    return tuple(
        Classifications(
            list(truth.values()),
            [rows.get(item, {}).get("label") for item in truth],
            [rows.get(item, {}).get("score", 0.0) for item in truth],
            _confidences(truth, rows, classes) if full else None,
            classes if full else None,
            items=list(truth),
        )
        for rows in best
    )


def _confidences(
    truth: Mapping[str, str], best: Mapping[str, dict[str, Any]], classes: Sequence[str]
) -> np.ndarray:
    confidences = np.zeros((len(truth), len(classes)))
    place = {name: column for column, name in enumerate(classes)}
    for row, item in enumerate(truth):
        for name, value in best.get(item, {}).get("confidences", {}).items():
            confidences[row, place[name]] = value
    return confidences


def _one_label_an_item(test: TestSet, warnings: list[str]) -> dict[str, str]:
    """Give each item its class, without the items that have none or several."""
    labels: dict[str, set[str]] = {}
    for row in test.ground_truth:
        labels.setdefault(row["image_id"], set()).add(row["label"])
    several = sorted(item for item, names in labels.items() if len(names) > 1)
    if several:
        warnings.append(
            f"{len(several)} items have several ground-truth classes and are left out, the first is "
            f"{several[0]} with {sorted(labels[several[0]])}"
        )
    unlabelled = len(set(test.item_ids) - set(labels))
    if unlabelled:
        warnings.append(
            f"{unlabelled} of {len(test.item_ids)} test items have no ground truth and are left out"
        )
    truth = {item: next(iter(labels[item])) for item in sorted(labels) if len(labels[item]) == 1}
    if not truth:
        raise evaluation.NoGroundTruth(
            "cannot compare: every labelled test item has several ground-truth classes"
        )
    return truth


def _best_prediction(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keep each item's most confident prediction; among equals the first label, whatever the order of the rows."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-row["score"], row["label"])):
        best.setdefault(row["image_id"], row)
    return best


# ------------------------------------------------------------------------------
# the platform
# ------------------------------------------------------------------------------


def read_test_set(
    previous_model: dl.Model,
    new_model: dl.Model,
    dataset: dl.Dataset,
    test_filter: Mapping[str, Any] | None = None,
) -> TestSet:
    """Read each model's predictions once, and the ground truth of the test items once, in pages of a thousand.

    Parameters
    ----------
    previous_model, new_model : dl.Model
        The models; they must be evaluated on the dataset.
    dataset : dl.Dataset
        The dataset.
    test_filter : dict, optional
        The test items. Without it, they are the items on which either model has predictions.

    Returns
    -------
    TestSet
        Plain rows.

    Raises
    ------
    ValueError
        When a model has no predictions there, when the models' outputs cannot be compared, when no item is
        selected, or when a prediction has no usable confidence.
    """
    output_type = _output_type(previous_model, new_model)
    # A name that both bear tells nothing; a prediction without a model's id then belongs to neither.
    by_name = previous_model.name != new_model.name
    found = tuple(
        _read_predictions(dataset, model, output_type, by_name) for model in (previous_model, new_model)
    )
    warnings: list[str] = []
    if test_filter is not None:
        items = _item_ids(dataset, test_filter)
    else:
        first, second = ({row["image_id"] for row in rows} for rows in found)
        items = sorted(first | second)
        if first != second:
            warnings.append(
                f"the models were evaluated on different items: {len(first - second)} only by "
                f"{previous_model.name!r}, {len(second - first)} only by {new_model.name!r}. A missing "
                "prediction counts as a miss; give a test_filter to compare on the test subset alone"
            )
    inside = set(items)
    predictions = tuple([row for row in rows if row["image_id"] in inside] for rows in found)
    for model, rows in zip((previous_model, new_model), predictions, strict=True):
        _require_evaluated(model, rows, dataset, warnings)
    return TestSet(
        output_type=output_type,
        item_ids=items,
        ground_truth=_read_ground_truth(dataset, items, output_type),
        predictions=(predictions[0], predictions[1]),
        warnings=warnings,
    )


def _output_type(previous_model: dl.Model, new_model: dl.Model) -> str:
    types = [
        str(getattr(model.output_type, "value", model.output_type)) for model in (previous_model, new_model)
    ]
    if types[0] != types[1]:
        raise ValueError(
            f"{previous_model.name!r} gives annotations of type {types[0]!r} and {new_model.name!r} of type "
            f"{types[1]!r}: models of different outputs cannot be compared"
        )
    if types[0] not in ("class", "box"):
        raise ValueError(
            f"predictions can be compared where they are 'class' or 'box' annotations, and {new_model.name!r} gives "
            f"{types[0]!r}: compare by training metrics ('checks')"
        )
    return types[0]


def _require_evaluated(
    model: dl.Model, rows: Sequence[dict[str, Any]], dataset: dl.Dataset, warnings: list[str]
) -> None:
    """Refuse a model without predictions, unless the platform says that it was evaluated and found nothing."""
    if rows:
        return
    evaluated = (((model.metadata or {}).get("system") or {}).get("evaluate") or {}).get("datasets") or []
    ids = {
        entry.get("id") or entry.get("datasetId") if isinstance(entry, Mapping) else entry
        for entry in evaluated
    }
    if dataset.id not in ids:
        raise ValueError(
            f"model {model.name!r} has not been evaluated on dataset {dataset.name!r}: it has no predictions on "
            "the test items; run evaluate first"
        )
    warnings.append(f"{model.name!r} was evaluated on dataset {dataset.name!r} and predicted nothing there")


def _item_ids(dataset: dl.Dataset, test_filter: Mapping[str, Any]) -> list[str]:
    # The SDK writes page numbers into the dict it is given.
    query = copy.deepcopy(dict(test_filter))
    for key in ("page", "pageSize", "resource"):
        query.pop(key, None)
    ids = sorted(
        item.id for item in reading.pages(dataset.items.list(filters=dl.Filters(custom_filter=query)))
    )
    if not ids:
        raise ValueError(f"the test_filter selects no item of dataset {dataset.name!r}: {dict(test_filter)}")
    return ids


def _read_predictions(
    dataset: dl.Dataset, model: dl.Model, output_type: str, by_name: bool
) -> list[dict[str, Any]]:
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
    for section in ("system", "user"):
        filters.add(f"metadata.{section}.model.model_id", model.id, method=dl.FiltersMethod.OR)
        if by_name:
            filters.add(f"metadata.{section}.model.name", model.name, method=dl.FiltersMethod.OR)
    rows = []
    for annotation in reading.pages(dataset.annotations.list(filters=filters)):
        owner, name = reading.made_by(annotation.metadata)
        # A name counts only where no id is known: models may be renamed, and versions may share one; ids differ.
        mine = owner == model.id if owner else by_name and name == model.name
        if mine and annotation.type == output_type:
            rows.append(_row(annotation) | _confidence(annotation, model))
    return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"]))


def _read_ground_truth(
    dataset: dl.Dataset, item_ids: Sequence[str], output_type: str
) -> list[dict[str, Any]]:
    def narrow(filters: dl.Filters) -> None:
        filters.add("type", output_type)
        # Most annotations of a test item are predictions of the models of earlier rounds; they need not travel.
        filters.add("metadata.system.model.model_id", False, dl.FiltersOperations.EXISTS)

    found = reading.annotations_of(dataset, item_ids, narrow)
    rows = [_row(annotation) for annotation in found if reading.is_ground_truth(annotation)]
    return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"]))


def _row(annotation: dl.Annotation) -> dict[str, Any]:
    row = {"annotation_id": annotation.id, "image_id": annotation.item_id, "label": annotation.label}
    if annotation.type == "box":
        row |= {side: getattr(annotation, side) for side in ("left", "top", "right", "bottom")}
    return row


def _confidence(annotation: dl.Annotation, model: dl.Model) -> dict[str, Any]:
    """Read a prediction's confidence, and the full vector where the adapter kept it."""
    user = annotation.metadata.get("user") or {}
    system = annotation.metadata.get("system") or {}
    score = (user.get("model") or {}).get("confidence")
    if score is None:
        score = (system.get("model") or {}).get("confidence")
    where = f"model {model.name!r}, prediction {annotation.id} on item {annotation.item_id}: confidence"
    row: dict[str, Any] = {"score": _number(score, where)}
    full = user.get("prediction") or {}
    if full.get("class_names") and full.get("confidences"):
        if len(full["class_names"]) != len(full["confidences"]):
            raise ValueError(
                f"{where}s: {len(full['confidences'])} values for {len(full['class_names'])} class names; "
                f"predict again"
            )
        row["confidences"] = {
            name: _number(value, where)
            for name, value in zip(full["class_names"], full["confidences"], strict=True)
        }
    return row


def read_samples(model: dl.Model) -> dict[tuple[str, str], list[tuple[Any, Any]]]:
    """Read all training metrics of a model, page by page.

    Parameters
    ----------
    model : dl.Model
        The model.

    Returns
    -------
    dict of (figure, legend) to list of (x, y)
        The samples in the order of the platform.
    """
    samples: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for sample in reading.pages(model.metrics.list()):
        samples.setdefault((sample.figure, sample.legend), []).append((sample.x, sample.y))
    return samples


def compare(
    previous_model: dl.Model,
    new_model: dl.Model,
    config: Mapping[str, Any] | None = None,
    dataset: dl.Dataset | None = None,
) -> Comparison:
    """Compare two models and say why; nothing on the platform is changed.

    Parameters
    ----------
    previous_model, new_model : dl.Model
        The models.
    config : mapping, optional
        As `parse_config` takes it.
    dataset : dl.Dataset, optional
        The dataset that both were evaluated on. With it, and with a metric on test items in the configuration,
        they are compared by these metrics, else by training metrics (``checks``).

    Returns
    -------
    Comparison
        The decision; print it for a table.

    Raises
    ------
    ValueError
        For an unusable configuration, and for missing predictions, metrics or ground truth
        (`alhelpers.evaluation.NoGroundTruth`).

    Examples
    --------
    >>> print(compare(old, new, {"precision_recall": {"min_delta": 0.01}}, dataset))  # doctest: +SKIP
    """
    parsed = parse_config(config)
    names = (previous_model.name, new_model.name)
    if dataset is not None and parsed.metrics:
        check_fit(parsed, _output_type(previous_model, new_model))
        test = read_test_set(previous_model, new_model, dataset, parsed.test_filter)
        if parsed.checks:
            test.warnings.append("the checks of training metrics are not compared: the test items decide")
        return compare_predictions(test, parsed, names)
    if parsed.checks:
        comparison = compare_metrics(read_samples(previous_model), read_samples(new_model), parsed, names)
        if parsed.metrics:
            left_out = ", ".join(metric.name for metric in parsed.metrics)
            comparison.warnings.append(
                f"no dataset is given, so {left_out} is not compared: the checks decide"
            )
        return comparison
    raise ValueError(
        f"comparing by {parsed.metrics[0].name} needs the dataset that both models were evaluated on: pass dataset=, "
        "or a configuration with 'checks' to compare by training metrics"
    )


def store_summary(model: dl.Model, comparison: Comparison, ids: Mapping[str, str | None]) -> None:
    """Keep the decision in the new model's user metadata, where `model.update()` leaves it.

    Parameters
    ----------
    model : dl.Model
        The new model.
    comparison : Comparison
        The decision.
    ids : mapping
        What it is about: ``previous_model_id``, ``new_model_id`` and ``dataset_id``. A clone may inherit the
        summary, and tells by them that it is not about itself.
    """
    # update() sends the whole model, so an outdated copy would turn its status back.
    fresh = model.models.get(model_id=model.id)
    fresh.metadata = fresh.metadata or {}
    fresh.metadata["user"] = (fresh.metadata.get("user") or {}) | {
        SUMMARY_KEY: {**ids, **comparison.to_dict()}
    }
    model.metadata = fresh.update(reload_services=False).metadata


class ModelComparer(dl.BaseServiceRunner):
    """The service behind the node "Compare Models"."""

    @staticmethod
    def compare_models(
        previous_model: dl.Model,
        new_model: dl.Model,
        progress: dl.Progress | None = None,
        context: dl.Context | None = None,
        compare_config: dict | None = None,
        dataset: dl.Dataset | None = None,
    ) -> dl.Model:
        """Choose the better of two models.

        The decision is stored in the new model's ``metadata['user']['compare']``, also when the model is
        discarded; the previous model is never changed.

        Parameters
        ----------
        previous_model, new_model : dl.Model
            The model in use and the one that may replace it.
        progress : dl.Progress, optional
            Gets the action, ``"update model"`` or ``"discard"``, and the reason as the message.
        context : dl.Context, optional
            Not needed.
        compare_config : dict, optional
            As `parse_config` takes it; it is not changed.
        dataset : dl.Dataset, optional
            The dataset that both models were evaluated on; without it they are compared by training metrics.

        Returns
        -------
        dl.Model
            The new model if it is better, else the previous one.

        Raises
        ------
        ValueError
            As `compare`; neither model is changed then.

        Examples
        --------
        >>> config = {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}}  # doctest: +SKIP
        >>> winner = ModelComparer.compare_models(old, new, dl.Progress(), None, config, dataset)  # doctest: +SKIP
        """
        comparison = compare(previous_model, new_model, compare_config, dataset)
        for warning in comparison.warnings:
            logger.warning(warning)
        store_summary(
            new_model,
            comparison,
            {
                "previous_model_id": previous_model.id,
                "new_model_id": new_model.id,
                "dataset_id": dataset.id if dataset is not None else None,
            },
        )
        if progress is not None:
            progress.update(progress=100, action=comparison.action, message=comparison.message)
        return new_model if comparison.better else previous_model
