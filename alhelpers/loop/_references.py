"""Labelled records as strategies compare with them: what is predicted of them, and their true labels where used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from alhelpers.loop._fields import Fields
from alhelpers.protocols import Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping


def reference_records(
    fields: Fields, labelled: Dataset, ids: Sequence[Any], seeds: Sequence[int]
) -> pa.Table:
    """Return records of labelled data, with the true classes for a strategy that counts them."""
    table = fields.records(labelled, ids, seeds, samples=False)
    if labelled.task == "detection" and fields.counts_boxes:
        return _with_boxes(table, labelled)
    classifies = labelled.class_names is not None and labelled.task == "classification"
    if "groundtruth" not in fields.extras or not classifies:
        return table
    labels = [str(labelled.class_names[label]) for label in labelled.labels(np.arange(len(labelled)))]
    return table.append_column("groundtruth", pa.array(labels))


def _with_boxes(table: pa.Table, labelled: Dataset) -> pa.Table:
    """Put the labels' boxes in place of predicted ones, for a strategy that counts their classes."""
    of_image: Mapping[Any, list[dict[str, str]]] = {id: [] for id in np.asarray(labelled.ids).tolist()}
    for row in labelled.labels(np.arange(len(labelled))):
        of_image[row["image_id"]].append({"class_name": str(row["label"])})
    boxes = pa.array([*of_image.values()], pa.list_(pa.struct([("class_name", pa.string())])))
    left = table.drop_columns(["detections"] if "detections" in table.column_names else [])
    return left.append_column("detections", boxes)
