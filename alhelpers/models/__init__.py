"""Networks, their training on arrays, and their dtlpy model adapters.

The adapter is imported by its own name, ``alhelpers.models.digit_classifier``, because it needs dtlpy.
"""

from alhelpers.models.networks import build_network
from alhelpers.models.prediction import Prediction, predict, to_inputs
from alhelpers.training import History, train

__all__ = ["History", "Prediction", "build_network", "predict", "to_inputs", "train"]
