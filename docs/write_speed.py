"""Write docs/speed.md: what the benchmarks measured, beside the limits.

    ./run bench && python docs/write_speed.py

It reads ``output/benchmarks``; the limits, floors and words are those of ``tests/benchmarks``.
"""

import ast
import json
import os
import platform
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
PAGE = Path(__file__).with_name("speed.md")

HEAD = """# How fast it is

This page is generated: `./run bench && python docs/write_speed.py` measures everything below, and writes it anew.

Ratios are to the named peer in the same process or the same run, in turn with it; times are medians. The floor is what
nothing could be faster than on this machine, such as reading the numbers once or a convolution alone; a share of 100 %
would reach it. Measured on {cores} cores ({processor}), Python {python}; under each title stands the last commit that
changed the code that was measured.
"""


def page(folder: Path) -> str:
    """Return the page of a folder of measurements."""
    sections = [_section(path) for path in sorted(folder.glob("*.json"))]
    head = HEAD.format(cores=os.cpu_count(), processor=_processor(), python=platform.python_version())
    return "\n".join([head, *sections])


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _section(path: Path) -> str:
    measured = json.loads(path.read_text())
    title = path.stem.replace("_", " ").capitalize()
    script = BENCHMARKS / f"bench_{path.stem}.py"
    about = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").replace("``", "`")
    source = f"`python tests/benchmarks/{script.name}`, commit {measured['commit']}"
    head = [
        "| work | measured | limit | | floor | share of the floor |",
        "| --- | ---: | ---: | --- | --- | ---: |",
    ]
    table = "\n".join([*head, *map(_row, measured["rows"])])
    return f"## {title}\n\n{source}\n\n{about}\n\n{table}\n"


def _row(row: dict[str, Any]) -> str:
    unit = row["unit"]
    floor = "" if row["floor"] is None else f"{row['floor']:.3g}{unit}: {row['why']}"
    share = "" if row["share"] is None else f"{row['share']:.0%}"
    held = "held" if row["held"] else "missed"
    return (
        f"| {row['work']} | {row['value']:.3g}{unit} | {row['side']} {row['limit']:g}{unit} | {held} | {floor} "
        f"| {share} |"
    )


if __name__ == "__main__":
    PAGE.write_text(page(ROOT / "output" / "benchmarks"), encoding="utf-8")
