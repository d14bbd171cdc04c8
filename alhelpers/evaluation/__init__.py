"""Evaluation: matching, precision and recall, average precision, F1, calibration, and the decision between models.

Everything is computed from the predictions and the ground truth alone: the order of the rows, the hash
seed of Python and the order of equal scores do not matter.
"""

from alhelpers.evaluation.annotations import TestSet
from alhelpers.evaluation.boxes import iou
from alhelpers.evaluation.calibration import reliability
from alhelpers.evaluation.classification import (
    Classifications,
    accuracy,
    classification_average_precision,
    top1_average_precision,
)
from alhelpers.evaluation.compare_config import CompareConfig, read_compare_config
from alhelpers.evaluation.comparing import (
    compare_evaluated,
    compare_metrics,
    compare_predictions,
)
from alhelpers.evaluation.comparison import Comparison
from alhelpers.evaluation.curves import Curve, Evaluation
from alhelpers.evaluation.decision import PairedBootstrap, is_better, paired_bootstrap, resamples
from alhelpers.evaluation.detection import COCO_SIZES, COCO_THRESHOLDS, Detections, average_precision
from alhelpers.evaluation.measures import Measure
from alhelpers.evaluation.rows import EvaluationError, NoGroundTruth
from alhelpers.evaluation.segmentation import Segmentations

__all__ = [
    "COCO_SIZES",
    "COCO_THRESHOLDS",
    "Classifications",
    "CompareConfig",
    "Comparison",
    "Curve",
    "Detections",
    "Evaluation",
    "EvaluationError",
    "Measure",
    "NoGroundTruth",
    "PairedBootstrap",
    "Segmentations",
    "TestSet",
    "accuracy",
    "average_precision",
    "classification_average_precision",
    "compare_evaluated",
    "compare_metrics",
    "compare_predictions",
    "iou",
    "is_better",
    "paired_bootstrap",
    "read_compare_config",
    "reliability",
    "resamples",
    "top1_average_precision",
]
