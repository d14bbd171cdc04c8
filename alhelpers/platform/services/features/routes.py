"""Routes of feature sets and vectors."""

from ...api import Route
from ...events import Listener

ROUTES: list[Route] = []
LISTENERS: dict[tuple[str, str], Listener] = {}
