"""Uncertainty of one prediction: confidence, margin, entropy, weighted entropy, label uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.mining._boxes import OVER, BoxFields, check_top_k, score_by_boxes
from alhelpers.mining._pool import SAMPLES, Pool, Readable
from alhelpers.mining._selection import MissingField
from alhelpers.mining._strategy import (
    Needs,
    Part,
    Prepared,
    Strategy,
    needs_confidences,
)
from alhelpers.records import RecordError


def confidence(part: Part, context: None, *, over: str = "max", top_k: int | None = None) -> np.ndarray:
    """Select the records whose predicted class has the lowest confidence: 1 - confidence.

    Needs ``confidence`` (N,), or ``confidences`` or ``logits`` (N, C), or ``detections`` whose boxes have one of
    these. Use it when only the predicted class's confidence was stored. It fails if the model is confident and
    wrong, and with many classes it does not distinguish two likely classes from many: then prefer margin. Boxes
    that the model does not find do not count.

    If records have only detections, the score is computed from the boxes. ``over`` takes the ``"max"``,
    ``"mean"`` or ``"sum"`` of their scores, or with ``"top_k"`` the mean of the ``top_k`` highest (of all, if
    they are fewer). The score of a record without boxes is 0, the lowest.

    Source: Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; Brust, Käding and
    Denzler, "Active learning for deep object detection", VISAPP 2019 (over boxes).
    """
    return _score_records_or_boxes(part, _least_confidence, over, top_k)


def margin(part: Part, context: None, *, over: str = "max", top_k: int | None = None) -> np.ndarray:
    """Select the records whose two most likely classes are closest: 1 - (first - second).

    Needs ``confidences`` or ``logits`` (N, C), or ``detections`` whose boxes have one of these; ``over`` and
    ``top_k`` combine the scores of boxes, as for confidence. Use it first: it is the best single score in most
    comparisons, as these labels move the boundary between two classes. It fails in the first rounds, when
    confidences mean little, and chooses near duplicates: put coreset behind it in a cascade.

    Source: Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
    """
    return _score_records_or_boxes(part, lambda fields: scores.margin(fields.confidences()), over, top_k)


def entropy(part: Part, context: None, *, over: str = "max", top_k: int | None = None) -> np.ndarray:
    """Select the records whose confidences are spread most: entropy / log C.

    Needs ``confidences`` or ``logits`` (N, C), or ``detections`` whose boxes have one of these; ``over`` and
    ``top_k`` combine the scores of boxes, as for confidence. Use it when all classes matter, as
    where a model may refuse to answer. It fails with many classes: the unlikely ones outweigh the two that
    compete, and margin is better.

    Source: Settles, "Active learning literature survey", 2009, section 3.1.
    """
    return _score_records_or_boxes(part, lambda fields: scores.entropy(fields.confidences()), over, top_k)


def label_uncertainty(part: Part, context: None, *, score: str = "entropy", over: str = "mean") -> np.ndarray:
    """Select the records whose labels are uncertain, each by itself: for several labels of one record.

    Needs ``confidences`` (N, C), of which each is the sigmoid of one label; they need not sum to 1. ``score``:
    the binary ``"entropy"`` of each label, its ``"margin"`` 1 - abs(2 p - 1), or ``"confidence"``, 1 - the
    confidence of what is predicted, half the margin; or ``"bald"``, the disagreement about each label, which
    needs ``mc_dropout`` or ``query_by_committee`` (N, S, C) in place of ``confidences``. ``over`` takes the
    ``"mean"`` or the ``"max"`` over the labels. Use it where labels do not exclude each other. It fails with
    many rare labels: their mean hides the one that is in doubt, then take the max.

    Source: Esuli and Sebastiani, "Active learning strategies for multi-label text classification", ECIR 2009.
    """
    if score == "bald":
        return scores.label_bald(part.samples(), over)
    return scores.label_uncertainty(part.numbers("confidences"), score, over)


# ------------------------------------------------------------------------------
# boxes
# ------------------------------------------------------------------------------

_CLASSIFIED = ("confidence", "confidences", "logits")


def _least_confidence(fields: Part | BoxFields) -> np.ndarray:
    if not fields.has("confidence"):
        return scores.least_confidence(fields.confidences())
    values = fields.numbers("confidence")
    outside = np.flatnonzero((values < 0) | (values > 1))
    if len(outside):
        row = int(outside[0])
        raise scores.ScoreError(f"confidence must be from 0 to 1, got {values[row]:.6g}", row)
    return 1 - values


def _score_records_or_boxes(
    part: Part, score: Callable[[Part | BoxFields], np.ndarray], over: str, top_k: int | None
) -> np.ndarray:
    """Score records by their own fields, or else by those of their boxes."""
    if any(map(part.has, _CLASSIFIED)):
        return score(part)
    return score_by_boxes(part, score, over, top_k)


def _needs_of(*names: str) -> Callable[[Mapping[str, Any]], Needs]:
    return lambda options: ((*names, *(f"detections.{name}" for name in names)),)


# ------------------------------------------------------------------------------
# weighted entropy
# ------------------------------------------------------------------------------


_DIFFERENT_NAMES = "strategy 'weighted_entropy' needs the same class_names in every record"


def weighted_entropy(part: Part, context: np.ndarray) -> np.ndarray:
    """Select by entropy times the rarity of the predicted class in the reference.

    Needs ``confidences`` or ``logits`` (N, C); the reference's ``groundtruth`` and the ``class_names``.
    Without ground truth in the reference its predicted classes are counted, and without a reference
    those of the pool. Use it when classes are unbalanced. It fails while a rare class is never predicted:
    then use nearest_neighbors with the few known records of it.

    The weight of class c is ``(n + C) / (C * (count of c + 1))``: 1 for all classes if the reference is balanced.
    """
    confidences = part.confidences()
    if confidences.shape[1] != len(context):
        raise MissingField(
            f"strategy 'weighted_entropy' counted {len(context)} classes, the records have confidences of "
            f"{confidences.shape[1]}; take both from one model"
        )
    return scores.weighted_entropy(confidences, context)


def _prepare(pool: Pool, reference: Part | None, seed: int) -> Prepared:
    counts, source = _class_counts(pool, reference)
    return Prepared(scores.rarity(counts), {"classes_counted": source, "class_counts": counts.tolist()})


def _class_counts(pool: Pool, reference: Part | None) -> tuple[np.ndarray, str]:
    """Count the records of each class; return also which records were counted."""
    if reference is None:
        parts = [counts for counts in pool.map(_count_predicted) if counts is not None]
        if not parts:
            raise RecordError("records hold no record")
        return np.sum(parts, axis=0), "predictions of the records"
    labelled = reference.has("groundtruth") and reference.table["groundtruth"].null_count < len(reference)
    names = (names_of_pool(pool) or _class_names(reference)) if labelled else None
    if names is not None:
        truth = reference.table["groundtruth"].drop_null()
        places = pc.index_in(truth, value_set=pa.array(names))
        if places.null_count:
            unknown = truth.filter(places.is_null())[0].as_py()
            text = f"{unknown!r} in the reference's groundtruth matches none of the class_names: {', '.join(names)}"
            if places.null_count == len(places):
                raise MissingField(f"strategy 'weighted_entropy' cannot count classes: {text}")
            warnings.warn(f"{places.null_count} of {len(places)} labels do not count: {text}", stacklevel=2)
        return np.bincount(places.drop_null(), minlength=len(names)), "ground truth of the reference"
    if reference.has("confidences") or reference.has("logits"):
        return _count_predicted(reference), "predictions of the reference"
    raise MissingField(
        "strategy 'weighted_entropy' needs, to count classes, groundtruth in the reference and class_names, or "
        f"confidences or logits in the reference, which has: {', '.join(reference.table.column_names)}"
    )


def _count_predicted(part: Readable, context: None = None) -> np.ndarray | None:
    records = Part.of(part)
    if not len(records):
        return None
    confidences = records.confidences()
    return np.bincount(confidences.argmax(axis=1), minlength=confidences.shape[1])


def names_of_pool(pool: Pool) -> list[str] | None:
    """Return the class names, the same in every record of the pool, or None if there are none."""
    if "class_names" not in pool.columns:
        return None
    found = [names for names in pool.map(_class_names) if names is not None]
    if any(names != found[0] for names in found):
        raise MissingField(_DIFFERENT_NAMES)
    return found[0] if found else None


def _class_names(part: Readable, context: None = None) -> list[str] | None:
    """Return the class names, the same in every record, or None if there are none."""
    records = Part.of(part)
    column = records.table["class_names"].drop_null() if records.has("class_names") else ()
    if not len(column):
        return None
    first = column[0].as_py()
    lengths = pc.list_value_length(column).to_numpy()
    flat = pc.list_flatten(column)
    if (lengths != len(first)).any() or not pc.all(pc.equal(flat, pa.array(first * len(column)))).as_py():
        raise MissingField(_DIFFERENT_NAMES)
    return first


STRATEGIES = (
    *(
        Strategy(run, _needs_of(*names), choices={"over": OVER}, check=check_top_k)
        for run, names in ((confidence, _CLASSIFIED), (margin, _CLASSIFIED[1:]), (entropy, _CLASSIFIED[1:]))
    ),
    Strategy(
        weighted_entropy,
        needs_confidences,
        prepare=_prepare,
        reference="optional",
        reference_needs=lambda options: (),
        extras=("class_names",),
        reference_extras=("class_names", "groundtruth", "confidences", "logits"),
    ),
    Strategy(
        label_uncertainty,
        lambda options: (SAMPLES if options["score"] == "bald" else ("confidences",),),
        choices={"score": ("entropy", "margin", "confidence", "bald"), "over": ("mean", "max")},
    ),
)
