"""Arrays of any size, scored and checked in blocks that stay in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Confidences come from float32 or float16 softmaxes and from JSON with four digits: their sums differ from 1 by
# at most this.
SUM_TOLERANCE = 1e-3

# Elements worked on at once: a few float32 temporaries of this size stay in the processor's cache.
CHUNK_ELEMENTS = 1 << 17

# With at least this many classes numpy's reductions along rows of memory are fast. Rows of fewer classes are
# transposed, the records last.
WIDE = 64

# The fewest records of a transposed block, so that each step works on whole rows of memory.
_TRANSPOSED_RECORDS = 128


class ScoreError(ValueError):
    """Raised for an array that cannot be scored; the message names the row, its value and the way out.

    Parameters
    ----------
    message : str
        The message.
    row : int or None
        The first wrong row, if it is one row.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class Block(NamedTuple):
    """Some records, float32: (n, C) or (n, S, C) for many classes, transposed to (C, n) or (S, C, n) for few.

    ``classes`` is the axis of the classes; the axis of the samples comes before it. No value is below ``lowest``. The
    values may be the caller's own memory: nothing may write into them.
    """

    values: np.ndarray
    classes: int
    lowest: float = -math.inf


Kernel = Callable[[Block], np.ndarray]
#: Takes a block and its first row, and raises if a record is wrong; else returns the block, perhaps with more known.
Check = Callable[[Block, int], Block]


def map_confidences(confidences: ArrayLike, kernel: Kernel) -> np.ndarray:
    """Check (N, C) confidences and apply a kernel to them in blocks."""
    given = numbers(confidences, "confidences")
    if given.ndim != 2 or given.shape[1] < 2:
        raise ScoreError(f"confidences must have shape (N, C) with C at least 2, got {given.shape}")
    return map_blocks(given, kernel, lambda block, row: _check_sums(block, "confidences", row))


def map_samples(samples: ArrayLike, kernel: Kernel) -> np.ndarray:
    """Check (N, S, C) samples and apply a kernel to them in blocks."""
    given = numbers(samples, "samples")
    if given.ndim != 3 or given.shape[1] < 2 or given.shape[2] < 2:
        numbers_of = "; score the numbers of a regression by regression_variance, the strategy spread"
        raise ScoreError(
            "samples must have shape (N, S, C) with at least 2 passes or members and at least 2 classes, "
            f"got {given.shape}{numbers_of if given.shape[2:] == (1,) else ''}"
        )
    return map_blocks(given, kernel, lambda block, row: _check_sums(block, "samples", row))


def map_vectors(vectors: ArrayLike, name: str, kernel: Kernel) -> np.ndarray:
    """Check (N, D) vectors and apply a kernel to them in blocks."""
    given = numbers(vectors, name)
    if given.ndim != 2 or given.shape[1] < 1:
        raise ScoreError(f"{name} must have shape (N, D) with D at least 1, got {given.shape}")
    return map_blocks(
        given,
        kernel,
        lambda block, row: _all_finite(block, name, row),
    )


def chunks(given: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows that stay in the processor's cache."""
    step = max(1, CHUNK_ELEMENTS // max(1, math.prod(given.shape[1:])))
    for start in range(0, len(given), step):
        yield slice(start, start + step)


def unmasked(values: ArrayLike, name: str) -> np.ndarray:
    """Return the values as an array, none of which is masked."""
    if np.ma.is_masked(values):
        row = int(np.argwhere(np.ma.getmaskarray(values))[0][0])
        raise ScoreError(f"row {row} of {name} is masked; leave the record out or compute it again", row)
    return np.asarray(values)


def numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Return the values as an array of real numbers, without a copy if they are one."""
    given = unmasked(values, name)
    if given.dtype == object and hasattr(values, "to_numpy"):  # pandas' types that know missing values
        given = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if given.dtype.kind not in "fiu":
        raise ScoreError(
            f"{name} must be an array of real numbers, all rows of one length, got {given.dtype} values"
        )
    return given


def map_blocks(given: np.ndarray, kernel: Kernel, check: Check) -> np.ndarray:
    """Apply a kernel to the records of an array, a block at a time, after checking each block."""
    result = np.empty(len(given), dtype=np.float32)
    width = max(1, math.prod(given.shape[1:]))
    wide = given.shape[-1] >= WIDE
    step = max(1 if wide else _TRANSPOSED_RECORDS, CHUNK_ELEMENTS // width)
    buffer = None if wide else np.empty(width * max(2, min(step, len(given))), dtype=np.float32)
    for start in range(0, len(given), step):
        rows = given[start : start + step]
        if buffer is None:
            block = Block(np.ascontiguousarray(rows, dtype=np.float32), rows.ndim - 1)
        else:
            block = _transposed(rows, buffer)
        result[start : start + len(rows)] = kernel(check(block, start))[: len(rows)]
    return result


def _transposed(rows: np.ndarray, buffer: np.ndarray) -> Block:
    """Return a block of the rows with the records last, written into the buffer.

    A single record is repeated: numpy sums a single column in another order than several columns, and no bit of a
    record's score may depend on the records beside it.
    """
    count = max(2, len(rows))
    values = buffer[: rows[0].size * count].reshape(*rows.shape[1:], count)
    np.copyto(values, np.moveaxis(rows, 0, -1), casting="same_kind")  # a single record fills two columns
    return Block(values, rows.ndim - 2)


def first_wrong(block: Block) -> tuple[int, str, str] | None:
    """Return the first record of a block :func:`with_lowest` that is not valid, its sample and the problem, or None."""
    values, axis = block.values, block.classes
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are found below
        if axis == values.ndim - 1:
            sums = np.vecdot(values, np.ones(values.shape[-1], dtype=np.float32))
        else:
            sums = np.add.reduce(values, axis=axis)
    # Three numbers decide whether all are valid. NaN makes every comparison false.
    if not sums.size or (
        block.lowest >= 0 and sums.min() >= 1 - SUM_TOLERANCE and sums.max() <= 1 + SUM_TOLERANCE
    ):
        return None
    good = (np.abs(sums - 1) <= SUM_TOLERANCE) & (values.min(axis=axis) >= 0)
    if good.all():
        return None
    if axis < values.ndim - 1:
        good, values = np.moveaxis(good, -1, 0), np.moveaxis(values, -1, 0)
    record, *sample = np.argwhere(~good)[0].tolist()
    return record, "".join(f", sample {number}," for number in sample), _problem(values[record, *sample])


def _problem(values: np.ndarray) -> str:
    """Return what is wrong with the (C,) values of a record, and the way out."""
    if not np.isfinite(values).all():
        return "holds NaN or infinity; leave the record out or predict it again"
    if (values < 0).any():
        return (
            f"holds the negative number {values.min():.6g}; logits go through confidences_from_logits first"
        )
    if values.max() <= 1:  # as sigmoids are
        labels = "score labels that do not exclude each other by label_uncertainty; "
    else:
        labels = ""
    return f"sums to {values.sum():.6g}, not 1; {labels}logits go through confidences_from_logits first"


def with_lowest(block: Block) -> Block:
    """Return the block with its lowest value, NaN if there is a NaN."""
    return block._replace(lowest=float(block.values.min())) if block.values.size else block


def _check_sums(block: Block, name: str, first_row: int) -> Block:
    block = with_lowest(block)
    if (wrong := first_wrong(block)) is not None:
        record, sample, problem = wrong
        row = first_row + record
        raise ScoreError(f"row {row} of {name}{sample} {problem}", row)
    return block


def _all_finite(block: Block, name: str, first_row: int) -> Block:
    check_finite(block.values if block.classes else block.values.T, name, first_row)
    return block


def check_finite(rows: np.ndarray, name: str, first_row: int = 0) -> None:
    """Raise if a number is not finite; the first axis is that of the rows."""
    if np.isfinite(rows).all():
        return
    good = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    row = first_row + int(np.flatnonzero(~good)[0])
    raise ScoreError(
        f"row {row} of {name} holds NaN or infinity; leave the record out or compute it again", row=row
    )
