"""The progress of a sweep, with an estimate of the time left."""

import sys
import time
from collections.abc import Callable

#: Where lines are not overwritten: how many of them a sweep prints at most.
_MAX_LINES = 20


class Progress:
    """Report the progress of runs, some of them finished before: one changing line on a terminal, else a few lines."""

    def __init__(self, total: int, done: int, say: Callable[[str], None] | None) -> None:
        self.total, self.done, self.failed = total, done, 0
        self._before, self._started = done, time.monotonic()
        self._overwrites = say is None and sys.stderr.isatty()
        self._say = say or _print

    def step(self, *, failed: bool) -> None:
        """Count a finished run."""
        self.done += 1
        self.failed += failed
        if self._overwrites:
            sys.stderr.write(f"\r\x1b[K{self._line()}" + "\n" * (self.done == self.total))
            sys.stderr.flush()
        elif (
            self.done == self.total
            or self.done * _MAX_LINES // self.total > (self.done - 1) * _MAX_LINES // self.total
        ):
            self._say(self._line())

    def _line(self) -> str:
        width = 20
        filled = width * self.done // self.total
        failed = f", {self.failed} failed" if self.failed else ""
        elapsed = time.monotonic() - self._started
        if self.done == self.total:
            rest = f"after {duration(elapsed)}"
        else:
            rest = f"about {duration(elapsed / (self.done - self._before) * (self.total - self.done))} left"
        return f"[{'#' * filled}{'.' * (width - filled)}] {self.done} of {self.total} runs{failed}, {rest}"

    def note(self, text: str) -> None:
        """Print a line of its own."""
        if self._overwrites:
            sys.stderr.write("\r\x1b[K")
        self._say(text)


def duration(seconds: float) -> str:
    """Format a time for reading: 42 s, 3 min, 1 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
