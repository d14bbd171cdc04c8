"""The annotations of the test items as plain rows, and the models' predictions that are read from them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alhelpers.evaluation.classification import Classifications
from alhelpers.evaluation.detection import Detections
from alhelpers.evaluation.rows import NoGroundTruth, column, floats, keys, sort_names
from alhelpers.evaluation.segmentation import Segmentations


@dataclass
class TestSet:
    """The annotations of the test items, as plain rows.

    Parameters
    ----------
    output_type : str
        ``"class"``, ``"box"`` or ``"binary"``, masks of objects or of classes.
    item_ids : list of str
        The items, also those without any annotation.
    ground_truth : list of dict
        ``image_id``, ``label``, and for boxes ``left``, ``top``, ``right``, ``bottom``; for masks ``mask``, a bool
        array of the height and width of the item's image. Boxes and masks of crowds have ``iscrowd``.
    predictions : (list of dict, list of dict)
        The same of the previous and of the new model, with ``score``, and ``confidences`` (a dict by class
        name) where the full vector is known.
    warnings : list of str
        What to keep in mind about them.
    """

    # pytest would take the name for a test.
    __test__ = False

    output_type: str
    item_ids: list[str]
    ground_truth: list[dict[str, Any]]
    predictions: tuple[list[dict[str, Any]], list[dict[str, Any]]]
    warnings: list[str] = field(default_factory=list)


def read_objects(test: TestSet, pixels: bool) -> tuple[Detections | Segmentations, ...]:
    """Read both models' boxes or masks: object by object, or the pixels of each label."""
    truth, items = test.ground_truth, test.item_ids
    if pixels:
        return tuple(Segmentations.from_masks(truth, rows, items) for rows in test.predictions)
    masks = test.output_type == "binary"
    return tuple(Detections(truth, rows, items, masks=masks) for rows in test.predictions)


def read_classes(
    test: TestSet, names: tuple[str, str], warnings: list[str], full: bool
) -> tuple[Classifications, ...]:
    """Read both models' classes in the same way: with full confidences only if both have them.

    Warnings are added to the list; `full` is whether full confidences are wanted.
    """
    truth = _one_label_an_item(test, warnings)
    best = [_best_predictions(rows, name) for rows, name in zip(test.predictions, names, strict=True)]
    wanted, full = full, all(row.get("confidences") for rows in best for row in rows.values())
    if wanted and not full:
        warnings.append(
            "not every prediction holds the full confidences (metadata.user.prediction), so both models are "
            "compared by the confidence of the predicted class alone"
        )
    for name, rows in zip(names, best, strict=True):
        missing = len(truth.keys() - rows.keys())
        if missing:
            warnings.append(f"{missing} test items have no prediction of {name!r}: they count as misses")
    known = {name for rows in best for row in rows.values() for name in row.get("confidences") or ()}
    classes = sort_names(known | set(truth.values())) if full else None
    return tuple(_classification(truth, rows, classes) for rows in best)


def _classification(
    truth: Mapping[str, str], best: Mapping[str, Mapping[str, Any]], classes: Sequence[str] | None
) -> Classifications:
    rows = [best.get(item, {}) for item in truth]
    confidences = classes and [
        [row.get("confidences", {}).get(name, 0.0) for name in classes] for row in rows
    ]
    return Classifications(
        list(truth.values()),
        [row.get("label") for row in rows],
        [row.get("score", 0.0) for row in rows],
        confidences,
        classes,
        items=list(truth),
    )


def _one_label_an_item(test: TestSet, warnings: list[str]) -> dict[str, str]:
    """Return the class of each item that has exactly one."""
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
        raise NoGroundTruth("cannot compare: every labelled test item has several ground-truth classes")
    return truth


def _best_predictions(rows: Sequence[dict[str, Any]], model_name: str) -> dict[Hashable, dict[str, Any]]:
    """Return each item's most confident prediction; among equals the first label, whatever the order of the rows."""
    name = f"the predictions of {model_name!r}"
    keys(column(rows, "label", name), "label", name)
    floats(column(rows, "score", name), "score", name)
    best: dict[Hashable, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-row["score"], row["label"])):
        best.setdefault(row["image_id"], row)
    return best
