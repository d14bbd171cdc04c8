"""The services of the platform, one folder each: what things are (models) apart from how they are reached (routes)."""

from ..api import Route
from .annotations import routes as annotations
from .apps import routes as apps
from .datasets import routes as datasets
from .exports import routes as exports
from .items import routes as items
from .models import routes as models
from .pipelines import routes as pipelines
from .projects import routes as projects
from .recipes import routes as recipes
from .users import routes as users

_SERVICES = (users, projects, datasets, recipes, items, annotations, exports, models, apps, pipelines)
ROUTES: list[Route] = [route for service in _SERVICES for route in service.ROUTES]
