"""Uploads and listings through the SDK: how much of the time is the server's, and how much the SDK's own.

The limits: of the time that the upload of 1,000 small PNGs takes, the SDK waits less than 30 % for the server; of
the listing of 10,000 items less than half, the rest being the SDK's work on what it got. The CPU time of both is shown
beside: the server also works while the SDK does, so its share of that is larger than the share of waiting.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from measuring import Report
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
UPLOADED, LISTED = 1_000, 10_000
UPLOAD_SHARE, LISTING_SHARE = 0.3, 0.5


def start(state: Path) -> tuple[subprocess.Popen, str]:
    """Start a server of its own process, so that its CPU time can be told from the SDK's."""
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(state)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return server, json.loads(server.stdout.readline())["url"]


def log_in(folder: Path, state: Path, url: str) -> None:
    """Write the cookie that the SDK reads when it is imported."""
    token = json.loads((state / "credentials.json").read_text())["token"]
    environment = f"{url}/api/v1"
    login = {"alias": "local", "token": token, "gate_url": url, "url": f"{environment}/", "verify_ssl": True}
    content = {"url": environment, "login_parameters": {environment: login}}
    os.environ["DATALOOP_PATH"] = str(folder)
    (folder / "cookie.json").write_text(json.dumps(content))


class Shares:
    """Measures wall time and the CPU time of the server beside this process's."""

    def __init__(self, server: subprocess.Popen) -> None:
        self.server = psutil.Process(server.pid)

    def __enter__(self) -> "Shares":
        self.before = (time.perf_counter(), time.process_time(), self._server())
        return self

    def __exit__(self, *error: object) -> None:
        after = (time.perf_counter(), time.process_time(), self._server())
        self.wall, self.own, self.served = (
            late - early for late, early in zip(after, self.before, strict=True)
        )

    def _server(self) -> float:
        times = self.server.cpu_times()
        return times.user + times.system

    def share(self, what: str) -> float:
        """Print how long it took, and return the share in which the SDK waits."""
        print(f"{what}: {self.wall:.1f} s; CPU: the SDK {self.own:.1f} s, the server {self.served:.1f} s")
        return max(0.0, self.wall - self.own) / self.wall


def main() -> int:
    """Print the shares; return 1 if a limit is broken."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, state, images = (Path(temporary) / name for name in ("sdk", "state", "images"))
        folder.mkdir()
        images.mkdir()
        server, url = start(state)
        try:
            log_in(folder, state, url)
            import dtlpy

            project = dtlpy.projects.create("bench")
            report = Report(__file__)
            report.at_most(
                "upload: share in which the SDK waits", upload(project, images, server), UPLOAD_SHARE, ""
            )
            report.at_most(
                "listing: share in which the SDK waits", listing(project, server), LISTING_SHARE, ""
            )
            return report.code()
        finally:
            server.terminate()
            server.wait(10)
            server.stdout.close()


def upload(project: object, images: Path, server: subprocess.Popen) -> float:
    """Upload small images."""
    chance = np.random.default_rng(0)
    for number in range(UPLOADED):
        pixels = chance.integers(0, 255, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number:04}.png")
    dataset = project.datasets.create("uploads")
    with Shares(server) as shares:
        dataset.items.upload(local_path=f"{images}/*", raise_on_error=True)
    assert dataset.items.list().items_count == UPLOADED
    return shares.share(f"upload of {UPLOADED} PNGs")


def listing(project: object, server: subprocess.Popen) -> float:
    """List many items: clones, since uploading them all would take long."""
    sources = project.datasets.get(dataset_name="uploads")
    dataset = project.datasets.create("listing")
    for copy in range(LISTED // UPLOADED):
        sources.clone(clone_name="x", dst_dataset_id=dataset.id, target_directory=f"/{copy}")
    with Shares(server) as shares:
        items = list(dataset.items.list().all())
    assert len(items) >= LISTED
    return shares.share(f"listing of {len(items)} items")


if __name__ == "__main__":
    raise SystemExit(main())
