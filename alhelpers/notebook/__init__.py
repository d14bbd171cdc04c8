"""What a notebook's cells call: connect, show, progress, record, plots, label_task, check_parameters."""

from alhelpers.notebook import plots
from alhelpers.notebook.checks import check_parameters
from alhelpers.notebook.connection import connect
from alhelpers.notebook.display import progress, record, show
from alhelpers.notebook.environment import check_environment
from alhelpers.notebook.labelling import label_task

__all__ = [
    "check_environment",
    "check_parameters",
    "connect",
    "label_task",
    "plots",
    "progress",
    "record",
    "show",
]
