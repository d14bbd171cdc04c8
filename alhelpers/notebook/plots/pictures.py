"""Images, and maps of points."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from alhelpers.notebook.plots.style import (
    COLOURS,
    WIDEST,
    WIDTH,
    colours_of,
    ink,
    layer,
    legend_below,
    numbers,
    panels,
    same_length,
    styled,
)

# The sides of the grid of points at which the regions of a classifier are asked for, and their shades: a picture of
# few colours is small, and keeps its colours in a palette.
_GRID, _SHADES = 120, 5
Regions = Callable[[np.ndarray], ArrayLike] | ArrayLike


@styled
def contact_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    frames: Sequence[str | None] = (),
    colours: Mapping[str, str] | None = None,
    row_names: Sequence[str] = (),
    columns: int = 10,
    dark: bool = True,
) -> Figure:
    """Draw images in rows, with titles and coloured frames.

    Parameters
    ----------
    images : sequence of arrays of shape (H, W), (H, W, 1) or (H, W, 3)
        Grey levels or colours; sizes may differ. All grey images share one scale.
    titles : sequence of str, optional
        One for each image.
    frames : sequence of str or None, optional
        For each image what its frame says, such as "wrong"; a legend explains the colours. None: no frame.
    colours : dict of str to str, optional
        The colour of each frame; the default takes them in turn.
    row_names : sequence of str, optional
        One for each row.
    columns : int
        Number of images in a row.
    dark : bool
        Whether higher grey levels are darker, as ink on paper.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images = [np.squeeze(image, 2) if np.shape(image)[2:] == (1,) else np.asarray(image) for image in images]
    bad = [image.shape for image in images if image.ndim != 2 and image.shape[2:] != (3,)]
    if not images or bad:
        found = f"an image of the shape {bad[0]}" if bad else "no images"
        raise ValueError(f"{found}: pass at least one image of the shape (H, W), (H, W, 1) or (H, W, 3)")
    for name, each in (("titles", titles), ("frames", frames)):
        if len(each):
            same_length(**{"images": len(images), name: len(each)})
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    if len(row_names):
        same_length(rows=rows, row_names=len(row_names))
    # A cell is one unit wide; the text above an image has a fixed height in inches.
    across = WIDEST if columns > 6 else 1.15 * columns + 0.2
    cell = (across - 0.2 - (0.085 * max(map(len, row_names), default=0))) / columns
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    pitch = 1.06 + lines * 0.16 / cell
    figure, (axis,) = panels(1, (across, cell * rows * pitch + 0.1 + (0.3 if any(frames) else 0)))
    kinds = dict.fromkeys(frame for frame in frames if frame is not None)
    colours = {**colours_of(kinds), **(colours or {})}
    scale = _grey_scale(images)
    for number, image in enumerate(images):
        corner = (number % columns, number // columns * pitch + pitch - 1)
        _draw_image(axis, image, corner, "gray_r" if dark else "gray", scale)
        if len(titles):
            axis.text(
                corner[0] + 0.47, corner[1] - 0.03, titles[number], ha="center", va="bottom", fontsize=9
            )
        if len(frames) and frames[number] is not None:
            axis.add_patch(
                Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=colours[frames[number]], linewidth=2.5)
            )
    axis.set(xlim=(-0.04, columns), ylim=(rows * pitch, 0 if lines else -0.02), aspect="equal", xticks=[])
    axis.set_yticks([row * pitch + pitch - 0.53 for row in range(len(row_names))], list(row_names))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if kinds:
        legend_below(
            figure,
            [
                Patch(facecolor="none", edgecolor=colours[kind], linewidth=2.5, label=str(kind))
                for kind in kinds
            ],
        )
    return figure


def _grey_scale(images: Sequence[np.ndarray]) -> tuple[float, float]:
    grey = [image for image in images if image.ndim == 2]
    if all(image.dtype == np.uint8 for image in grey):
        return 0, 255
    return min(float(image.min()) for image in grey), max(float(image.max()) for image in grey)


def _draw_image(
    axis: Axes, image: np.ndarray, corner: tuple[float, float], colours: str, scale: tuple[float, float]
) -> None:
    """Draw an image into a square of 0.94, in the middle of it if it is no square itself."""
    height, width = (0.94 * side / max(image.shape[:2]) for side in image.shape[:2])
    left, top = corner[0] + (0.94 - width) / 2, corner[1] + (0.94 - height) / 2
    options = {"cmap": colours, "vmin": scale[0], "vmax": scale[1]} if image.ndim == 2 else {}
    axis.imshow(image, extent=(left, left + width, top + height, top), **options)


@styled
def embedding_map(
    points: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    class_names: Sequence[str] = (),
    labelled: Any = (),
    picks: Any = (),
    regions: Regions | Mapping[str, Regions] | None = None,
    columns: int = 3,
    axes_names: tuple[str, str] | None = None,
) -> Figure:
    """Draw points in the plane: their classes, which are labelled, which are picked, and what a model predicts where.

    Each of ``labelled``, ``picks`` and ``regions`` may be a dict with a panel a name; panels of the same name are
    one, and what is no dict is in all of them.

    Parameters
    ----------
    points : array_like of shape (N, 2)
        Such as two principal components of embeddings, or inputs that are in the plane.
    classes : array_like of shape (N,), int, optional
        The class of each point; at most ten classes. None: all are grey.
    class_names : sequence of str, optional
        For the legend, and for the name that is written on each class where there is room.
    labelled : rows, or dict of str to rows
        Indices of points, or a mask. They have a black ring.
    picks : rows, or dict of str to rows
        Indices of points, or a mask. They have a black cross.
    regions : callable, array, or dict of str to one, optional
        A function that returns for points of shape (M, 2) their classes (M,) or confidences (M, C); or an array of
        classes (H, W) or confidences (H, W, C) over the span of the points, lowest row first. The plane has the
        colour of the class, paler where the confidence is lower, and black lines between the classes.
    columns : int
        Panels in a row.
    axes_names : tuple of str, optional
        Names of the two axes; without them the ticks are left out, as the numbers of an embedding mean nothing.

    Returns
    -------
    matplotlib.figure.Figure
    """
    points = numbers(points, "points", 2)
    if points.shape[1] != 2:
        raise ValueError(f"points have the shape {points.shape}: they must have 2 columns")
    colours, kinds = _class_colours(points, classes, class_names)
    names = [name for each in (labelled, picks, regions) if isinstance(each, Mapping) for name in each]
    names = list(dict.fromkeys(names)) or [""]
    columns = min(columns, len(names))
    width, size = WIDTH if columns == 1 else WIDEST, {1: 1.0, 2: 0.7}.get(columns, 0.45)
    height = (0.8 * width / columns + 0.2) * -(-len(names) // columns) + 0.4
    figure, axes = panels(len(names), (width, height), columns=columns, sharex=True, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        ringed, picked = (
            _rows(_of_panel(each, name, ()), len(points), what)
            for each, what in ((labelled, "labelled"), (picks, "picks"))
        )
        pale = {"alpha": 0.45 if len(picked) else 0.8, "linewidth": 0}
        axis.scatter(*points.T, c=colours, s=20 * size, zorder=2, **pale)
        axis.scatter(
            *points[ringed].T, c=colours[ringed], s=70 * size, linewidth=1.2 + 0.8 * size, **_LABELLED
        )
        axis.scatter(*points[picked].T, s=70 * size, **_PICKED)
        axis.set(title=name)
        axis.margins(0.05)
        axis.spines[:].set_visible(True)
        if axes_names is None:
            axis.set(xticks=[], yticks=[])
        else:
            axis.set(xlabel=axes_names[0], ylabel=axes_names[1])
            axis.label_outer()
    # When the limits are known.
    grounds = [
        _draw_regions(axis, _of_panel(regions, name, None), len(kinds))
        for axis, name in zip(axes, names, strict=True)
    ]
    _explain_map(figure, kinds, labelled, picks)
    if kinds:
        figure.draw_without_rendering()  # fixes the places
        for axis, name, ground in zip(axes, names, grounds, strict=True):
            marked = [_rows(_of_panel(each, name, ()), len(points), "marked") for each in (labelled, picks)]
            own = _in_own_region(axis, points, np.asarray(classes, dtype=int), ground)
            _name_classes(axis, points, own, kinds, np.concatenate(marked))
    return figure


_LABELLED = {"edgecolor": "black", "zorder": 4}
_PICKED = {"c": "black", "marker": "X", "edgecolor": "white", "linewidth": 0.8, "zorder": 5}


def _class_colours(
    points: np.ndarray, classes: ArrayLike | None, class_names: Sequence[str]
) -> tuple[np.ndarray, dict[str, str]]:
    """Return the colour of each point, and the names of the classes with theirs."""
    if classes is None:
        return np.array([to_rgb("#aaaaaa")] * len(points)), {}
    classes = numbers(classes, "classes", 1).astype(int)
    same_length(points=len(points), classes=len(classes))
    names = [str(name) for name in class_names] or [str(number) for number in range(classes.max() + 1)]
    if classes.min() < 0 or classes.max() >= len(names):
        raise ValueError(f"classes reach {classes.max()}: they must be from 0 to {len(names) - 1}")
    kinds = colours_of(names)
    return np.array([to_rgb(COLOURS[number]) for number in classes]), kinds


def _in_own_region(
    axis: Axes, points: np.ndarray, classes: np.ndarray, ground: np.ndarray | None
) -> np.ndarray:
    """Return the classes of points, -1 for those on the ground of another class, if their class has ground."""
    if ground is None:
        return classes
    low, high = np.transpose([axis.get_xlim(), axis.get_ylim()])
    sides = np.array(ground.shape[::-1])
    columns, rows = np.clip((points - low) / (high - low) * sides, 0, sides - 1).astype(int).T
    at_home = ground[rows, columns] == classes
    return np.where(at_home | ~np.isin(classes, classes[at_home]), classes, -1)


def _name_classes(
    axis: Axes, points: np.ndarray, classes: np.ndarray, kinds: Mapping[str, str], marked: np.ndarray
) -> None:
    """Write the name of each class on its point that is nearest to its middle and leaves marks and names free."""
    at = axis.transData.transform(points)
    taken = at[marked.astype(int)]
    frame, boxes = axis.get_window_extent(), []
    for number, (name, colour) in enumerate(kinds.items()):
        members = np.flatnonzero(classes == number)
        if not len(members):
            continue
        far = np.linalg.norm(points[members] - np.median(points[members], axis=0), axis=1)
        halo = [withStroke(linewidth=3, foreground="white")]
        look = {"color": ink(colour), "fontsize": 10, "fontweight": "bold", "path_effects": halo, "zorder": 6}
        text = axis.text(0, 0, name, ha="center", va="center", **look)
        for row in members[far.argsort()]:
            text.set_position(points[row])
            box = text.get_window_extent()
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not any(map(box.overlaps, boxes)) and not box.padded(5).count_contains(taken):
                boxes.append(box)
                break
        else:
            text.remove()  # the legend names it


def _of_panel(values: Any, name: str, default: Any) -> Any:
    return values.get(name, default) if isinstance(values, Mapping) else values


def _rows(rows: Any, count: int, what: str) -> np.ndarray:
    """Return row numbers of rows or of a mask."""
    rows = np.asarray(rows)
    if rows.dtype == bool:
        same_length(**{"points": count, what: len(rows)})
        return np.flatnonzero(rows)
    rows = rows.astype(int)
    if len(rows) and (rows.min() < 0 or rows.max() >= count):
        raise ValueError(f"{what} holds row {rows.max()}: there are {count} points")
    return rows


def _draw_regions(axis: Axes, regions: Regions | None, classes: int) -> np.ndarray | None:
    """Fill the plane by class and confidence, draw the lines where two classes are as likely; return the classes."""
    if regions is None:
        return None
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    if callable(regions):
        xs, ys = np.meshgrid(np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID))
        found = np.asarray(regions(np.column_stack([xs.ravel(), ys.ravel()])))
        if len(found) != _GRID**2:
            raise ValueError(
                f"regions returned {len(found)} rows for {_GRID**2} points: it must return one each"
            )
        found = found.reshape(_GRID, _GRID, *found.shape[1:])
    else:
        found = np.asarray(regions)
    if found.ndim == 2:
        found = np.eye(max(classes, int(found.max()) + 1))[found.astype(int)]
    if found.ndim != 3 or found.shape[2] > len(COLOURS) or found.shape[2] < 2:
        raise ValueError(
            f"regions have the shape {found.shape}: they must be classes, or confidences of 2 to 10"
        )
    found, count = found.astype(float), found.shape[2]
    sure = np.ceil((found.max(2) - 1 / count) / (1 - 1 / count) * _SHADES) / _SHADES
    ground = np.array([to_rgb(each) for each in COLOURS])[found.argmax(2)]
    picture = np.dstack([ground, 0.08 + 0.3 * sure])
    axis.imshow(
        picture,
        extent=(left, right, bottom, top),
        origin="lower",
        aspect="auto",
        zorder=0,
    )
    places = np.linspace(left, right, found.shape[1]), np.linspace(bottom, top, found.shape[0])
    for number in range(count if count > 2 else 1):
        lead = found[..., number] - np.delete(found, number, axis=2).max(2)
        if lead.min() < 0 < lead.max():
            axis.contour(*places, lead, levels=[0], colors="black", linewidths=1.2, zorder=1)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    return found.argmax(2)


def _explain_map(figure: Figure, kinds: Mapping[str, str], labelled: Any, picks: Any) -> None:
    def dot(name: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="", label=name, **look)

    handles = [dot(name, marker="o", color=colour, markersize=6) for name, colour in kinds.items()]
    if len(labelled):
        ring = {"markerfacecolor": "white", "markeredgecolor": "black", "markeredgewidth": 1.8}
        handles.append(dot("labelled", marker="o", markersize=7, **ring))
    if len(picks):
        handles.append(dot("picked", marker="X", color="black", markersize=7))
    legend_below(figure, handles, columns=7 if len(handles) == 7 else 6)  # no row of one


@styled
def passes(
    images: Sequence[np.ndarray],
    samples: ArrayLike,
    class_names: Sequence[str],
    titles: Sequence[str] = (),
    *,
    top: int = 2,
) -> Figure:
    """Draw for each image the confidences of its likeliest classes over the passes: a histogram a class.

    Parameters
    ----------
    images : sequence of N arrays of shape (H, W), (H, W, 1) or (H, W, 3)
    samples : array_like of shape (N, T, C)
        Confidences of T passes, or of the members of a committee.
    class_names : sequence of length C
    titles : sequence of length N, optional
    top : int
        How many classes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    samples = numbers(samples, "samples", 3)
    same_length(images=len(images), samples=len(samples))
    same_length(class_names=len(class_names), classes=samples.shape[2])
    if len(titles):
        same_length(images=len(images), titles=len(titles))
    figure, axes = panels(2 * len(images), (WIDTH, 1.7 * len(images) + 0.3), columns=2, width_ratios=[1, 3.6])
    for row, image in enumerate(images):
        picture, axis = axes[2 * row], axes[2 * row + 1]
        picture.imshow(image, cmap="gray_r")
        picture.axis("off")
        if len(titles):
            picture.set_title(titles[row])
        order = samples[row].mean(0).argsort()[::-1][:top]
        for place, number in enumerate(order):
            axis.hist(
                samples[row][:, number],
                bins=np.linspace(0, 1, 41),
                label=str(class_names[number]),
                **layer(place, COLOURS[place]),
            )
        axis.set(ylabel="passes", xlim=(-0.02, 1.02))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes[-1].set(xlabel="confidence in one pass")
    return figure
