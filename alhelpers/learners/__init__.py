"""What learns and predicts: a torch module or a scikit-learn estimator behind the methods of a Learner."""

from alhelpers.learners.box_predictions import BoxPredictions
from alhelpers.learners.detector import Detector
from alhelpers.learners.detector_function import DetectorFunction
from alhelpers.learners.networks import build_network
from alhelpers.learners.photos import photo_classifier
from alhelpers.learners.predictions import Predictions
from alhelpers.learners.segmentation_predictions import SegmentationPredictions
from alhelpers.learners.segmenter import Segmenter
from alhelpers.learners.sklearn_learner import SklearnLearner
from alhelpers.learners.torch_classifier import TorchClassifier
from alhelpers.learners.torch_regressor import TorchRegressor

__all__ = [
    "BoxPredictions",
    "Detector",
    "DetectorFunction",
    "Predictions",
    "SegmentationPredictions",
    "Segmenter",
    "SklearnLearner",
    "TorchClassifier",
    "TorchRegressor",
    "build_network",
    "photo_classifier",
]
