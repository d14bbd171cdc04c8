"""Uncertainty of boxes that several passes found: class, location and existence, and the rarity of their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from alhelpers import records as rec
from alhelpers import scores
from alhelpers.mining._boxes import OVER, BoxFields, check_top_k, score_by_boxes
from alhelpers.mining._pool import Pool, Readable
from alhelpers.mining._selection import MissingField, UnknownOption
from alhelpers.mining._strategy import Needs, Part, Prepared, Strategy
from alhelpers.mining.baseline import gumbel
from alhelpers.mining.uncertainty import names_of_pool

_PARTS = ("class", "location", "existence")
_OF = ("combined", *_PARTS, "object", "errors", "variance")
# What needs a field that is no certainty.
_OTHERS = {"variance": "box_variance", "errors": "confidences"}
# Confidences of a box that are all 0 have no shares.
_LEAST = 1e-12
_HINT = (
    "predict with passes, as in detector.predict(dataset, passes=10), whose records have them, or compute them from the"
    " boxes of your own passes with alhelpers.scores.class_certainty and its neighbours there"
)


def box_uncertainty(
    part: Part,
    context: int,
    *,
    of: str = "combined",
    over: str = "max",
    top_k: int | None = None,
    min_confidence: float = 0.0,
    noise: float = 0.0,
) -> np.ndarray:
    """Select the images whose boxes several passes agree on least: 1 - certainty.

    Needs ``detections`` whose boxes have ``class_certainty``, ``location_certainty`` and ``existence_certainty``, which
    are multiplied, or one of them: ``of`` is ``"combined"``, ``"class"``, ``"location"`` or ``"existence"``; or
    ``"object"``, class and existence in one number (it needs ``object_certainty``), to which guesses of low confidence
    add little; or ``"errors"``, how many errors are expected of the box if it is used from a confidence of 0.2 on (it
    needs ``confidences`` alone, and is best summed up: images with many errors come first); or ``"variance"``, the
    naive spread of the box's sides in pixels, to be compared with (it needs ``box_variance``). ``over`` takes the
    ``"max"``, ``"mean"`` or ``"sum"`` of an image's boxes, or with ``"top_k"`` the mean of the ``top_k`` highest (of
    all, if they are fewer). Boxes with a ``confidence`` below ``min_confidence`` do not count: of a detector that
    reports all its guesses each guess is uncertain. Above 0, ``noise`` draws images by chance, in proportion to the
    score to the power of 1 / noise, so that a batch is not one kind of doubt many times.
    Use it first for detectors: an image is as uncertain as its least certain object, and the label that it asks for has
    both a class and a place. It fails on what no pass finds: an image without boxes scores 0 and comes last, so mix in
    some images at random; and with few passes, as all find the same objects.

    Source: Blok et al., "Active learning with MaskAL reduces annotation effort for training Mask R-CNN", 2022
    (certainties and their product); Kirsch et al., "Stochastic batch acquisition", TMLR 2023, and ClaSP PE,
    arXiv:2601.13677, 2026 (noise).
    """
    values = score_by_boxes(part, lambda boxes: _uncertainty(boxes, of), over, top_k, min_confidence)
    return _with_noise(values, part, context, noise)


def weighted_box_uncertainty(
    part: Part,
    context: _Context,
    *,
    of: str = "combined",
    over: str = "sum",
    top_k: int | None = None,
    min_confidence: float = 0.0,
    noise: float = 0.0,
) -> np.ndarray:
    """Select by the uncertainty of boxes times the rarity of their classes among the reference's boxes.

    Needs ``detections`` whose boxes have ``class_name`` and what box_uncertainty needs, with the same ``of``, ``over``,
    ``top_k``, ``min_confidence`` and ``noise``. The boxes of the reference are its labels, each with a ``class_name``;
    without a reference the boxes predicted in the pool are counted. Use it when some classes are rare: a doubtful
    object of a class that is labelled already a hundred times weighs less than one of a class that is hardly known. It
    fails while a rare class is never predicted, and where a class is often predicted wrongly: rare and always in doubt,
    it draws all labels.

    The weight of class c is ``(n + C) / (C * (count of c + 1))``: 1 for all classes if the reference is balanced. C
    counts the classes of the reference, those predicted in the pool, and its ``class_names``. With these, and
    ``confidences`` of the boxes, the weight of a box is the mean over all classes in proportion to their confidences,
    as what is rare is seldom the first guess; else it is that of its predicted class.
    """

    def score(boxes: BoxFields) -> np.ndarray:
        return _uncertainty(boxes, of) * _weights(boxes, context)

    values = score_by_boxes(part, score, over, top_k, min_confidence)
    return _with_noise(values, part, context.seed, noise)


class _Context(NamedTuple):
    """The weight of each class by its name, and in the order of confidences if that is known; the seed of the noise."""

    weights: Mapping[Any, float]
    ordered: np.ndarray | None
    seed: int


def _weights(boxes: BoxFields, context: _Context) -> np.ndarray:
    """Return the weight of each box (M,): the mean over its classes by their confidences, or its class's own."""
    if context.ordered is None or not boxes.has("confidences"):
        return np.array([context.weights[name] for name in boxes.numbers("class_name")])
    confidences = boxes.numbers("confidences").astype(np.float64)
    if confidences.shape[1] != len(context.ordered):
        raise MissingField(
            f"the boxes have confidences of {confidences.shape[1]} classes, and class_names are"
            f" {len(context.ordered)}; take both from one model"
        )
    return confidences @ context.ordered / np.maximum(confidences.sum(axis=1), _LEAST)


def _uncertainty(boxes: BoxFields, of: str) -> np.ndarray:
    """Return the uncertainty of each box, (M,)."""
    if of == "variance":
        return _checked(boxes, "box_variance", np.inf)
    if of == "errors":
        return scores.expected_errors(boxes.numbers("confidences"))
    certainty = np.ones(len(boxes.boxes), dtype=np.float32)
    for name in _PARTS if of == "combined" else (of,):
        certainty = certainty * _checked(boxes, f"{name}_certainty", 1)
    return 1 - certainty


def _checked(boxes: BoxFields, name: str, most: float) -> np.ndarray:
    values = boxes.numbers(name)
    outside = np.flatnonzero(~((values >= 0) & (values <= most)))
    if len(outside):
        row = int(outside[0])
        limits = "from 0 to 1" if most == 1 else "at least 0"
        raise scores.ScoreError(f"{name} must be {limits}, got {values[row]:.6g}", row)
    return values


def _with_noise(values: np.ndarray, part: Part, seed: int, noise: float) -> np.ndarray:
    """Multiply scores by noise: their order is then a draw without replacement, in proportion to score^(1 / noise)."""
    if not noise:
        return values
    return (values * np.exp(noise * gumbel(part.ids, seed))).astype(np.float32)


# ------------------------------------------------------------------------------
# classes
# ------------------------------------------------------------------------------


def _seed(pool: Pool, reference: Part | None, seed: int, **options: Any) -> Prepared:
    return Prepared(seed)


def _rarity(pool: Pool, reference: Part | None, seed: int, **options: Any) -> Prepared:
    predicted: Counter[str] = sum(pool.map(_count_classes), Counter())
    counted = predicted if reference is None else _count_classes(reference)
    known = names_of_pool(pool)
    names = sorted({*predicted, *counted, *(known or ())})
    counts = np.array([counted[name] for name in names], dtype=np.int64)
    weights = dict(zip(names, scores.rarity(counts).tolist(), strict=True)) if names else {}
    source = "boxes of the records" if reference is None else "boxes of the reference"
    notes = {"classes_counted": source, "class_counts": dict(zip(names, counts.tolist(), strict=True))}
    ordered = None if known is None else np.array([weights[name] for name in known])
    return Prepared(_Context(weights, ordered, seed), notes)


def _count_classes(part: Readable, context: None = None) -> Counter[str]:
    records = Part.of(part)
    names = rec.boxes(records.table).class_name
    found = Counter(() if names is None else names.tolist())
    if None in found:
        row = int(np.searchsorted(rec.boxes(records.table).offsets, names.tolist().index(None), side="right"))
        id = records.ids[row - 1].as_py()
        raise rec.RecordError(
            f"record {id!r} has a box without class_name: name the class of every box, or take box_uncertainty",
            id,
            "detections.class_name",
        )
    return found


def _needs(options: Mapping[str, Any]) -> Needs:
    least = (("detections.confidence", "detections.confidences"),) if options["min_confidence"] else ()
    if options["of"] in _OTHERS:
        return ((f"detections.{_OTHERS[options['of']]}",), *least)
    parts = _PARTS if options["of"] == "combined" else (options["of"],)
    return (*((f"detections.{name}_certainty",) for name in parts), *least)


def _check(strategy: str, options: Mapping[str, Any]) -> None:
    check_top_k(strategy, options)
    limits = {"min_confidence": (1, "from 0 to 1"), "noise": (np.finfo(float).max, "0 or a number above")}
    for option, (most, rule) in limits.items():
        value = options[option]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise UnknownOption(f"option {option} of strategy {strategy!r} must be {rule}, got {value!r}")


_CHOICES = {"of": _OF, "over": OVER}

STRATEGIES = (
    Strategy(box_uncertainty, _needs, prepare=_seed, choices=_CHOICES, check=_check, hint=_HINT),
    Strategy(
        weighted_box_uncertainty,
        lambda options: (("detections.class_name",), *_needs(options)),
        prepare=_rarity,
        reference="optional",
        reference_needs=lambda options: (("detections.class_name",),),
        extras=("class_names",),
        choices=_CHOICES,
        check=_check,
        hint=_HINT,
    ),
)
