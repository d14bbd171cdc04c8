"""Runs on the workers of a Dask cluster."""

import concurrent.futures
import socket
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker

from alhelpers.runs.errors import NotebookError
from alhelpers.runs.processes import Processes


class ProcessesPlugin(WorkerPlugin):
    """Keeps one `Processes` on each worker of a cluster while a sweep lasts."""

    def __init__(self, name: str, threads: int | None, fork: bool | None, preload: list[str]) -> None:
        self.name, self.threads, self.fork, self.preload = name, threads, fork, preload

    def setup(self, worker: Worker) -> None:
        """Create it; one thread for each run, as a worker does a run for each of its own threads."""
        self.processes = Processes(self.threads or 1, fork=self.fork, preload=self.preload)

    def teardown(self, worker: Worker) -> None:
        """Stop its runs."""
        self.processes.stop()


@contextmanager
def cluster(
    client: Client, threads: int | None, fork: bool | None, preload: list[str]
) -> Iterator[Callable[[dict[str, Any]], concurrent.futures.Future]]:
    """Yield a function that submits a run to a cluster; a run takes one of the threads of a worker."""
    plugin = ProcessesPlugin(f"alhelpers-{uuid.uuid4().hex}", threads, fork, preload)
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
    """Execute a request on a worker, which may not see the client's files."""
    if not Path(request["cwd"]).is_dir():
        return NotebookError(
            f"the working folder {request['cwd']} is not on {socket.gethostname()}: pass cwd"
        ).as_answer()
    return get_worker().plugins[plugin].processes.execute(request)
