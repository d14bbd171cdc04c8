"""The pipeline node "Compare Models": whether the new model replaces the one in use.

Two ways to tell, as the node's configuration says: the area under the precision-recall curve (average
precision) of both models on the same test items, or the metrics that both wrote while they were trained.
"""

import copy
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dtlpy as dl
import numpy as np

from alhelpers import evaluation
from alhelpers.evaluation import Evaluation

logger = logging.getLogger(__name__)

UPDATE_MODEL = "update model"
DISCARD = "discard"
DEFAULT_CONFIG: dict[str, Any] = {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}}
# The key of the new model's user metadata that keeps the decision: system metadata is the platform's own.
SUMMARY_KEY = "compare"
_IDS_PER_QUERY = 300
_TRUE = {"true", "yes", "1"}
_FALSE = {"false", "no", "0"}


# -------------------------------------------------------------------------------------------- the co


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
class CompareConfig:
    """A checked configuration of the node.

    Parameters
    ----------
    precision_recall : bool
        Whether the average precision is to be compared.
    iou_threshold, min_delta : float
        For the average precision.
    test_filter : dict or None
        A query for the test items, in the form of ``test_subset_filter.json``.
    wins : float, "any" or "all"
        Which part of the checks the new model must win.
    checks : tuple of Check
        The training metrics.
    warnings : tuple of str
        What was ignored.
    """

    precision_recall: bool = False
    iou_threshold: float = 0.5
    min_delta: float = 0.0
    test_filter: dict[str, Any] | None = None
    wins: float | str = "all"
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_config(config: Mapping[str, Any] | None) -> CompareConfig:
    """Read and check a configuration; the given object is not changed.

    Parameters
    ----------
    config : mapping or None
        ``{"precision_recall": {"iou_threshold": 0.5, "min_delta": 0, "test_filter": {...}}}`` (the test
        filter is ours), or ``{"wins": 0.6 | "any" | "all", "checks": [{"type": "plot", "figure", "legend",
        "x_index" | "x_value", "maximize", "min_delta"}]}``. None and ``{}`` mean `DEFAULT_CONFIG`.

    Returns
    -------
    CompareConfig
        The configuration.

    Raises
    ------
    ValueError
        For a value that cannot be used, and when nothing to compare is left.
    """
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(f"compare_config {config!r} must be an object such as {DEFAULT_CONFIG}")
    given = copy.deepcopy(dict(config or DEFAULT_CONFIG))
    warnings = [
        f"metric {key!r} is not known and ignored; known are 'precision_recall' and 'checks' with 'wins'"
        for key in given
        if key not in ("precision_recall", "wins", "checks", "test_filter")
    ]
    has_checks = "checks" in given or "wins" in given
    if "precision_recall" not in given and not has_checks:
        raise ValueError(
            f"compare_config {given!r} names nothing to compare: use for example {DEFAULT_CONFIG}"
        )
    parsed: dict[str, Any] = {}
    if "precision_recall" in given:
        parsed |= _parse_precision_recall(given["precision_recall"], given.get("test_filter"), warnings)
    if has_checks:
        parsed |= _parse_training_metrics(given)
    return CompareConfig(**parsed, warnings=tuple(warnings))


def _parse_precision_recall(section: Any, outer_filter: Any, warnings: list[str]) -> dict[str, Any]:
    section = {} if section is None else section
    if not isinstance(section, Mapping):
        raise ValueError(
            f"precision_recall {section!r} must be an object such as {DEFAULT_CONFIG['precision_recall']}"
        )
    for key in set(section) - {"iou_threshold", "min_delta", "test_filter"}:
        warnings.append(f"precision_recall.{key} is not known and ignored")
    test_filter = section.get("test_filter") or outer_filter
    if test_filter is not None and not isinstance(test_filter, Mapping):
        raise ValueError(f"test_filter {test_filter!r} must be a query like that of test_subset_filter.json")
    iou_threshold = _number(section.get("iou_threshold", 0.5), "precision_recall.iou_threshold")
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"precision_recall.iou_threshold {iou_threshold} must be above 0 and at most 1")
    return {
        "precision_recall": True,
        "iou_threshold": iou_threshold,
        "min_delta": _min_delta(section, "precision_recall"),
        "test_filter": dict(test_filter) if test_filter else None,
    }


def _parse_training_metrics(given: Mapping[str, Any]) -> dict[str, Any]:
    checks = given.get("checks")
    if not isinstance(checks, Sequence) or isinstance(checks, str) or not checks:
        raise ValueError(
            f"checks {checks!r} must be a list with at least one check: without one no model can win"
        )
    return {
        "wins": parse_wins(given.get("wins", "all")),
        "checks": tuple(_parse_check(check, f"checks[{index}]") for index, check in enumerate(checks)),
    }


def _parse_check(check: Any, where: str) -> Check:
    if not isinstance(check, Mapping):
        raise ValueError(f"{where} {check!r} must be an object with 'figure', 'legend' and 'maximize'")
    if check.get("type", "plot") != "plot":
        raise ValueError(f"{where}.type {check['type']!r} is not supported: only 'plot' is")
    for key in ("figure", "legend"):
        if not isinstance(check.get(key), str) or not check[key]:
            raise ValueError(f"{where}.{key} {check.get(key)!r} must be the {key} that the training wrote")
    x_index = _number(check.get("x_index", -1), f"{where}.x_index")
    if x_index != int(x_index):
        raise ValueError(f"{where}.x_index {x_index} must be a whole number: -1 is the last sample")
    x_value = check.get("x_value")
    return Check(
        figure=check["figure"],
        legend=check["legend"],
        maximize=_boolean(check.get("maximize"), f"{where}.maximize"),
        x_index=int(x_index),
        x_value=None if x_value is None else _number(x_value, f"{where}.x_value"),
        min_delta=_min_delta(check, where),
    )


def parse_wins(wins: Any) -> float | str:
    """Read which part of the checks must be won.

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
    if isinstance(wins, str) and wins.strip().lower() in ("any", "all"):
        return wins.strip().lower()
    fraction = _number(wins, "wins", "a fraction above 0 and at most 1, 'any' or 'all'")
    if not 0 < fraction <= 1:
        raise ValueError(f"wins {wins!r} must be a fraction above 0 and at most 1, 'any' or 'all'")
    return fraction


def _number(value: Any, where: str, expected: str = "a finite number") -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where} {value!r} must be {expected}")
    return number


def _min_delta(section: Mapping[str, Any], where: str) -> float:
    value = _number(section.get("min_delta", 0), f"{where}.min_delta")
    if value < 0:
        raise ValueError(
            f"{where}.min_delta {value} must be 0 or more: a worse model must not replace a better one"
        )
    return value


def _boolean(value: Any, where: str) -> bool:
    """Read a truth value; `1` and `"true"` are true, and what is neither is refused, not taken for false."""
    text = str(value).strip().lower()
    if text in _TRUE | _FALSE and not isinstance(value, float):
        return text in _TRUE
    raise ValueError(f"{where} {value!r} must be true (more is better) or false (less is better)")


# ------------------------------------------------------------------------------------------------- t


@dataclass(frozen=True)
class Comparison:
    """Why the new model replaces the previous one, or does not. Printing it shows a table.

    Parameters
    ----------
    metric : str
        ``"precision_recall"`` or ``"training_metrics"``.
    better : bool
        Whether the new model won.
    message : str
        The decision in one sentence.
    previous_model, new_model : str
        The models' names.
    previous, new, difference, min_delta : float or None
        The average precisions; None for training metrics.
    rows : list of dict
        A row a label (or a check): ``name``, ``previous``, ``new``, and for checks ``won``.
    test_items : int
        How many items were evaluated.
    method : str
        How the values were computed.
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
        width = max([len(str(row["name"])) for row in self.rows] + [5])
        lines = [self.message, f"{'':{width}}  {'previous':>9}  {'new':>9}"]
        if self.previous is not None and self.new is not None:
            lines.append(f"{'macro':{width}}  {self.previous:9.4f}  {self.new:9.4f}")
        lines += [
            f"{row['name']!s:{width}}  {_cell(row['previous'])}  {_cell(row['new'])}" for row in self.rows
        ]
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def _cell(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.4f}"


def check_wins(won: Sequence[bool], wins: float | str) -> bool:
    """Tell whether enough checks were won.

    Parameters
    ----------
    won : sequence of bool
        The result of each check.
    wins : float or str
        As `parse_wins` takes it: the part that must be won at least.

    Returns
    -------
    bool
        Whether the new model wins.

    Raises
    ------
    ValueError
        When there are no checks, or `wins` is unusable.
    """
    if not won:
        raise ValueError("no checks: without one no model can win")
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


def compare_predictions(
    test: TestSet, config: CompareConfig, names: tuple[str, str] = ("previous", "new")
) -> Comparison:
    """Compare two models by their average precision on the same test items.

    Parameters
    ----------
    test : TestSet
        Ground truth and both models' predictions.
    config : CompareConfig
        The IoU threshold and the least difference.
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
    """
    if not test.ground_truth:
        raise evaluation.NoGroundTruth(
            f"cannot compare {names[0]!r} and {names[1]!r}: none of the {len(test.item_ids)} test items has "
            f"ground-truth annotations of type {test.output_type!r}. Label the test subset first"
        )
    warnings = [*config.warnings, *test.warnings]
    if test.output_type == "class":
        (old, new), method, count = _evaluate_classes(test, warnings)
    else:
        old, new = (
            evaluation.average_precision(test.ground_truth, rows, config.iou_threshold)
            for rows in test.predictions
        )
        method, count = f"average precision of boxes at IoU {config.iou_threshold:g}", len(test.item_ids)
    for name, result in zip(names, (old, new), strict=True):
        warnings += [f"{name}: {warning}" for warning in result.warnings]
    return _decide(old, new, config.min_delta, names, method=method, test_items=count, warnings=warnings)


def _evaluate_classes(test: TestSet, warnings: list[str]) -> tuple[tuple[Evaluation, Evaluation], str, int]:
    """Evaluate both classifiers in the same way: by full confidences if both kept them, else by the top one."""
    truth = _one_label_an_item(test, warnings)
    best = tuple(_best_prediction(rows) for rows in test.predictions)
    method = "average precision from full confidences"
    if all(row.get("confidences") for rows in best for row in rows.values()):
        names = sorted(
            {name for rows in best for row in rows.values() for name in row["confidences"]}
            | {*truth.values()}
        )
        results = tuple(_full_evaluation(truth, rows, names) for rows in best)
    else:
        method = "class-aware average precision from the top-1 confidence"
        warnings.append(
            "not every prediction holds the full confidences (metadata.user.prediction), so both models are "
            "compared by the confidence of the predicted class alone"
        )
        results = tuple(_top1_evaluation(truth, rows) for rows in best)
    return (results[0], results[1]), method, len(truth)


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
    """Keep each item's most confident prediction."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["image_id"] not in best or row["score"] > best[row["image_id"]]["score"]:
            best[row["image_id"]] = row
    return best


def _full_evaluation(
    truth: Mapping[str, str], best: Mapping[str, dict[str, Any]], names: Sequence[str]
) -> Evaluation:
    # An item without a prediction ranks last for every class: a miss.
    confidences = np.zeros((len(truth), len(names)))
    place = {name: column for column, name in enumerate(names)}
    for row, item in enumerate(truth):
        for name, value in best.get(item, {}).get("confidences", {}).items():
            confidences[row, place[name]] = value
    return evaluation.classification_average_precision(list(truth.values()), confidences, names)


def _top1_evaluation(truth: Mapping[str, str], best: Mapping[str, dict[str, Any]]) -> Evaluation:
    missing = {"label": "(no prediction)", "score": 0.0}
    rows = [best.get(item, missing) for item in truth]
    return evaluation.top1_average_precision(
        list(truth.values()), [row["label"] for row in rows], [row["score"] for row in rows]
    )


def _decide(
    old: Evaluation, new: Evaluation, min_delta: float, names: tuple[str, str], **details: Any
) -> Comparison:
    better = bool(evaluation.is_better(new.macro, old.macro, min_delta))
    difference = float(new.macro - old.macro)
    message = (
        f"average precision {new.macro:.4f} of {names[1]!r} against {old.macro:.4f} of {names[0]!r} on "
        f"{details['test_items']} test items: a difference of {difference:+.4f}, more than {min_delta:g} is "
        f"needed: {UPDATE_MODEL if better else DISCARD}"
    )
    labels = sorted({*old.per_label, *new.per_label}, key=str)
    return Comparison(
        metric="precision_recall",
        better=better,
        message=message,
        previous_model=names[0],
        new_model=names[1],
        previous=float(old.macro),
        new=float(new.macro),
        difference=difference,
        min_delta=min_delta,
        rows=[
            {
                "name": label,
                "previous": _plain(old.per_label.get(label)),
                "new": _plain(new.per_label.get(label)),
            }
            for label in labels
        ],
        **details,
    )


def _plain(value: Any) -> float | None:
    """Turn a label's value into JSON: a label without ground truth has none."""
    return None if value is None or not math.isfinite(value) else float(value)


# ------------------------------------------------------------------------------------------------- p


def prediction_owner(metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Read which model made an annotation.

    Parameters
    ----------
    metadata : mapping or None
        The annotation's metadata.

    Returns
    -------
    (str or None, str or None)
        The model's id and name, from the system metadata or, failing that, from the user metadata; both None
        when the annotation is ground truth.
    """
    for section in ("system", "user"):
        info = ((metadata or {}).get(section) or {}).get("model") or {}
        if info.get("model_id") or info.get("name"):
            return info.get("model_id"), info.get("name")
    return None, None


def read_test_set(
    previous_model: dl.Model,
    new_model: dl.Model,
    dataset: dl.Dataset,
    test_filter: Mapping[str, Any] | None = None,
) -> TestSet:
    """Read both models' predictions and the ground truth of the test items, in a call a thousand annotations.

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
    found = tuple(_read_predictions(dataset, model, output_type) for model in (previous_model, new_model))
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
            f"precision_recall compares 'class' and 'box' annotations, and {new_model.name!r} gives "
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
    ids = sorted(item.id for item in dataset.items.list(filters=dl.Filters(custom_filter=query)).all())
    if not ids:
        raise ValueError(f"the test_filter selects no item of dataset {dataset.name!r}: {dict(test_filter)}")
    return ids


def _read_predictions(dataset: dl.Dataset, model: dl.Model, output_type: str) -> list[dict[str, Any]]:
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
    for section in ("system", "user"):
        filters.add(f"metadata.{section}.model.model_id", model.id, method=dl.FiltersMethod.OR)
        filters.add(f"metadata.{section}.model.name", model.name, method=dl.FiltersMethod.OR)
    rows = []
    for annotation in dataset.annotations.list(filters=filters).all():
        owner, name = prediction_owner(annotation.metadata)
        # A name counts only where no id is known: models may be renamed, ids are not.
        mine = owner == model.id if owner else name == model.name
        if mine and annotation.type == output_type:
            rows.append(_row(annotation) | _confidence(annotation, model))
    return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"]))


def _read_ground_truth(
    dataset: dl.Dataset, item_ids: Sequence[str], output_type: str
) -> list[dict[str, Any]]:
    rows = []
    for start in range(0, len(item_ids), _IDS_PER_QUERY):
        filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
        filters.add("itemId", list(item_ids[start : start + _IDS_PER_QUERY]), dl.FiltersOperations.IN)
        filters.add("type", output_type)
        # Most annotations of a test item are predictions of the models of earlier rounds; they need not travel.
        filters.add("metadata.system.model.model_id", False, dl.FiltersOperations.EXISTS)
        for annotation in dataset.annotations.list(filters=filters).all():
            if prediction_owner(annotation.metadata) == (None, None):
                rows.append(_row(annotation))
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
    for sample in model.metrics.list().all():
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
        The dataset that both were evaluated on. With it, and with ``precision_recall`` in the configuration,
        they are compared by average precision, else by training metrics.

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
    if dataset is not None and parsed.precision_recall:
        test = read_test_set(previous_model, new_model, dataset, parsed.test_filter)
        return compare_predictions(test, parsed, names)
    if parsed.checks:
        return compare_metrics(read_samples(previous_model), read_samples(new_model), parsed, names)
    raise ValueError(
        "comparing by precision_recall needs the dataset that both models were evaluated on: pass dataset=, or a "
        "configuration with 'checks' to compare by training metrics"
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
