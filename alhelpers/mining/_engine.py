"""Where tasks run: in this process, in a pool of workers, or on a Dask cluster."""

from __future__ import annotations

import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from typing import Any

from alhelpers.mining._selection import MiningError

# A task: a function of an item and of a context that all tasks share; it must change neither.
Task = Callable[[Any, Any], Any]

# Yields ``task(item, context)`` of every item in order; a task must be a module's function, to be sent.
Engine = Callable[[Task, Iterable[Any], Any], Iterator[Any]]


def engine_of(engine: Any) -> Engine:
    """Return the engine of the `engine` argument of :func:`mine`."""
    if engine is None:
        return in_process
    if isinstance(engine, Executor):
        return partial(_on_executor, engine)
    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    if distributed is not None and isinstance(engine, distributed.Client):
        return partial(_on_cluster, engine)
    raise MiningError(
        f"engine {engine!r} is unknown; the engines that exist are: None (this process), a "
        "concurrent.futures.Executor (such as ProcessPoolExecutor), a dask.distributed.Client"
    )


def in_process(task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
    """Run tasks in this process, one at a time."""
    for item in items:
        yield task(item, context)


def _on_executor(executor: Executor, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
    """Run tasks in workers, which share nothing: the context is sent with every task."""
    packed = _packed(context)
    try:
        yield from _in_order(partial(executor.submit, _run, task, packed), items, 2 * (os.cpu_count() or 1))
    except BrokenExecutor as error:
        raise MiningError(
            "a worker of the engine died, perhaps because memory ran out; give the executor fewer workers, or use "
            "a Dask cluster, which runs lost tasks again"
        ) from error


def _packed(context: Any) -> bytes:
    try:
        return pickle.dumps(context, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MiningError(
            f"the workers of the engine cannot get a function of one's own: {error}; define it in a module that they "
            "can import, or leave the engine out"
        ) from error


def _run(task: Task, packed: bytes, item: Any) -> Any:
    return task(item, pickle.loads(packed))


def _on_cluster(client: Any, task: Task, items: Iterable[Any], context: Any) -> Iterator[Any]:
    """Run tasks on a Dask cluster: the context is sent once, and the tasks of a worker that dies run on another."""
    import dask

    shared = None
    if context is not None:
        # the result of a task, which runs again if its worker dies; scattered data would be lost
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            shared = client.submit(pickle.loads, _packed(context), pure=False)
    threads = sum(client.nthreads().values())
    yield from _in_order(lambda item: client.submit(task, item, shared, pure=False), items, 2 + 2 * threads)


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
