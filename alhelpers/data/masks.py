"""Masks in the forms of COCO's files: polygons, and run lengths as numbers or as one text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from alhelpers.data.box_rows import ROUNDED
from alhelpers.data.images import size_pair
from alhelpers.data.polygons import fill_polygon

# Bits of a run length in one character of its text, the character of 0, and the bits for "more follow" and the sign.
_BITS, _ZERO, _MORE, _SIGN = 5, 48, 0x20, 0x10


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask as run lengths, as COCO's files and pycocotools have them.

    Parameters
    ----------
    mask : array_like of shape (H, W)
        True, or not 0, where the object is.

    Returns
    -------
    dict
        ``size``, [H, W], and ``counts``, a text: the lengths of the runs of zeros and ones in turn, zeros first, down
        the columns, from the fourth on as differences to the last but one.

    Raises
    ------
    ValueError
        If the mask is not of two dimensions, or empty.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"the mask has the shape {mask.shape}: it must be (H, W)")
    flat = mask.ravel(order="F") != 0
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0, 0] if flat[0] else [0], starts]), append=flat.size)
    return {"size": list(mask.shape), "counts": _to_text(counts)}


def decode_mask(
    segmentation: Any, height: int, width: int, *, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the mask of an object from its segmentation in COCO's form.

    A pixel is in a polygon if its centre is; several polygons are one mask.

    Parameters
    ----------
    segmentation : list of list of float, or dict
        Polygons x, y, x, y, ... in pixels, or run lengths: ``size`` and ``counts``, a text or numbers.
    height, width : int
        Of the image that the segmentation is of.
    size : (int, int), optional
        Height and width to which the mask is resized: polygons before they are filled, run lengths after.

    Returns
    -------
    numpy.ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If the segmentation is of another form or size, a polygon has fewer than three points, or is not finite or not
        inside of the image; the message says which.
    """
    shown = (height, width) if size is None else size_pair(size)
    lengths = check_segmentation(segmentation, height, width)
    if lengths is None:
        mask = np.zeros(shown, dtype=bool)
        for polygon in scale_polygons(segmentation, shown[0] / height, shown[1] / width):
            mask |= fill_polygon(polygon, *shown)
        return mask
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    return resize_mask(mask, shown)


def resize_segmentation(segmentation: Any, height: int, width: int, size: tuple[int, int]) -> Any:
    """Return a segmentation of an image as it is at another height and width, in the same form."""
    if (height, width) == size:
        return segmentation
    if isinstance(segmentation, Mapping):
        return encode_mask(decode_mask(segmentation, height, width, size=size))
    return scale_polygons(segmentation, size[0] / height, size[1] / width)


def scale_polygons(polygons: Sequence[Sequence[float]], down: float, right: float) -> list[list[float]]:
    """Return polygons with their x and y multiplied."""
    if down == right == 1:
        return [list(polygon) for polygon in polygons]
    return [(np.reshape(polygon, (-1, 2)) * (right, down)).ravel().tolist() for polygon in polygons]


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask (H, W) at another height and width: the pixels of which it covers half or more."""
    if mask.shape == tuple(size):
        return mask
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(shares) >= 128


def check_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """Return run lengths as numbers, or None for polygons; raise a ValueError if it is neither of such an image."""
    if isinstance(segmentation, Mapping):
        return _check_counts(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("must be a list of polygons, or an object with size and counts")
    for polygon in segmentation:
        _check_polygon(polygon, height, width)
    return None


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        raise ValueError(f"has the polygon {polygon!r}, which must be a list of numbers x, y, x, y, ...")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            f"has a polygon of {len(polygon)} numbers, which must be x, y of at least three points"
        )
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in polygon):
        raise ValueError("has a polygon with a value that is not a finite number")
    beyond = max(-min(polygon), max(polygon[::2]) - width, max(polygon[1::2]) - height)
    if beyond > ROUNDED:
        raise ValueError(
            f"has a polygon that reaches {beyond:g} pixels beyond its image, {width} wide and {height} high"
        )


def _check_counts(segmentation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, Sequence) or list(size) != [height, width]:
        raise ValueError(f"has a mask of size {size}, but its image has [{height}, {width}]")
    try:
        lengths = _counts_of(counts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"has counts that are not run lengths: {error}") from error
    total = sum(lengths.tolist())  # in Python's integers, which do not overflow
    if (lengths < 0).any() or total != height * width:
        raise ValueError(
            f"has run lengths of {total} pixels, but its image has {height * width}: none may be below 0"
        )
    return lengths


def _counts_of(counts: Any) -> np.ndarray:
    """Return run lengths from a text or a list of whole numbers."""
    if isinstance(counts, str | bytes):
        return _from_text(counts if isinstance(counts, bytes) else counts.encode("ascii"))
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise TypeError("they must be a text or a list of whole numbers")
    return lengths.astype(np.int64)


def _to_text(counts: np.ndarray) -> str:
    """Return run lengths as COCO's text: differences from the fourth on, 5 bits a character, the lowest first."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    columns, follows = [], []
    more = np.ones(len(rest), dtype=bool)
    while more.any():
        bits = rest & (_MORE - 1)
        rest = rest >> _BITS
        follows.append(more)
        more = more & np.where(bits & _SIGN, rest != -1, rest != 0)
        columns.append(bits + np.where(more, _MORE, 0) + _ZERO)
    characters = np.stack(columns, axis=1)[np.stack(follows, axis=1)]
    return characters.astype(np.uint8).tobytes().decode("ascii")


def _from_text(text: bytes) -> np.ndarray:
    values = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _ZERO
    ends = np.flatnonzero((values & _MORE) == 0)
    if (
        not len(values)
        or values.min() < 0
        or values.max() >= 2 * _MORE
        or ends[-1:].tolist() != [len(values) - 1]
    ):
        raise ValueError("the text is not complete")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError("a number is too large")
    shifts = _BITS * (np.arange(len(values)) - np.repeat(starts, lengths))
    counts = np.add.reduceat((values & (_MORE - 1)) << shifts, starts)
    counts -= np.where(values[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    for parity in (1, 2):
        counts[parity::2] = np.cumsum(counts[parity::2])
    return counts
