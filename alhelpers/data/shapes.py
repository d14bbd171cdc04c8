"""Pictures of coloured shapes, drawn by chance: files to try things on that work with a folder of photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

#: The corners of each shape as angles in turns, and their distances from its middle.
_SHAPES = {
    "circle": [(turn / 40, 1.0) for turn in range(40)],
    "square": [(0.125 + turn / 4, 1.15) for turn in range(4)],
    "star": [(turn / 10, (1.25, 0.5)[turn % 2]) for turn in range(10)],
    "triangle": [(turn / 3, 1.2) for turn in range(3)],
}

# Drawn larger and shrunk, so that edges are smooth.
_FINER = 3


def write_shapes(
    folder: str | Path,
    count: int,
    *,
    labelled: bool = True,
    shares: Mapping[str, float] | None = None,
    size: int = 48,
    seed: int = 0,
) -> dict[str, str]:
    """Write pictures of circles, squares, stars and triangles, one shape each, in any colour, size and turn.

    A shape is lighter than what is behind it, and two lines cross the picture.

    Parameters
    ----------
    folder : path
        Created if missing. A labelled picture goes into the subfolder of its class, others into the folder itself.
    count : int
        How many pictures.
    labelled : bool
        Whether the pictures go into folders of their classes.
    shares : mapping of str to float, optional
        How often each class comes, such as ``{"circle": 0.9, "star": 0.1}``. The default is all alike.
    size : int
        Height and width in pixels.
    seed : int
        What is drawn, and the names of the files: two calls with different seeds never write the same file.

    Returns
    -------
    dict
        The class of each picture by its path below the folder, as :func:`alhelpers.data.folder` names it.

    Raises
    ------
    ValueError
        If the count, the size or a share is not positive, or a class is unknown.
    FileExistsError
        If a file of that name is there already; nothing is written then.
    """
    shares = dict.fromkeys(_SHAPES, 1.0) if shares is None else dict(shares)
    if count < 1 or size < 8:
        raise ValueError(f"count is {count} and size {size}: they must be at least 1 and 8")
    unknown = shares.keys() - _SHAPES.keys()
    if unknown or not shares or min(shares.values()) <= 0:
        raise ValueError(f"shares are {shares}: they must be above 0, of {', '.join(_SHAPES)}")
    draw = np.random.default_rng(seed)
    weights = np.array(list(shares.values())) / sum(shares.values())
    classes = draw.choice(list(shares), count, p=weights).tolist()
    # at least one of each, where there is room
    classes[: len(shares)] = list(shares)[:count]
    draw.shuffle(classes)
    names = [f"shape-{seed}-{number:05d}.png" for number in range(count)]
    paths = [f"{name}/{file}" if labelled else file for name, file in zip(classes, names, strict=True)]
    there = next((path for path in paths if (Path(folder) / path).exists()), None)
    if there is not None:
        raise FileExistsError(f"{Path(folder) / there} is there already: choose another seed or folder")
    for path, name in zip(paths, classes, strict=True):
        file = Path(folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _picture(name, size, draw).save(file)
    return dict(zip(paths, classes, strict=True))


def _picture(name: str, size: int, draw: np.random.Generator) -> Image.Image:
    """Draw one shape among stripes."""
    side = size * _FINER
    image = Image.new("RGB", (side, side), _colour(draw, 0, 90))
    canvas = ImageDraw.Draw(image)
    radius = side * draw.uniform(0.28, 0.4)
    middle = draw.uniform(radius, side - radius, 2)
    turn = draw.uniform()
    angles = np.array([2 * np.pi * (angle + turn) for angle, _ in _SHAPES[name]])
    distances = radius * np.array([distance for _, distance in _SHAPES[name]])
    corners = middle + distances[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    canvas.polygon([tuple(corner) for corner in corners.tolist()], fill=_colour(draw, 140, 256))
    for _ in range(2):
        ends = draw.uniform(-0.2, 1.2, 4) * side
        canvas.line(ends.tolist(), fill=_colour(draw, 60, 150), width=_FINER)
    return image.resize((size, size), Image.Resampling.BOX)


def _colour(draw: np.random.Generator, lowest: int, highest: int) -> tuple[int, ...]:
    return tuple(draw.integers(lowest, highest, 3).tolist())
