"""Scores of semantic segmentation: maps of pixel scores, and their reductions to images and regions."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores._blocks import (
    CHUNK_ELEMENTS,
    Block,
    ScoreError,
    check_finite,
    first_wrong,
    numbers,
    unmasked,
    with_lowest,
)
from alhelpers.scores._kernels import OF_CONFIDENCES, OF_SAMPLES


def pixel_map(predictions: ArrayLike, score: str) -> np.ndarray:
    """Score every pixel by a score of classification.

    Parameters
    ----------
    predictions : array_like of shape (N, C, H, W) or (N, T, C, H, W)
        Confidences of one prediction, or samples of T passes or members; the classes of each pixel sum to 1.
    score : str
        Of confidences ``"least_confidence"``, ``"margin"`` or ``"entropy"``; of samples ``"predictive_entropy"``,
        ``"mean_margin"``, ``"bald"``, ``"variance"``, ``"variation_ratio"``, ``"vote_entropy"``,
        ``"consensus_kl"`` (the mean over the members) or ``"consensus_kl_max"``, as the functions of these
        names.

    Returns
    -------
    numpy.ndarray of shape (N, H, W), float32
        Higher means label it first. :func:`over_pixels` and :func:`over_regions` reduce it.

    Raises
    ------
    ScoreError
        If the score does not fit the shape, or confidences are not valid; the message names the image and the pixel.

    References
    ----------
    Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017.
    """
    given = numbers(predictions, "predictions")
    kernels = {4: OF_CONFIDENCES, 5: OF_SAMPLES}.get(given.ndim)
    classes = given.ndim - 3
    if kernels is None or given.shape[classes] < 2 or (given.ndim == 5 and given.shape[1] < 2):
        raise ScoreError(
            "predictions must be confidences (N, C, H, W) or samples (N, T, C, H, W), with at least 2 classes and at "
            f"least 2 passes or members, got shape {given.shape}"
        )
    if score not in kernels:
        form = "confidences (N, C, H, W)" if given.ndim == 4 else "samples (N, T, C, H, W)"
        raise ScoreError(f"score of {form} must be one of {', '.join(kernels)}, got {score!r}")
    maps = np.empty((len(given), given.shape[-2], given.shape[-1]), dtype=np.float32)
    step = max(1, CHUNK_ELEMENTS // max(1, math.prod(given.shape[1:-2]) * given.shape[-1]))
    for image in range(len(given)):
        for top in range(0, given.shape[-2], step):
            lines = np.ascontiguousarray(given[image, ..., top : top + step, :], dtype=np.float32)
            # pixels are records on the last axis: flattened, so that each step works on whole lines
            block = with_lowest(Block(lines.reshape(*lines.shape[:-2], -1), classes - 1))
            _check_pixels(block, image, top, given.shape[-1])
            maps[image, top : top + step] = kernels[score](block).reshape(lines.shape[-2:])
    return maps


def over_pixels(
    maps: ArrayLike, how: Literal["mean", "top_k"] = "mean", *, k: float | None = None
) -> np.ndarray:
    """Reduce maps to one score per image.

    Parameters
    ----------
    maps : array_like of shape (N, H, W)
        Pixel scores, as returned by :func:`pixel_map`.
    how : {"mean", "top_k"}
        The mean of all pixels, in which small objects hardly count, or of the ``k`` highest pixels.
    k : int or float
        For ``"top_k"``: a number of pixels from 1 to H * W, or a share of them above 0 and below 1, rounded up.

    Returns
    -------
    numpy.ndarray of shape (N,), float32
        Higher means label it first.

    Raises
    ------
    ScoreError
        If the shape, ``how`` or ``k`` is not valid, or a map is not finite; the message names the image.
    """
    given = _maps(maps)
    flat = given.reshape(len(given), given.shape[1] * given.shape[2])
    if how == "mean":
        if k is not None:
            raise ScoreError(f'k is allowed only with how="top_k", got {k!r} with how="mean"')
        return flat.mean(axis=1, dtype=np.float64).astype(np.float32)
    if how != "top_k":
        raise ScoreError(f'how must be "mean" or "top_k", got {how!r}')
    rest = flat.shape[1] - _pixels(k, flat.shape[1])
    result = np.empty(len(flat), dtype=np.float32)
    for image, values in enumerate(flat):
        result[image] = np.partition(values, rest)[rest:].mean(dtype=np.float64)
    return result


class RegionScores(NamedTuple):
    """The scores of regions, one row per region of each image, ordered by image and then by label.

    Attributes
    ----------
    image, region, pixels : numpy.ndarray of shape (R,), int64
        The number of the image, the label of the region in it, and the number of its pixels.
    score : numpy.ndarray of shape (R,), float32
        The sum or mean of the scores of its pixels.
    """

    image: np.ndarray
    region: np.ndarray
    pixels: np.ndarray
    score: np.ndarray


def over_regions(
    maps: ArrayLike,
    regions: ArrayLike,
    reduction: Literal["sum", "mean"] = "sum",
    *,
    ignore_label: int | None = None,
) -> RegionScores:
    """Reduce maps to one score per region, to select superpixels instead of images.

    Parameters
    ----------
    maps : array_like of shape (N, H, W)
        Pixel scores, as returned by :func:`pixel_map`.
    regions : array_like of shape (N, H, W), integers
        The label of each pixel's region. The same label in two images means two regions.
    reduction : {"sum", "mean"}
        The sum favours large regions and suits a price per region; the mean suits a price per pixel.
    ignore_label : int, optional
        Pixels with this label belong to no region.

    Returns
    -------
    RegionScores
        Rows of image, region, pixels and score.

    Raises
    ------
    ScoreError
        If a shape, a label or the reduction is not valid, or a map is not finite; the message names the image.
    """
    given, labels = _maps(maps), unmasked(regions, "regions")
    if labels.dtype.kind not in "iu" or labels.shape != given.shape:
        raise ScoreError(
            f"regions must be integers of the maps' shape {given.shape}, got {labels.dtype} of shape {labels.shape}"
        )
    if reduction not in ("sum", "mean"):
        raise ScoreError(f'reduction must be "sum" or "mean", got {reduction!r}')
    rows = [_regions_of(image, given[image], labels[image], ignore_label) for image in range(len(given))]
    if not rows:
        whole = np.empty(0, dtype=np.int64)
        return RegionScores(whole, whole, whole, np.empty(0, dtype=np.float32))
    image, region, pixels, total = (np.concatenate(column) for column in zip(*rows, strict=True))
    score = total / pixels if reduction == "mean" else total
    return RegionScores(image, region.astype(np.int64), pixels, score.astype(np.float32))


def _regions_of(
    image: int, values: np.ndarray, labels: np.ndarray, ignore_label: int | None
) -> tuple[np.ndarray, ...]:
    """Return image, region, pixels and sum of each region of one image."""
    found, place, pixels = np.unique(labels, return_inverse=True, return_counts=True)
    total = np.bincount(place.ravel(), weights=values.ravel(), minlength=len(found))
    kept = found != ignore_label if ignore_label is not None else np.ones(len(found), dtype=bool)
    return np.full(kept.sum(), image), found[kept], pixels[kept], total[kept]


def _maps(maps: ArrayLike) -> np.ndarray:
    given = numbers(maps, "maps")
    if given.ndim != 3 or 0 in given.shape[1:]:
        raise ScoreError(f"maps must have shape (N, H, W), got {given.shape}")
    check_finite(given, "maps")
    return given


def _pixels(k: float | None, size: int) -> int:
    """Return the number of pixels that k means."""
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if whole and 1 <= k <= size:
        return int(k)
    if isinstance(k, float | np.floating) and 0 < k < 1:
        return math.ceil(float(k) * size)
    raise ScoreError(
        f"k must be a whole number of pixels from 1 to {size}, or a share of them above 0 and below 1, got {k!r}"
    )


def _check_pixels(block: Block, image: int, top: int, width: int) -> None:
    if (wrong := first_wrong(block)) is not None:
        pixel, sample, problem = wrong
        place = f"{sample or ','} pixel ({top + pixel // width}, {pixel % width})"
        raise ScoreError(f"row {image} of predictions{place}, {problem}", image)
