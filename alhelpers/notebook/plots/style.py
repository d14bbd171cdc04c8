"""The style of all figures: fonts, colours that colour-blind readers tell apart, and legends beside the data."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

#: Ten colours that differ by sight, also with deuteranopia and protanopia: six of Okabe and Ito, four of Tol.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#E69F00", "#882255", "#332288", "#DDCC77", "#661100"),
)
#: Shapes of dots, in the order of the colours.
SHAPES = "o^sDv"
#: Grey, for choosing by chance.
CHANCE = "#777777"
#: Width of a figure in inches; wider ones are hard to read on a phone.
WIDTH = 6.4
WIDEST = 8.0

STYLE: dict[str, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
}


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the kit's style: ``with plots.style(): ...``."""
    return matplotlib.rc_context(STYLE)


#: Decorator of the functions that draw.
styled = matplotlib.rc_context(STYLE)


def panels(count: int, size: tuple[float, float], *, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure with a flat array of axes; those of the last row that are not needed are hidden."""
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def colours_of(names: Iterable[str], baseline: str | None = None) -> dict[str, str]:
    """Return a colour for each name; the baseline is grey."""
    others = [name for name in names if name != baseline]
    if len(others) > len(COLOURS):
        raise ValueError(
            f"{len(others)} names ({', '.join(map(str, others[:3]))}, ...): at most {len(COLOURS)} colours can be told"
            " apart; draw fewer, or put the rest together"
        )
    return {**dict(zip(others, COLOURS, strict=False)), **({baseline: CHANCE} if baseline else {})}


def ink(colour: str) -> tuple[float, ...]:
    """Return a colour dark enough for text on white."""
    red, green, blue = to_rgb(colour)
    light = 0.3 * red + 0.59 * green + 0.11 * blue
    return tuple(part * min(1, 0.45 / max(light, 0.01)) for part in (red, green, blue))


def layer(place: int, colour: str) -> dict[str, Any]:
    """Return the look of one of several histograms: the first is filled, those above it are hatched outlines.

    Where they overlap each can still be seen; two transparent fills would mix to a colour of neither.
    """
    if place == 0:
        return {"histtype": "stepfilled", "facecolor": (colour, 0.5)}
    hatch = ("////", "....", "xxxx")[(place - 1) % 3]
    return {
        "histtype": "stepfilled",
        "facecolor": "none",
        "edgecolor": colour,
        "linewidth": 1.2,
        "hatch": hatch,
    }


def numbers(values: Any, what: str, dimensions: int) -> np.ndarray:
    """Return values as an array of floats; it must have so many dimensions, and a row."""
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or not array.size:
        raise ValueError(
            f"{what} has the shape {array.shape}: it must be an array of {dimensions} dimension"
            f"{'s' if dimensions > 1 else ''} that is not empty"
        )
    return array


def same_length(**lengths: int) -> None:
    """Raise a ValueError that names what differs in length."""
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(f"{text}: they must have the same length")


def named(values: Any, what: str) -> dict[str, Any]:
    """Return a mapping, a pandas Series or a DataFrame as a dict that is not empty."""
    if not hasattr(values, "items"):
        raise ValueError(f"{what} is {type(values).__name__}: it must be a dict of name to values")
    found = {str(name): value for name, value in values.items()}
    if not found:
        raise ValueError(f"{what} is empty: there is nothing to draw")
    return found


def legend_below(figure: Figure, handles: Sequence[Any] = (), *, columns: int = 4) -> None:
    """Put one legend under all axes, where it covers no data."""
    if not handles:
        found: Mapping[str, Any] = {}
        for axis in figure.axes:
            handles_here, labels = axis.get_legend_handles_labels()
            found = {**dict(zip(labels, handles_here, strict=True)), **found}
        handles = [found[label] for label in sorted(found, key=list(found).index)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)))


def name_at_the_end(axis: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write names to the right of the axes, each at the height where its line ends, and none over another."""
    axis.figure.draw_without_rendering()  # fixes the height
    height = axis.bbox.height / axis.figure.dpi * 72
    gap = 12.5  # points from line to line of text
    at = [
        axis.transAxes.inverted().transform(axis.transData.transform((x, y)))[1] * height
        for _, x, y, _ in ends
    ]
    order = np.argsort(at, kind="stable")
    places = np.clip(np.array(at)[order], 0, height)
    for upward in range(1, len(places)):
        places[upward] = max(places[upward], places[upward - 1] + gap)
    places[-1] = min(places[-1], max(height, gap * (len(places) - 1)))
    for downward in range(len(places) - 2, -1, -1):
        places[downward] = min(places[downward], places[downward + 1] - gap)
    for number, place in zip(order, places, strict=True):
        name, x, y, colour = ends[number]
        axis.annotate(
            name,
            xy=(x, y),
            xytext=(1.04, place / height),
            textcoords="axes fraction",
            color=ink(colour),
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1},
        )
