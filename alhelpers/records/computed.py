"""Fields that are computed from the columns of records when a filter or an order asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.records.ids import one_piece
from alhelpers.records.numbers import as_array
from alhelpers.records.schema import DETECTIONS, LAYER, RecordError


@dataclass(frozen=True)
class Computed:
    """How a field is computed.

    Parameters
    ----------
    needs : tuple of str
        The columns that it can be computed from: the first that is there is taken.
    values : callable
        From the table and the column that was taken to a value a record.
    beside : str, optional
        Another column that it takes as well, unless the first of the needs is there.
    """

    needs: tuple[str, ...]
    values: Callable[[pa.Table, str], pa.Array | pa.ChunkedArray | np.ndarray]
    beside: str | None = None

    def columns(self, there: Sequence[str]) -> list[str]:
        """Return the columns that are read; none where what is there does not do."""
        taken = next((need for need in self.needs if need in there), None)
        if taken is None or self.beside is None or taken == self.needs[0]:
            return [] if taken is None else [taken]
        return [taken, self.beside] if self.beside in there else []


def computed_values(table: pa.Table, name: str, field: Computed) -> pa.ChunkedArray:
    """Compute a field of checked records."""
    column = field.columns(table.column_names)[0]
    if not table.num_rows:
        return pa.chunked_array([pa.array([], pa.string() if name == _CLASS_NAME else pa.float32())])
    try:
        values = field.values(table, column)
    except scores.ScoreError as error:
        if error.row is None:
            raise RecordError(f"field {name!r} cannot be computed: {error}", column=column) from error
        id = table["id"][error.row].as_py()
        raise RecordError(f"record {id!r}: field {name!r} cannot be computed: {error}", id, column) from error
    if isinstance(values, pa.ChunkedArray):
        return values
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])


def computed_fields(columns: Sequence[str]) -> dict[str, Computed]:
    """Return the fields that can be computed from some columns, by name."""
    layers = {f"{name}.norm": Computed((name,), _norm) for name in columns if name.startswith(LAYER)}
    return {name: field for name, field in (COMPUTED | layers).items() if field.columns(columns)}


def _confidences(table: pa.Table, column: str) -> np.ndarray:
    values = as_array(table[column], column)
    return scores.confidences_from_logits(values) if column == "logits" else values


def _confidence(table: pa.Table, column: str) -> pa.ChunkedArray | np.ndarray:
    return table[column] if column == "confidence" else _confidences(table, column).max(axis=1)


def _least_confidence(table: pa.Table, column: str) -> np.ndarray:
    if column == "confidence":
        return 1 - as_array(table[column], column)
    return scores.least_confidence(_confidences(table, column))


def _class_name(table: pa.Table, column: str) -> pa.ChunkedArray | pa.Array:
    """Return the predicted class, or the name of the best one."""
    if column == "class_name":
        return table[column]
    best = as_array(table[column], column).argmax(axis=1)
    names = one_piece(table["class_names"])
    lengths = names.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths
    # a record without so many names has no class name
    return names.flatten().take(pa.array(starts + best, mask=best >= lengths))


def _norm(table: pa.Table, column: str) -> np.ndarray:
    vectors = as_array(table[column], column)
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _box_count(table: pa.Table, column: str) -> pa.ChunkedArray:
    return pc.list_value_length(table[column])


def _by(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Table, str], np.ndarray]:
    return lambda table, column: score(_confidences(table, column))


_CLASS_NAME = "prediction.class_name"
_PREDICTION = ("confidences", "logits")

COMPUTED: dict[str, Computed] = {
    "prediction.confidence": Computed(("confidence", *_PREDICTION), _confidence),
    _CLASS_NAME: Computed(("class_name", *_PREDICTION), _class_name, beside="class_names"),
    "prediction.entropy": Computed(_PREDICTION, _by(scores.entropy)),
    "prediction.margin": Computed(_PREDICTION, _by(scores.margin)),
    "prediction.least_confidence": Computed((*_PREDICTION, "confidence"), _least_confidence),
    "mc_dropout.bald": Computed(("mc_dropout",), _by(scores.bald)),
    "mc_dropout.variance": Computed(("mc_dropout",), _by(scores.variance)),
    "mc_dropout.predictive_entropy": Computed(("mc_dropout",), _by(scores.predictive_entropy)),
    "mc_dropout.margin": Computed(("mc_dropout",), _by(scores.mean_margin)),
    "mc_dropout.variation_ratio": Computed(("mc_dropout",), _by(scores.variation_ratio)),
    "query_by_committee.vote_entropy": Computed(("query_by_committee",), _by(scores.vote_entropy)),
    "query_by_committee.consensus_kl": Computed(("query_by_committee",), _by(scores.consensus_kl)),
    "embeddings.norm": Computed(("embeddings",), _norm),
    "detections.count": Computed((DETECTIONS,), _box_count),
}
