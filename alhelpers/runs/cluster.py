"""Runs on the workers of a Dask cluster."""

import concurrent.futures
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker

from alhelpers.runs.processes import Processes


class ProcessesPlugin(WorkerPlugin):
    """Keeps one `Processes` on each worker of a cluster while a sweep lasts."""

    def __init__(
        self, name: str, threads: int | None, fork: bool | None, preload: list[str], files: dict[str, bytes]
    ) -> None:
        self.name, self.threads, self.fork, self.preload, self.files = name, threads, fork, preload, files

    def setup(self, worker: Worker) -> None:
        """Create it; one thread for each run, as a worker does a run for each of its own threads."""
        self.processes = Processes(self.threads or 1, fork=self.fork, preload=self.preload)
        self.folder: tempfile.TemporaryDirectory | None = None
        self.lock = threading.Lock()

    def teardown(self, worker: Worker) -> None:
        """Stop its runs."""
        self.processes.stop()
        if self.folder is not None:
            self.folder.cleanup()

    def copied_folder(self) -> str:
        """Return a temporary working folder with the files of the client's, the same for all runs."""
        with self.lock:
            if self.folder is None:
                self.folder = tempfile.TemporaryDirectory(prefix="alhelpers-", ignore_cleanup_errors=True)
                for name, content in self.files.items():
                    path = Path(self.folder.name) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            return self.folder.name


@contextmanager
def cluster(
    client: Client, threads: int | None, fork: bool | None, preload: list[str], files: dict[str, bytes]
) -> Iterator[Callable[[dict[str, Any]], concurrent.futures.Future]]:
    """Yield a function that submits a run to a cluster; a run takes one of the threads of a worker."""
    plugin = ProcessesPlugin(f"alhelpers-{uuid.uuid4().hex}", threads, fork, preload, files)
    client.register_plugin(plugin)
    executor = client.get_executor(pure=False, retries=0)
    futures: weakref.WeakSet[concurrent.futures.Future] = weakref.WeakSet()

    def submit(request: dict[str, Any]) -> concurrent.futures.Future:
        future = executor.submit(_execute_on_worker, request, plugin.name)
        futures.add(future)
        return future

    try:
        yield submit
    finally:
        for future in futures:
            future.cancel()
        client.unregister_worker_plugin(plugin.name)
        executor.shutdown(wait=False)


def _execute_on_worker(request: dict[str, Any], plugin: str) -> dict[str, Any]:
    """Execute a request on a worker; if it does not see the client's folder, in one that has its files."""
    runs = get_worker().plugins[plugin]
    if not _sees(request["cwd"]):
        request = request | {"cwd": runs.copied_folder()}
    return runs.processes.execute(request)


def _sees(folder: str) -> bool:
    return Path(folder).is_dir()
