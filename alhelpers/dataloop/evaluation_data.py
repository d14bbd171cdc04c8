"""Read from the platform what two models are compared by: predictions and ground truth, and training metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dtlpy as dl

from alhelpers.dataloop import reading
from alhelpers.dataloop.item_metadata import size_of
from alhelpers.dataloop.truth import FORMS, KINDS, labelled, mask_of
from alhelpers.dataloop.whole_images import OBJECTS, note_of, path_of
from alhelpers.evaluation import TestSet
from alhelpers.evaluation.rows import finite


def read_test_set(
    previous_model: dl.Model,
    new_model: dl.Model,
    dataset: dl.Dataset,
    test_filter: Mapping[str, Any] | None = None,
) -> TestSet:
    """Read each model's predictions once, and the ground truth of the test items once, in pages of a thousand.

    Without a filter the test items are those on which either model has predictions.
    """
    models = (previous_model, new_model)
    kind = output_type(*models)
    # A name that both models have identifies neither; a prediction without a model's id then belongs to no model.
    by_name = previous_model.name != new_model.name
    found = tuple(prediction_rows(dataset, model, kind, by_name=by_name) for model in models)
    asked = kind != "class" and (test_filter is None or not all(found))
    empty = _found_nothing(dataset, models) if asked else [set(), set()]
    warnings: list[str] = []
    if test_filter is not None:
        items = _item_ids(dataset, test_filter)
    else:
        first, second = (
            {row["image_id"] for row in rows} | none for rows, none in zip(found, empty, strict=True)
        )
        items = sorted(first | second)
        if kind == "class" and first and second and not first & second:
            raise ValueError(
                f"{previous_model.name!r} and {new_model.name!r} have predictions on dataset {dataset.name!r}, but"
                " share no item: evaluate both on the same items, or pass a test_filter"
            )
        if first != second:
            warnings.append(
                f"the models were evaluated on different items: {len(first - second)} only by "
                f"{previous_model.name!r}, {len(second - first)} only by {new_model.name!r}. A missing "
                "prediction counts as a miss; pass a test_filter to compare on the test subset alone"
            )
    inside = set(items)
    predictions = tuple([row for row in rows if row["image_id"] in inside] for rows in found)
    for model, rows, none in zip(models, predictions, empty, strict=True):
        if not rows:
            if not none & inside:
                _require_evaluated(model, dataset)
            warnings.append(
                f"{model.name!r} was evaluated on dataset {dataset.name!r} and predicted nothing there"
            )
    truth = truth_rows(dataset, items, kind)
    return TestSet(kind, items, truth, (predictions[0], predictions[1]), warnings)


def read_evaluated(
    model: dl.Model, dataset: dl.Dataset, filters: dl.Filters | Mapping[str, Any] | None, task: str
) -> tuple[list[str], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the labelled items that a filter selects, also those without an object, their truth and a model's rows."""
    kind, chosen = KINDS[task], reading.find_items(dataset, filters)
    truth = truth_rows(dataset, [item.id for item in chosen], kind)
    is_labelled = labelled(dataset, chosen, {row["image_id"] for row in truth})
    ids = sorted(item.id for item, known in zip(chosen, is_labelled, strict=True) if known)
    if not truth:
        raise ValueError(
            f"model {model.name!r} can't be evaluated on dataset {dataset.name!r}: none of {len(chosen)} items has a"
            f" ground truth of type {kind!r}. Label the items that the filter selects"
        )
    inside = set(ids)
    found = [row for row in prediction_rows(dataset, model, kind) if row["image_id"] in inside]
    return ids, truth, found


def truth_rows(dataset: dl.Dataset, item_ids: Sequence[str], kind: str) -> list[dict[str, Any]]:
    """Read the ground truth of items as rows: ``image_id``, ``label``, and the sides of a box or a ``mask``."""
    found = list(reading.ground_truth_of(dataset, item_ids, FORMS[kind]))
    # A mask is as large as its image, a polygon does not say.
    drawn = {each.item_id for each in found if each.type == "segment"}
    sizes = {item.id: size_of(item) for item in reading.items_of(dataset, [*drawn]).values()}
    return _in_order([_row(each, sizes.get(each.item_id)) for each in found])


def _found_nothing(dataset: dl.Dataset, models: Sequence[dl.Model]) -> list[set[str]]:
    """Return for each model the items on which it is noted to have predicted no box and no mask."""
    noted = [{path_of(model.id): {"$exists": True}} for model in models]
    items = reading.find_items(dataset, {"filter": {"$and": [{"type": "file"}, {"$or": noted}]}})
    return [
        {item.id for item in items if (note_of(item, model.id) or {}).get(OBJECTS) == 0} for model in models
    ]


def output_type(previous_model: dl.Model, new_model: dl.Model) -> str:
    """Return the type of annotations that both models predict, or raise a ValueError if they cannot be compared."""
    first, second = map(reading.kind_of, (previous_model, new_model))
    if first != second:
        raise ValueError(
            f"{previous_model.name!r} predicts annotations of type {first!r} and {new_model.name!r} of type "
            f"{second!r}: models of different outputs cannot be compared"
        )
    if first not in KINDS.values():
        raise ValueError(
            "predictions can be compared where they are 'class', 'box' or 'binary' annotations, and "
            f"{new_model.name!r} predicts {first!r}: compare by training metrics ('checks')"
        )
    return first


def read_samples(model: dl.Model) -> dict[tuple[str, str], list[tuple[Any, Any]]]:
    """Read the samples (x, y) of all training metrics (figure, legend) of a model, in the platform's order."""
    samples: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for sample in reading.pages(model.metrics.list()):
        samples.setdefault((sample.figure, sample.legend), []).append((sample.x, sample.y))
    return samples


def _require_evaluated(model: dl.Model, dataset: dl.Dataset) -> None:
    """Raise for a model without predictions, unless the platform lists it as evaluated: then it found nothing."""
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


def _item_ids(dataset: dl.Dataset, test_filter: Mapping[str, Any]) -> list[str]:
    ids = sorted(item.id for item in reading.find_items(dataset, test_filter))
    if not ids:
        raise ValueError(f"the test_filter selects no item of dataset {dataset.name!r}: {dict(test_filter)}")
    return ids


def prediction_rows(
    dataset: dl.Dataset, model: dl.Model, kind: str, *, by_name: bool = False
) -> list[dict[str, Any]]:
    """Read a model's predictions as rows of ground truth with a ``score``, and ``confidences`` where they are known."""
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
    reading.add_model(filters, model.id, model.name if by_name else None)
    rows = []
    for annotation in reading.pages(dataset.annotations.list(filters=filters)):
        owner, name = reading.made_by(annotation.metadata)
        # A name counts only where no id is known: models may be renamed, and versions may share one; ids differ.
        of_model = owner == model.id if owner else by_name and name == model.name
        if of_model and annotation.type == kind:
            rows.append(_row(annotation) | _confidence(annotation, model))
    return _in_order(rows)


def _row(annotation: dl.Annotation, size: tuple[int, int] | None = None) -> dict[str, Any]:
    row = {"annotation_id": annotation.id, "image_id": annotation.item_id, "label": annotation.label}
    if annotation.type in FORMS["binary"]:
        row["mask"] = mask_of(
            annotation, size, f"{annotation.type} {annotation.id} of item {annotation.item_id}"
        )
    return row | reading.sides_of(annotation)


def _in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"]))


def _confidence(annotation: dl.Annotation, model: dl.Model) -> dict[str, Any]:
    """Read a prediction's confidence, and those of all classes where the adapter stored them."""
    where = f"model {model.name!r}, prediction {annotation.id} on item {annotation.item_id}: confidence"
    row: dict[str, Any] = {"score": finite(reading.confidence_of(annotation.metadata), where)}
    full = (annotation.metadata.get("user") or {}).get("prediction") or {}
    names, values = full.get("class_names"), full.get("confidences")
    if names and values:
        if not len(set(names)) == len(names) == len(values):
            raise ValueError(f"{where}s: {len(values)} values for the class names {names}; predict again")
        row["confidences"] = {name: finite(value, where) for name, value in zip(names, values, strict=True)}
    return row
