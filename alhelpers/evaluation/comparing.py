"""The decision between two models: by metrics on the same test items, or by the metrics of their training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alhelpers.evaluation.annotations import TestSet, read_classes, read_objects
from alhelpers.evaluation.classification import Classifications
from alhelpers.evaluation.compare_config import METRICS, Check, CompareConfig, Metric, Model
from alhelpers.evaluation.comparison import Comparison, explain_checks, explain_metrics
from alhelpers.evaluation.decision import is_better, paired_bootstrap
from alhelpers.evaluation.detection import COCO_SIZES, Detections
from alhelpers.evaluation.measures import Measure
from alhelpers.evaluation.rows import (
    EvaluationError,
    NoGroundTruth,
    check_among,
    column,
    finite,
    keys,
    sort_names,
)
from alhelpers.evaluation.segmentation import Segmentations

# The words in the names of training metrics that say which of two numbers is better.
_LOWER, _HIGHER = ("loss", "error", "entropy"), ("accuracy", "precision", "recall", "f1", "auc")
# On fewer items a bootstrap interval is too narrow to be relied on.
_FEW_ITEMS = 30
#: The samples (x, y) of each training metric (figure, legend) of a model.
Samples = Mapping[tuple[str, str], Sequence[tuple[Any, Any]]]


# ------------------------------------------------------------------------------
# training metrics
# ------------------------------------------------------------------------------


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
        If a model lacks a metric, or its value is not a finite number; it names the model and the metric.
    """
    rows = []
    for check in config.checks:
        old, young = (_value_of(*pair, check) for pair in zip((previous, new), names, strict=True))
        rows.append(
            {
                "name": f"{check.figure} / {check.legend}",
                "previous": old,
                "new": young,
                "maximize": check.maximize,
                "min_delta": check.min_delta,
                "won": is_better(young, old, check.min_delta, check.maximize),
            }
        )
    better = _enough_won(rows, config.wins)
    return Comparison(
        metric="training_metrics",
        better=better,
        message=explain_checks(rows, better, config.wins, names),
        previous_model=names[0],
        new_model=names[1],
        rows=rows,
        method="training metrics",
        wins=config.wins,
        warnings=[*config.warnings, *_odd_directions(config.checks)],
    )


def _odd_directions(checks: Iterable[Check]) -> Iterator[str]:
    """Yield a warning for each check whose direction contradicts the metric's name: a worse model would win."""
    for check in checks:
        name = f"{check.figure} {check.legend}".lower()
        lower, higher = (any(word in name for word in words) for words in (_LOWER, _HIGHER))
        if lower != higher and lower == check.maximize:
            better = "lower" if lower else "higher"
            yield (
                f"the check of {check.figure!r} / {check.legend!r} has maximize {str(check.maximize).lower()}, and of "
                f"such a metric the {better} one is better"
            )


def _enough_won(results: Sequence[Mapping[str, Any]], wins: float | str) -> bool:
    won = [result["won"] for result in results]
    if wins == "any":
        return any(won)
    share = 1.0 if wins == "all" else float(wins)
    # 0.6 of 5 checks is 3, whatever the floats say.
    return sum(won) >= share * len(won) - 1e-9


def _value_of(samples: Samples, model_name: str, check: Check) -> float:
    key = (check.figure, check.legend)
    if key not in samples:
        known = ", ".join(f"{figure!r} / {legend!r}" for figure, legend in sorted(samples)) or "none at all"
        raise ValueError(
            f"model {model_name!r} has no metric {check.figure!r} / {check.legend!r}; it has {known}. Train it, "
            "or correct the check's figure and legend"
        )
    return pick_value(samples[key], check, model_name)


def pick_value(samples: Iterable[tuple[Any, Any]], check: Check, model_name: str) -> float:
    """Return the value at the sample that a check names; of several at one x, the one written last."""
    what = f"model {model_name!r}, metric {check.figure!r} / {check.legend!r}"
    by_x = {finite(x, f"{what}: x"): y for x, y in samples}
    ordered = sorted(by_x)
    if not ordered:
        raise ValueError(f"{what}: no samples; train the model with this metric, or correct the check")
    if check.x_value is not None:
        if check.x_value not in by_x:
            raise ValueError(
                f"{what}: no sample at x = {check.x_value:g}; there are {ordered[0]:g} to {ordered[-1]:g}"
            )
        x = check.x_value
    else:
        if not -len(ordered) <= check.x_index < len(ordered):
            raise ValueError(f"{what}: no sample {check.x_index}; there are {len(ordered)}")
        x = ordered[check.x_index]
    return finite(by_x[x], f"{what}, x = {x:g}: the value")


# ------------------------------------------------------------------------------
# metrics on test items
# ------------------------------------------------------------------------------


def check_fit(config: CompareConfig, output_type: str) -> None:
    """Raise unless every metric can compare annotations of a type, such as "class" or "box"."""
    fitting = [metric.name for metric in METRICS if output_type in metric.types]
    for metric in config.metrics:
        if metric.name not in fitting:
            instead = ", ".join(map(repr, fitting)) or "training metrics ('checks')"
            raise ValueError(
                f"{metric.name} cannot compare models that predict {output_type!r} annotations: use {instead}"
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
    NoGroundTruth
        If the test items have no ground truth: nothing can be compared then.
    ValueError
        If a metric does not fit the annotations, or cannot be computed; it names the metric and the model.
    """
    check_fit(config, test.output_type)
    if not test.ground_truth:
        raise NoGroundTruth(
            f"cannot compare {names[0]!r} and {names[1]!r}: none of the {len(test.item_ids)} test items has "
            f"ground-truth annotations of type {test.output_type!r}. Label the test subset first"
        )
    warnings = [*test.warnings]
    for name, rows in zip(("the ground truth", *names), (test.ground_truth, *test.predictions), strict=True):
        check_among(test.item_ids, keys(column(rows, "image_id", name), "image_id", name), name)
    if test.output_type == "class":
        classes = read_classes(test, names, warnings, full=config.precision_recall is not None)
        return _decide(lambda metric: classes, config, names, warnings)
    read = functools.cache(functools.partial(read_objects, test))
    return _decide(lambda metric: read(pixels=metric.name == "mean_iou"), config, names, warnings)


def compare_evaluated(
    previous: Model, new: Model, config: CompareConfig, names: tuple[str, str] = ("previous", "new")
) -> Comparison:
    """Compare two models whose predictions are read already.

    Parameters
    ----------
    previous, new : Classifications, Detections or Segmentations
        Both of one kind, of the same items and ground truth.
    config, names
        As `compare_predictions` takes them.

    Returns
    -------
    Comparison
        The decision.

    Raises
    ------
    ValueError
        If the models are of several kinds or items, or a metric does not fit them or cannot be computed.
    """
    if type(previous) is not type(new):
        raise ValueError(
            f"{names[0]!r} is read as {type(previous).__name__} and {names[1]!r} as {type(new).__name__}: read both "
            "alike"
        )
    kinds = {Classifications: "class", Detections: "box", Segmentations: "pixels"}
    check_fit(config, kinds[type(new)])
    return _decide(lambda metric: (previous, new), config, names, [])


def _decide(
    read: Callable[[Metric], tuple[Model, ...]],
    config: CompareConfig,
    names: tuple[str, str],
    warnings: Sequence[str],
) -> Comparison:
    """Compare two models, which are read for each metric."""
    warnings, results = [*config.warnings, *warnings], []
    for metric in config.metrics:
        models = read(metric)
        old, new = (_measure(model, metric, name) for model, name in zip(models, names, strict=True))
        for name, measure in zip(names, (old, new), strict=True):
            warnings += [f"{name}: {warning}" for warning in measure.warnings]
        result = _judge(metric, old, new, config)
        if getattr(metric, "by_size", False) and isinstance(models[0], Detections):
            result["sizes"] = [_of_size(size, models, metric, config) for size in COCO_SIZES]
        results.append(result)
    count = len(old.items)
    if count < _FEW_ITEMS and any(metric.min_confidence for metric in config.metrics):
        warnings.append(
            f"{count} test items are too few for min_confidence: an interval of fewer than {_FEW_ITEMS} is too narrow"
        )
    better = _enough_won(results, config.wins)
    first = results[0]
    return Comparison(
        metric=first["name"],
        better=better,
        message=explain_metrics(results, better, config.wins, names, count),
        previous_model=names[0],
        new_model=names[1],
        **{key: first[key] for key in ("previous", "new", "difference", "min_delta", "rows", "method")},
        test_items=count,
        metrics=results,
        wins=config.wins,
        warnings=list(dict.fromkeys(warnings)),
    )


def _measure(model: Model, metric: Metric, model_name: str) -> Measure:
    try:
        return metric.measure(model)
    except EvaluationError as error:
        raise type(error)(f"{metric.name} of model {model_name!r}: {error}") from error


def _of_size(size: str, models: Sequence[Model], metric: Metric, config: CompareConfig) -> dict[str, Any]:
    """Return the row of the objects of a size; without values where there are none."""
    try:
        old, new = (metric.measure(model, size=size) for model in models)
    except NoGroundTruth:
        return {"name": size, "previous": None, "new": None, "low": None, "high": None}
    result = _judge(metric, old, new, config)
    low, high = (result["interval"][side] for side in ("low", "high"))
    return {"name": size, "previous": result["previous"], "new": result["new"], "low": low, "high": high}


def _judge(metric: Metric, old: Measure, new: Measure, config: CompareConfig) -> dict[str, Any]:
    """Return what a comparison holds about one metric."""
    bootstrap = config.bootstrap
    level = bootstrap.level if metric.min_confidence is None else metric.min_confidence
    resampled = paired_bootstrap(old, new, bootstrap.samples, level, bootstrap.seed)
    won = is_better(new, old, metric.min_delta)
    if metric.min_confidence is not None:
        least_gain = resampled.low if new.higher_is_better else -resampled.high
        won = won and least_gain > metric.min_delta
    return {
        "name": metric.name,
        "method": new.method,
        "previous": float(old.value),
        "new": float(new.value),
        "difference": float(resampled.difference),
        "higher_is_better": new.higher_is_better,
        "min_delta": metric.min_delta,
        "min_confidence": metric.min_confidence,
        "interval": {
            "low": resampled.low,
            "high": resampled.high,
            "level": level,
            "samples": len(resampled.differences),
            "seed": bootstrap.seed,
        },
        "won": won,
        "rows": [
            _row(label, old, new, resampled.per_label)
            for label in sort_names({*old.per_label, *new.per_label})
        ],
    }


def _row(
    label: Hashable, old: Measure, new: Measure, intervals: Mapping[Hashable, tuple[float, float]]
) -> dict[str, Any]:
    """Return what a comparison holds about one label; the interval only where a mean over labels has one."""
    low, high = (None if math.isnan(side) else side for side in intervals.get(label, (math.nan, math.nan)))
    values = {"previous": old.per_label.get(label), "new": new.per_label.get(label)}
    return {"name": label, **values, "low": low, "high": high}
