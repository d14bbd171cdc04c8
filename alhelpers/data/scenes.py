"""Digit scenes: real handwritten digits in colour on crops of photographs, with boxes and masks, drawn from a seed."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from alhelpers.data.masks import encode_mask
from alhelpers.data.object_set import ObjectSet
from alhelpers.data.objects import Objects
from alhelpers.data.sets import load

# A pixel of a digit is ink from this share of its colour on.
_INK = 0.4
# Tries to find a place for an object where it hides no other too much.
_TRIES = 12
# How many colours are drawn, of which the one that is seen best is taken.
_COLOURS = 4
# The least size of a scene, and the least side of an object, in pixels.
_LEAST_SIZE, _LEAST_SIDE = 16, 3
# The least visible ink of an object, in pixels.
_LEAST_INK = 12
# How many objects a scene has that is not empty, by chance.
_COUNTS, _CHANCES = (1, 2, 3), (0.5, 0.3, 0.2)


class _Look(NamedTuple):
    """What scenes are drawn with."""

    size: int
    sides: tuple[float, float]
    empty: float
    weights: np.ndarray
    clutter: float
    overlap: float
    occlusion: float
    faint: float
    shifted: float


class _Scene(NamedTuple):
    image: np.ndarray
    classes: list[int]
    masks: list[np.ndarray]


def scenes(
    count: int,
    *,
    seed: int = 0,
    size: int = 64,
    objects: str = "mnist",
    subset: Literal["train", "test"] = "train",
    class_names: Sequence[str] | None = None,
    frequencies: Mapping[str, float] | None = None,
    empty: float = 0.2,
    sides: tuple[float, float] = (0.3, 0.5),
    clutter: float = 0.15,
    overlap: float = 0.1,
    occlusion: float = 0.4,
    faint: float = 0.05,
    shifted: float = 0.0,
) -> ObjectSet:
    """Draw scenes: real digits in any colour and size on crops of a photograph, with boxes and masks.

    Parameters
    ----------
    count : int
        How many scenes. Scene i is the same whatever the count.
    seed : int
        What is drawn, from 0 on.
    size : int
        Height and width in pixels.
    objects : {"mnist", "digits", "fashion", ...}
        What is pasted: a data set of :func:`load`.
    subset : {"train", "test"}
        Whether images of its pool or of its test set are pasted: scenes of the two share none.
    class_names : sequence of str, optional
        The classes that are pasted, of those of ``objects``. None: all of them.
    frequencies : mapping of str to float, optional
        How often classes come, such as ``{"7": 0.05}`` for a rare one; 1 for those that it does not name.
    empty : float
        The share of scenes without an object.
    sides : (float, float)
        The least and the largest longer side of an object, in shares of ``size``; it has at least 3 pixels.
    clutter : float
        The mean number of strokes and blobs in a scene that do not belong to an object.
    overlap : float
        The share of objects that may be put over others; the boxes of the rest keep apart, where there is room.
    occlusion : float
        The largest share of an object that others may hide. Boxes and masks are of what can be seen.
    faint : float
        The share of objects whose colour is close to that of what is behind them.
    shifted : float
        The share of scenes out of the domain: on another photograph, darker, with noise, and with pale objects.

    Returns
    -------
    ObjectSet
        ``inputs(rows)`` are colours (B, 3, size, size), ``images`` the same as uint8 (N, size, size, 3).

    Raises
    ------
    ValueError
        If a number is out of its range, or a class is unknown.

    Notes
    -----
    The backgrounds are crops of one of the two photographs that come with scikit-learn, of the other one out of the
    domain. A scene that is not empty has one to three objects.

    Examples
    --------
    A pool as there are many: most images show nothing, and some classes are rare.

    >>> pool = scenes(20, empty=0.6, frequencies={"3": 0.2, "7": 0.2})
    >>> test = scenes(20, seed=1, subset="test")
    >>> pool.inputs().shape, pool.segmentation().labels().shape
    ((20, 3, 64, 64), (20, 64, 64))
    """
    for name, value, least in (("count", count, 1), ("size", size, _LEAST_SIZE), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: it must be a whole number of at least {least}")
    shares = {"empty": empty, "overlap": overlap, "occlusion": occlusion, "faint": faint, "shifted": shifted}
    for name, share in shares.items():
        if not _is_number(share) or not 0 <= share <= 1:
            raise ValueError(f"{name} is {share!r}: it must be from 0 to 1")
    if not _is_number(clutter) or not 0 <= clutter < np.inf:
        raise ValueError(f"clutter is {clutter!r}: it must be at least 0")
    _check_sides(sides, size)
    by_class = _pasted(objects, subset, class_names)
    weights, pasted = _weights(frequencies, [*by_class]), [*by_class.values()]
    reach = sides[0] * size, sides[1] * size
    look = _Look(size, reach, empty, weights, clutter, overlap, occlusion, faint, shifted)
    photographs = _photographs()
    drawn = [
        _scene(np.random.default_rng([seed, subset == "test", number]), look, pasted, photographs)
        for number in range(count)
    ]
    masks = [mask for scene in drawn for mask in scene.masks]
    found = Objects(
        np.full((count, 2), size),
        np.cumsum([0, *(len(scene.masks) for scene in drawn)]),
        np.array([_extent(mask) for mask in masks], dtype=float).reshape(-1, 4),
        np.array([label for scene in drawn for label in scene.classes], dtype=np.intp),
        np.zeros(len(masks), dtype=bool),
        tuple(encode_mask(mask) for mask in masks),
    )
    ids = [f"scene-{subset}-{seed}-{number:05d}" for number in range(count)]
    return ObjectSet("scenes", np.stack([scene.image for scene in drawn]), found, [*by_class], ids=ids)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_sides(sides: Any, size: int) -> None:
    if (
        not isinstance(sides, Sequence | np.ndarray)
        or len(sides) != 2
        or not all(map(_is_number, sides))
        or not 0 < sides[0] <= sides[1] <= 1
    ):
        raise ValueError(f"sides are {sides!r}: they must be two numbers that rise, above 0 and at most 1")
    if sides[1] * size < _LEAST_SIDE:
        raise ValueError(
            f"sides are {sides}, at most {sides[1] * size:.3g} of {size} pixels: an object has at least {_LEAST_SIDE},"
            " make the second or the size larger"
        )


def _pasted(objects: str, subset: str, class_names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return the images that are pasted by the names of their classes."""
    if subset not in ("train", "test"):
        raise ValueError(f"subset is {subset!r}: it must be 'train' or 'test'")
    taken = load(objects)[subset == "test"]
    by_class = {name: taken.images[taken.labels() == label] for label, name in enumerate(taken.class_names)}
    names = [*by_class] if class_names is None else [*class_names]
    if not names or len(set(names)) < len(names) or not set(names) <= by_class.keys():
        raise ValueError(f"class_names are {names}: they must be distinct classes of {', '.join(by_class)}")
    return {name: by_class[name] for name in names}


def _weights(frequencies: Mapping[str, float] | None, class_names: Sequence[str]) -> np.ndarray:
    if frequencies is not None and not isinstance(frequencies, Mapping):
        raise ValueError(f'frequencies are {frequencies!r}: they must be a dict, such as {{"7": 0.05}}')
    given = dict(frequencies or {})
    unknown = [name for name in given if name not in class_names]
    if unknown:
        raise ValueError(
            f"frequencies name {unknown[0]!r}, which is no class: choose among {', '.join(class_names)}"
        )
    numbers = [given.get(name, 1.0) for name in class_names]
    weights = np.array([number if _is_number(number) else np.nan for number in numbers], dtype=float)
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        raise ValueError(f"frequencies are {given}: they must be at least 0, and one above 0")
    return weights / weights.sum()


def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photograph) for photograph in load_sample_images().images]


def _scene(
    draw: np.random.Generator, look: _Look, by_class: list[np.ndarray], photographs: list[Image.Image]
) -> _Scene:
    shifted = draw.uniform() < look.shifted
    canvas = _background(draw, look.size, photographs[shifted], 0.5 if shifted else 1.0)
    for _ in range(draw.poisson(look.clutter)):
        _paste(canvas, _clutter(draw, look), _colour(draw, canvas, pale=shifted))
    inks: list[np.ndarray] = []
    least: list[float] = []  # the pixels of each that must stay visible
    classes: list[int] = []
    wanted = 0 if draw.uniform() < look.empty else int(draw.choice(_COUNTS, p=_CHANCES))
    for _ in range(wanted):
        label = int(draw.choice(len(by_class), p=look.weights))
        digit = _digit(draw, by_class[label], look)
        alpha = _place(draw, digit, inks, least if draw.uniform() < look.overlap else None, look.size)
        if alpha is None:
            continue
        colour = _colour(draw, canvas, alpha > _INK, pale=shifted)
        strength = draw.uniform(0.3, 0.45) if draw.uniform() < look.faint else draw.uniform(0.85, 1)
        _paste(canvas, alpha * strength, colour)
        ink = alpha > _INK
        inks = [one & ~ink for one in inks] + [ink]
        least.append(max(_LEAST_INK, (1 - look.occlusion) * np.count_nonzero(ink)))
        classes.append(label)
    canvas += draw.normal(0, 0.07 if shifted else 0.015, canvas.shape)
    return _Scene(np.round(canvas.clip(0, 1) * 255).astype(np.uint8), classes, inks)


def _background(draw: np.random.Generator, size: int, photo: Image.Image, light: float) -> np.ndarray:
    """Return a crop of a photograph, (size, size, 3) from 0 to 1."""
    side = int(draw.integers(64, 241))
    left, top = draw.integers(0, [photo.width - side + 1, photo.height - side + 1]).tolist()
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(crop, dtype=np.float32) / 255
    if draw.uniform() < 0.5:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels * (light * draw.uniform(0.7, 1.1)))


def _digit(draw: np.random.Generator, images: np.ndarray, look: _Look) -> np.ndarray:
    """Return an image of a class as shares of colour, cut to its ink, whose longer side is drawn by chance."""
    image = images[draw.integers(len(images))]
    left, top, right, bottom = _extent(image > 255 * _INK)
    scale = draw.uniform(*look.sides) / max(right - left, bottom - top)
    # a little beyond the ink, as its edges are soft
    box = (max(left - 1, 0), max(top - 1, 0), min(right + 1, image.shape[1]), min(bottom + 1, image.shape[0]))
    shape = (
        np.clip(np.round(np.subtract(box[2:], box[:2]) * scale), _LEAST_SIDE, look.size).astype(int).tolist()
    )
    grown = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC, box), dtype=np.float32)
    return grown / grown.max()  # thin strokes pale as they shrink


def _place(
    draw: np.random.Generator, digit: np.ndarray, inks: list[np.ndarray], least: list[float] | None, size: int
) -> np.ndarray | None:
    """Return an object on an empty canvas, or None if no place was found.

    Of each other object ``least`` pixels are left; without it, boxes do not overlap.
    """
    height, width = digit.shape
    taken = [_extent(ink) for ink in inks]
    for _ in range(_TRIES):
        top, left = draw.integers(0, [size - height + 1, size - width + 1]).tolist()
        alpha = np.zeros((size, size), dtype=np.float32)
        alpha[top : top + height, left : left + width] = digit
        above = alpha > _INK
        if least is None:
            apart = all(
                left + width <= one[0] or one[2] <= left or top + height <= one[1] or one[3] <= top
                for one in taken
            )
            if apart:
                return alpha
        elif all(np.count_nonzero(ink & ~above) >= few for ink, few in zip(inks, least, strict=True)):
            return alpha
    return None


def _clutter(draw: np.random.Generator, look: _Look) -> np.ndarray:
    """Return a stroke or a blob on an empty canvas, drawn larger and shrunk so that edges are smooth."""
    side = 3 * look.size
    image = Image.new("L", (side, side))
    canvas = ImageDraw.Draw(image)
    middle = draw.uniform(0, side, 2)
    reach = 3 * draw.uniform(*look.sides)
    if draw.uniform() < 0.5:
        # one wave, so that it looks unlike a stroke of a digit
        along = np.linspace(-1, 1, 24)
        across = draw.uniform(0.2, 0.5) * np.sin(np.pi * draw.uniform(1, 2) * along + draw.uniform(0, 6))
        turn = draw.uniform(0, np.pi)
        turned = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        points = middle + reach * np.stack([along, across], axis=1) @ turned
        thick = max(round(draw.uniform(4, 10) * look.size / 64), 1)
        canvas.line(points.ravel().tolist(), fill=255, width=thick, joint="curve")
    else:
        radii = reach * draw.uniform(0.15, 0.5, 2)
        canvas.ellipse([*(middle - radii).tolist(), *(middle + radii).tolist()], fill=255)
    shrunk = image.resize((look.size, look.size), Image.Resampling.BOX)
    return np.asarray(shrunk, dtype=np.float32) / 255


def _colour(
    draw: np.random.Generator, canvas: np.ndarray, ink: np.ndarray | None = None, *, pale: bool
) -> np.ndarray:
    """Return a colour from 0 to 1: of some drawn by chance, the one that differs most from what is behind the ink."""
    behind = canvas.mean((0, 1)) if ink is None else canvas[ink].mean(0)
    saturations = draw.uniform(0, 0.25, _COLOURS) if pale else draw.uniform(0.4, 1, _COLOURS)
    values = draw.uniform(0.1, 1, _COLOURS)
    colours = np.array(
        [colorsys.hsv_to_rgb(draw.uniform(), *each) for each in zip(saturations, values, strict=True)]
    )
    return colours[np.argmax(((colours - behind) ** 2).sum(1))].astype(np.float32)


def _paste(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    canvas += alpha[..., None] * (colour - canvas)


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is set in a mask."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
