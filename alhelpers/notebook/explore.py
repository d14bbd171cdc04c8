"""What a model learns from a few labelled points in the plane: pictures of its boundary, and a slider to move."""

import base64
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import display
from ipywidgets import HTML, Dropdown, HBox, IntSlider, VBox
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: A colour and a marker for each of the two classes: told apart without seeing colours.
_COLOURS, _MARKERS = ("#0072B2", "#D55E00"), ("o", "s")
_UNLABELLED = "#bbbbbb"

#: Points of the grid on each side; the boundary is smooth, and each move of the slider predicts all of them.
_GRID = 50


def boundaries(
    points: np.ndarray,
    labels: np.ndarray,
    panels: Mapping[str, Sequence[int]],
    fit: Callable[[Sequence[int]], Any],
) -> Figure:
    """Draw what a model of two classes has learnt from each of several sets of labels, side by side.

    Parameters
    ----------
    points : numpy.ndarray, shape (N, 2)
        All points; those without a label are grey.
    labels : numpy.ndarray, shape (N,)
        The class of each, 0 or 1; only those of labelled points are drawn.
    panels : mapping of str to sequence of int
        For each title the rows of the labelled points, in the order in which they were labelled. The latest one has a
        ring. Without rows there is no model and no boundary.
    fit : callable
        Returns a model with the method ``predict_proba`` that has learnt from some rows.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no panel, or the points do not lie in the plane.
    """
    if not panels or points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"{len(panels)} panels of points of shape {points.shape}: pass at least one, and points of shape (N, 2)"
        )
    figure = Figure(figsize=(min(8, 4 * len(panels)), 3.3 if len(panels) < 3 else 2.3), layout="constrained")
    for axis, (title, rows) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _draw(axis, points, labels, np.asarray(rows, dtype=int), fit)
        axis.set_title(title, fontsize=10)
    return figure


def _draw(
    axis: Axes, points: np.ndarray, labels: np.ndarray, rows: np.ndarray, fit: Callable[[Any], Any]
) -> None:
    low, high = points.min(axis=0) - 0.2, points.max(axis=0) + 0.2
    axis.scatter(*points.T, s=9, color=_UNLABELLED, linewidths=0)
    if len(rows):
        x, y = (np.linspace(*ends, _GRID) for ends in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        second = fit(rows).predict_proba(grid)[:, 1].reshape(_GRID, _GRID)
        axis.contourf(x, y, second, levels=[-1, 0.5, 2], colors=_COLOURS, alpha=0.16, zorder=0)
        axis.contour(x, y, second, levels=[0.5], colors="black", linewidths=1.2)
        axis.scatter(*points[rows[-1:]].T, s=150, facecolors="none", edgecolors="black", linewidths=1.5)
    for number, (colour, marker) in enumerate(zip(_COLOURS, _MARKERS, strict=True)):
        chosen = points[rows[labels[rows] == number]]
        axis.scatter(*chosen.T, s=46, color=colour, marker=marker, edgecolors="white", zorder=3)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], aspect="equal")


class Explorer:
    """A slider for the number of labels and a menu of strategies; each move draws the boundary anew.

    Parameters
    ----------
    points, labels, fit
        As for `boundaries`.
    paths : mapping of str to sequence of int
        For each strategy the rows that it has labelled, first to last.
    accuracy : callable
        Returns the accuracy, from 0 to 1, of a model that has learnt from some rows.
    count : int
        Number of labels at the start.

    Attributes
    ----------
    labels, strategy : ipywidgets.IntSlider, ipywidgets.Dropdown
        What is moved.
    picture : ipywidgets.HTML
        What changes.

    Raises
    ------
    ValueError
        If there are no paths, or the paths differ in length.
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        paths: Mapping[str, Sequence[int]],
        fit: Callable[[Sequence[int]], Any],
        accuracy: Callable[[Sequence[int]], float],
        *,
        count: int,
    ) -> None:
        lengths = {name: len(path) for name, path in paths.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"the paths have the lengths {lengths}: pass at least one, and all of one length"
            )
        self._points, self._classes, self._paths = points, labels, dict(paths)
        self._fit, self._accuracy = fit, accuracy
        self._page = functools.cache(self._draw_page)
        self.strategy = Dropdown(options=list(paths), description="strategy")
        self.labels = IntSlider(count, 2, min(lengths.values()), description="labels")
        self.picture = HTML()
        for control in (self.strategy, self.labels):
            control.observe(self._update, "value")
        self._update()

    def show(self) -> None:
        """Display slider, menu and picture; a page without a kernel shows the picture alone."""
        box = VBox([HBox([self.strategy, self.labels]), self.picture])
        display(box._repr_mimebundle_() | {"text/html": self.picture.value}, raw=True)

    def _update(self, _: Any = None) -> None:
        self.picture.value = self._page(self.strategy.value, self.labels.value)

    def _draw_page(self, strategy: str, count: int) -> str:
        rows = self._paths[strategy][:count]
        text = f"{strategy}, {count} labels: right for {self._accuracy(rows):.0%} of the new points"
        buffer = io.BytesIO()
        boundaries(self._points, self._classes, {text: rows}, self._fit).savefig(buffer, dpi=110)
        image = base64.b64encode(buffer.getvalue()).decode()
        words = html.escape(f"The labelled points and the boundary. {text}.")
        return f'<img style="max-width: 100%" alt="{words}" src="data:image/png;base64,{image}">'
