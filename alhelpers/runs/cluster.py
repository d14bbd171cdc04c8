"""Runs on the workers of a Dask cluster."""

import concurrent.futures
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker

from alhelpers.runs.errors import NotebookError
from alhelpers.runs.processes import Processes
from alhelpers.runs.runner import failure
from alhelpers.runs.sweeps import execute_safely


class ProcessesPlugin(WorkerPlugin):
    """Keep one server of processes on each worker of a cluster while a sweep lasts.

    Parameters
    ----------
    name : str
        Under which a run finds it.
    threads : int, optional
        Threads of one run; the default is one, as a worker does a run for each of its own threads.
    fork : bool, optional
    preload : list of str
        As of ``Processes``.
    """

    def __init__(self, name: str, threads: int | None, fork: bool | None, preload: list[str]) -> None:
        self.name, self.threads, self.fork, self.preload = name, threads, fork, preload

    def setup(self, worker: Worker) -> None:
        """Be ready for runs; the first one starts the server."""
        self.processes = Processes(self.threads or 1, fork=self.fork, preload=self.preload)

    def teardown(self, worker: Worker) -> None:
        """End what runs."""
        self.processes.stop()


@contextmanager
def cluster(
    client: Client, threads: int | None, fork: bool | None, preload: list[str]
) -> Iterator[Callable[[dict[str, Any]], concurrent.futures.Future]]:
    """Give a function that submits a run to a cluster; a run takes one of the threads of a worker."""
    plugin = ProcessesPlugin(f"alhelpers-{uuid.uuid4().hex}", threads, fork, preload)
    client.register_plugin(plugin)
    executor = client.get_executor(pure=False, retries=0)
    futures: list[concurrent.futures.Future] = []

    def submit(wanted: dict[str, Any]) -> concurrent.futures.Future:
        text = Path(wanted["notebook"]).read_text(encoding="utf-8")
        futures.append(executor.submit(execute_there, wanted, text, plugin.name))
        return futures[-1]

    try:
        yield submit
    finally:
        for future in futures:
            future.cancel()
        client.unregister_worker_plugin(plugin.name)
        executor.shutdown(wait=False)


def execute_there(wanted: dict[str, Any], text: str, plugin: str) -> dict[str, Any]:
    """Execute a request on a worker, which need not see the files of the client.

    Parameters
    ----------
    wanted : dict
        What ``runner.request`` returned.
    text : str
        The notebook.
    plugin : str
        The name of the plugin that has the processes.

    Returns
    -------
    dict
        The answer; ``copy`` is the text of the executed copy, as far as it came.
    """
    if not Path(wanted["cwd"]).is_dir():
        return failure(
            NotebookError(f"the working folder {wanted['cwd']} is not on {socket.gethostname()}: pass cwd")
        )
    with tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
        notebook, output = Path(folder) / Path(wanted["notebook"]).name, Path(folder) / "executed.ipynb"
        notebook.write_text(text, encoding="utf-8")
        moved = wanted | {"notebook": str(notebook), "output": str(output)}
        answer = execute_safely(get_worker().plugins[plugin].processes, moved)
        return answer | ({"copy": output.read_text(encoding="utf-8")} if output.exists() else {})
