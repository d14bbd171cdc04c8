"""Mining by entropy in a Parquet file of a million records, compared with reading the columns that it needs.

Mining reads in parts, checks the confidences and the ids, scores and picks; pyarrow only reads. Both on one core. Two
thirds of mining's time are pyarrow's reading of the columns, in ten parts; a sixth is the entropy of the records, the
rest checks and picks. The limit is 1.1 times what was reached.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Report, interleaved

from alhelpers import records, scores
from alhelpers.mining import mine

ROWS, LIMIT = 1_000_000, 1.6


def write_records(file: Path) -> None:
    """Write records with confidences, and embeddings that are not read."""
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((ROWS, 10), dtype=np.float32) * 2
    table = records.from_arrays(
        [f"item-{number:010d}" for number in range(ROWS)],
        confidences=scores.confidences_from_logits(logits),
        embeddings=rng.standard_normal((ROWS, 128), dtype=np.float32),
    )
    records.write(file, table)


def main() -> int:
    """Print the ratio; return 1 if the limit is broken."""
    os.environ["OMP_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    report = Report(__file__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "million.parquet"
        write_records(file)
        times = interleaved(
            {
                "pyarrow": lambda: pq.read_table(file, columns=["id", "confidences"]),
                "alhelpers": lambda: mine(file, "entropy", 1000),
            }
        )
    report.at_most(
        f"entropy, the best 1000 of {ROWS:,} x 10, over reading the columns id and confidences",
        times["alhelpers"] / times["pyarrow"],
        LIMIT,
        "x",
        floor=1.0,
        why="reading the two columns with pyarrow",
    )
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
