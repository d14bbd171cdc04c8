"""Run notebooks with parameters, and read what they recorded."""

from alhelpers.experiments.parameters import ParameterError
from alhelpers.experiments.runner import NotebookError, Run, recorded, run

__all__ = ["NotebookError", "ParameterError", "Run", "recorded", "run"]
