"""Networks, and how they are trained and predict."""

from alhelpers.learners.networks import build_network
from alhelpers.learners.prediction import Prediction, predict, to_inputs
from alhelpers.training import History, train

__all__ = ["History", "Prediction", "build_network", "predict", "to_inputs", "train"]
