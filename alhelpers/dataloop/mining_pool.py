"""The records of the items that a miner chooses from, and of those that are labelled already.

Items that the model has not predicted are predicted first; the records of boxes and classes come from
`alhelpers.dataloop.reading`.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dtlpy as dl

from alhelpers.dataloop import reading
from alhelpers.dataloop.miner_config import NodeConfig
from alhelpers.dataloop.truth import FORMS

#: The key of an item's user metadata with the round in which it was chosen, and why.
MARK_KEY = "mining"

_ITEMS_PER_PREDICTION = 200
_LONGEST_PAUSE = 5.0  # seconds between two requests for the status of a running prediction


@dataclass
class Pool:
    """The records of items, and messages for the user."""

    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def pool_query(pool_filter: dl.Filters | Mapping[str, Any] | None) -> dict[str, Any]:
    """Restrict a filter of items, or a query like train_subset_filter.json, to the files that no round has chosen."""
    given = copy.deepcopy(pool_filter)
    if isinstance(given, dl.Filters):
        given = given.prepare()
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"pool_filter {pool_filter!r} must be a query like that of train_subset_filter.json")
    given = given or {}
    if given.get("resource", "items") != "items":
        raise ValueError(f"pool_filter selects {given['resource']}: it must be a filter of items")
    query = {key: value for key, value in given.items() if key not in reading.PAGING}
    if query and "filter" not in query:  # the SDK takes conditions alone as well
        query = {"filter": query}
    conditions = [query["filter"]] if query.get("filter") else []
    query["filter"] = {
        "$and": [
            *conditions,
            {"hidden": False},
            {"type": "file"},
            {f"metadata.user.{MARK_KEY}": {"$exists": False}},
        ]
    }
    return query


def needs_predictions(config: NodeConfig, model: dl.Model) -> bool:
    """Return whether waiting items must be predicted, also for scores that a model notes, such as ``metadata.bald``."""
    noted = [name for name in config.metadata_fields if name.count(".") == 1]
    return config.needs_predictions or (bool(noted) and reading.kind_of(model) != "class")


def read_pool(
    dataset: dl.Dataset,
    model: dl.Model,
    item_ids: Sequence[str],
    config: NodeConfig,
    *,
    reference: bool = False,
) -> Pool:
    """Read the records of waiting items, or of labelled ones (`reference`); missing predictions are made.

    Labelled items keep other models' predictions, which comparisons use, and their labels are read.
    """
    predicted = config.reference_predictions if reference else needs_predictions(config, model)
    embedded = config.reference_vectors if reference else config.needs_vectors
    records: dict[str, dict[str, Any]] = {item_id: {"id": item_id} for item_id in item_ids}
    notes: list[str] = []
    if predicted:
        records = _read_predictions(dataset, model, item_ids, config, notes, clean=not reference)
    if config.metadata_fields and not reference:
        records = _with_metadata(dataset, config.metadata_fields, records)
    if embedded:
        records = _with_vectors(dataset, config.feature_set, records, notes)
    if reference and config.reference_boxes:
        boxes: dict[str, list[dict[str, str]]] = {item_id: [] for item_id in records}
        for annotation in reading.ground_truth_of(dataset, list(records), ("box", *FORMS["binary"])):
            boxes[annotation.item_id].append({"class_name": annotation.label})
        records = {item_id: row | {"detections": boxes[item_id]} for item_id, row in records.items()}
    if reference and config.reference_labels:
        labels = reading.labels_of(dataset, list(records))
        one = {item_id: found[0] for item_id, found in labels.items() if len(found) == 1}
        records = {item_id: row | {"groundtruth": one.get(item_id)} for item_id, row in records.items()}
        if len(one) < len(records):
            notes.append(
                f"{len(records) - len(one)} labelled items of dataset {dataset.name!r} have no class or several, which"
                " do not count"
            )
    return Pool(list(records.values()), notes)


def _read_predictions(
    dataset: dl.Dataset,
    model: dl.Model,
    item_ids: Sequence[str],
    config: NodeConfig,
    notes: list[str],
    *,
    clean: bool,
) -> dict[str, dict[str, Any]]:
    records = reading.predictions_of(dataset, item_ids, model.id)
    missing = [item_id for item_id in item_ids if item_id not in records]
    if missing and config.predict_missing:
        ready = _deployed(model, len(missing), dataset)
        if clean:
            remove_other_predictions(dataset, missing, model.id)
        predict(ready, missing)
        records |= reading.predictions_of(dataset, missing, model.id)
        notes.append(f"{len(missing)} items of dataset {dataset.name!r} were predicted first")
        missing = [item_id for item_id in missing if item_id not in records]
    if not records:
        raise ValueError(
            f"none of {len(item_ids)} items of dataset {dataset.name!r} has a prediction of model "
            f"{model.name!r} ({model.id}): deploy the model and predict them, or leave predict_missing on"
        )
    if missing:
        notes.append(
            f"{len(missing)} items of dataset {dataset.name!r} without a prediction of {model.name!r} were left out"
        )
    return records


def _with_vectors(
    dataset: dl.Dataset, feature_set: str, records: Mapping[str, dict[str, Any]], notes: list[str]
) -> dict[str, dict[str, Any]]:
    vectors = reading.vectors_of(dataset.project, feature_set, list(records))
    known = {
        item_id: row | {"embeddings": vectors[item_id]}
        for item_id, row in records.items()
        if item_id in vectors
    }
    if not known:
        raise ValueError(
            f"none of {len(records)} items of dataset {dataset.name!r} has a vector in feature set {feature_set!r}: "
            "embed them first"
        )
    if len(known) < len(records):
        notes.append(
            f"{len(records) - len(known)} items of dataset {dataset.name!r} without a vector in {feature_set!r} "
            "were left out"
        )
    return known


def _with_metadata(
    dataset: dl.Dataset, fields: Sequence[str], records: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Add some fields of the items' metadata, None where an item lacks one: all of it would not fit into a table."""
    items = reading.items_of(dataset, list(records))
    found = {}
    for item_id, row in records.items():
        if item_id in items:
            document: dict[str, Any] = {}
            for _, *steps, last in (field.split(".") for field in fields):
                # a score that the model noted, as metadata.bald, or the item's own
                own = not steps and last in (row.get("metadata") or {})
                value, inner = row["metadata"] if own else items[item_id].metadata or {}, document
                for step in steps:
                    value, inner = value.get(step) or {}, inner.setdefault(step, {})
                inner[last] = value.get(last)
            found[item_id] = row | {"metadata": document}
    return found


def read_reference(dataset: dl.Dataset | None, model: dl.Model, config: NodeConfig) -> Pool | None:
    """Read the labelled items, or return None if there is no dataset or no strategy uses labelled items."""
    if dataset is None or not config.with_reference:
        return None
    query = config.reference_filter.model_dump()
    items = [item.id for item in reading.find_items(dataset, query)]
    if items:
        return read_pool(dataset, model, items, config, reference=True)
    if config.needing_reference:
        raise ValueError(
            f"strategy {config.needing_reference[0]!r} needs labelled items to compare with, but the "
            f"reference_filter selects no item of dataset {dataset.name!r}: {query}"
        )
    return Pool([], [f"dataset {dataset.name!r} holds no labelled items yet"])


# ------------------------------------------------------------------------------
# predicting
# ------------------------------------------------------------------------------


def _deployed(model: dl.Model, missing: int, dataset: dl.Dataset) -> dl.Model:
    """Read the model again; raise if it cannot predict, before anything is removed."""
    fresh = model.models.get(model_id=model.id)
    services = (((fresh.metadata or {}).get("system") or {}).get("deploy") or {}).get("services")
    if not services:
        raise ValueError(
            f"{missing} items of dataset {dataset.name!r} have no prediction of model {model.name!r}, which is not "
            'deployed: run model.deploy(), or leave these items out with "predict_missing": false'
        )
    return fresh


def remove_other_predictions(dataset: dl.Dataset, item_ids: Sequence[str], model_id: str) -> int:
    """Remove other models' predictions on items, and return how many; after a review they would be ground truth."""

    def narrow(filters: dl.Filters) -> None:
        for section in ("system", "user"):
            for key in ("model_id", "name"):
                filters.add(
                    f"metadata.{section}.model.{key}",
                    True,
                    dl.FiltersOperations.EXISTS,
                    method=dl.FiltersMethod.OR,
                )

    stale = [
        annotation.id
        for annotation in reading.annotations_of(dataset, item_ids, narrow)
        if not reading.is_ground_truth(annotation) and reading.made_by(annotation.metadata)[0] != model_id
    ]
    for chunk in reading.chunks(stale):
        dataset.annotations.delete(annotation_id=chunk)
    return len(stale)


def predict(model: dl.Model, item_ids: Sequence[str]) -> None:
    """Predict items by a deployed model, and wait for the predictions."""
    executions = [model.predict(item_ids=chunk) for chunk in reading.chunks(item_ids, _ITEMS_PER_PREDICTION)]
    for execution in executions:
        status = _ended(execution).latest_status
        if status["status"] != "success":
            raise RuntimeError(
                f"model {model.name!r} could not predict {len(item_ids)} items, execution {execution.id} is "
                f"{status['status']!r}: {status.get('message') or status.get('error')}. Nothing was chosen"
            )


def _ended(execution: dl.Execution) -> dl.Execution:
    pause = 0.1
    while execution.in_progress():
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
        execution = execution.executions.get(execution_id=execution.id)
    return execution
