"""Run independent jobs, such as trainings, side by side in processes."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

__all__ = ["nested", "run"]

Result = TypeVar("Result")

# Seconds of work that must be left when processes are started for it: they take as long to import torch.
_WORTH_A_START = 2.0

# Seconds after which idle processes end, and between two looks at how much work is left.
_IDLE, _LOOK = 300, 0.05

# Jobs that are ready for each other process, so that it need not wait for this one.
_READY = 2

# What the first training of a process imports, which takes a second.
_IMPORTED_BY_TRAINING = "torch._dynamo"

# Whether this process computes beside others that it has started.
_is_beside = False


def run(
    function: Callable[[Any], Result],
    jobs: Sequence[Any],
    *,
    workers: int | Any | None = None,
    threads: int = 1,
) -> Iterator[Result]:
    """Call a function with each job, several at a time in processes, and yield the results in the order of the jobs.

    This process computes too: from the first moment on, while the others start, and alone if the jobs would take less
    time than a start. joblib's other processes are kept for the next call. What cannot be sent to one (an open file, a
    class of a module that cannot be imported there) is computed here.

    Parameters
    ----------
    function : callable
        Takes one job. A lambda or a function of a notebook works. Its effects on this process, other than its result,
        are lost if it runs in another one.
    jobs : sequence
        The arguments, one a call.
    workers : int, dask.distributed.Client or concurrent.futures.Executor, optional
        How many processes compute at a time, with this one; or what computes instead of them. The default is one a
        core, or as many as ``OMP_NUM_THREADS`` if that is fewer; and 1 where torch finds a GPU, which processes would
        have to share. Where :func:`nested` is true, a number counts as 1.
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
    count = 1 if nested() else min(workers or (1 if _has_gpu() else cores()), len(jobs))
    if count < 2:
        return (_call(function, job, threads) for job in jobs)
    return _side_by_side(function, jobs, count, threads)


def nested() -> bool:
    """Return whether this code already runs beside others: in a job, a worker process, a service, or a thread."""
    return (
        _is_beside
        or multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )


def cores() -> int:
    """Return how many cores this process may use: fewer if ``OMP_NUM_THREADS`` is lower, and one beside others."""
    is_beside = _is_beside or multiprocessing.parent_process() is not None
    available, limit = 1 if is_beside else available_cores(), os.environ.get("OMP_NUM_THREADS", "")
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


def _has_gpu() -> bool:
    """Return whether torch is imported and finds a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


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
    """Compute here, and in other processes as soon as they run."""
    shared = _Shared(function, jobs, threads, workers - 1)
    try:
        for place in range(len(jobs)):
            result, error = shared.answer(place)
            if error is not None:
                raise error
            yield result
    finally:
        shared.close()


class _Shared:
    """Jobs that this process and others take from, the first first.

    A thread for each other process hands it one job after another. Jobs are pickled by the main thread, between those
    that it computes itself: what these use may be changed for a while, such as the mode of a network.
    """

    def __init__(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], threads: int, others: int
    ) -> None:
        self._function, self._jobs, self._threads, self._others = function, jobs, threads, others
        self._started, self._computed = time.perf_counter(), 0
        self._left = deque(range(len(jobs)))  # not taken and not pickled
        self._pickled: deque[tuple[int, bytes]] = deque()
        self._only_here: deque[int] = deque()
        self._answers: dict[int, tuple[Any, BaseException | None]] = {}
        self._running, self._closed, self._executor = 0, False, None
        self._changed = threading.Condition()
        self._pickle()
        for _ in range(others):
            threading.Thread(target=self._serve, daemon=True).start()

    def answer(self, wanted: int) -> tuple[Any, BaseException | None]:
        """Return the result of a job, or its error; until it is there, compute those that nobody has taken."""
        while wanted not in self._answers:
            place = self._take(wanted)
            if place is not None:
                self._compute(place)
        return self._answers.pop(wanted)

    def _compute(self, place: int) -> None:
        self._pickle()
        try:
            answer = _beside(self._function, self._jobs[place], self._threads), None
        except Exception as error:  # noqa: BLE001 - raised in its place, after the results before it
            answer = None, error
        with self._changed:
            self._answers[place] = answer
            self._computed += 1

    def close(self) -> None:
        """End the threads, and the processes if they still compute."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._running and self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)

    def _take(self, wanted: int) -> int | None:
        """Take the first job. If none is left, wait until the wanted answer is there, and return None."""
        with self._changed:
            if self._only_here:
                return self._only_here.popleft()
            if self._pickled:
                return self._pickled.popleft()[0]
            if self._left:
                return self._left.popleft()
            self._changed.wait_for(lambda: wanted in self._answers or self._only_here)
            return None

    def _pickle(self) -> None:
        """Make jobs ready for the other processes."""
        while self._left and len(self._pickled) < _READY * self._others:
            place = self._left.popleft()
            content = _sent(self._function, self._jobs[place], self._threads)
            with self._changed:
                if content is None:
                    self._only_here.append(place)
                else:
                    self._pickled.append((place, content))
                self._changed.notify_all()

    def _serve(self) -> None:
        """Hand one job after another to a process, once it is worth its start and has its imports done."""
        if not self._wait_until_worth_it():
            return
        from joblib.externals.loky import get_reusable_executor

        with self._changed:
            self._executor = self._executor or get_reusable_executor(self._others, timeout=_IDLE)
            content = self._pickled[0][1] if self._pickled else None
        with contextlib.suppress(Exception):  # the first job says what is wrong
            names = [_IMPORTED_BY_TRAINING] if _IMPORTED_BY_TRAINING in sys.modules else []
            self._executor.submit(_prepare, content, names).result()
        while (job := self._next()) is not None:
            place, content = job
            try:
                answer = pickle.loads(self._executor.submit(_call_sent, content).result() or b"")
            except EOFError:  # it cannot be read there, or its result cannot be sent
                answer = None
            except Exception as error:  # noqa: BLE001 - such as of a process that has died
                answer = None, error
            with self._changed:
                self._running -= 1
                if answer is None:
                    self._only_here.append(place)
                else:
                    self._answers[place] = answer
                self._changed.notify_all()

    def _wait_until_worth_it(self) -> bool:
        """Wait until processes run already, or the jobs that are left take so long that a start pays."""
        from joblib.externals.loky import reusable_executor

        with self._changed:
            while not self._closed:
                taken = self._computed + 1
                left = len(self._left) + len(self._pickled)
                seconds = (time.perf_counter() - self._started) / taken * left
                # those that were started before end when they are idle
                if getattr(reusable_executor._executor, "_processes", None) or seconds >= _WORTH_A_START:
                    return True
                self._changed.wait(_LOOK)
        return False

    def _next(self) -> tuple[int, bytes] | None:
        """Take the first job that can be sent; None at the end."""
        with self._changed:
            while not self._closed and not self._pickled:
                self._changed.wait()
            if self._closed:
                return None
            self._running += 1
            return self._pickled.popleft()


def _beside(function: Callable[[Any], Result], job: Any, threads: int) -> Result:
    """Call in this process, while others compute."""
    global _is_beside
    _is_beside = True
    try:
        return _call(function, job, threads)
    finally:
        _is_beside = False


def _prepare(content: bytes | None, modules: list[str]) -> None:
    """Import in a worker process what a call needs."""
    for name in modules:
        importlib.import_module(name)
    pickle.loads(content or b"")


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
