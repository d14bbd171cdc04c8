"""Lines over labels, steps, time or rank."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from alhelpers.notebook.plots.style import (
    CHANCE,
    COLOURS,
    SHAPES,
    WIDEST,
    WIDTH,
    colours_of,
    name_at_the_end,
    named,
    numbers,
    panels,
    same_length,
    styled,
)

Pair = tuple[ArrayLike, ArrayLike]

#: Of lines without dots; the dashed line is the baseline.
_DASHES = ("-", "-.", (0, (1, 1.2)), (0, (8, 2)))
#: Up to so many measured points have a dot and a tick each.
_FEW = 12


@styled
def lines(
    series: Mapping[str, Pair],
    *,
    xlabel: str,
    ylabel: str,
    baseline: str | None = "random",
    target: float | None = None,
    bands: Mapping[str, Pair] | None = None,
    continued: Mapping[str, Pair] | None = None,
    marks: Mapping[str, float] | None = None,
    dots: bool = False,
    log: str = "",
) -> Figure:
    """Draw lines, each with its name at its end.

    Parameters
    ----------
    series : dict of str to (x, y)
        One line a name; at most ten beside the baseline. NaN leaves a gap.
    xlabel, ylabel : str
    baseline : str, optional
        Name of the line that is dashed and grey.
    target : float, optional
        Height of a thin dotted line.
    bands : dict of str to (low, high), optional
        What lies between them is shaded.
    continued : dict of str to (x, y), optional
        A dashed line of the same colour, for what is extrapolated.
    marks : dict of str to float, optional
        Named vertical lines, such as the day of a change.
    dots : bool
        Whether each value has a dot; lines that lie upon each other differ in its shape.
    log : {"", "x", "y", "xy"}
        The logarithmic axes.

    Values at few places have a tick each, labelled where it fits, unless a line is continued beyond them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    named(series, "series")
    figure, (axis,) = panels(1, (WIDTH, 3.4))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set(**{f"{letter}scale": "log" for letter in log})
    options = {"bands": bands or {}, "continued": continued or {}, "dots": dots}
    ends = _draw(axis, series, colours_of(series, baseline), baseline, **options)
    if target is not None:
        axis.axhline(target, color="black", linewidth=1, linestyle=":")
        axis.set_title(f"dotted: the target {target:g}", loc="right", fontsize=9, pad=18 if marks else 5)
    for name, x in (marks or {}).items():
        axis.axvline(x, color="black", linewidth=1, linestyle=":")
        axis.annotate(name, (x, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    name_at_the_end(axis, ends)
    if not continued:
        _tick_what_was_measured(axis, [np.asarray(x, dtype=float) for x, _ in series.values()])
    return figure


def _tick_what_was_measured(axis: Axes, measured: Iterable[np.ndarray]) -> None:
    """Put the ticks where something was measured, if that is at few places, and label those that fit."""
    places = np.unique(np.concatenate(list(measured)))
    if len(places) > _FEW:
        return
    axis.xaxis.set_minor_locator(NullLocator())
    names = [f"{place:,.10g}" for place in places]
    axis.set_xticks(places, names)
    axis.figure.draw_without_rendering()  # after the names at the ends, which make the axes narrower
    start = np.inf
    for number in reversed(range(len(names))):  # the last one is always labelled
        box = axis.get_xticklabels()[number].get_window_extent()
        if box.x1 + 4 > start:
            names[number] = ""
        else:
            start = box.x0
    axis.set_xticks(places, names)


def _draw(
    axis: Axes,
    series: Mapping[str, Pair],
    colours: Mapping[str, str],
    baseline: str | None = None,
    *,
    bands: Mapping[str, Pair],
    continued: Mapping[str, Pair],
    dots: bool,
) -> list[tuple[str, float, float, str]]:
    """Draw the lines, and return the name, the last place and the colour of each."""
    ends, whole = [], True
    for number, (name, pair) in enumerate(series.items()):
        x, y = (numbers(values, f"{what} of {name!r}", 1) for values, what in zip(pair, "xy", strict=True))
        same_length(**{"x": len(x), "y": len(y)})
        # Lines differ by their shapes, too: those of their dots, or else of their dashes.
        dash = "--" if name == baseline else "-" if dots else _DASHES[number % len(_DASHES)]
        shape = SHAPES[number % len(SHAPES)] if dots else ""
        axis.plot(x, y, linestyle=dash, marker=shape, color=colours[name], markersize=5, label=name)
        if name in bands:
            low, high = bands[name]
            axis.fill_between(x, low, high, color=colours[name], alpha=0.15, linewidth=0)
        if name in continued:
            axis.plot(*continued[name], "--", color=colours[name], linewidth=1.2)
            x, y = map(np.asarray, continued[name])
        seen = np.flatnonzero(np.isfinite(y))
        if len(seen):
            ends.append((name, x[seen[-1]], y[seen[-1]], colours[name]))
        whole = whole and bool(np.all(x == np.round(x)))
    axis.margins(x=0.02)
    if whole and axis.get_xscale() == "linear":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ends


def learning_curves(
    counts: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    baseline: str | None = "random",
    target: float | None = None,
    bands: Mapping[str, Pair] | None = None,
    xlabel: str = "labels",
    ylabel: str = "accuracy",
) -> Figure:
    """Draw the mean curve of each strategy over its seeds, with a band from the worst seed to the best.

    Parameters
    ----------
    counts : array_like of shape (L,)
        Numbers of labels.
    curves : dict of str to array_like of shape (S, L)
        For each strategy a row a seed. ``LearningCurves.values`` is one.
    baseline : str, optional
        Name of the strategy that is dashed and grey.
    target : float, optional
        Height of a thin dotted line.
    bands : dict of str to (low, high), optional
        Other bands, such as intervals of the mean.
    xlabel, ylabel : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = {name: numbers(rows, f"curve {name!r}", 2) for name, rows in named(curves, "curves").items()}
    for name, rows in values.items():
        same_length(**{"counts": len(np.asarray(counts)), name: rows.shape[1]})
    return lines(
        {name: (counts, rows.mean(0)) for name, rows in values.items()},
        bands=bands or {name: (rows.min(0), rows.max(0)) for name, rows in values.items() if len(rows) > 1},
        baseline=baseline,
        target=target,
        xlabel=xlabel,
        ylabel=ylabel,
        dots=len(np.asarray(counts)) <= _FEW,
    )


@styled
def training_history(
    samples: Iterable[Any], figures: Iterable[str] = ("loss", "accuracy"), *, log: bool = False
) -> Figure:
    """Draw what a model reported while it was trained: a panel a figure, a line a legend.

    Parameters
    ----------
    samples : iterable
        Objects with the attributes ``figure``, ``legend``, ``x`` and ``y``, as ``model.metrics.list().all()``
        returns them.
    figures : iterable of str
        Which to draw, from left to right.
    log : bool
        Whether the vertical axes are logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
    """
    samples, figures = list(samples), list(figures)
    missing = set(figures) - {sample.figure for sample in samples}
    if missing or not figures:
        known = ", ".join(sorted({sample.figure for sample in samples}))
        raise ValueError(f"no sample of {', '.join(sorted(missing)) or 'no figure'}: choose from {known}")
    names = dict.fromkeys(sample.legend for sample in samples if sample.figure in figures)
    colours = colours_of(names)
    figure, axes = panels(len(figures), (WIDEST if len(figures) > 1 else WIDTH, 2.8), columns=len(figures))
    for axis, wanted in zip(axes, figures, strict=True):
        of_panel = sorted((sample for sample in samples if sample.figure == wanted), key=lambda each: each.x)
        series = {
            name: tuple(zip(*((each.x, each.y) for each in of_panel if each.legend == name), strict=True))
            for name in names
            if any(each.legend == name for each in of_panel)
        }
        axis.set(xlabel="training step", ylabel=wanted, yscale="log" if log else "linear")
        name_at_the_end(axis, _draw(axis, series, colours, bands={}, continued={}, dots=False))
    return figure


@styled
def ranking(
    wrong: ArrayLike, scores: Mapping[str, ArrayLike], *, baseline: str = "in random order"
) -> Figure:
    """Draw how early each score meets the mistakes: their share against the share of records looked at.

    Parameters
    ----------
    wrong : array_like of shape (N,), bool
        Whether the model is wrong.
    scores : dict of str to array_like of shape (N,)
        Higher is looked at first.
    baseline : str
        Name of the diagonal.

    Returns
    -------
    matplotlib.figure.Figure
    """
    wrong = numbers(wrong, "wrong", 1).astype(bool)
    if not wrong.any():
        raise ValueError("wrong holds no mistake: there is nothing to meet")
    share = np.arange(len(wrong) + 1) / len(wrong)
    series: dict[str, Pair] = {}
    for name, values in named(scores, "scores").items():
        values = numbers(values, f"score {name!r}", 1)
        same_length(wrong=len(wrong), **{name: len(values)})
        met = wrong[np.argsort(-values, kind="stable")].cumsum() / wrong.sum()
        series[name] = (share, np.concatenate([[0], met]))
    series[baseline] = ([0, 1], [0, 1])
    figure, (axis,) = panels(1, (WIDTH, 3.4))
    axis.set(xlabel="share of images looked at", ylabel="share of mistakes met", xlim=(0, 1), ylim=(0, 1.03))
    _draw(axis, series, colours_of(series, baseline), baseline, bands={}, continued={}, dots=False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # all lines end in one corner
    return figure


@styled
def precision_recall(curves: Mapping[str, Any], *, chance: float | None = None) -> Figure:
    """Draw precision against recall, a step at each score.

    Parameters
    ----------
    curves : dict of str to curve
        Objects with the attributes ``recall`` and ``precision``, such as those of
        ``evaluation.classification_average_precision(...).curves``.
    chance : float, optional
        Share of the class: the precision of a random order at any recall.

    Returns
    -------
    matplotlib.figure.Figure
    """
    curves = named(curves, "curves")
    colours = colours_of(curves)
    figure, (axis,) = panels(1, (WIDTH, 3.4))
    for name, curve in curves.items():
        recall, precision = np.asarray(curve.recall), np.asarray(curve.precision)
        same_length(recall=len(recall), precision=len(precision))
        axis.step(
            [0, *recall], [*precision[:1], *precision], where="pre", color=colours[name], label=str(name)
        )
    if chance is not None:
        axis.axhline(chance, color=CHANCE, linestyle="--", label=f"in random order: {chance:.2f}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def reliability(diagrams: Mapping[str, Iterable[Mapping[str, Any]]]) -> Figure:
    """Draw how often a model is right against its confidence; the title has the expected calibration error.

    Parameters
    ----------
    diagrams : dict of str to rows
        A panel each: the rows of :func:`alhelpers.evaluation.reliability`. A dot is a range of confidence, as
        large as it is full; the line from it to the diagonal is its error.

    Returns
    -------
    matplotlib.figure.Figure
    """
    diagrams = named(diagrams, "diagrams")
    figure, axes = panels(
        len(diagrams), (min(WIDEST, 3.6 * len(diagrams)), 3.7), columns=len(diagrams), sharey=True
    )
    for axis, (name, rows) in zip(axes, diagrams.items(), strict=True):
        filled = [row for row in rows if row["count"]]
        if not filled:
            raise ValueError(f"diagram {name!r} has no row with a count: there is nothing to draw")
        confidence, accuracy, count = (
            np.array([row[key] for row in filled], float) for key in ("confidence", "accuracy", "count")
        )
        share = count / count.sum()
        axis.plot([0, 1], [0, 1], color=CHANCE, linestyle="--", linewidth=1.2)
        axis.vlines(confidence, confidence, accuracy, color=COLOURS[1], linewidth=2)
        axis.scatter(confidence, accuracy, s=20 + 280 * share, color=COLOURS[0], zorder=3)
        error = float(share @ np.abs(confidence - accuracy))
        axis.set(title=f"{name}: error {error:.3f}", xlabel="confidence", aspect="equal")
        axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axes[0].set(ylabel="share that is right")
    return figure
