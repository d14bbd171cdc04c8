"""Send a server 20,000 requests in which every field of every route is changed in turn.

The limits: no request fails inside the platform, the server answers afterwards, and the second half of the requests
adds at most 64 MiB to its memory: as much as SQLite keeps of a state that has grown, beside the parsed documents.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "platform"))

from measuring import Report
from platform_fuzz import Wire, fuzz

ROOT = Path(__file__).resolve().parents[2]
REQUESTS, PARTS = 20_000, 4
GROWTH_LIMIT = 64


def main() -> int:
    """Print what failed and the server's memory; return 1 if a limit is broken."""
    failures, memory, statuses = [], [], []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", folder]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        url = json.loads(server.stdout.readline())["url"]
        token = json.loads((Path(folder) / "credentials.json").read_text())["token"]
        for part in range(PARTS):
            world = Wire(Path(folder), part, url, token)
            failures += fuzz(world, REQUESTS // PARTS)
            statuses += world.statuses.elements()
            memory.append(psutil.Process(server.pid).memory_info().rss / 2**20)
            print(
                f"after {len(statuses)} requests: {memory[-1]:.0f} MiB, {time.monotonic() - started:.0f} s",
                flush=True,
            )
        alive = server.poll() is None and Wire(Path(folder), 0, url, token).make("GET /users/me", None)
        server.terminate()
        server.wait()
    print("\n".join(failures))
    refused = sum(status >= 400 for _, status in statuses)
    print(f"{len(statuses)} requests, {refused} of them refused")
    report = Report(__file__)
    report.at_most("kinds of failures inside the platform", len(failures), 0, "")
    report.at_most(
        "memory that the second half adds", memory[-1] - memory[PARTS // 2 - 1], GROWTH_LIMIT, " MiB"
    )
    report.at_least("the server answers afterwards", float(bool(alive)), 1, "")
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
