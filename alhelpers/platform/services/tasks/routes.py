"""Routes of tasks and their assignments."""

from ...api import Route
from ...events import Listener

ROUTES: list[Route] = []
LISTENERS: dict[tuple[str, str], Listener] = {}
