"""The imports that a reader waits for, each in a new process: wall time, compiled bytecode, files in memory.

The floor of ``alhelpers.mining`` is a process that imports numpy, pyarrow and pydantic, and nothing of the kit; that of
``alhelpers`` and of the command line is a process that imports nothing. Limits hold on an idle machine.
"""

import functools
import os
import subprocess
import sys
import time

from measuring import Report, interleaved

NOTHING, PACKAGES = "pass", "import numpy, pyarrow, pydantic"
#: Code, its limit in seconds, and the code of its floor.
ROWS = {
    "import alhelpers": (0.06, NOTHING),
    "import alhelpers.scores": (0.15, "import numpy"),
    "import alhelpers.evaluation": (0.3, "import numpy, pydantic"),
    "import alhelpers.mining": (0.3, PACKAGES),
}
HELP, HELP_LIMIT = "alhelpers --help", 0.1


def run(*words: str) -> None:
    """Run Python with words, and with bytecode, whatever the environment says of it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *words], check=True, env=environment, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print a line for each import; return 1 if a limit is broken."""
    report = Report(__file__)
    codes = {*ROWS, *(floor for _, floor in ROWS.values())}
    variants = {code: functools.partial(run, "-c", code) for code in codes}
    variants[HELP] = functools.partial(run, "-m", "alhelpers.cli", "--help")
    for once in variants.values():  # writes bytecode, and reads the files
        once()
    seconds = interleaved(variants, rounds=9, clock=time.perf_counter)
    for code, (limit, floor) in ROWS.items():
        report.at_most(
            f"`{code}`", seconds[code], limit, floor=seconds[floor], why=f"`{floor}` in a new process"
        )
    report.at_most(f"`{HELP}`", seconds[HELP], HELP_LIMIT, floor=seconds[NOTHING], why="a new process")
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
