"""Bars, tables as pictures, distributions and scatter plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from alhelpers.notebook.plots.style import (
    CHANCE,
    COLOURS,
    SHAPES,
    WIDEST,
    WIDTH,
    colours_of,
    layer,
    legend_below,
    named,
    numbers,
    panels,
    same_length,
    styled,
)


@styled
def bars(
    values: Mapping[str, Any],
    *,
    xlabel: str,
    baseline: str | None = "random",
    stacked: bool = False,
    marks: Mapping[str, float] | None = None,
    text: str = "{:.2f}",
    log: bool = False,
) -> Figure:
    """Draw horizontal bars from the top, with their values at their ends.

    Parameters
    ----------
    values : dict of str to number, or dict of str to dict of str to number
        A bar a name; or for each series a bar a name. A pandas Series or DataFrame (a column a series) is taken,
        too.
    xlabel : str
    baseline : str, optional
        Name of the bar that is grey, where there is one series.
    stacked : bool
        Whether the series stand behind each other instead of below each other.
    marks : dict of str to float, optional
        Named vertical lines.
    text : str
        Format of the values; an empty one leaves them out. Stacked bars have none.
    log : bool
        Whether the axis is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = named(values, "values")
    several = all(hasattr(value, "items") for value in values.values())
    series = {name: named(value, name) for name, value in values.items()} if several else {"": values}
    names = list(next(iter(series.values())))
    for name, each in series.items():
        if list(each) != names:
            raise ValueError(
                f"series {name!r} has the bars {', '.join(each)}: it must have {', '.join(names)}"
            )
    table = {name: numbers(list(each.values()), f"series {name!r}", 1) for name, each in series.items()}
    thick = 0.8 if stacked or not several else 0.8 / len(table)
    lines_of_text = len(names) * (1 if stacked else max(1, 0.7 * len(table)))
    figure, (axis,) = panels(1, (WIDTH, 0.9 + 0.28 * lines_of_text))
    colours, left = colours_of(table), np.zeros(len(names))
    for number, (name, widths) in enumerate(table.items()):
        places = np.arange(len(names)) + (0 if stacked else (number - (len(table) - 1) / 2) * thick)
        colour = colours[name] if several else [CHANCE if each == baseline else COLOURS[0] for each in names]
        drawn = axis.barh(places, widths, thick * 0.95, left=left, color=colour, label=name or None)
        if stacked:
            left = left + widths
        elif text:
            axis.bar_label(drawn, [text.format(width) for width in widths], padding=3, fontsize=9)
    _finish_bars(axis, names, xlabel, marks, log)
    return figure


def _finish_bars(
    axis: Axes, names: Sequence[str], xlabel: str, marks: Mapping[str, float] | None, log: bool
) -> None:
    axis.margins(x=0.12)
    axis.set(xlabel=xlabel, xscale="log" if log else "linear")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    _mark(axis, marks)
    if axis.get_legend_handles_labels()[0]:
        legend_below(axis.figure)


def _mark(axis: Axes, marks: Mapping[str, float] | None) -> None:
    for number, (name, x) in enumerate((marks or {}).items()):
        axis.axvline(x, color="black", linewidth=1.4, linestyle=(":", "-", "--")[number % 3], label=name)


@styled
def labels_needed(
    needed: Mapping[str, float | None], *, budget: float, target: float, baseline: str | None = "random"
) -> Figure:
    """Draw the labels that each strategy needs to reach a target; pale to the budget where it does not.

    Parameters
    ----------
    needed : dict of str to number or None
        None or NaN: not reached within the budget.
    budget : float
        The most labels that were tried.
    target : float
        What is to be reached, from 0 to 1.
    baseline : str, optional
        Name of the strategy that is grey.

    Returns
    -------
    matplotlib.figure.Figure
    """
    found = {
        name: np.nan if count is None else float(count) for name, count in named(needed, "needed").items()
    }
    most = max([0.0, *(count for count in found.values() if np.isfinite(count))])
    if most > budget:
        raise ValueError(
            f"needed holds {most:g}, and budget is {budget:g}: the budget must be the most labels"
        )
    figure, (axis,) = panels(1, (WIDTH, 0.9 + 0.32 * len(found)))
    for row, (name, count) in enumerate(found.items()):
        reached = bool(np.isfinite(count))
        colour = CHANCE if name == baseline else COLOURS[0]
        look = {"color": colour} if reached else {"facecolor": "white", "edgecolor": colour, "hatch": "///"}
        drawn = axis.barh(row, count if reached else budget, 0.75, **look)
        axis.bar_label(
            drawn, [f"{count:.0f}" if reached else f"not reached in {budget:g}"], padding=3, fontsize=9
        )
    _finish_bars(axis, list(found), f"labels to reach {target:.0%}", None, False)
    axis.set(xlim=(0, 1.3 * budget))
    return figure


@styled
def heat_map(
    values: Any,
    *,
    rows: Sequence[Any],
    columns: Sequence[Any],
    xlabel: str = "",
    ylabel: str = "",
    label: str = "",
    limits: tuple[float, float] = (0, 1),
    diverging: bool = False,
    text: str = "{:.2f}",
) -> Figure:
    """Draw a table as a picture, or several of the same form side by side.

    Parameters
    ----------
    values : array_like of shape (R, C), or dict of str to such
        A panel a name.
    rows, columns : sequence of length R and C
        Their names.
    xlabel, ylabel : str
    label : str
        Of the colours.
    limits : tuple of float
        The values of the first and the last colour.
    diverging : bool
        Whether the middle of the limits is white, and both ends are dark; otherwise the first colour is white.
    text : str
        Format of a value in its cell; an empty one leaves them out.

    Returns
    -------
    matplotlib.figure.Figure
    """
    tables = named(values, "values") if isinstance(values, Mapping) else {"": values}
    tables = {name: numbers(table, f"table {name!r}", 2) for name, table in tables.items()}
    for table in tables.values():
        same_length(rows=len(rows), table=table.shape[0])
        same_length(columns=len(columns), table=table.shape[1])
    across = len(columns) * len(tables)
    figure, axes = panels(
        len(tables),
        (min(WIDEST, 2.6 + 0.5 * across), 1.3 + 0.3 * len(rows)),
        columns=len(tables),
        sharey=True,
    )
    colours = matplotlib.colormaps["RdBu" if diverging else "Blues"]
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        picture = axis.imshow(table, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        _write_cells(axis, table, text, picture.to_rgba(table))
        _name_cells(axis, rows, columns)
        axis.set(title=name, xlabel=xlabel)
    axes[0].set(ylabel=ylabel)
    figure.colorbar(picture, ax=list(axes), label=label)
    return figure


def _name_cells(axis: Axes, rows: Sequence[Any], columns: Sequence[Any]) -> None:
    axis.set_yticks(range(len(rows)), [str(name) for name in rows])
    axis.set_xticks(range(len(columns)), [str(name) for name in columns])
    inches = axis.figure.get_figwidth() / len(axis.figure.axes)
    letters = max(len(str(name)) for name in columns) * len(columns)
    if letters > 7 * inches:  # too many to stand beside each other
        axis.tick_params(axis="x", labelrotation=90)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _write_cells(axis: Axes, table: np.ndarray, text: str, colours: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(table):
        words = text.format(value)
        light = colours[row, column, :3] @ (0.3, 0.59, 0.11)
        if words:
            colour = "black" if light > 0.55 else "white"
            axis.text(column, row, words, ha="center", va="center", fontsize=9, color=colour)


@styled
def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw how many records of each class are predicted as each: right ones blue, mistakes orange.

    Parameters
    ----------
    truth, predicted : array_like of shape (N,), int
        Class indices.
    class_names : sequence of str
        One a class.

    Returns
    -------
    matplotlib.figure.Figure
        Rows are the true classes. The colours of mistakes are stretched to the most frequent one.
    """
    pairs = [
        numbers(each, name, 1).astype(int) for each, name in ((truth, "truth"), (predicted, "predicted"))
    ]
    same_length(truth=len(pairs[0]), predicted=len(pairs[1]))
    size = len(class_names)
    if min(map(np.min, pairs)) < 0 or max(map(np.max, pairs)) >= size:
        raise ValueError(f"class indices reach {max(map(np.max, pairs))}: they must be from 0 to {size - 1}")
    counts = np.zeros((size, size), int)
    np.add.at(counts, tuple(pairs), 1)
    right = np.eye(size, dtype=bool)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    worst = max(1, counts[~right].max(initial=0))
    colours = np.where(
        right[..., None],
        matplotlib.colormaps["Blues"](0.1 + 0.5 * shares),
        matplotlib.colormaps["Oranges"](0.1 + 0.6 * counts / worst),
    )
    colours[counts == 0] = 1
    side = 1.9 + 0.42 * size
    figure, (axis,) = panels(1, (min(WIDTH, side), min(WIDTH, side) * 0.94))
    axis.imshow(colours)
    _write_cells(axis, np.where(counts, counts.astype(object), ""), "{}", colours)
    _name_cells(axis, class_names, class_names)
    axis.set(xlabel="predicted class", ylabel="true class")
    return figure


@styled
def histogram(
    values: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    bins: int | ArrayLike = 30,
    shares: bool = False,
    marks: Mapping[str, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw the distribution of one or several sets of values over the same bins.

    Parameters
    ----------
    values : dict of str to array_like of shape (N,)
        Whole numbers of a small range have a bin each.
    xlabel, ylabel : str
    bins : int or array_like
        Their number, or their edges.
    shares : bool
        Whether heights are shares of each set instead of counts, for sets that differ in size.
    marks : dict of str to float, optional
        Named vertical lines.
    spans : dict of str to (low, high), optional
        Named shaded ranges.

    Returns
    -------
    matplotlib.figure.Figure
    """
    samples = {name: numbers(each, f"values {name!r}", 1) for name, each in named(values, "values").items()}
    everything = np.concatenate(list(samples.values()))
    low, high = everything.min(), everything.max()
    if np.all(everything == np.round(everything)) and high - low <= 60 and np.isscalar(bins):
        edges: Any = np.arange(low - 0.5, high + 1.5)
    else:
        edges = np.histogram_bin_edges(everything, bins)
    colours = colours_of(samples)
    figure, (axis,) = panels(1, (WIDTH, 3.1))
    for name, (start, end) in (spans or {}).items():
        axis.axvspan(start, end, color=COLOURS[5], alpha=0.25, linewidth=0, label=name)
    for place, (name, each) in enumerate(samples.items()):
        look = {"alpha": 0.7, "color": colours[name]} if len(samples) == 1 else layer(place, colours[name])
        weights = np.full(len(each), 1 / len(each) if shares else 1)
        axis.hist(each, edges, weights=weights, label=name, **look)
    if shares:
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _mark(axis, marks)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    legend_below(figure, columns=3)
    return figure


@styled
def scatter(groups: Mapping[str, tuple[ArrayLike, ArrayLike]], *, xlabel: str, ylabel: str) -> Figure:
    """Draw a dot a record, a colour and a shape a group; later and smaller groups lie above.

    Parameters
    ----------
    groups : dict of str to (x, y)
        The places of the dots, each of shape (N,).
    xlabel, ylabel : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    groups, figure_size = named(groups, "groups"), (WIDTH, 3.8)
    places = {
        name: [numbers(each, f"{what} of {name!r}", 1) for each, what in zip(pair, "xy", strict=True)]
        for name, pair in groups.items()
    }
    colours = colours_of(groups)
    figure, (axis,) = panels(1, figure_size)
    for number, (name, (x, y)) in enumerate(places.items()):
        same_length(x=len(x), y=len(y))
        look = {"s": 70 if len(x) <= 10 else 14 + 14 * number, "alpha": 0.9 if len(x) <= 10 else 0.6}
        axis.scatter(
            x, y, color=colours[name], marker=SHAPES[number % len(SHAPES)], linewidth=0, label=name, **look
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    legend_below(figure)
    return figure


@styled
def dots(groups: Mapping[str, ArrayLike], *, xlabel: str) -> Figure:
    """Draw each value of a group as a dot in the group's row, and their mean as a bar across.

    Parameters
    ----------
    groups : dict of str to array_like of shape (N,)
        Such as the accuracies of a committee's members for each way of training.
    xlabel : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = {name: numbers(each, f"group {name!r}", 1) for name, each in named(groups, "groups").items()}
    figure, (axis,) = panels(1, (WIDTH, 0.9 + 0.45 * len(rows)))
    for row, values in enumerate(rows.values()):
        axis.scatter(values, np.full(len(values), row), s=50, color=COLOURS[0], alpha=0.6, linewidth=0)
        axis.vlines(values.mean(), row - 0.3, row + 0.3, color="black", linewidth=2)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    return figure


@styled
def intervals(
    values: Mapping[str, tuple[float, float, float]], *, xlabel: str, mark: float | None = 0.0
) -> Figure:
    """Draw a value as a dot with its interval, a row a name; orange where the mark lies inside the interval.

    Parameters
    ----------
    values : dict of str to (value, low, high)
        Such as a difference and the ends of its interval.
    xlabel : str
    mark : float, optional
        Where a thin dotted line stands, such as no difference.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = {name: numbers(each, f"interval {name!r}", 1) for name, each in named(values, "values").items()}
    figure, (axis,) = panels(1, (WIDTH, 0.9 + 0.4 * len(rows)))
    for row, (name, ends) in enumerate(rows.items()):
        same_length(**{"value, low, high": 3, name: len(ends)})
        value, low, high = ends
        if not low <= high:
            raise ValueError(f"interval {name!r} goes from {low:g} to {high:g}: its low end must come first")
        colour = COLOURS[1] if mark is not None and low <= mark <= high else COLOURS[0]
        axis.hlines(row, low, high, color=colour, linewidth=3)
        axis.scatter(value, row, s=70, color=colour, zorder=3)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.tick_params(axis="y", length=0)
    if mark is not None:
        axis.axvline(mark, color="black", linewidth=1.4, linestyle=":")
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    return figure
