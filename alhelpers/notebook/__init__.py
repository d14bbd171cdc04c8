"""What a notebook's cells call: connect, show, progress, record, plots, and the checks of its parameters."""

from alhelpers.notebook import plots
from alhelpers.notebook.checks import check_parameters
from alhelpers.notebook.connection import connect
from alhelpers.notebook.display import image_grid, progress, record, show

__all__ = ["check_parameters", "connect", "image_grid", "plots", "progress", "record", "show"]
