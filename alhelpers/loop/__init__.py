"""The active-learning loop in memory: races, learning curves and forecasts, and what to do after a round."""

from alhelpers.loop.advice import Advice, advise
from alhelpers.loop.annotators import Annotators
from alhelpers.loop.comparison import Comparison
from alhelpers.loop.curves import LearningCurves, learning_curves
from alhelpers.loop.forecasts import Forecast, forecast, lasting_crossing
from alhelpers.loop.models import compare_models
from alhelpers.loop.picking import pick
from alhelpers.loop.races import CLUSTER_MARGIN, Entry, race
from alhelpers.loop.shares import budget_shares

__all__ = [
    "CLUSTER_MARGIN",
    "Advice",
    "Annotators",
    "Comparison",
    "Entry",
    "Forecast",
    "LearningCurves",
    "advise",
    "budget_shares",
    "compare_models",
    "forecast",
    "lasting_crossing",
    "learning_curves",
    "pick",
    "race",
]
