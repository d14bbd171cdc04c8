"""Mining on a Dask cluster from object storage: what a part takes, and what a model makes of it for 100 M records.

A process of its own serves files of a million records over HTTP, by ranges, from the system's cache. Measured on one
worker: what it takes to read the columns of a file (MB/s), to read and score it (processor seconds), a task of Dask
with nothing to do, a context of 32 MB on its way to two workers, and the best 1,000 of each part merged. Then a pool
is mined on one and on two workers with a thread each, and ``mining.cluster_cost``, fed with the numbers of one file,
has to predict the seconds: the limit is how far off it may be. The server, this process and the workers share the
cores of one machine, so that no prediction is below their processor seconds divided by the cores. Last, the model is
asked for 100 M records and up to 64 workers with the same numbers: that is a simulation, as are 100 MB/s and the
price.

Strategies: entropy; embedding distance to 1,000 references, as the two ends of scores that look at one record alone;
coreset in parts (a cover of each file, then a cover of these picks), which needs one pass. The last is not what
``mine`` does with a whole pool, whose picks are exact and take many passes; it is in the benchmark alone, with the
radius of the cover over that of the exact one. The wall clock counts, so the machine must be idle.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dask.distributed import Client, LocalCluster
from measuring import Report

from alhelpers import mining, records, storage
from alhelpers.mining._engine import engine_of
from alhelpers.mining._pool import Best, best_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from object_storage import OPTIONS

FILE, CLASSES, SIZE, PICKS = 1_000_000, 10, 32, 100
#: How far off the model may be, as a share of the measured seconds.
ERROR = 0.25
#: Bytes a second to one worker of the simulated cluster, and the price of one for an hour.
BANDWIDTH, PRICE = 100e6, 0.20

COLUMNS = {
    "entropy": ["confidences"],
    "embedding_distance": ["embeddings"],
    "coreset in parts": ["embeddings"],
}


def write_file(path: Path, number: int, rows: int) -> None:
    """Write records with confidences and embeddings in a few thousand clusters, as the kit writes them."""
    rng = np.random.default_rng(number)
    logits = rng.normal(size=(rows, CLASSES)).astype(np.float32) * 2
    confidences = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidences /= confidences.sum(axis=1, keepdims=True)
    centres = np.random.default_rng(0).normal(size=(3000, SIZE)).astype(np.float32)
    embeddings = centres[rng.integers(3000, size=rows)] + 0.3 * rng.normal(size=(rows, SIZE)).astype(
        np.float32
    )
    ids = [f"r{place:09d}" for place in range(number * rows, (number + 1) * rows)]
    records.write(path, records.from_arrays(ids, confidences=confidences, embeddings=embeddings))


def mine(source: Any, strategy: str, reference: pa.Table, engine: Any = None) -> Any:
    """Mine by a strategy of ``mine``."""
    return mining.mine(source, strategy, PICKS, reference=reference, engine=engine)


def cover(url: str, _: None) -> pa.Table:
    """Return a cover of one file: its picks with their embeddings."""
    table = records.read(records.Files(url, OPTIONS), ["embeddings"])
    return of(table, mining.mine(table, "coreset", PICKS).ids)


def cover_in_parts(urls: list[str], engine: Any = None) -> Any:
    """Return a cover of the covers of files."""
    return mining.mine(pa.concat_tables(engine_of(engine)(cover, urls, None)), "coreset", PICKS)


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and processor seconds of a call."""
    wall, spent = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - spent


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of another process."""
    times = process.cpu_times()
    return times.user + times.system


def nothing(item: int, context: Any) -> int:
    """Return the item."""
    return item


@contextmanager
def one_machine(workers: int) -> Iterator[Client]:
    """Start a cluster whose workers are processes of this machine."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def measure_dask(client: Client) -> float:
    """Print what a task of Dask and a context take; return the seconds of a task."""
    engine = engine_of(client)
    list(engine(nothing, range(50), None))
    task = seconds(lambda: list(engine(nothing, range(1000), None)))[0] / 1000
    context = np.zeros(4 << 20)
    sent = seconds(lambda: list(engine(nothing, range(4), context)))[0] - 4 * task
    print(f"    a task of Dask with nothing to do: {1000 * task:.2f} ms; a context of 32 MB to the workers:"
          f" {sent:.2f} s")  # fmt: skip
    return task


def measure_merge() -> None:
    """Print what it takes to merge the best of many parts."""
    for parts in (10, 100, 1000):
        rng = np.random.default_rng(0)
        best = [
            Best(pa.array([f"{part}-{row}" for row in range(1000)]), -np.sort(rng.random(1000, np.float32)))
            for part in range(parts)
        ]
        print(
            f"    the best 1,000 of {parts} parts merged: {1000 * seconds(partial(best_of, best, 1000))[1]:.1f} ms"
        )


def measure_file(
    name: str, urls: list[str], rows: int, run: Callable[[list[str]], Any], serving_pid: int
) -> dict[str, float]:
    """Return what a file takes: bytes of a record, seconds of a record, bytes a second."""
    (file,) = storage.find(urls[0], OPTIONS)
    parts = records.parts(records.Files(urls[0], OPTIONS), COLUMNS[name])
    (end,) = storage.tails([file])
    metadata = pq.read_metadata(pa.BufferReader(end))
    wanted = [
        (chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size)
        for group in map(metadata.row_group, range(metadata.num_row_groups))
        for chunk in map(group.column, range(group.num_columns))
        if chunk.path_in_schema.split(".")[0] in ("id", *COLUMNS[name])
    ]
    size = sum(stop - start for start, stop in wanted)
    run(urls[:1])
    read, spent_reading = min(seconds(lambda: [file.read([each]) for each in wanted]) for _ in range(3))
    wall, spent = min(seconds(partial(run, urls[:1])) for _ in range(3))
    server = psutil.Process(serving_pid)
    before = processor_seconds(server)
    run(urls[:1])
    serving = processor_seconds(server) - before
    print(
        f"    {name}: {size / rows:.0f} bytes a record in {len(parts)} parts, read with {size / read / 1e6:.0f} MB/s"
        f" and {spent_reading:.2f} s of a processor; read and scored in {wall:.2f} s, {spent:.2f} s of a processor"
    )
    computing = max(wall - read, spent - spent_reading)
    # what reading takes of the worker's processor is computing where the bandwidth is another
    return {"bytes_each": size / rows, "local": computing / rows, "elsewhere": spent / rows,
            "serving": serving / rows, "bandwidth": size / read}  # fmt: skip


def main() -> int:
    """Measure, predict, compare, and extrapolate; return 1 if the model is too far off."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=4, help="files that are mined on the cluster")
    parser.add_argument("--rows", type=int, default=FILE, help="records of a file")
    parser.add_argument("--strategies", nargs="+", default=list(COLUMNS), choices=list(COLUMNS))
    parser.add_argument("--folder", type=Path, help="where the files are kept; default: a temporary folder")
    parser.add_argument("--only-write", action="store_true", help="write the files, and end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for number in range(options.files):
            if not (folder / f"{number:03d}.parquet").exists():
                folder.mkdir(exist_ok=True)
                write_file(folder / f"{number:03d}.parquet", number, options.rows)
        return 0 if options.only_write else compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> int:
    """Serve the files, measure one, and put the model to the test with all of them."""
    report = Report(__file__)
    server = Path(__file__).parents[1] / "object_storage.py"
    process = subprocess.Popen([sys.executable, str(server), str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        urls = [f"{url}/{number:03d}.parquet" for number in range(options.files)]
        for each in urls:  # into the system's cache
            (folder / each.rpartition("/")[2]).read_bytes()
        reference = records.read(folder / "000.parquet", ["embeddings"]).slice(0, 1000)
        runs = {
            name: partial(cover_in_parts, engine=None)
            if name == "coreset in parts"
            else lambda urls, engine=None, name=name: mine(
                records.Files(urls, OPTIONS), name, reference, engine
            )
            for name in options.strategies
        }
        measured = {}
        with one_machine(
            1
        ) as client:  # a worker has one thread, and gives memory back earlier than this process
            for name, run in runs.items():
                measured[name] = client.submit(
                    measure_file, name, urls, options.rows, run, process.pid
                ).result()
        measure_merge()
        for workers in (1, 2):
            with one_machine(workers) as client:
                task = measure_dask(client)
                for name, run in runs.items():
                    client.run(run, urls[:1])  # each worker imports, and connects
                    took, spent = seconds(partial(run, urls, engine=client))
                    part = options.rows if name == "coreset in parts" else records.PART_ROWS
                    numbers = measured[name]
                    predicted = mining.cluster_cost(
                        options.files * options.rows, numbers["bytes_each"], numbers["local"], workers=workers,
                        bandwidth=numbers["bandwidth"], part=part, overhead=task,
                    )  # fmt: skip
                    count = options.files * options.rows
                    shared = (count * (numbers["elsewhere"] + numbers["serving"]) + spent) / os.cpu_count()
                    expected = max(predicted.seconds, shared)
                    off = abs(expected / took - 1)
                    what = f"{name}, {options.files * options.rows / 1e6:g} M, workers: {workers}"
                    print(f"    {what}: predicted {expected:.1f} s, took {took:.1f} s, of which this process"
                          f" {spent:.1f} s")  # fmt: skip
                    report.at_most(f"{what}: the model is off by", off, ERROR, "")
        for name, numbers in measured.items():
            extrapolate(
                name, numbers, options.rows if name == "coreset in parts" else records.PART_ROWS, task
            )
        if "coreset in parts" in runs:
            print_radius(folder, urls)
    finally:
        process.terminate()
        process.wait()
    return report.code()


def extrapolate(name: str, numbers: dict[str, float], part: int, task: float) -> None:
    """Print what the model says of 100 M records."""
    print(f"    {name}, 100 M records, simulated: workers with two threads and {BANDWIDTH / 1e6:.0f} MB/s each,"
          f" {PRICE:.2f} an hour")  # fmt: skip
    for workers in (2, 4, 8, 16, 32, 64):
        cost = mining.cluster_cost(
            10**8, numbers["bytes_each"], numbers["elsewhere"], workers=workers, threads=2, bandwidth=BANDWIDTH,
            part=part, overhead=task, price=PRICE,
        )  # fmt: skip
        print(f"        {workers:2d}: {cost.seconds:6.1f} s, bound by {cost.bound}, for {cost.price:.3f}")


def print_radius(folder: Path, urls: list[str]) -> None:
    """Print the radius of a cover in parts over that of an exact one, on part of the records."""
    tables = [
        records.read(folder / each.rpartition("/")[2], ["embeddings"]).slice(0, 100_000) for each in urls
    ]
    whole = pa.concat_tables(tables)
    covers = [of(table, mining.mine(table, "coreset", PICKS).ids) for table in tables]
    picked = {
        "in parts": mining.mine(pa.concat_tables(covers), "coreset", PICKS).ids,
        "exact": mining.mine(whole, "coreset", PICKS).ids,
    }
    radius = {
        name: mining.mine(whole, "embedding_distance", 1, reference=of(whole, ids)).scores[0]
        for name, ids in picked.items()
    }
    print(
        f"    the radius of a cover of {len(whole):,} records by {PICKS}, in {len(urls)} parts over exact:"
        f" {radius['in parts'] / radius['exact']:.3f}"
    )


def of(table: pa.Table, ids: list[str]) -> pa.Table:
    """Return the records of some ids."""
    return table.filter(pc.is_in(table["id"], pa.array(ids)))


if __name__ == "__main__":
    raise SystemExit(main())
