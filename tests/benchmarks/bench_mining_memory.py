"""Mining of ten million records in a file, each time in a new process: its peak memory and processor time.

The limits of coreset are seconds of processor time on one core, and memory. Its floor is to read the vectors once:
it needs their mean, the vector nearest to it, and the distances to that vector, each from another pass. It reads
them again in each round, and compares most vectors with some of the later picks.
On a busy machine it took up to 32 s, on an idle one 24.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from bench_mining import confidences_of, ids_of, vectors_of
from measuring import Report

from alhelpers import records
from alhelpers.mining import mine

#: The limit of the peak memory of the process that mines, in bytes.
MEMORY = 2 << 30
MANY, ROWS, SIZE = 10_000_000, 100_000, 32
#: Picks by coreset, and the limit of their seconds.
PICKS, COVER_LIMIT = 1_000, 30.0
#: One strategy of each way to read and score: others read the same fields.
NAMES = ("coreset", "embedding_distance", "entropy", "random")

report = Report(__file__)


def write_many(file: Path) -> None:
    """Write ten million records, a row group at a time, without the code that is measured."""
    writer = None
    for start in range(0, MANY, ROWS):
        table = records.from_arrays(
            ids_of(start, ROWS),
            class_names=[f"class {number}" for number in range(10)],
            confidences=confidences_of(ROWS, start),
            embeddings=vectors_of(ROWS, SIZE, start),
        )
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table, row_group_size=ROWS)
    writer.close()


def read_once(file: Path) -> float:
    """Return the seconds to read all vectors, from those of a tenth of the row groups."""
    started = time.process_time()
    with pq.ParquetFile(file) as parquet:
        for group in range(0, parquet.num_row_groups, 10):
            parquet.read_row_group(group, columns=["embeddings"], use_threads=False)
    return (time.process_time() - started) * 10


def mine_many(file: str, name: str) -> None:
    """Mine, and print this process's peak memory in bytes and its processor time in seconds."""
    pa.set_cpu_count(1)
    started = time.process_time()
    reference = records.from_arrays(
        ids_of(MANY, 10), confidences=confidences_of(10, 1), embeddings=vectors_of(10, SIZE, 1)
    )
    mine(file, name, PICKS, reference=None if name == "coreset" else reference)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(peak, time.process_time() - started)


def main() -> int:
    """Print the memory and the times; return 1 if a limit is broken."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.parquet"
        write_many(file)
        for name in NAMES:
            command = [sys.executable, __file__, "mine", str(file), name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peak, seconds = map(float, done.stdout.split())
            what = f"{name}, {PICKS:,} of {MANY:,} records x {SIZE} in a file"
            print(f"{what}: {seconds:.1f} s")
            report.at_most(f"{what}, peak", peak / 2**30, MEMORY / 2**30, " GiB")
            if name == "coreset":
                once = read_once(file)
                report.at_most(what, seconds, COVER_LIMIT, floor=once, why="reading the vectors once")
    return report.code()


if __name__ == "__main__":
    if sys.argv[1:2] == ["mine"]:
        mine_many(*sys.argv[2:])
    else:
        raise SystemExit(main())
