"""What a notebook's cells call: connect, show, progress, record, and the checks of its parameters."""

from alhelpers.notebook.checks import check_parameters
from alhelpers.notebook.connection import connect
from alhelpers.notebook.display import image_grid, progress, record, show
from alhelpers.notebook.environment import check_environment

__all__ = ["check_environment", "check_parameters", "connect", "image_grid", "progress", "record", "show"]
