"""Images with boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from alhelpers.data.box_rows import SIDES
from alhelpers.notebook.plots.style import (
    COLOURS,
    WIDEST,
    colours_of,
    legend_below,
    panels,
    same_length,
    styled,
)


@styled
def boxes(
    images: Sequence[np.ndarray],
    rows: Sequence[Sequence[Mapping[str, Any]]],
    titles: Sequence[str] = (),
    *,
    colours: Mapping[str, str] | None = None,
    columns: int = 5,
    width: float = 1.8,
    names: bool = True,
) -> Figure:
    """Draw images with boxes.

    Parameters
    ----------
    images : sequence of arrays of shape (H, W) or (H, W, 3)
        Grey levels or colours.
    rows : sequence of sequences of dict
        The boxes of each image, with ``left``, ``top``, ``right`` and ``bottom`` in its pixels, as predictions and data
        sets return them; if there is a ``label``, it is written above the box. The ``kind`` of a box, such as "wrong",
        is its colour, and the legend explains it. Boxes without a kind have the first colour.
    titles : sequence of str, optional
        One for each image.
    colours : dict of str to str, optional
        The colour of each kind; the default takes them in turn.
    columns : int
        Number of images in a row.
    width : float
        Of the lines, in points.
    names : bool
        Whether labels are written.

    Returns
    -------
    matplotlib.figure.Figure
    """
    same_length(images=len(images), rows=len(rows))
    if len(titles):
        same_length(images=len(images), titles=len(titles))
    if not len(images):
        raise ValueError("there are no images: pass at least one")
    found = dict.fromkeys(str(box["kind"]) for each in rows for box in each if "kind" in box)
    # The order of the given colours is that of the legend.
    kinds = [kind for kind in colours or () if kind in found]
    kinds += [kind for kind in found if kind not in kinds]
    colours = {**colours_of(kinds), **(colours or {})}
    columns = min(columns, len(images))
    side = min(WIDEST / columns, 2.6)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    height = (side + 0.18 * lines) * -(-len(images) // columns) + (0.3 if kinds else 0)
    figure, axes = panels(len(images), (side * columns, height), columns=columns)
    for number, (axis, image) in enumerate(zip(axes, images, strict=True)):
        axis.imshow(image, cmap="gray_r")
        for box in rows[number]:
            place = kinds.index(str(box["kind"])) if "kind" in box else 0
            colour = colours[kinds[place]] if "kind" in box else COLOURS[0]
            _draw(axis, box, colour, width)
            if names and "label" in box:
                _name(axis, box, colour, at_the_right=place % 2 == 1)
        axis.set(xticks=[], yticks=[], title=titles[number] if len(titles) else "")
        axis.spines[:].set_visible(False)
    legend_below(
        figure,
        [Patch(facecolor="none", edgecolor=colours[kind], linewidth=2, label=kind) for kind in kinds],
        columns=7 if len(kinds) == 7 else 6,  # no row of one
    )
    return figure


def _draw(axis: Axes, box: Mapping[str, Any], colour: str, width: float) -> None:
    left, top, right, bottom = _sides(box)
    halo = [withStroke(linewidth=width + 1.2, foreground="white")]
    look = {"fill": False, "edgecolor": colour, "linewidth": width, "path_effects": halo}
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, **look))


def _name(axis: Axes, box: Mapping[str, Any], colour: str, *, at_the_right: bool) -> None:
    """Write the label above the box, or below it where there is no room; each other kind has it at the right."""
    left, top, right, bottom = _sides(box)
    above = top > 0.1 * abs(axis.viewLim.height)
    axis.text(
        right if at_the_right else left,
        top if above else bottom,
        str(box["label"]),
        color=colour,
        fontsize=9,
        fontweight="bold",
        ha="right" if at_the_right else "left",
        va="bottom" if above else "top",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


def _sides(box: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return the sides in the coordinates of an axis, where the first pixel begins at -0.5."""
    left, top, right, bottom = (float(box[side]) - 0.5 for side in SIDES)
    return left, top, right, bottom
