"""What mining on a cluster takes: a model of a few lines, fed with numbers that are measured on one part."""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple

from alhelpers.mining._selection import MiningError


class ClusterCost(NamedTuple):
    """What :func:`cluster_cost` predicts: seconds in all, and what bounds them.

    Parameters
    ----------
    seconds : float
        From the start to the selection.
    reading, computing : float
        What each worker spends on either, if the other took no time.
    coordinating : float
        What this process and the scheduler spend, one after the other, on all tasks and ids.
    bound : str
        The largest of the three: more workers do not help against ``"coordinating"``, and more threads of a worker not
        against ``"reading"``.
    price : float
        Of all workers for that long.
    """

    seconds: float
    reading: float
    computing: float
    coordinating: float
    bound: str
    price: float


def cluster_cost(
    records: int,
    bytes_each: float,
    seconds_each: float,
    *,
    workers: int,
    threads: int = 1,
    bandwidth: float = 100e6,
    part: int = 100_000,
    passes: int = 1,
    overhead: float = 0.003,
    merging_each: float = 1e-7,
    start: float = 0,
    price: float = 0,
) -> ClusterCost:
    """Predict what mining on a cluster takes, from what a part takes on one worker.

    A worker's threads share its bandwidth, and each reads a part, then computes; while one reads, others compute. So a
    worker is bounded by its bandwidth, or by its threads. This process hands out tasks meanwhile, and joins the ids at
    the end. What the storage sends to all workers together is taken to be unlimited.

    Parameters
    ----------
    records : int
        The number of records.
    bytes_each : float
        Bytes of a record in the columns that the strategy reads, as they are in the files.
    seconds_each : float
        Processor seconds of a record on one thread, with decoding: measure a part and divide.
    workers, threads : int
        Workers, and the threads of each.
    bandwidth : float
        Bytes a second from the storage to one worker.
    part : int
        Records of a part: of a row group, in object storage.
    passes : int
        How often the strategy goes over the pool; each time, the files are read again.
    overhead : float
        Seconds that the scheduler and this process spend on a task.
    merging_each : float
        Seconds that this process spends on the id of a record.
    start : float
        Seconds until the workers are there.
    price : float
        The price of a worker for an hour.

    Returns
    -------
    ClusterCost
        The prediction; as good as the numbers that it is given.

    Raises
    ------
    MiningError
        If a count is no whole number of at least 1, or another number is negative or not finite.

    Examples
    --------
    >>> cluster_cost(100_000_000, 50, 2e-6, workers=4, threads=2).bound
    'computing'
    """
    counts = {"records": records, "workers": workers, "threads": threads, "part": part, "passes": passes}
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise MiningError(f"{name} must be a whole number of at least 1, got {count!r}")
    amounts = {"bytes_each": bytes_each, "seconds_each": seconds_each, "bandwidth": bandwidth, "overhead": overhead,
               "merging_each": merging_each, "start": start, "price": price}  # fmt: skip
    for name, amount in amounts.items():
        if not isinstance(amount, Real) or not 0 <= amount < math.inf:
            raise MiningError(f"{name} must be a finite number of at least 0, got {amount!r}")
    if not bandwidth:
        raise MiningError("bandwidth must be above 0, got 0")
    parts = math.ceil(records / part)
    rounds = math.ceil(parts / workers) * passes  # the parts of the worker that has most of them
    size = records / parts
    read, computed = size * bytes_each / bandwidth, size * seconds_each
    reading, computing = rounds * read, rounds * computed / threads
    handing_out, merging = parts * passes * overhead, records * merging_each
    # a thread that waits for its part does not compute
    working = max(reading, rounds * (read + computed) / threads)
    # with fewer parts than threads some threads have none, and a part takes its time
    working = max(working, math.ceil(parts / (workers * threads)) * passes * computed + read)
    seconds = start + max(working, handing_out) + merging
    each = {"reading": reading, "computing": computing, "coordinating": handing_out + merging}
    bound = max(each, key=lambda name: each[name])
    return ClusterCost(seconds, *each.values(), bound, seconds / 3600 * workers * price)
