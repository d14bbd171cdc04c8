"""Run independent jobs, such as trainings, side by side in processes."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, TypeVar

import cloudpickle

Result = TypeVar("Result")

#: Set in processes that already are one of several: jobs inside them run one after another.
WORKER_VARIABLE = "ALHELPERS_WORKER"

# Jobs that are done sooner start no process; one that starts takes seconds to import torch.
_PATIENCE = 0.5
# A process that has had nothing to do for so long ends; in seconds.
_IDLE = 300


def run(
    function: Callable[[Any], Result],
    jobs: Sequence[Any],
    *,
    workers: int | Any | None = None,
    threads: int = 1,
) -> Iterator[Result]:
    """Call a function with each job, several at a time in processes, and yield the results in the order of the jobs.

    This process works, too: it starts with the first job while the others start and import what they need, so that
    short jobs never wait for a process. The processes are kept for the next call. What cannot be sent to another
    process (an open file, a class of a module that cannot be imported there) is computed in this one.

    Parameters
    ----------
    function : callable
        Takes one job. A lambda or a function of a notebook works. Its effects on this process, other than its result,
        are lost if it runs in another one.
    jobs : sequence
        The arguments, one a call.
    workers : int, dask.distributed.Client or concurrent.futures.Executor, optional
        How many processes compute at a time, this one included; or who computes instead of them. The default is one a
        core, or as many as ``OMP_NUM_THREADS`` if that is fewer. Where :func:`nested` is true, a number counts as 1.
    threads : int
        Threads of torch, BLAS and OpenMP in each call. Floating-point results depend on it in their last bits, and on
        nothing else here: they are the same with any number of workers.

    Returns
    -------
    iterator
        Each result as soon as it and those before it are there.

    Raises
    ------
    ValueError
        If ``workers`` or ``threads`` is not valid. An error of a call is raised in its place.
    """
    _check_positive("threads", threads)
    if isinstance(workers, Executor) or hasattr(workers, "scheduler_info"):
        return _elsewhere(workers, function, jobs, threads)
    if workers is not None:
        _check_positive("workers", workers)
    helpers = 0 if nested() else min(workers or cores(), len(jobs)) - 1
    if helpers < 1:
        return (_call(function, job, threads) for job in jobs)
    return _side_by_side(function, jobs, helpers, threads)


def nested() -> bool:
    """Return whether this code already runs beside others: in a worker process, a service, or a thread of a pool."""
    return (
        WORKER_VARIABLE in os.environ
        or multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )


def cores() -> int:
    """Return how many cores this process may use: fewer if ``OMP_NUM_THREADS`` is lower, as in a run of a sweep."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) else available


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        also = ", or a Dask client or an executor" if name == "workers" else ""
        raise ValueError(f"{name} must be a whole number of at least 1{also}; got {value!r}")


# ------------------------------------------------------------------------------
# one job
# ------------------------------------------------------------------------------


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch, BLAS and OpenMP use so many threads inside, and as many as before afterwards."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with contextlib.ExitStack() as stack:
        if torch:
            stack.callback(torch.set_num_threads, before)
        with contextlib.suppress(ImportError):  # it comes with scikit-learn
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(threads))
        if torch:
            torch.set_num_threads(threads)
        yield


def _call(function: Callable[[Any], Result], job: Any, threads: int) -> Result:
    with limited_threads(threads):
        return function(job)


def _call_pickled(content: bytes) -> bytes | None:
    """Call in a worker process; None if the job cannot be read there, or its result cannot be sent."""
    try:
        function, job, threads = pickle.loads(content)
    except Exception:  # noqa: BLE001 - reading runs code of the caller's
        return None
    result = _call(function, job, threads)
    try:
        return cloudpickle.dumps(result)
    except Exception:  # noqa: BLE001 - as above
        return None


# ------------------------------------------------------------------------------
# several processes
# ------------------------------------------------------------------------------


def _side_by_side(
    function: Callable[[Any], Result], jobs: Sequence[Any], helpers: int, threads: int
) -> Iterator[Result]:
    """Compute in this process and in others; whoever is free takes the next job."""
    queue = _Queue(function, jobs, threads)
    feeders = [threading.Thread(target=queue.feed, daemon=True) for _ in range(helpers)]
    for feeder in feeders:
        feeder.start()
    try:
        for number, future in enumerate(queue.futures):
            while not future.done() and (own := queue.next()) is not None:
                queue.futures[own].set_result(_call(function, jobs[own], threads))
            result = future.result()
            yield _call(function, jobs[number], threads) if result is _NOT_SENT else result
    finally:
        queue.close()


class _Queue:
    """Jobs that wait to be computed, and the processes that compute them beside this one."""

    def __init__(self, function: Callable[[Any], Any], jobs: Sequence[Any], threads: int) -> None:
        self.function, self.jobs, self.threads = function, jobs, threads
        self.futures: list[Future[Any]] = [Future() for _ in jobs]
        self._waiting = deque(range(len(jobs)))
        self._closed = threading.Event()
        self._processes: set[Any] = set()

    def next(self) -> int | None:
        """Return the number of the next job, or None if none is left."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def feed(self) -> None:
        """Let another process compute one job after another; for a thread of its own."""
        if not _idle and self._closed.wait(_PATIENCE):
            return
        process = _take_process()
        self._processes.add(process)
        try:
            process.submit(_import, _SLOW_IMPORTS if "torch" in sys.modules else ()).result()
            while (number := self.next()) is not None:
                try:
                    self.futures[number].set_result(self._compute(process, self.jobs[number]))
                except Exception as error:
                    self.futures[number].set_exception(error)
                    if isinstance(error, BrokenExecutor):
                        raise
        except Exception:  # noqa: BLE001 - it did not start, or broke: the others compute what is left
            self._processes.discard(process)
        if process in self._processes:
            self._processes.discard(process)
            _idle.append(process)

    def _compute(self, process: Any, job: Any) -> Any:
        try:
            content = cloudpickle.dumps((self.function, job, self.threads))
        except Exception:  # noqa: BLE001 - pickling runs code of the caller's
            return _NOT_SENT
        answer = process.submit(_call_pickled, content).result()
        return _NOT_SENT if answer is None else pickle.loads(answer)

    def close(self) -> None:
        """Drop the jobs that wait; end the processes if they compute something that nobody waits for any more."""
        self._waiting.clear()
        self._closed.set()
        if not all(future.done() for future in self.futures):
            while self._processes:
                self._processes.pop().shutdown(wait=False, kill_workers=True)


_NOT_SENT: Any = object()
_SLOW_IMPORTS = ("torch", "torch._dynamo")  # the second is imported with the first optimizer
_idle: list[Any] = []  # executors of one process each, kept for the next call
if hasattr(os, "register_at_fork"):  # a fork has none of the threads that serve them
    os.register_at_fork(after_in_child=_idle.clear)


def _take_process() -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    try:
        return _idle.pop()
    except IndexError:
        return ProcessPoolExecutor(max_workers=1, timeout=_IDLE, env={WORKER_VARIABLE: "1"})


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)


def _elsewhere(
    executor: Any, function: Callable[[Any], Result], jobs: Sequence[Any], threads: int
) -> Iterator[Result]:
    """Compute on a Dask cluster, or in an executor of the caller's."""
    options = {"pure": False} if hasattr(executor, "scheduler_info") else {}
    futures = [
        executor.submit(_call_pickled, cloudpickle.dumps((function, job, threads)), **options) for job in jobs
    ]
    try:
        for job, future in zip(jobs, futures, strict=True):
            answer = future.result()
            yield _call(function, job, threads) if answer is None else pickle.loads(answer)
    finally:
        for future in futures:
            future.cancel()
