"""Where tasks run: in this process, in a pool of workers, or on a Dask cluster."""

from __future__ import annotations

import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from typing import Any, Protocol

from alhelpers.mining._selection import MiningError

# A task: a function of an item and of a context that all tasks share; it must change neither.
Task = Callable[[Any, Any], Any]


class Engine(Protocol):
    """Runs a task on every item."""

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        """Yield ``task(item, context)`` of every item in order; a task must be a module's function, to be sent."""


def engine_of(engine: Any) -> Engine:
    """Return the engine of the `engine` argument of :func:`mine`."""
    if engine is None:
        return LocalEngine()
    if isinstance(engine, Executor):
        return ExecutorEngine(engine)
    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    if distributed is not None and isinstance(engine, distributed.Client):
        return DaskEngine(engine)
    raise MiningError(
        f"engine {engine!r} is unknown; the engines that exist are: None (this process), a "
        "concurrent.futures.Executor (such as ProcessPoolExecutor), a dask.distributed.Client"
    )


@dataclass(frozen=True)
class LocalEngine:
    """Runs tasks in this process, one at a time."""

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        for item in items:
            yield task(item, context)


@dataclass(frozen=True)
class ExecutorEngine:
    """An executor, whose workers share nothing: the context is sent with every task."""

    executor: Executor

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        packed = pickle.dumps(context, protocol=5)
        try:
            yield from _in_order(
                lambda item: self.executor.submit(_run, task, item, packed), items, 2 * (os.cpu_count() or 1)
            )
        except BrokenExecutor as error:
            raise MiningError(
                "a worker of the engine died, perhaps because memory ran out; give the executor fewer workers, or use "
                "a Dask cluster, which runs lost tasks again"
            ) from error


@dataclass(frozen=True)
class DaskEngine:
    """A Dask cluster: the context is sent once to every worker, and the tasks of a worker that dies run on another."""

    client: Any

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        import dask

        shared = None
        if context is not None:
            # the result of a task, which runs again if its worker dies; scattered data would be lost
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
                shared = self.client.submit(pickle.loads, pickle.dumps(context, protocol=5), pure=False)
        threads = sum(self.client.nthreads().values())
        yield from _in_order(
            lambda item: self.client.submit(task, item, shared, pure=False), items, 2 + 2 * threads
        )


def _in_order(submit: Callable[[Any], Any], items: Iterable[Any], window: int) -> Iterator[Any]:
    """Yield the results of submitted tasks in order, with at most a window of them running at once."""
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) == window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _run(task: Task, item: Any, packed: bytes) -> Any:
    return task(item, pickle.loads(packed))
