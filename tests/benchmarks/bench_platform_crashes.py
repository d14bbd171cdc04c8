"""Kill servers hundreds of times under load, and while they start: nothing that was acknowledged may be lost.

The limit: none of it is lost, no entity is half-written, no bytes are without an item, the index is the documents'.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "platform"))

from platform_crash import soak

KILLS = 320


def main() -> int:
    """Print how many kills there were and what was checked; an audit that fails ends this with its findings."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills, requests = soak(Path(folder), KILLS, clients=4)
    print(
        f"{kills} kills, {requests} acknowledged requests checked: none lost ({time.monotonic() - started:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
