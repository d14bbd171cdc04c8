"""Run a notebook with many settings, several at a time, and collect what it recorded in one table."""

import concurrent.futures
import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers.parallel import available_cores
from alhelpers.runs.errors import SweepError
from alhelpers.runs.kernels import check_kernel
from alhelpers.runs.preload import preloads
from alhelpers.runs.processes import Processes
from alhelpers.runs.progress import Progress
from alhelpers.runs.runner import execute_safely, make_request, read_notebook
from alhelpers.runs.settings import Grid, Setting, settings_of
from alhelpers.runs.store import Outcome, Store

if TYPE_CHECKING:
    import pandas

#: Errors of the system for a full disk.
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Submit = Callable[[dict[str, Any]], concurrent.futures.Future]


def sweep(
    notebook: str | Path,
    grid: Grid,
    output: str | Path,
    workers: Any = None,
    *,
    cwd: str | Path | None = None,
    seconds: float | None = None,
    memory: int | None = None,
    threads: int | None = None,
    fork: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> "pandas.DataFrame":
    """Run a notebook once for each setting, and return one table of what the runs recorded.

    Finished runs are kept: call it again after it was killed, after a failure, or with more settings, and only the rest
    is run. A run that fails does not stop the others.

    Parameters
    ----------
    notebook : path
        Has a cell tagged ``parameters``, and records values by ``notebook.record``.
    grid : dict of lists, or list of dicts
        Every combination of the listed values, ``{"seed": [0, 1], "strategy": ["random", "entropy"]}``; or the
        parameter sets themselves. Other parameters keep their defaults.
    output : path
        A new folder, or that of an earlier call with the same settings or fewer. ``results.parquet``, ``results.csv``
        and, in ``runs``, a folder for each run with the executed notebook are written to it; the name of a run's folder
        is a hash of the notebook, the parameters and the source of this package.
    workers : int or dask.distributed.Client, optional
        Number of runs at a time; the default is one for each core. Or the client of a cluster on whose machines this
        package is installed and the working folder exists.
    cwd : path, optional
        Working folder of the runs; the default is the notebook's own folder.
    seconds : float, optional
        Time limit of a run; one that takes longer is killed, and has failed.
    memory : int, optional
        Memory limit in bytes of a run's kernel with the processes that it started.
    threads : int, optional
        Threads of the numerical libraries in one run; the default divides the cores among the workers.
    fork : bool, optional
        Whether kernels are forked from a process that has the usual packages imported. The default is True on Linux;
        elsewhere, where it is not safe, each run starts processes of its own, and takes some seconds more.
    say : callable, optional
        Receives lines about the progress, the time left, and each failure; the default prints them.

    Returns
    -------
    pandas.DataFrame
        A row for each run, in the order of the settings: the parameters; the recorded values, those inside a dict
        as ``name.key``; and ``run.name``, ``run.state`` (done or failed), ``run.seconds``, ``run.cell``,
        ``run.error`` and ``run.notebook``. A recorded value that has the name of a parameter is ``recorded.name``.

    Raises
    ------
    ParameterError
        If a setting has an unknown parameter or a value of another type, or comes twice; nothing is run then.
    SweepError
        If the folder belongs to another sweep, or the disk is full; finished runs are kept.
    NotebookError
        If Jupyter has no kernel of this Python.
    """
    notebook, store = Path(notebook), Store(Path(output), Path(notebook))
    settings = settings_of(notebook, grid)
    folder = Path(cwd or notebook.parent).resolve()
    if not folder.is_dir():
        raise SweepError(f"the working folder {folder} does not exist")
    check_kernel()
    with _disk_full_named(store, settings):
        store.claim(settings)
    try:
        waiting = [setting for setting in settings if not store.is_done(setting)]
        progress = Progress(len(settings), len(settings) - len(waiting), say)
        if stale := store.stale(settings):
            progress.note(f"{stale} runs of other versions of the code are left in {store.folder / 'runs'}")
        limits = {"seconds": seconds, "memory": memory}
        requests = {
            setting: make_request(notebook, setting.given, store.executed(setting), folder, **limits)
            for setting in waiting
        }
        with _disk_full_named(store, settings):
            try:
                if waiting:
                    with _submitter(workers, threads, fork, _preloads(notebook)) as submit:
                        _perform(requests, submit, store, progress)
            finally:
                store.write_results(settings)
    finally:
        store.release()
    return results(output)


def results(output: str | Path) -> "pandas.DataFrame":
    """Return the table of a sweep that has run, from its folder; raise SweepError if it has none."""
    import pandas

    path = Path(output) / "results.parquet"
    if not path.exists():
        raise SweepError(f"{path} does not exist: has a sweep run in {output}?")
    return pandas.read_parquet(path)


@contextmanager
def _disk_full_named(store: Store, settings: list[Setting]) -> Iterator[None]:
    """Turn the error of a full disk into one with the number of runs that are kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        done = sum(map(store.is_done, settings))
        raise SweepError(
            f"the disk of {store.folder} is full ({error}): {done} of {len(settings)} runs are finished and kept."
            " Free some space, and start the sweep again to continue"
        ) from error


def _perform(
    requests: dict[Setting, dict[str, Any]], submit: Submit, store: Store, progress: Progress
) -> None:
    """Execute requests, and store the outcome of each run as soon as it has ended."""
    for setting in requests:
        store.executed(setting).parent.mkdir(parents=True, exist_ok=True)
    futures = {submit(entry): setting for setting, entry in requests.items()}
    for future in concurrent.futures.as_completed(futures):
        setting = futures[future]
        answer = future.result()
        if "copy" in answer:  # from a machine that may not see this folder
            store.executed(setting).write_text(answer["copy"], encoding="utf-8")
        if "errno" in answer:
            raise OSError(answer["errno"], answer["message"], answer["file"])
        if "recorded" in answer:
            outcome = Outcome("done", answer["seconds"], answer["recorded"])
        else:
            outcome = Outcome("failed", answer.get("seconds"), {}, answer["cell"], answer["error"])
            progress.note(f"{setting.given} failed: {answer['message']}")
        store.keep(setting, outcome)
        progress.step(failed=outcome.state == "failed")


def _preloads(notebook: Path) -> list[str]:
    cells = read_notebook(notebook).cells
    return preloads("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def _submitter(
    workers: Any, threads: int | None, fork: bool | None, preload: list[str]
) -> AbstractContextManager[Submit]:
    """Return a context that yields what submits runs: to processes of this machine, or to a cluster."""
    if hasattr(workers, "scheduler_info"):
        from alhelpers.runs.cluster import cluster

        return cluster(workers, threads, fork, preload)
    workers = available_cores() if workers is None else workers
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SweepError(f"workers is {workers!r}: it must be an integer of at least 1, or a Dask client")
    return _on_this_machine(workers, threads or max(1, available_cores() // workers), fork, preload)


@contextmanager
def _on_this_machine(workers: int, threads: int, fork: bool | None, preload: list[str]) -> Iterator[Submit]:
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        with Processes(threads, fork=fork, preload=preload) as processes:
            try:
                yield lambda request: pool.submit(execute_safely, processes, request)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        pool.shutdown()
