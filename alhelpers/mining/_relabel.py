"""Which labelled records to ask again, alone or in competition with new ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from alhelpers import records as rec
from alhelpers.mining._consensus import consensus, is_missing, label_errors, margin, tempered
from alhelpers.mining._pool import Best, best_of
from alhelpers.mining._selection import MiningError, PoolExhausted, Selection, check_whole

Score = Literal["consensus", "normalized_margin", "self_confidence"]


def relabel(
    records: rec.Records,
    size: int,
    *,
    pool: rec.Records | None = None,
    annotations: ArrayLike | None = None,
    score: Score | None = None,
    accuracy: float = 0.8,
    cost: float = 1.0,
) -> Selection:
    """Choose the labelled records to ask again and, with a pool, the new ones to label, from one budget.

    Parameters
    ----------
    records : list of dict, pyarrow.Table, str, pathlib.Path or Query
        The labelled records: ``confidences``, **out of sample** (from models that did not learn from the record, such
        as those of a cross-validation), and without annotations ``class_names`` and ``groundtruth``.
    size : int
        How many records to choose.
    pool : list of dict, pyarrow.Table, str, pathlib.Path or Query, optional
        The unlabelled records with their ``confidences``; they compete with the labelled ones.
    annotations : array_like of shape (N, A), int, optional
        What each annotator chose, in the order of the records: class indices, -1 where missing. A record that all have
        labelled is not asked again. Without them the groundtruth is the only annotation.
    score : {"consensus", "normalized_margin", "self_confidence"}, optional
        ``consensus``, the default with a pool or annotations: how close the two most probable classes are, given the
        annotations and the model (:func:`consensus`). The other two, without a pool and annotations: those of
        :func:`label_errors`; the first is the default.
    accuracy : float
        Expected of an annotator, for ``consensus``.
    cost : float
        Of asking again, in costs of a new label: the scores of labelled records are divided by it.

    Returns
    -------
    Selection
        Best first; ``meta["relabel"]`` and ``meta["label"]`` are the numbers of labelled and new records in it.

    Raises
    ------
    MiningError
        If an option is out of range, annotations do not fit the records, or there are too
        few records to choose from.
    RecordError
        If the records break their schema, or a field is missing.
    """
    check_whole("size", size, 1)
    if not (np.isfinite(cost) and cost > 0):
        raise MiningError(f"cost is {cost!r}: asking again must cost more than 0")
    competing = pool is not None or annotations is not None
    score = score or ("consensus" if competing else "normalized_margin")
    if score not in ("consensus", "normalized_margin", "self_confidence"):
        raise MiningError(f"score is {score!r}: choose consensus, normalized_margin or self_confidence")
    if competing and score != "consensus":
        raise MiningError(f"score {score!r} knows neither annotators nor new records: use 'consensus'")
    labelled = rec.as_table(records, ("confidences", "class_names", "groundtruth"), "the labelled records")
    confidences = rec.column(labelled, "confidences")
    votes = _groundtruth(labelled) if annotations is None else np.asarray(annotations)
    new = None if pool is None else rec.as_table(pool, ("confidences",), "the pool")
    fresh = None if new is None else rec.column(new, "confidences")
    if fresh is not None and fresh.shape[1] != confidences.shape[1]:
        raise MiningError(
            f"the pool has {fresh.shape[1]} classes, the labelled records {confidences.shape[1]}: use one model"
        )
    others = np.empty(0, dtype=np.float32)
    if score == "consensus":
        scores = margin(consensus(votes, confidences, accuracy=accuracy).probabilities)
        others = others if fresh is None else margin(tempered(fresh))
    else:
        scores = label_errors(votes[:, 0], confidences, score)
    free = np.arange(len(votes)) if annotations is None else np.flatnonzero(is_missing(votes).any(1))
    asked = Best(labelled["id"].combine_chunks().take(pa.array(free)), scores[free] / np.float32(cost))
    return _selection(
        asked, None if new is None else Best(new["id"].combine_chunks(), others), size, score, cost
    )


def _selection(again: Best, new: Best | None, size: int, score: str, cost: float) -> Selection:
    """Return the best of labelled and new records."""
    parts = [again] if new is None else [again, new]
    if new is not None:
        if again.ids.type != new.ids.type:
            raise MiningError(
                f"ids of labelled records are {again.ids.type}, those of the pool {new.ids.type}: use one type"
            )
        rec.check_distinct([part.ids for part in parts])
    count = sum(len(part.scores) for part in parts)
    if size > count:
        raise PoolExhausted(f"size={size} records were asked for, but there are {count} to choose from")
    best = best_of(parts, size)
    ids = best.ids.to_pylist()
    asked = set(again.ids.to_pylist())
    relabels = sum(each in asked for each in ids)
    meta = {"score": score, "cost": cost, "size": size, "relabel": relabels, "label": size - relabels}
    return Selection(ids, best.scores.astype(np.float32), meta)


def _groundtruth(labelled: pa.Table) -> np.ndarray:
    """Return the class index of each record's groundtruth, (N, 1)."""
    names, labels = (rec.column(labelled, name) for name in ("class_names", "groundtruth"))
    index = {name: place for place, name in enumerate(names[0])}
    for id, label in zip(labelled["id"].to_pylist(), labels, strict=True):
        if label not in index:
            raise rec.RecordError(
                f"record {id!r}: its groundtruth is {label!r}, which is none of its class_names; pass labelled records"
                " alone",
                id,
                "groundtruth",
            )
    return np.array([[index[label]] for label in labels])
