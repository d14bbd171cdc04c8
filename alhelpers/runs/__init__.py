"""Run notebooks with parameters, once or with many settings, and read what they recorded."""

from alhelpers.runs.errors import NotebookError, SweepError
from alhelpers.runs.notebooks import recorded
from alhelpers.runs.parameters import ParameterError
from alhelpers.runs.processes import Processes
from alhelpers.runs.runner import Run, run
from alhelpers.runs.sweeps import results, sweep

__all__ = [
    "NotebookError",
    "ParameterError",
    "Processes",
    "Run",
    "SweepError",
    "recorded",
    "results",
    "run",
    "sweep",
]
