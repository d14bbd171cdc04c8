"""Kill servers hundreds of times under load, and while they start: nothing that was acknowledged may be lost.

They are killed while items change, exports are written and pipelines run, and while the disk is full. The limits: none
of it is lost, no entity is half-written, no bytes are without an item, the index is the documents', what was running
ends as if nothing had happened, and the slowest start takes 5 seconds.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "platform"))

from measuring import Report
from platform_crash import soak

LONGEST_START = 5.0


def main() -> int:
    """Print how many kills there were and what was checked; an audit that fails ends this with its findings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=500, help="servers that are killed")
    wanted = parser.parse_args().kills
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills, requests, slowest = soak(Path(folder), wanted, clients=4)
    print(
        f"{kills} kills, {requests} acknowledged requests checked: none lost ({time.monotonic() - started:.0f} s)"
    )
    report = Report(__file__)
    report.at_most("the slowest start after a kill", slowest, LONGEST_START)
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
