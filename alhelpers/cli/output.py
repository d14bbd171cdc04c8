"""What the commands share: what they print, their progress bar, and the types of their options."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alhelpers.data import Problem
    from alhelpers.mining import Selection

# Files that are left out and named each.
_NAMED = 5


def print_lines(lines: list[str], code: int) -> int:
    """Print lines; return the code, or that of a failure. It is not a failure if the reader, such as head, stops."""
    try:
        for line in lines:
            print(line)
        print(end="", flush=True)
    except (OSError, KeyboardInterrupt) as error:
        stop_output()
        return code if isinstance(error, BrokenPipeError) else fail(f"stopped printing: {error!r}")
    return code


def stop_output() -> None:
    """Discard what is still to be printed: Python flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function that draws a progress bar on a terminal, and None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit="", unit_scale=True) as bar:

        def show(done: int, total: int) -> None:
            if total != bar.total or done < bar.n:  # the next strategy of a plan starts
                bar.reset(total)
            bar.update(done - bar.n)

        yield show


def local(text: str) -> Path:
    """Parse the path of a local file."""
    if "://" in text or text == "-" or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"must be a local file, got {text!r}")
    return Path(text)


def boxes(text: str) -> float:
    """Parse a number of boxes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of boxes above 0, got {text!r}")
    return value


def count(text: str) -> int:
    """Parse a number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seed_of(text: str) -> int:
    """Parse a number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def names_of(text: str) -> list[str]:
    """Parse class names with commas between them."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"must be distinct names with commas between them, got {text!r}")
    return names


def fail(error: object, code: int = 1) -> int:
    """Print an error in one line; return the exit code."""
    say(f"error: {error}")
    return code


def boxes_of(selection: "Selection", asked: int) -> dict[str, float | bool]:
    """Return how many boxes are expected on picks, the most that may be, and whether these ended the picks early."""
    meta = selection.meta
    if "expected_boxes" not in meta:
        return {}
    found = {"expected_boxes": meta["expected_boxes"]}
    if "max_boxes" not in meta:
        return found
    ended = len(selection.ids) < min(asked, meta["pool"])
    return {**found, "max_boxes": meta["max_boxes"], "ended_by_boxes": ended}


def boxes_said(found: Mapping[str, float | bool]) -> str:
    """Return in words what :func:`boxes_of` returns."""
    if not found:
        return ""
    most = f" of at most {found['max_boxes']:g}" if "max_boxes" in found else ""
    ended = ", which ended the picks" if found.get("ended_by_boxes") else ""
    return f", {found['expected_boxes']:.4g} boxes expected{most}{ended}"


def say_left_out(problems: Sequence["Problem"], more: str = "files that cannot be read") -> None:
    """Print which files are left out: the first few with the reason, and how many more there are."""
    for problem in problems[:_NAMED]:
        say(f"left out: {problem.id} ({problem.kind}: {problem.reason})")
    if len(problems) > _NAMED:
        say(f"left out: {len(problems) - _NAMED} more {more}")


def say(text: str) -> None:
    """Print a line for people, beside the output; what follows goes on if nobody reads it."""
    try:
        print(" ".join(text.split()), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
