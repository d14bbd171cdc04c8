"""Acquisition scores on plain arrays: how much a model would learn from each record.

Every score takes an array and returns one float32 number per record, and for every score higher means mine it
first. ``confidences`` are (N, C) with rows that sum to 1, ``samples`` are (N, S, C): S passes of MC
dropout or S members of a committee. Entropies are divided by log C, so that 0 is certain and 1 is maximal
for any number of classes. Labels that do not exclude each other have scores of their own, :func:`label_uncertainty`
and :func:`label_bald`. Objects that several passes found, or did not find, have certainties, as
:func:`location_certainty`; :func:`over_objects` combines the scores of an image's objects. Logits must be converted
into confidences by :func:`confidences_from_logits` first: they are never guessed from their values, and confidences
that are given as logits are warned of.
"""

from alhelpers.scores._blocks import ScoreError
from alhelpers.scores.confidences import entropy, least_confidence, margin, rarity, weighted_entropy
from alhelpers.scores.labels import label_bald, label_uncertainty
from alhelpers.scores.locations import box_iou, box_variance, location_certainty, mask_certainty
from alhelpers.scores.logits import calibrate, confidences_from_logits
from alhelpers.scores.objects import (
    checked_offsets,
    class_certainty,
    existence_certainty,
    expected_errors,
    object_certainty,
    over_objects,
)
from alhelpers.scores.pixels import RegionScores, over_pixels, over_regions, pixel_map
from alhelpers.scores.regression import regression_variance
from alhelpers.scores.samples import (
    bald,
    consensus_kl,
    mean_margin,
    predictive_entropy,
    variance,
    variation_ratio,
    vote_entropy,
    vote_entropy_from_votes,
)
from alhelpers.scores.vectors import activation, energy

__all__ = [
    "RegionScores",
    "ScoreError",
    "activation",
    "bald",
    "box_iou",
    "box_variance",
    "calibrate",
    "checked_offsets",
    "class_certainty",
    "confidences_from_logits",
    "consensus_kl",
    "energy",
    "entropy",
    "existence_certainty",
    "expected_errors",
    "label_bald",
    "label_uncertainty",
    "least_confidence",
    "location_certainty",
    "margin",
    "mask_certainty",
    "mean_margin",
    "object_certainty",
    "over_objects",
    "over_pixels",
    "over_regions",
    "pixel_map",
    "predictive_entropy",
    "rarity",
    "regression_variance",
    "variance",
    "variation_ratio",
    "vote_entropy",
    "vote_entropy_from_votes",
    "weighted_entropy",
]
