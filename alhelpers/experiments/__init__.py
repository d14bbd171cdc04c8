"""Run notebooks with parameters, once or with many settings, and read and compare what they recorded."""

from alhelpers.experiments.comparison import Comparison
from alhelpers.experiments.curves import LearningCurves, learning_curves
from alhelpers.experiments.errors import NotebookError, SweepError
from alhelpers.experiments.parameters import ParameterError
from alhelpers.experiments.processes import Processes
from alhelpers.experiments.runner import Run, recorded, run
from alhelpers.experiments.sweeps import results, sweep

__all__ = [
    "Comparison",
    "LearningCurves",
    "NotebookError",
    "ParameterError",
    "Processes",
    "Run",
    "SweepError",
    "learning_curves",
    "recorded",
    "results",
    "run",
    "sweep",
]
