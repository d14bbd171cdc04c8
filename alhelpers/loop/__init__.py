"""The active-learning loop in memory: races of strategies over seeds, learning curves, and their comparison."""

from alhelpers.loop.comparison import Comparison
from alhelpers.loop.curves import LearningCurves, learning_curves
from alhelpers.loop.models import compare_models
from alhelpers.loop.picking import pick
from alhelpers.loop.races import CLUSTER_MARGIN, Entry, race

__all__ = [
    "CLUSTER_MARGIN",
    "Comparison",
    "Entry",
    "LearningCurves",
    "compare_models",
    "learning_curves",
    "pick",
    "race",
]
