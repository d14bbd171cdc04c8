"""Pictures, maps of classes and maps of scores, row by row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from alhelpers.notebook.plots.style import (
    COLOURS,
    WIDEST,
    legend_below,
    named,
    panels,
    same_length,
    styled,
)

#: The colours of the background, and of pixels that do not count.
_GROUND, _UNCOUNTED = "#e8e8e8", "#000000"


@styled
def pixel_maps(
    rows: Mapping[str, Sequence[Any]],
    class_names: Sequence[str] = (),
    *,
    titles: Sequence[str] = (),
) -> Figure:
    """Draw rows of pictures, maps of classes and maps of scores, an image a column.

    Parameters
    ----------
    rows : dict of str to sequence of B arrays
        A row a name: pictures (H, W, 3), classes (H, W) of integers, or scores (H, W) of floats, of which a row has one
        scale from 0, which is written below its name.
    class_names : sequence of str, optional
        The names of the classes for the legend, the background first. Classes of 255 are black.
    titles : sequence of length B, optional
        One for each column.

    Returns
    -------
    matplotlib.figure.Figure
    """
    drawn = {name: [np.asarray(each) for each in row] for name, row in named(rows, "rows").items()}
    same_length(**{name: len(row) for name, row in drawn.items()})
    count = len(next(iter(drawn.values())))
    if not count:
        raise ValueError("rows hold no images: pass at least one")
    if len(titles):
        same_length(images=count, titles=len(titles))
    side = (WIDEST - 1) / max(count, 4)
    size = (1 + side * count, side * len(drawn) + 0.5)
    figure, axes = panels(count * len(drawn), size, columns=count)
    for number, (name, row) in enumerate(drawn.items()):
        places = axes[number * count : (number + 1) * count]
        _draw_row(places, name, row, class_names)
    for axis, title in zip(axes[:count], titles, strict=False):
        axis.set_title(title)
    maps = [each for row in drawn.values() for each in row if _is_classes(each)]
    if maps:
        legend_below(figure, _legend(class_names, maps), columns=7)
    return figure


def _draw_row(axes: Sequence[Axes], name: str, row: Sequence[np.ndarray], class_names: Sequence[str]) -> None:
    scale = {}
    scored = [float(each.max()) for each in row if each.ndim == 2 and not _is_classes(each)]
    if scored:
        top = max(scored)
        scale = {"cmap": "magma", "vmin": 0, "vmax": top or 1}
        name = f"{name}\n0 to {top:.2g}"
    for axis, each in zip(axes, row, strict=True):
        axis.imshow(_painted(each, len(class_names)) if _is_classes(each) else each, **scale)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")


def _is_classes(array: np.ndarray) -> bool:
    return array.ndim == 2 and array.dtype.kind in "iub"


def _colours(count: int) -> list[str]:
    if count > len(COLOURS) + 1:
        raise ValueError(f"there are {count} classes: at most {len(COLOURS)} beside the background")
    return [_GROUND, *COLOURS][:count]


def _painted(classes: np.ndarray, count: int) -> np.ndarray:
    """Return a map of classes as colours (H, W, 3)."""
    known = classes[classes != 255]
    if known.size and not 0 <= known.min() <= known.max() < count:
        raise ValueError(f"a map holds the class {known.max()}, and there are {count} class names")
    table = np.zeros((256, 3), dtype=np.uint8)
    for place, colour in enumerate(_colours(count)):
        table[place] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return table[classes.astype(np.uint8)]


def _legend(class_names: Sequence[str], maps: Sequence[np.ndarray]) -> list[Patch]:
    """Return a patch for each class that is somewhere, and for pixels that do not count."""
    there = np.unique(np.concatenate([np.unique(each) for each in maps]))
    colours = zip(class_names, _colours(len(class_names)), strict=True)
    patches = [
        Patch(facecolor=colour, label=name) for place, (name, colour) in enumerate(colours) if place in there
    ]
    return patches + [Patch(facecolor=_UNCOUNTED, label="not counted")] * (255 in there)
