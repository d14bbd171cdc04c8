"""The wait for the offline platform: connect() in a new process with a new state folder, until the SDK can be used.

Of it ``import dtlpy`` is the SDK's own; it is timed alone in a process that has imported the same before. Beside it,
the start of the server alone. The disk is warm.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Report

ROOT = Path(__file__).resolve().parents[2]
LIMIT, ROUNDS = 1.0, 5
BEGIN = "import sys, time; from alhelpers import notebook, platform; begun = time.perf_counter(); "
END = "; print(time.perf_counter() - begun)"
STOP = "; platform.running(sys.argv[1]).stop()"
VARIANTS = {
    "connect()": BEGIN + "notebook.connect(state_dir=sys.argv[1])" + END + STOP,
    "the server alone": BEGIN + "platform.ensure(sys.argv[1])" + END + STOP,
    "import dtlpy": BEGIN + "import dtlpy" + END,
}


def seconds(code: str) -> float:
    """Run code in a new process, and return the seconds that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = os.environ | {"DATALOOP_PATH": str(Path(folder) / "sdk")}
        command = [sys.executable, "-c", code, str(Path(folder) / "state")]
        return float(subprocess.check_output(command, text=True, cwd=ROOT, env=surroundings).split()[-1])


def main() -> int:
    """Print the medians; return 1 if a limit is broken."""
    report = Report(__file__)
    times = [{name: seconds(code) for name, code in VARIANTS.items()} for _ in range(ROUNDS + 1)][1:]
    medians = {name: statistics.median(each[name] for each in times) for name in VARIANTS}
    imported = {"floor": medians["import dtlpy"], "why": "import dtlpy alone"}
    report.at_most("the platform's start, until the SDK can be used", medians["connect()"], LIMIT, **imported)
    report.at_most("the platform's start, the server alone", medians["the server alone"], LIMIT)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
