"""Let 32 processes work on the same things for a minute: no lost update, no answer of 5xx, and memory that stays.

The limit: after the second round the server's memory grows by what SQLite keeps of a database that grows, 64 MiB, and
no more. Requests that write nothing new leave it as it is.
"""

import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "platform"))

from measuring import Report
from platform_load import at_once

from alhelpers import platform

SECONDS, GROWTH = 60.0, 64


def main() -> int:
    """Print how much was done, and the server's memory after each round."""
    begun, memory = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, platform.ensure(Path(folder) / "state") as server:
        while time.monotonic() < begun + SECONDS or len(memory) < 3:
            # Every check of what was lost is in here; a refused request ends its process, and so this.
            at_once(server, plain=30, sdk=2, dataset_name=f"shared{len(memory)}", rounds=10)
            memory.append(psutil.Process(server.pid).memory_info().rss / (1 << 20))
    print(f"{len(memory)} rounds of 32 processes in {time.monotonic() - begun:.0f} s: nothing lost, no 5xx")
    print(f"MB after each round: {', '.join(f'{each:.0f}' for each in memory)}")
    report = Report(__file__)
    report.at_most("memory that is added after the second round", memory[-1] - memory[1], GROWTH, " MiB")
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
