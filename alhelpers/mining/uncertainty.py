"""Uncertainty of one prediction: confidence, margin, entropy, weighted entropy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alhelpers import scores
from alhelpers.mining._selection import MissingField
from alhelpers.mining._strategy import Part, Scored, Strategy, needs_confidences


def confidence(pool: Part, reference: Part | None) -> Scored:
    """Mine where the model believes least in the class that it predicts: 1 - confidence.

    Needs ``confidence`` (N,), or ``confidences`` or ``logits`` (N, C). Use it when nothing but the
    predicted class's confidence was kept. It fails where the model is sure and wrong, and with many classes
    it does not tell two rivals from a broad spread: then prefer margin.

    References
    ----------
    Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994.
    """
    if not pool.has("confidence"):
        return Scored(scores.least_confidence(pool.confidences()))
    values = pool.numbers("confidence")
    outside = np.flatnonzero((values < 0) | (values > 1))
    if len(outside):
        row = int(outside[0])
        raise scores.ScoreError(f"confidence must be from 0 to 1, got {values[row]:.6g}", row)
    return Scored(1 - values)


def margin(pool: Part, reference: Part | None) -> Scored:
    """Mine where the two most likely classes are closest: 1 - (first - second).

    Needs ``confidences`` or ``logits`` (N, C). Use it first: it is the best single score in most
    comparisons, as a label there moves the boundary between two classes. It fails in the first rounds, when
    confidences mean little, and picks near duplicates: put coreset behind it in a cascade.

    References
    ----------
    Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001.
    """
    return Scored(scores.margin(pool.confidences()))


def entropy(pool: Part, reference: Part | None) -> Scored:
    """Mine where the confidences are spread most: entropy / log C.

    Needs ``confidences`` or ``logits`` (N, C). Use it when all rival classes count, as for abstaining. It
    fails with many classes: the unlikely ones outweigh the two that compete, and margin is better.

    References
    ----------
    Settles, "Active learning literature survey", 2009, section 3.1.
    """
    return Scored(scores.entropy(pool.confidences()))


def weighted_entropy(pool: Part, reference: Part | None) -> Scored:
    """Mine by entropy times the rarity of the predicted class in the reference.

    Needs ``confidences`` or ``logits`` (N, C); the reference's ``groundtruth`` and the ``class_names``.
    Where the reference has no ground truth, its predicted classes are counted, and without a reference
    those of the pool. Use it when classes are unbalanced. It fails while a rare class is never predicted at
    all: then mine by nearest_neighbors to the few known ones.

    The weight of class c is ``(n + C) / (C * (count of c + 1))``: 1 for all where the reference is balanced.
    """
    confidences = pool.confidences()
    counts, source = _class_counts(pool, reference, confidences)
    return Scored(
        scores.weighted_entropy(confidences, scores.rarity(counts)),
        {"classes_counted": source, "class_counts": counts.tolist()},
    )


def _class_counts(pool: Part, reference: Part | None, confidences: np.ndarray) -> tuple[np.ndarray, str]:
    """Count the records of each class, and say which were counted."""
    classes = confidences.shape[1]
    if reference is None:
        return _predicted_counts(confidences), "predictions of the records"
    names = next((found for found in map(_class_names, (pool, reference)) if found), None)
    labelled = reference.has("groundtruth") and reference.table["groundtruth"].null_count < len(reference)
    if labelled and names is not None and len(names) == classes:
        places = pc.index_in(
            reference.table["groundtruth"].drop_null(), value_set=pa.array(names)
        ).drop_null()
        return np.bincount(places.to_numpy(), minlength=classes), "ground truth of the reference"
    if reference.has("confidences") or reference.has("logits"):
        predicted = reference.confidences()
        if predicted.shape[1] == classes:
            return _predicted_counts(predicted), "predictions of the reference"
    raise MissingField(
        "strategy 'weighted_entropy' needs, to count classes, groundtruth in the reference and class_names (one "
        f"for each of the {classes} confidences), or as many confidences or logits in the reference, which has: "
        f"{', '.join(reference.table.column_names)}"
    )


def _predicted_counts(confidences: np.ndarray) -> np.ndarray:
    return np.bincount(confidences.argmax(axis=1), minlength=confidences.shape[1])


def _class_names(part: Part) -> list[str] | None:
    """Return the class names, the same in every record; None where there are none."""
    if not part.has("class_names"):
        return None
    column = part.table["class_names"].drop_null()
    if not len(column):
        return None
    first = column[0].as_py()
    lengths = pc.list_value_length(column).to_numpy()
    flat = pc.list_flatten(column)
    if (lengths != len(first)).any() or not pc.all(pc.equal(flat, pa.array(first * len(column)))).as_py():
        raise MissingField("strategy 'weighted_entropy' needs the same class_names in every record")
    return first


STRATEGIES = (
    Strategy(
        "confidence", confidence, lambda options: (("confidence", "confidences", "logits"),), elementwise=True
    ),
    Strategy("margin", margin, needs_confidences, elementwise=True),
    Strategy("entropy", entropy, needs_confidences, elementwise=True),
    Strategy(
        "weighted_entropy",
        weighted_entropy,
        needs_confidences,
        reference="optional",
        extras=("class_names", "groundtruth", "confidences", "logits"),
        elementwise=True,
    ),
)
