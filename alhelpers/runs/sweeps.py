"""Run a notebook with many settings, several at a time, and collect what it recorded in one table."""

import concurrent.futures
import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers import storage
from alhelpers.parallel import available_cores
from alhelpers.runs.errors import SweepError
from alhelpers.runs.kernels import find_kernel, kernel_of
from alhelpers.runs.notebooks import code_of, parameters_in, read_notebook
from alhelpers.runs.preload import preloads
from alhelpers.runs.processes import Processes
from alhelpers.runs.progress import Progress
from alhelpers.runs.runner import make_request, working_folder
from alhelpers.runs.settings import Grid, Setting, settings_of
from alhelpers.runs.sources import (
    NOTEBOOK,
    Modules,
    file_digests,
    files_named,
    module_digests,
    modules_of,
    notebook_digests,
    texts_in,
    texts_in_code,
)
from alhelpers.runs.store import Store

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
    kernel: str | None = None,
    fresh: bool = False,
    seconds: float | None = None,
    memory: int | None = None,
    threads: int | None = None,
    fork: bool | None = None,
    say: Callable[[str], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> "pandas.DataFrame":
    """Run a notebook once for each setting, and return one table of what the runs recorded.

    Finished runs are kept: call it again after it was killed, after a failure, or with more settings, and only the rest
    is run. A run that fails does not stop the others.

    A run is kept while nothing that it reads has changed: its parameters, the notebook, its kernel, this package, the
    modules beside the notebook that its code names and those that these name, and the files that parameters name, or
    this code as one text, such as ``read_csv("table.csv")``. Files that the runs write do not count. Other files, such
    as those of a folder, and installed packages are not compared: pass ``fresh`` after a change of them.

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
        is a hash of what the run reads. Or a URL such as ``s3://bucket/sweep``, to which this process puts each file
        when its run has ended; nothing keeps a second sweep from it at the same time.
    workers : int or dask.distributed.Client, optional
        Number of runs at a time; the default is one for each core. Or the client of a cluster on whose machines this
        package is installed. Where the working folder is missing, a worker runs in a temporary one with the modules
        and files of it that the runs are compared by; what else the runs read must be named by URL, and what they
        write there is lost but for what they record.
    cwd : path, optional
        Working folder of the runs; the default is the notebook's own folder.
    kernel : str, optional
        Name of the kernel of the runs, in place of the one that the notebook names.
    fresh : bool
        Whether to run all settings again.
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
    storage_options : mapping, optional
        What fsspec's file system of a URL in ``output`` is made with, such as a token; never shown or sent.

    Returns
    -------
    pandas.DataFrame
        A row for each run, in the order of the settings: the parameters, with the source of a default that is computed;
        the recorded values, those inside a dict as ``name.key``; and ``run.name``, ``run.state`` (done or failed),
        ``run.seconds``, ``run.cell``, ``run.error`` and ``run.notebook``. A recorded value that has the name of a
        parameter is ``recorded.name``.

    Raises
    ------
    ParameterError
        If a setting has an unknown parameter or a value of another type, or comes twice; nothing is run then.
    SweepError
        If the folder belongs to another sweep, the disk is full, a module is changed meanwhile, or the URL cannot be
        read or written; finished runs are kept.
    NotebookError
        If the kernel is not installed, or the working folder is missing.
    """
    given = {"cwd": cwd, "kernel": kernel, "fresh": fresh, "seconds": seconds, "memory": memory}
    given |= {"threads": threads, "fork": fork, "say": say}
    if not storage.is_url(output):
        _sweep(grid, Store(Path(output), Path(notebook)), workers, **given)
        return results(output)
    from alhelpers.runs.remote import remote_store

    with remote_store(output, Path(notebook), storage_options or {}) as store:
        _sweep(grid, store, workers, **given)
        return results(store.folder)


def _sweep(
    grid: Grid,
    store: Store,
    workers: Any,
    *,
    cwd: str | Path | None,
    kernel: str | None,
    fresh: bool,
    seconds: float | None,
    memory: int | None,
    threads: int | None,
    fork: bool | None,
    say: Callable[[str], None] | None,
) -> None:
    """Run what is not finished, and write the table."""
    notebook = store.notebook
    workers = available_cores() if workers is None else workers
    if not hasattr(workers, "scheduler_info") and (type(workers) is not int or workers < 1):
        raise SweepError(f"workers is {workers!r}: it must be an integer of at least 1, or a Dask client")
    if threads is not None and threads < 1:
        raise SweepError(f"threads is {threads!r}: it must be an integer of at least 1")
    document = read_notebook(notebook)
    folder = working_folder(notebook, cwd)
    kernel = kernel_of(document, kernel)
    parameters = parameters_in(document, find_kernel(kernel).language)
    modules = modules_of(document, folder)
    defaults = set(texts_in([parameter.default for parameter in parameters.values()]))
    texts, written = texts_in_code(document, modules, defaults), store.written()
    code = file_digests(texts - written, folder)
    code |= notebook_digests(document, kernel) | module_digests(modules)
    settings = settings_of(grid, parameters, code, folder, written, where=notebook.name)
    common = make_request(document, notebook, folder, kernel, seconds=seconds, memory=memory)
    with _disk_full_named(store, settings):
        store.claim(settings)
    try:
        if fresh:
            store.forget(settings)
        waiting = [setting for setting in settings if not store.is_done(setting)]
        progress = Progress(len(settings), len(settings) - len(waiting), say)
        _note_kept(progress, store, settings, modules)
        requests = {
            setting: common | {"parameters": setting.given, "output": store.place(setting)}
            for setting in waiting
        }
        with _disk_full_named(store, settings):
            try:
                if waiting:
                    files = partial(_files_sent, waiting, modules, folder)
                    with _submitter(workers, threads, fork, preloads(code_of(document)), files) as submit:
                        _perform(requests, submit, store, progress, modules, texts)
            finally:
                store.write_results(settings)
    finally:
        store.release()


def results(output: str | Path, storage_options: Mapping[str, Any] | None = None) -> "pandas.DataFrame":
    """Return the table of a sweep that has run, from its folder or URL; raise SweepError if it has none."""
    import pandas

    if storage.is_url(output):
        from alhelpers.runs.remote import remote_results

        return remote_results(output, storage_options or {})
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
            f"the disk of {store.shown} is full ({error}): {done} of {len(settings)} runs are finished and kept."
            " Free some space, and start the sweep again to continue"
        ) from error


def _note_kept(progress: Progress, store: Store, settings: list[Setting], modules: Modules) -> None:
    """Say which runs are kept and why, and why others are not."""
    parts = []
    if progress.done:
        files = {name for setting in settings for name in setting.sources} - {*modules, *NOTEBOOK}
        same = ", ".join(["parameters", *NOTEBOOK, *modules, *sorted(files)])
        parts.append(f"{progress.done} of {progress.total} runs are finished already, with the same {same}")
    stale, differing = store.stale(settings)
    if stale:
        what = f" ({', '.join(sorted(differing))} changed)" if differing else ""
        parts.append(f"{stale} runs of other versions{what} are left in {store.shown}/runs")
    if parts:
        progress.note("; ".join(parts))


def _perform(
    requests: dict[Setting, dict[str, Any]],
    submit: Submit,
    store: Store,
    progress: Progress,
    modules: Modules,
    texts: set[str],
) -> None:
    """Execute requests, and store the outcome of each run as soon as it has ended."""
    for setting in requests:
        store.executed(setting).parent.mkdir(parents=True, exist_ok=True)
    futures = {submit(entry): setting for setting, entry in requests.items()}
    warned: set[str] = set()
    for future in concurrent.futures.as_completed(futures):
        setting, answer = futures.pop(future), future.result()  # an answer holds a whole copy: none is kept
        changed = [
            name for name, digest in module_digests(modules).items() if digest != setting.sources[name]
        ]
        if changed:
            done = progress.done - progress.failed
            raise SweepError(
                f"{', '.join(changed)} changed while the sweep ran: {done} of {progress.total} runs are finished and"
                " kept. Start it again: all runs will be of the new version"
            )
        folder = Path(requests[setting]["cwd"])
        files = setting.sources.keys() - {*modules, *NOTEBOOK}
        for name, digest in file_digests([*files], folder).items():
            if setting.sources[name] != digest and name not in warned:
                warned.add(name)
                progress.note(
                    f"{name} changed while the sweep ran: the next one runs again what may have read it before"
                )
        answer["written"] = sorted(files_named(texts, folder).keys() - files)
        failed = "recorded" not in answer
        if failed:
            progress.note(f"{setting.given} failed: {answer['message']}")
        store.keep(setting, answer)
        progress.step(failed=failed)


def _files_sent(settings: list[Setting], modules: Modules, folder: Path) -> dict[str, bytes]:
    """Return the files of the working folder that runs are compared by, for workers that do not see it."""
    named = {name for setting in settings for name in setting.sources} - {*modules, *NOTEBOOK}
    own = [file for files in modules.values() for file in files]
    found = {(folder / name).resolve() for name in named} | {file.resolve() for file in own}
    package = Path(__file__).resolve().parents[1]  # is installed there
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(found)
        if file.is_relative_to(folder) and not file.is_relative_to(package) and file.is_file()
    }


def _submitter(
    workers: Any,
    threads: int | None,
    fork: bool | None,
    preload: list[str],
    files: Callable[[], dict[str, bytes]],
) -> AbstractContextManager[Submit]:
    """Return a context that yields what submits runs: to processes of this machine, or to a cluster."""
    if hasattr(workers, "scheduler_info"):
        from alhelpers.runs.cluster import cluster

        return cluster(workers, threads, fork, preload, files())
    return _on_this_machine(workers, threads or max(1, available_cores() // workers), fork, preload)


@contextmanager
def _on_this_machine(workers: int, threads: int, fork: bool | None, preload: list[str]) -> Iterator[Submit]:
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        with Processes(threads, fork=fork, preload=preload) as processes:
            try:
                yield lambda request: pool.submit(processes.execute, request)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        pool.shutdown()
