"""Where the work is done: in this process, in a pool of workers, or on a Dask cluster."""

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

# A task: what to do with an item, in a context that all tasks share. Neither may be changed by it.
Task = Callable[[Any, Any], Any]


class Engine(Protocol):
    """Runs a task on every item."""

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        """Return ``task(item, context)`` of every item, in their order, as they are asked for.

        Parameters
        ----------
        task : callable
            A function of a module, so that it can be sent.
        items : iterable
            What to do it with; taken a few at a time.
        context : object
            What all tasks need.
        """


def engine_of(engine: Any) -> Engine:
    """Return the engine that a caller asked for.

    Raises
    ------
    MiningError
        If it is none of those that exist.
    """
    if engine is None:
        return Here()
    if isinstance(engine, Executor):
        return Workers(engine)
    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    if distributed is not None and isinstance(engine, distributed.Client):
        return Cluster(engine)
    raise MiningError(
        f"engine {engine!r} is unknown; the engines that exist are: None (this process), a "
        "concurrent.futures.Executor (such as ProcessPoolExecutor), a dask.distributed.Client"
    )


@dataclass(frozen=True)
class Here:
    """The process that asks, an item at a time."""

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        """Return the results in order."""
        for item in items:
            yield task(item, context)


@dataclass(frozen=True)
class Workers:
    """An executor, whose workers share nothing: the context goes with every task.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Where the tasks run.
    """

    executor: Executor

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        """Return the results in order.

        Raises
        ------
        MiningError
            If a worker dies.
        """
        packed = pickle.dumps(context, protocol=5)
        try:
            yield from _in_order(
                lambda item: self.executor.submit(_run, task, item, packed), items, 2 * (os.cpu_count() or 1)
            )
        except BrokenExecutor as error:
            raise MiningError(
                "a worker of the engine died, perhaps for want of memory; give the executor fewer workers, or use "
                "a Dask cluster, which runs lost tasks again"
            ) from error


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster: the context goes once to every worker, and the tasks of a worker that dies to another.

    Parameters
    ----------
    client : dask.distributed.Client
        What is connected to it.
    """

    client: Any

    def map(self, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
        """Return the results in order."""
        shared = None if context is None else self._sent(context)
        threads = sum(self.client.nthreads().values())
        yield from _in_order(
            lambda item: self.client.submit(task, item, shared, pure=False), items, 2 + 2 * threads
        )

    def _sent(self, context: Any) -> Any:
        """Make the context the result of a task, which is run again where its worker dies; scattered, it is lost."""
        from dask import config

        with config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self.client.submit(pickle.loads, pickle.dumps(context, protocol=5), pure=False)


def _in_order(submit: Callable[[Any], Any], items: Iterable[Any], window: int) -> Iterator[Any]:
    """Return the results of submitted tasks in order, and have no more than a window of them at once."""
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
