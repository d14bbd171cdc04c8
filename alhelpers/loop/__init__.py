"""The active-learning loop in memory: races of strategies over seeds, learning curves, and their comparison."""

from alhelpers.loop.comparison import Comparison
from alhelpers.loop.curves import LearningCurves, learning_curves

__all__ = ["Comparison", "LearningCurves", "learning_curves"]
