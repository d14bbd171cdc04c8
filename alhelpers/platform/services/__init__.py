"""The services of the platform, one folder each: what things are (models) apart from how they are reached (routes)."""

from ..api import Listener, Route
from .annotations import routes as annotations
from .apps import routes as apps
from .collections import routes as collections
from .datasets import routes as datasets
from .executions import routes as executions
from .exports import routes as exports
from .features import routes as features
from .items import routes as items
from .models import routes as models
from .organizations import routes as organizations
from .packages import routes as packages
from .pipelines import routes as pipelines
from .projects import routes as projects
from .recipes import routes as recipes
from .scores import routes as scores
from .services import routes as services
from .settings import routes as settings
from .tasks import routes as tasks
from .triggers import routes as triggers

# The collections come before the items: their paths are words where those of items are ids.
_SERVICES = (
    *(organizations, projects, settings, datasets, recipes, collections, items, annotations, exports),
    *(features, tasks, scores, models, apps, packages, services, executions, triggers, pipelines),
)
ROUTES: list[Route] = [route for service in _SERVICES for route in service.ROUTES]

# (resource, action) of an event -> its listeners, in the order of the services above.
LISTENERS: dict[tuple[str, str], list[Listener]] = {}
for _service in _SERVICES:
    for _key, _listener in getattr(_service, "LISTENERS", {}).items():
        LISTENERS.setdefault(_key, []).append(_listener)
