"""Read items, annotations, predictions as records, and vectors from the platform in few requests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dtlpy as dl
import numpy as np

from alhelpers.data.box_rows import SIDES
from alhelpers.dataloop.whole_images import OBJECTS, fields_of, note_of, path_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Ids in one query: more would make it longer than servers accept.
IDS_PER_QUERY = 500

#: Keys of a query that the SDK sets for each page.
PAGING = ("page", "pageSize", "resource")

_VECTORS_PER_QUERY = 1000
_SUBSETS = ("train", "validation", "test")
_FIELDS = ("confidences", "logits", "embeddings", "mc_dropout", "query_by_committee")
_LAYER = "embeddings:"
_PLACE = ("left", "top", "width", "height")


def pages(listing: dl.entities.PagedEntities) -> Iterator[Any]:
    """Yield the entities on all pages of a listing; a query that the platform refuses raises a PlatformException.

    The SDK's own ``all()`` requests the first page twice, and takes a refused query for an empty one.
    """
    # An empty first page may be a query that was refused, which the SDK only logs; asked for alone, it raises.
    yield from listing.items or listing.return_page()
    while listing.has_next_page:
        listing.next_page()
        if not listing.items:
            return
        yield from listing.items


def chunks(values: Sequence[Any], size: int | None = None) -> list[list[Any]]:
    """Cut values into lists of at most `size`, by default as many as the ids in one query."""
    size = IDS_PER_QUERY if size is None else size
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def by_ids(ids: Sequence[str]) -> dl.Filters:
    """Return a filter of items with some ids, hidden ones and folders too."""
    filters = dl.Filters(use_defaults=False)
    filters.add(field="id", values=list(ids), operator=dl.FiltersOperations.IN)
    return filters


def find_items(dataset: dl.Dataset, filters: dl.Filters | Mapping[str, Any] | None = None) -> list[dl.Item]:
    """Read the files that a filter or query selects, each once and without folders; by default all but hidden ones."""
    # The SDK writes page numbers into the filter that is passed.
    given = copy.deepcopy(filters)
    if not isinstance(given, dl.Filters):
        query = {key: value for key, value in (given or {}).items() if key not in PAGING}
        given = dl.Filters(custom_filter=query) if query else dl.Filters()
    try:
        found = {item.id: item for item in pages(dataset.items.list(filters=given))}
    except dl.exceptions.BadRequest as error:
        query = filters.prepare() if isinstance(filters, dl.Filters) else filters
        raise ValueError(f"the platform refuses the query {query}: {error.message}") from error
    return [item for item in found.values() if item.type != "dir"]


def items_of(dataset: dl.Dataset, ids: Sequence[str]) -> dict[str, dl.Item]:
    """Read items by their ids; those that do not exist any more are left out."""
    return {
        item.id: item for chunk in chunks(ids) for item in pages(dataset.items.list(filters=by_ids(chunk)))
    }


def named_items(dataset: dl.Dataset, ids: Sequence[str]) -> dict[str, dl.Item]:
    """Read items by their ids; raise a ValueError if one is not there."""
    items = items_of(dataset, ids)
    missing = [id for id in ids if id not in items]
    if missing:
        raise ValueError(
            f"dataset {dataset.name!r} has no item {missing[0]!r}, one of {len(missing)} that are missing: pass the ids"
            " that read_dataset returns"
        )
    return items


def annotations_of(
    dataset: dl.Dataset,
    item_ids: Sequence[str],
    narrow: Callable[[dl.Filters], Any] | None = None,
    query: Mapping[str, Any] | None = None,
) -> Iterator[dl.Annotation]:
    """Yield the annotations of items; `narrow` adds conditions to the filter of each query, `query` a whole one."""
    for chunk in chunks(item_ids):
        filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
        filters.add(field="itemId", values=chunk, operator=dl.FiltersOperations.IN)
        if narrow is not None:
            narrow(filters)
        if query:
            both = {"$and": [filters.prepare()["filter"], copy.deepcopy(query["filter"])]}
            custom = {"filter": both, "resource": dl.FiltersResource.ANNOTATION}
            filters = dl.Filters(custom_filter=custom, resource=dl.FiltersResource.ANNOTATION)
        yield from pages(dataset.annotations.list(filters=filters))


def add_model(filters: dl.Filters, model_id: str, name: str | None = None) -> None:
    """Narrow a filter of annotations to those with a model's id or, if it is not None, its name."""
    for section in ("system", "user"):
        filters.add(f"metadata.{section}.model.model_id", model_id, method=dl.FiltersMethod.OR)
        if name is not None:
            filters.add(f"metadata.{section}.model.name", name, method=dl.FiltersMethod.OR)


def made_by(metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Return the id and the name of the model that made an annotation; both are None if people made it.

    They are read from the system metadata or, failing that, from the user metadata.
    """
    for section in ("system", "user"):
        info = ((metadata or {}).get(section) or {}).get("model") or {}
        if info.get("model_id") or info.get("name"):
            return info.get("model_id"), info.get("name")
    return None, None


def is_ground_truth(annotation: dl.Annotation) -> bool:
    """Return whether people made an annotation, and no model."""
    return made_by(annotation.metadata) == (None, None)


def kind_of(model: dl.Model) -> str:
    """Return the type of annotations that a model predicts, such as ``"box"``: its ``output_type``."""
    return str(getattr(model.output_type, "value", model.output_type))


def confidence_of(metadata: Mapping[str, Any]) -> Any:
    """Return the confidence in a prediction's metadata, of the user or else of the system; or None if not found."""
    found = (((metadata.get(each) or {}).get("model") or {}).get("confidence") for each in ("user", "system"))
    return next((value for value in found if value is not None), None)


def sides_of(annotation: dl.Annotation) -> dict[str, float]:
    """Return ``left``, ``top``, ``right`` and ``bottom`` of a box; nothing of another annotation."""
    sides = SIDES if annotation.type == "box" else ()
    return {side: float(getattr(annotation, side)) for side in sides}  # the SDK has numbers of numpy


# ------------------------------------------------------------------------------
# ground truth
# ------------------------------------------------------------------------------


def ground_truth_of(
    dataset: dl.Dataset,
    item_ids: Sequence[str],
    kind: str | Sequence[str] | None = None,
    query: Mapping[str, Any] | None = None,
) -> Iterator[dl.Annotation]:
    """Yield the annotations of one type, such as ``"box"``, of several or of all, that people made on items."""

    def narrow(filters: dl.Filters) -> None:
        if kind is not None:
            filters.add("type", [kind] if isinstance(kind, str) else list(kind), dl.FiltersOperations.IN)
        # Most annotations may be predictions of the models of earlier rounds; they need not travel.
        filters.add("metadata.system.model.model_id", False, dl.FiltersOperations.EXISTS)

    for annotation in annotations_of(dataset, item_ids, narrow, query):
        if is_ground_truth(annotation):
            yield annotation


def labels_of(
    dataset: dl.Dataset, item_ids: Sequence[str], query: Mapping[str, Any] | None = None
) -> dict[str, list[str]]:
    """Read the ground-truth classes of items: in order, each once, for each item that has any."""
    labels: dict[str, set[str]] = {}
    for annotation in ground_truth_of(dataset, item_ids, "class", query):
        labels.setdefault(annotation.item_id, set()).add(annotation.label)
    return {item_id: sorted(found) for item_id, found in labels.items()}


# ------------------------------------------------------------------------------
# predictions
# ------------------------------------------------------------------------------


def records_of(
    dataset: dl.Dataset, model: dl.Model, filters: dl.Filters | Mapping[str, Any] | None = None
) -> pa.Table:
    """Read what a model predicted on a dataset as a table of records, of the items in a form that `find_items` takes.

    A record has the fields of `to_record`, the file's name under ``metadata``, ``groundtruth`` where the item has
    exactly one class, and ``split`` where it is in one subset.
    """
    from alhelpers import records
    from alhelpers.dataloop.item_metadata import tags_of

    items = find_items(dataset, filters)
    found = predictions_of(dataset, [item.id for item in items], model.id)
    if not found:
        raise ValueError(
            f"none of {len(items)} items of dataset {dataset.name!r} has a prediction of model "
            f"{model.name!r} ({model.id}): deploy the model and predict them"
        )
    labels = labels_of(dataset, list(found))
    rows: list[dict[str, Any]] = []
    for item in items:
        if item.id in found:
            scores = found[item.id].get("metadata") or {}
            row = found[item.id] | {"metadata": {"filename": item.filename, **scores}}
            if len(names := labels.get(item.id, [])) == 1:
                row["groundtruth"] = names[0]
            tags = tags_of(item.metadata)
            if len(subsets := [subset for subset in _SUBSETS if tags.get(subset) is True]) == 1:
                row["split"] = subsets[0]
            rows.append(row)
    if any("detections" in row for row in rows):
        # Items without a box were predicted, too.
        rows = [{"detections": []} | row for row in rows]
    return records.as_table(rows)


def predictions_of(dataset: dl.Dataset, item_ids: Sequence[str], model_id: str) -> dict[str, dict[str, Any]]:
    """Read one model's predictions as a record for each item that is predicted, by the item's id.

    Predictions with the model's name and another id, or none, do not count. An item on which the model is noted to have
    found nothing has a record without boxes; one with another number of boxes or masks than is noted has none.
    """

    def narrow(filters: dl.Filters) -> None:
        filters.add("type", ["class", "box", "binary"], dl.FiltersOperations.IN)
        add_model(filters, model_id)

    rows: dict[str, list[dict[str, Any]]] = {}
    for annotation in annotations_of(dataset, item_ids, narrow):
        if made_by(annotation.metadata)[0] == model_id:
            rows.setdefault(annotation.item_id, []).append(_row(annotation))
    # A class that is predicted has no note.
    asked = len(rows) < len(item_ids) or any(
        row["type"] != "class" for found in rows.values() for row in found
    )
    notes = _notes_of(dataset, item_ids, model_id) if asked else {}
    for item_id, note in notes.items():
        if len(rows.setdefault(item_id, [])) != note[OBJECTS]:
            del rows[item_id]
    return {
        item_id: to_record(item_id, found) | _noted(notes.get(item_id, {})) for item_id, found in rows.items()
    }


def _notes_of(dataset: dl.Dataset, item_ids: Sequence[str], model_id: str) -> dict[str, Mapping[str, Any]]:
    notes = {}
    for chunk in chunks(item_ids):
        filters = by_ids(chunk)
        filters.add(path_of(model_id), True, dl.FiltersOperations.EXISTS)
        for item in pages(dataset.items.list(filters=filters)):
            if (note := note_of(item, model_id)) is not None:
                notes[item.id] = note
    return notes


def _noted(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record from a model's note on an item."""
    fields = fields_of(note)
    return fields | _as_arrays({name: value for name, value in fields.items() if name == "embeddings"})


def to_record(item_id: str, predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one model's predictions of one item as a record.

    Of several classifications, one that has fields in ``metadata.user.prediction`` comes before the others, then the
    most confident; boxes become ``detections``.
    """
    record: dict[str, Any] = {"id": item_id}
    classes = [row for row in predictions if row["type"] == "class"]
    if classes:
        best = min(classes, key=lambda row: (not _kept(row), -(_confidence(row) or 0.0), row["id"]))
        record |= _predicted(best)
        if names := _kept(best).get("class_names"):
            record["class_names"] = list(names)
        layers = [key for key in _kept(best) if key.startswith(_LAYER)]
        record |= _numbers(best, (*_FIELDS, *layers))
    boxes = sorted((row for row in predictions if row["type"] == "box"), key=lambda row: row["id"])
    if boxes:
        from alhelpers.records.schema import BOX_FIELDS  # services that read no boxes do without pyarrow

        stored = {*BOX_FIELDS} - {"class_name", "confidence", *_PLACE}
        record["detections"] = [_predicted(row) | _numbers(row, stored) | _place(row) for row in boxes]
    return record


def vectors_of(project: dl.Project, feature_set_name: str, item_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the vectors (D,) float32 of items, in a query for a thousand; of several of one item the newest."""
    try:
        feature_set = project.feature_sets.get(feature_set_name=feature_set_name)
    except dl.exceptions.NotFound as error:
        there = ", ".join(sorted(each.name for each in project.feature_sets.list().all())) or "none"
        raise ValueError(
            f"feature set {feature_set_name!r} is not in project {project.name!r}; there are: {there}"
        ) from error
    vectors: dict[str, np.ndarray] = {}
    for chunk in chunks(item_ids, _VECTORS_PER_QUERY):
        filters = dl.Filters(resource=dl.FiltersResource.FEATURE, use_defaults=False)
        filters.add("entityId", chunk, dl.FiltersOperations.IN)
        for vector in pages(feature_set.features.list(filters=filters)):
            vectors[vector.entity_id] = np.asarray(vector.value, dtype=np.float32)
    return vectors


def _row(annotation: dl.Annotation) -> dict[str, Any]:
    return {
        "id": annotation.id,
        "type": annotation.type,
        "label": annotation.label,
        "metadata": annotation.metadata,
        **sides_of(annotation),
    }


def _predicted(row: Mapping[str, Any]) -> dict[str, Any]:
    confidence = _confidence(row)
    return {"class_name": row["label"]} | ({} if confidence is None else {"confidence": confidence})


def _kept(row: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = (row["metadata"].get("user") or {}).get("prediction")
    return fields if isinstance(fields, Mapping) else {}


def _confidence(row: Mapping[str, Any]) -> float | None:
    value = confidence_of(row["metadata"])
    return float(value) if isinstance(value, int | float) else None


def _numbers(row: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return some of the fields that the adapter stored, as arrays: an eighth of a list's memory."""
    return _as_arrays(
        {name: value for name, value in _kept(row).items() if name in names and value is not None}
    )


def _as_arrays(found: dict[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        try:
            found[name] = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            continue  # not numbers: the check of the records names the item
    return found


def _place(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        "left": row["left"],
        "top": row["top"],
        "width": row["right"] - row["left"],
        "height": row["bottom"] - row["top"],
    }
