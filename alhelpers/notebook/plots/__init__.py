"""The figures of the notebooks, in one style: functions that take arrays or dicts and return a Figure.

Colours are told apart by colour-blind readers, chance is grey, legends stand beside the data. Show a figure by
``notebook.show(figure, alt=..., caption=...)``; draw your own in the same style within ``with plots.style():``.
"""

from alhelpers.notebook.plots.boxes import boxes
from alhelpers.notebook.plots.curves import (
    learning_curves,
    lines,
    precision_recall,
    ranking,
    reliability,
    training_history,
)
from alhelpers.notebook.plots.pictures import contact_sheet, embedding_map, passes
from alhelpers.notebook.plots.pixels import pixel_maps
from alhelpers.notebook.plots.style import CHANCE, COLOURS, style
from alhelpers.notebook.plots.tables import (
    bars,
    confusion_matrix,
    dots,
    heat_map,
    histogram,
    intervals,
    labels_needed,
    scatter,
)

__all__ = [
    "CHANCE",
    "COLOURS",
    "bars",
    "boxes",
    "confusion_matrix",
    "contact_sheet",
    "dots",
    "embedding_map",
    "heat_map",
    "histogram",
    "intervals",
    "labels_needed",
    "learning_curves",
    "lines",
    "passes",
    "pixel_maps",
    "precision_recall",
    "ranking",
    "reliability",
    "scatter",
    "style",
    "training_history",
]
