"""Arrays of any size, cut into blocks that stay in the processor's cache, each checked before it is scored."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alhelpers.scores.errors import ScoreError

# Confidences come from float32 or float16 softmaxes and from JSON with four digits: their sums are this
# near to 1.
SUM_TOLERANCE = 1e-3

# Elements worked on at once: a few float32 temporaries of this size stay in the processor's cache.
CHUNK_ELEMENTS = 1 << 17

# From so many classes on, numpy's reductions along a row of memory no longer spend their time on starting,
# and rows are worked on as they lie. Fewer classes are turned around, the records last.
WIDE = 64

# From so many elements on, starting a thread for each core costs little beside the work.
THREADED_ELEMENTS = 1 << 20

# A turned block holds this many records at least, so that each step has whole rows of memory to work on.
_TURNED_RECORDS = 128


class Block(NamedTuple):
    """Some records, float32: (n, C) or (n, S, C) where C is wide, turned around as (C, n) or (S, C, n) where not.

    The values may be the caller's own memory: nothing may write into them.
    """

    values: np.ndarray
    classes: (
        int  # the axis of the classes; the axis before it, if there is one for them, is that of the samples
    )


Kernel = Callable[[Block], np.ndarray]
Check = Callable[[Block, int], None]


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
        raise ScoreError(
            "samples must have shape (N, S, C) with at least 2 passes or members and at least 2 classes, "
            f"got {given.shape}"
        )
    return map_blocks(given, kernel, lambda block, row: _check_sums(block, "samples", row))


def map_vectors(vectors: ArrayLike, name: str, kernel: Kernel) -> np.ndarray:
    """Check (N, D) vectors and apply a kernel to them in blocks."""
    given = numbers(vectors, name)
    if given.ndim != 2 or given.shape[1] < 1:
        raise ScoreError(f"{name} must have shape (N, D) with D at least 1, got {given.shape}")
    return map_blocks(given, kernel, lambda block, row: _check_finite_block(block, name, row))


def numbers(values: ArrayLike, name: str) -> np.ndarray:
    """Return the values as an array of real numbers, without a copy where they are one."""
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise ScoreError(
            f"{name} must be an array of real numbers, all rows of one length, got {given.dtype} values"
        )
    return given


def map_blocks(given: np.ndarray, kernel: Kernel, check: Check) -> np.ndarray:
    """Apply a kernel to the records of an array, a block at a time, after checking each block.

    Large arrays are cut into one run of blocks a core; numpy lets threads work side by side. Every record is scored
    by itself, so the number of threads changes nothing but the time.
    """
    result = np.empty(len(given), dtype=np.float32)
    width = max(1, int(np.prod(given.shape[1:])))
    wide = given.shape[-1] >= WIDE
    step = max(1 if wide else _TURNED_RECORDS, CHUNK_ELEMENTS // width)

    def run(first: int, last: int) -> None:
        room = None if wide else np.empty(width * max(2, min(step, last - first)), dtype=np.float32)
        for start in range(first, last, step):
            rows = given[start : min(start + step, last)]
            block = _rows_as_they_lie(rows) if room is None else _turned(rows, room)
            check(block, start)
            result[start : start + len(rows)] = kernel(block)[: len(rows)]

    threads = min(_cores(), len(given) // step) if given.size >= THREADED_ELEMENTS else 1
    if threads < 2:
        run(0, len(given))
        return result
    bounds = [len(given) * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(run, first, last) for first, last in zip(bounds, bounds[1:], strict=False)]
    for finished in runs:  # in order, so that of several records at fault the first is named
        finished.result()
    return result


def _cores() -> int:
    """Return how many cores this process may use: fewer where OMP_NUM_THREADS says so, as for other libraries."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(asked)) if asked.isdecimal() and int(asked) else there


def _rows_as_they_lie(rows: np.ndarray) -> Block:
    """Return a block of the rows, without a copy where they are float32."""
    return Block(np.ascontiguousarray(rows, dtype=np.float32), rows.ndim - 1)


def _turned(rows: np.ndarray, room: np.ndarray) -> Block:
    """Return a block of the rows with the records last, written into the room.

    One record comes twice: numpy adds up a single column in another order than columns side by side, and a record's
    score may not depend, not even in its last bit, on what it is scored with.
    """
    count = max(2, len(rows))
    values = room[: rows[0].size * count].reshape(*rows.shape[1:], count)
    np.copyto(values, np.moveaxis(rows, 0, -1), casting="same_kind")  # one record is spread over two
    return Block(values, rows.ndim - 2)


# ------------------------------------------------------------------------------
# checks
# ------------------------------------------------------------------------------


def bad_sums(block: Block) -> np.ndarray | None:
    """Return where confidences are negative, not finite or do not sum to 1; None where all are good.

    Parameters
    ----------
    block : Block
        Confidences or samples.

    Returns
    -------
    numpy.ndarray of bool or None
        The block's shape without the axis of the classes.
    """
    values, axis = block
    with np.errstate(invalid="ignore", over="ignore"):  # what the warning would say is what this finds out
        if axis == values.ndim - 1:
            sums = np.vecdot(values, np.ones(values.shape[-1], dtype=np.float32))
        else:
            sums = np.add.reduce(values, axis=axis)
    # Three numbers tell whether all is well. Comparisons are written so that NaN fails: with it all are false.
    if not sums.size or (
        values.min() >= 0 and sums.min() >= 1 - SUM_TOLERANCE and sums.max() <= 1 + SUM_TOLERANCE
    ):
        return None
    good = (np.abs(sums - 1) <= SUM_TOLERANCE) & (values.min(axis=axis) >= 0)
    return None if good.all() else ~good


def what_is_wrong(values: np.ndarray) -> str:
    """Say what is wrong with the (C,) values of a record, and the way out."""
    if not np.isfinite(values).all():
        return "holds NaN or infinity; leave the record out or predict it again"
    if (values < 0).any():
        return (
            f"holds the negative number {values.min():.6g}; logits go through confidences_from_logits first"
        )
    return f"sums to {values.sum():.6g}, not 1; logits go through confidences_from_logits first"


def _check_sums(block: Block, name: str, first_row: int) -> None:
    """Raise unless every record of a block holds confidences: not negative, summing to 1."""
    bad = bad_sums(block)
    if bad is None:
        return
    turned = block.classes < block.values.ndim - 1
    bad, values = (np.moveaxis(array, -1, 0) if turned else array for array in (bad, block.values))
    record, *sample = np.argwhere(bad)[0].tolist()
    place = f"row {first_row + record} of {name}" + "".join(f", sample {number}," for number in sample)
    raise ScoreError(f"{place} {what_is_wrong(values[record, *sample])}", row=first_row + record)


def _check_finite_block(block: Block, name: str, first_row: int) -> None:
    """Raise unless every number of a block of vectors is finite."""
    check_finite(block.values if block.classes else block.values.T, name, first_row)


def check_finite(rows: np.ndarray, name: str, first_row: int = 0) -> None:
    """Raise unless every number of the rows is finite; the first axis is that of the rows."""
    if np.isfinite(rows).all():
        return
    good = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    row = first_row + int(np.flatnonzero(~good)[0])
    raise ScoreError(
        f"row {row} of {name} holds NaN or infinity; leave the record out or compute it again", row=row
    )
