"""What all benchmarks share: variants timed in turn, and a line for each limit with its share of the floor.

The lines of a script also go to ``output/benchmarks/SCRIPT.json``, from which ``docs/write_speed.py`` makes its table.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commits import code_commit

OUTPUT = Path(__file__).parents[2] / "output" / "benchmarks"

Variants = Mapping[str, Callable[[], Any]]


def interleaved(
    variants: Variants, rounds: int = 5, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the median seconds of each variant, run in turn: of processor time, unless another clock is given."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            started = clock()
            run()
            times[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in times.items()}


class Report:
    """Prints each measured value beside its limit, keeps the lines in a file, and knows whether all limits held.

    ``floor`` is a floor in the unit of the value: what no code could be better than on this machine, such as the time
    to read the numbers once. ``why`` says what it is.
    """

    def __init__(self, script: str) -> None:
        self.path = OUTPUT / f"{Path(script).stem.removeprefix('bench_')}.json"
        self.commit = code_commit()
        self.rows: list[dict[str, Any]] = []

    def at_least(self, what: str, value: float, limit: float, unit: str = "x", **floor: Any) -> bool:
        """Report a value that must not be lower than its limit, such as how many times faster than a peer."""
        return self._add(what, value, limit, unit, "at least", value >= limit, **floor)

    def at_most(self, what: str, value: float, limit: float, unit: str = " s", **floor: Any) -> bool:
        """Report a value that must not be higher than its limit, such as seconds."""
        return self._add(what, value, limit, unit, "at most", value <= limit, **floor)

    def code(self) -> int:
        """Return the exit status: 0 if all limits held, else 1."""
        return 0 if all(row["held"] for row in self.rows) else 1

    def _add(
        self,
        what: str,
        value: float,
        limit: float,
        unit: str,
        side: str,
        held: bool,
        floor: float | None = None,
        why: str = "",
    ) -> bool:
        share = None if floor is None else (value / floor if side == "at least" else floor / value)
        row = {"work": what, "value": value, "unit": unit, "side": side, "limit": limit, "held": held}
        self.rows.append(row | {"floor": floor, "share": share, "why": why})
        of_floor = "" if share is None else f"; {share:.0%} of the floor ({floor:.3g}{unit}: {why})"
        verdict = "held" if held else "MISSED"
        print(f"{what}: {value:.3g}{unit}, limit {side} {limit:g}{unit}: {verdict}{of_floor}", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"commit": self.commit, "rows": self.rows}, indent=1))
        return held


if __name__ == "__main__":
    sys.exit("measuring.py is what the benchmarks share; run one of bench_*.py")
