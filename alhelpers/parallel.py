"""Run independent jobs, such as trainings, side by side in processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

__all__ = ["nested", "run"]

Result = TypeVar("Result")

# Seconds that jobs must take together before processes are started for them, which takes seconds to import torch.
_WORTH_A_START = 2.0


def run(
    function: Callable[[Any], Result],
    jobs: Sequence[Any],
    *,
    workers: int | Any | None = None,
    threads: int = 1,
) -> Iterator[Result]:
    """Call a function with each job, several at a time in processes, and yield the results in the order of the jobs.

    joblib starts the processes and keeps them for the next call. Until they are running, the first job is computed in
    this process, and so are the others if they would take less time than a start. What cannot be sent to another
    process (an open file, a class of a module that cannot be imported there) is computed in this one, too.

    Parameters
    ----------
    function : callable
        Takes one job. A lambda or a function of a notebook works. Its effects on this process, other than its result,
        are lost if it runs in another one.
    jobs : sequence
        The arguments, one a call.
    workers : int, dask.distributed.Client or concurrent.futures.Executor, optional
        How many processes compute at a time; or what computes instead of them. The default is one a core, or as many
        as ``OMP_NUM_THREADS`` if that is fewer. Where :func:`nested` is true, a number counts as 1.
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
        return _received(function, jobs, threads, _submitted(workers, function, jobs, threads))
    if workers is not None:
        _check_positive("workers", workers)
    count = 1 if nested() else min(workers or cores(), len(jobs))
    if count < 2:
        return (_call(function, job, threads) for job in jobs)
    return _side_by_side(function, jobs, count, threads)


def nested() -> bool:
    """Return whether this code already runs beside others: in a worker process, a service, or a thread of a pool."""
    return (
        multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )


def cores() -> int:
    """Return how many cores this process may use: fewer if ``OMP_NUM_THREADS`` is lower, as in a run of a sweep."""
    available, limit = available_cores(), os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) else available


def available_cores() -> int:
    """Return how many cores the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        also = ", or a Dask client or an executor" if name == "workers" else ""
        raise ValueError(f"{name} must be a whole number of at least 1{also}; got {value!r}")


def _call(function: Callable[[Any], Result], job: Any, threads: int) -> Result:
    with limited_threads(threads):
        return function(job)


# ------------------------------------------------------------------------------
# other processes
# ------------------------------------------------------------------------------


def _side_by_side(
    function: Callable[[Any], Result], jobs: Sequence[Any], workers: int, threads: int
) -> Iterator[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import reusable_executor

    if getattr(reusable_executor, "_executor", None) is None:  # no processes are running
        started = time.perf_counter()
        yield _call(function, jobs[0], threads)
        jobs = jobs[1:]
        if (time.perf_counter() - started) * len(jobs) < _WORTH_A_START:
            yield from (_call(function, job, threads) for job in jobs)
            return
    pool = Parallel(n_jobs=workers, return_as="generator", batch_size=1, pre_dispatch="n_jobs")
    answers = pool(delayed(_call_sent)(_sent(function, job, threads)) for job in jobs)
    try:
        yield from _received(function, jobs, threads, answers)
    finally:
        with warnings.catch_warnings():  # joblib warns of results that nobody waits for any more
            warnings.simplefilter("ignore")
            answers.close()


def _submitted(
    executor: Any, function: Callable[[Any], Any], jobs: Sequence[Any], threads: int
) -> Iterator[bytes | None]:
    """Compute on a Dask cluster, or in an executor of the caller's."""
    options = {"pure": False} if hasattr(executor, "scheduler_info") else {}
    futures = [executor.submit(_call_sent, _sent(function, job, threads), **options) for job in jobs]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _sent(function: Callable[[Any], Any], job: Any, threads: int) -> bytes | None:
    """Return a call as bytes, or None if it cannot be pickled."""
    import cloudpickle

    try:
        return cloudpickle.dumps((function, job, threads))
    except Exception:  # noqa: BLE001 - pickling runs code of the caller's
        return None


def _call_sent(content: bytes | None) -> bytes | None:
    """Call in a worker process; None if the call cannot be read there, or its result cannot be sent."""
    import cloudpickle

    try:
        function, job, threads = pickle.loads(content or b"")
    except Exception:  # noqa: BLE001 - as above
        return None
    try:
        result, error = _call(function, job, threads), None
    except Exception as raised:  # noqa: BLE001 - raised in its place, after the results before it
        raised.add_note(f"In another process:\n{traceback.format_exc()}")
        result, error = None, raised
    try:
        return cloudpickle.dumps((result, error))
    except Exception:  # noqa: BLE001 - as above
        return None


def _received(
    function: Callable[[Any], Result], jobs: Sequence[Any], threads: int, answers: Iterator[bytes | None]
) -> Iterator[Result]:
    """Yield the results of answers; compute here what was not computed there."""
    for job, answer in zip(jobs, answers, strict=True):
        result, error = (None, None) if answer is None else pickle.loads(answer)
        if error is not None:
            raise error
        yield _call(function, job, threads) if answer is None else result
