"""The command ``compare``: whether a new model replaces the old one."""

import argparse
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alhelpers.cli.output import fail, print_lines, say
from alhelpers.cli.tables import KEY, read_table

_METRICS = ("accuracy", "f1", "precision_recall", "calibration")
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
        "TRUTH has the columns path and label.",
        epilog="exit codes: 0 compared, whatever the decision; 1 failed; 2 wrong usage",
    )
    add = compare.add_argument
    add("old", type=Path, metavar="OLD")
    add("new", type=Path, metavar="NEW")
    add("truth", type=Path, metavar="TRUTH")
    add("--metric", choices=_METRICS, default="accuracy", help="what decides (default: accuracy)")
    add("--min-delta", type=float, default=0.0, metavar="X", help="the new model must be better by more")
    whole = "the whole interval of this level must be better by more than X, such as 0.95"
    add("--min-confidence", type=float, metavar="LEVEL", help=whole)
    add("--seed", type=int, default=0, help="of the resamples of the interval")
    add("--json", action="store_true", help="print one JSON object")
    compare.set_defaults(function=_compare)


def _compare(options: argparse.Namespace) -> int:
    """Print the decision, its interval, and the metric by label."""
    from alhelpers.evaluation import TestSet, compare_predictions, read_compare_config

    metric = {"min_delta": options.min_delta, "min_confidence": options.min_confidence}
    try:
        config = read_compare_config({options.metric: metric, "bootstrap": {"seed": options.seed}})
    except ValueError as error:
        return fail(error, 2)
    try:
        truth = {row[KEY]: row["label"] for row in read_table(options.truth, "label")}
        for path, label in truth.items():
            if not label:
                raise ValueError(f"{options.truth} has no label for {path}: label it, or leave it out")
        if not truth:
            raise ValueError(f"{options.truth} has no rows: list the labelled test pictures in it")
        files = options.old, options.new
        models = [_predictions(file, truth, options) for file in files]
        labels = [{"image_id": path, "label": label} for path, label in truth.items()]
        test = TestSet("class", list(truth), labels, (models[0], models[1]))
        with warnings.catch_warnings(action="ignore"):  # the comparison holds them
            found = compare_predictions(test, config, (str(options.old), str(options.new)))
    except ValueError as error:
        return fail(error)
    if options.json:
        return print_lines([json.dumps(found.to_dict())], 0)
    return print_lines([f"decision: {found.action}", str(found)], 0)


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
