"""The command ``compare``: whether a new model replaces the old one."""

import argparse
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alhelpers.cli.coco_files import read_results, read_truth
from alhelpers.cli.output import fail, print_lines, say
from alhelpers.cli.tables import KEY, read_table

_OF_CLASSES = ("accuracy", "f1", "precision_recall", "calibration")
_OF_BOXES = ("precision_recall", "mean_average_precision", "f1", "calibration")
_OF_MASKS = (*_OF_BOXES, "mean_iou")
#: The options of average precision of boxes and masks, by the metric that takes them.
_OPTIONS = {
    "iou": ("iou_threshold", ("precision_recall", "f1", "calibration")),
    "points": ("points", ("precision_recall", "mean_average_precision")),
    "by_size": ("by_size", ("precision_recall", "mean_average_precision")),
}
# Those that rank or sort predictions by their confidence.
_OF_CONFIDENCE = ("precision_recall", "calibration")
# How far a confidence may be beside 0 or 1 by rounding.
_ROUNDED = 1e-6

#: Names of the column with the predicted class.
_PREDICTED = ("predicted", "label")


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    compare = commands.add_parser(
        "compare",
        help="decide whether a new model replaces the old one",
        description="Compare the predictions of two models on the same labelled test set. OLD and NEW are CSV files "
        "with the columns path, predicted (or label) and confidence, or with a column of confidences for each class; "
        "TRUTH has the columns path and label. Detectors are compared by JSON files in COCO's format: TRUTH has "
        "images, categories and annotations, OLD and NEW are lists of results.",
        epilog="exit codes: 0 compared, whatever the decision; 1 failed; 2 wrong usage",
    )
    add = compare.add_argument
    add("old", type=Path, metavar="OLD")
    add("new", type=Path, metavar="NEW")
    add("truth", type=Path, metavar="TRUTH")
    metrics = tuple(dict.fromkeys((*_OF_CLASSES, *_OF_MASKS)))
    add("--metric", choices=metrics, help="what decides (default: accuracy; of detectors precision_recall)")
    add("--masks", action="store_true", help="of detectors: compare segmentations instead of boxes")
    add("--iou", type=float, metavar="X", help="of detectors: the overlap from which on a detection is right")
    add(
        "--points",
        type=int,
        metavar="N",
        help="of detectors: the recalls of average precision, 101 for COCO's",
    )
    add("--by-size", action="store_true", help="of detectors: small, medium and large objects apart, too")
    add("--min-delta", type=float, default=0.0, metavar="X", help="the new model must be better by more")
    whole = "the whole interval of this level must be better by more than X, such as 0.95"
    add("--min-confidence", type=float, metavar="LEVEL", help=whole)
    add("--seed", type=int, default=0, help="of the resamples of the interval")
    add("--json", action="store_true", help="print one JSON object")
    compare.set_defaults(function=_compare)


def _compare(options: argparse.Namespace) -> int:
    """Print the decision, its interval, and the metric by label."""
    from alhelpers.evaluation import TestSet, compare_predictions, read_compare_config

    of_objects = options.truth.suffix.lower() == ".json"
    options.metric = options.metric or ("precision_recall" if of_objects else "accuracy")
    try:
        metric = {"min_delta": options.min_delta, "min_confidence": options.min_confidence}
        metric |= _options_of_objects(options, of_objects)
        config = read_compare_config({options.metric: metric, "bootstrap": {"seed": options.seed}})
    except ValueError as error:
        return fail(error, 2)
    try:
        test = TestSet(*(_read_objects(options) if of_objects else _read_classes(options)))
        with warnings.catch_warnings(action="ignore"):  # the comparison holds them
            found = compare_predictions(test, config, (str(options.old), str(options.new)))
    except ValueError as error:
        return fail(error)
    if options.json:
        return print_lines([json.dumps(found.to_dict())], 0)
    return print_lines([f"decision: {found.action}", str(found)], 0)


def _options_of_objects(options: argparse.Namespace, of_objects: bool) -> dict[str, Any]:
    """Return the options of the metric that detectors have; raise a ValueError for one that does not fit."""
    allowed = (_OF_MASKS if options.masks else _OF_BOXES) if of_objects else _OF_CLASSES
    if options.metric not in allowed:
        what = "masks" if options.masks else "boxes" if of_objects else "classes"
        raise ValueError(f"--metric {options.metric} does not compare {what}: use {', '.join(allowed)}")
    if options.masks and not of_objects:
        raise ValueError("--masks needs JSON files in COCO's format")
    found = {}
    for name, (key, metrics) in _OPTIONS.items():
        value = getattr(options, name)
        if value is None or value is False:
            continue
        if not of_objects or options.metric not in metrics:
            where = f"and one of {', '.join(metrics)}" if of_objects else "in COCO's format"
            raise ValueError(f"--{name.replace('_', '-')} needs JSON files {where}")
        found[key] = value
    return found


def _read_objects(
    options: argparse.Namespace,
) -> tuple[str, list[Any], list[Any], tuple[list[Any], list[Any]]]:
    """Read boxes or masks: their type, the images, the ground truth and the detections of both models."""
    truth, sizes, names = read_truth(options.truth, options.masks)
    old, new = (read_results(file, sizes, names, options.masks) for file in (options.old, options.new))
    return ("binary" if options.masks else "box"), list(sizes), truth, (old, new)


def _read_classes(
    options: argparse.Namespace,
) -> tuple[str, list[Any], list[Any], tuple[list[Any], list[Any]]]:
    """Read classes, as `_read_objects`."""
    truth = {row[KEY]: row["label"] for row in read_table(options.truth, "label")}
    for path, label in truth.items():
        if not label:
            raise ValueError(f"{options.truth} has no label for {path}: label it, or leave it out")
    if not truth:
        raise ValueError(f"{options.truth} has no rows: list the labelled test pictures in it")
    old, new = (_predictions(file, truth, options) for file in (options.old, options.new))
    return (
        "class",
        list(truth),
        [{"image_id": path, "label": label} for path, label in truth.items()],
        (old, new),
    )


def _predictions(file: Path, truth: dict[str, str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Read the predictions of the test set: label, score and, where they are known, all confidences."""
    rows = read_table(file)
    _check_paths(file, [row[KEY] for row in rows], truth, options.truth)
    header = list(rows[0]) if rows else []
    named = next((name for name in _PREDICTED if name in header), None)
    others = [name for name in header if name not in (KEY, named, "confidence")]
    if named is not None:  # other columns may be anything but confidences
        known = {*truth.values(), *(row[named] for row in rows)}
        others = [name for name in others if name in known]
    if named is None and not others:
        raise ValueError(
            f"{file} has no predictions: it needs a column 'predicted', or one of confidences for each class"
        )
    if options.metric in _OF_CONFIDENCE and not others and "confidence" not in header:
        raise ValueError(
            f"{options.metric} needs confidences, which {file} lacks: add a column 'confidence', or one for each class"
        )
    found = []
    for row in rows:
        if row[KEY] not in truth:
            continue
        confidences = {name: _number(file, row, name) for name in others}
        label = row[named] if named is not None else max(confidences, key=confidences.__getitem__)
        if not label:
            raise ValueError(f"{file} has no {named} for {row[KEY]}: predict it again")
        score = _number(file, row, "confidence") if "confidence" in row else confidences.get(label, 0.0)
        found.append({"image_id": row[KEY], "label": label, "score": score, "confidences": confidences})
    return found


def _check_paths(file: Path, found: Sequence[str], truth: dict[str, str], truth_file: Path) -> None:
    """Raise if a prediction is missing; say which ones are left out, as they have no label."""
    there = set(found)
    missing = [path for path in truth if path not in there]
    if missing and len(missing) == len(truth) and found:
        raise ValueError(
            f"{file} and {truth_file} have no path in common, the first are {found[0]} and {missing[0]}: write paths"
            " the same way in both"
        )
    if missing:
        raise ValueError(
            f"{file} lacks {len(missing)} of the {len(truth)} rows of {truth_file}, the first is {missing[0]}:"
            " predict them, or compare both models on the same fewer rows"
        )
    more = [path for path in found if path not in truth]
    if more:
        say(f"warning: rows of {file} that are not in {truth_file} are left out ({len(more)}): {_few(more)}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _number(file: Path, row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not -_ROUNDED <= value <= 1 + _ROUNDED:
        wrong = "no number" if math.isnan(value) else "no confidence"
        raise ValueError(
            f"{file}: {name} of {row[KEY]} is {row[name]!r}, which is {wrong}: write a number from 0 to 1"
        )
    return min(max(value, 0.0), 1.0)
