"""Mining of a large pool, compared with faiss, scikit-activeml, small-text and scikit-learn.

Each limit is printed with the measured value. Peers run in turn; times are medians of processor time on one core, as
threads that wait would count as work. A peer that would take minutes does a part of the work, and its time is scaled
by its known cost, which is printed with it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Report, interleaved
from sklearn.neighbors import LocalOutlierFactor
from threadpoolctl import threadpool_limits

from alhelpers import records, scores
from alhelpers.mining import combine, mine, strategies

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers import what is deprecated
    from skactiveml.pool import CoreSet
    from small_text.query_strategies.coresets import greedy_coreset

FAISS_LIMIT = 1.0
SKACTIVEML_LIMIT, SMALL_TEXT_LIMIT, LOF_LIMIT = 25.0, 300.0, 3.0
#: Seconds for a choice by several goals.
GOALS_LIMIT = 3.0
#: The limit of the peak memory of the process that mines, in bytes.
MEMORY = 2 << 30
MANY = 10_000_000

report = Report(__file__)
at_least, at_most = report.at_least, report.at_most


def confidences_of(count: int, seed: int) -> np.ndarray:
    """Return confidences like those of a classifier's softmax."""
    logits = np.random.default_rng(seed).standard_normal((count, 10), dtype=np.float32) * 2
    return scores.confidences_from_logits(logits)


def vectors_of(count: int, size: int, seed: int) -> np.ndarray:
    """Return embeddings in ten clusters."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal((10, size), dtype=np.float32) * 2
    return rng.standard_normal((count, size), dtype=np.float32) + centers[rng.integers(10, size=count)]


def boxes_of(count: int, seed: int) -> records.Boxes:
    """Return two boxes a record, with what strategies of boxes need."""
    rng, total = np.random.default_rng(seed), 2 * count
    certain = {f"{name}_certainty": rng.random(total) for name in ("class", "location", "existence")}
    return records.Boxes(
        np.arange(0, total + 1, 2),
        class_name=np.array([f"class {number}" for number in rng.integers(10, size=total)], dtype=object),
        embeddings=vectors_of(total, 64, seed),
        **{name: values.astype(np.float32) for name, values in certain.items()},
    )


def ids_of(start: int, count: int) -> list[str]:
    """Return ids like those of a platform."""
    return [f"item-{number:010d}" for number in range(start, start + count)]


def every_strategy() -> None:
    """Print the time of each strategy on one pool: the numbers of docs/write_methods.py."""
    count, labelled, samples = 20_000, 1_000, 10

    def made(start: int, rows: int, seed: int) -> pa.Table:
        drawn = confidences_of(rows * samples, seed).reshape(rows, samples, -1)
        return records.from_arrays(
            ids_of(start, rows),
            confidences=confidences_of(rows, seed),
            embeddings=vectors_of(rows, 64, seed),
            detections=boxes_of(rows, seed),
            mc_dropout=drawn,
            query_by_committee=drawn,
        )

    pool, reference = made(0, count, 7), made(count, labelled, 8)
    print(
        f"100 of {count:,} records, {labelled:,} labelled; {samples} samples, 10 classes, embeddings of 64:"
    )
    for name in strategies():
        run = partial(mine, pool, name, 100, reference=reference)
        print(f"    {name}: {interleaved({name: run}, 3)[name]:.3f} s", flush=True)


# ------------------------------------------------------------------------------
# peers
# ------------------------------------------------------------------------------


def nearest_reference() -> bool:
    """Compare the distance to the nearest of 10,000 references with faiss, on 50,000 of the million records."""
    count, base = 50_000, vectors_of(10_000, 128, 2)
    pool = vectors_of(count, 128, 3)
    table = records.from_arrays(ids_of(0, count), embeddings=pool)
    reference = records.from_arrays(ids_of(count, len(base)), embeddings=base)
    faiss.omp_set_num_threads(1)

    def with_faiss() -> np.ndarray:
        index = faiss.IndexFlatL2(128)
        index.add(base)
        squared, _ = index.search(pool, 1)
        return np.argsort(-squared[:, 0], kind="stable")[:1000]

    def ours() -> Any:
        return mine(table, "embedding_distance", 1000, reference=reference)

    times = interleaved({"alhelpers": ours, "faiss": with_faiss}, 3)
    same = len({f"item-{place:010d}" for place in with_faiss()} & set(ours().ids))
    print(
        f"embedding distance, {count:,} x 128 to 10,000 (time grows with the pool; a million takes 20 times as long): "
        f"alhelpers {times['alhelpers']:.2f} s, faiss flat {times['faiss']:.2f} s, {same} of the best 1000 the same"
    )
    return at_most(
        "embedding distance, 50,000 x 128 to 10,000, over faiss flat",
        times["alhelpers"] / times["faiss"],
        FAISS_LIMIT,
        "x",
    )


def k_center() -> list[bool]:
    """Compare the greedy cover with scikit-activeml and small-text."""
    count, budget = 100_000, 500
    pool = vectors_of(count, 128, 4)
    table = records.from_arrays(ids_of(0, count), embeddings=pool)
    labels = np.full(count, np.nan)
    labels[0] = 0  # it starts at a labelled record
    few, more = 5, 25
    # small-text measures all records to all picks anew at each pick: one pick after 250 stands for the mean of 500
    small, middle = 5_000, 250

    def with_skactiveml(budget: int) -> None:
        CoreSet(random_state=0).query(pool, labels, batch_size=budget)

    def with_small_text() -> None:
        greedy_coreset(
            pool[:small], np.arange(middle, small), np.arange(middle), 2, distance_metric="euclidean"
        )

    times = interleaved(
        {
            "alhelpers": lambda: mine(table, "coreset", budget),
            "few": lambda: with_skactiveml(few),
            "more": lambda: with_skactiveml(more),
            "small-text": with_small_text,
        },
        3,
    )
    skactiveml = (times["more"] - times["few"]) / (more - few) * budget
    small_text = times["small-text"] / 2 * budget * count / small
    print(
        f"k-center, 100,000 x 128, budget 500: alhelpers {times['alhelpers']:.2f} s; scikit-activeml {skactiveml:.0f} "
        f"s (linear in the budget: {few} in {times['few']:.2f} s, {more} in {times['more']:.2f} s); small-text "
        f"{small_text:.0f} s (linear in the records, and each pick in those before it: 2 picks after {middle} of "
        f"{small:,} records in {times['small-text']:.2f} s)"
    )
    return [
        at_least(
            "k-center, 100,000 x 128, budget 500, over scikit-activeml",
            skactiveml / times["alhelpers"],
            SKACTIVEML_LIMIT,
        ),
        at_least(
            "k-center, 100,000 x 128, budget 500, over small-text",
            small_text / times["alhelpers"],
            SMALL_TEXT_LIMIT,
        ),
    ]


def goals() -> bool:
    """Measure sampling goals against the greedy cover, whose distances they compute too."""
    count, budget = 100_000, 100
    confidences = confidences_of(count, 5)
    table = records.from_arrays(
        ids_of(0, count), confidences=confidences, embeddings=vectors_of(count, 128, 4)
    )
    plan = {
        "goals": {
            "scores": [{"strategy": "margin", "weight": 1}],
            "diversity": 1,
            "balance": [{"field": "prediction.class_name", "weight": 1}],
            "min_distance": 0.1,
        }
    }
    seconds = interleaved({"goals": lambda: combine(table, plan, budget)}, 3)["goals"]
    print(f"goals, 100,000 x 128, budget {budget}: {seconds:.2f} s")
    return at_most("goals, 100,000 x 128, budget 100", seconds, GOALS_LIMIT, " s")


def local_outliers() -> list[bool]:
    """Compare the local outlier factor with scikit-learn."""
    base, pool = vectors_of(20_000, 64, 5), vectors_of(50_000, 64, 6)
    table = records.from_arrays(ids_of(0, len(pool)), embeddings=pool)
    reference = records.from_arrays(ids_of(len(pool), len(base)), embeddings=base)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = mine(table, "novelty", 1000, reference=reference)

    def with_sklearn() -> None:
        factor = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(base)
        found["scikit-learn"] = -factor.score_samples(pool)

    times = interleaved({"alhelpers": ours, "scikit-learn": with_sklearn}, 3)
    best = np.argsort(-found["scikit-learn"], kind="stable")[:1000]
    same = len({f"item-{place:010d}" for place in best} & set(found["ours"].ids))
    away = np.abs(np.sort(found["scikit-learn"][best])[::-1] - found["ours"].scores).max()
    print(
        f"local outlier factor, 20,000 fitted and 50,000 scored x 64: alhelpers {times['alhelpers']:.2f} s, "
        f"scikit-learn {times['scikit-learn']:.2f} s; {same} of the best 1000 the same, scores within {away:.1e}"
    )
    same_best = same == 1000
    print(f"    the same best 1000: {'held' if same_best else 'BROKEN'}")
    return [
        at_least(
            "local outlier factor, 20,000 fitted and 50,000 scored x 64, over scikit-learn",
            times["scikit-learn"] / times["alhelpers"],
            LOF_LIMIT,
        ),
        same_best,
    ]


# ------------------------------------------------------------------------------
# ten million records
# ------------------------------------------------------------------------------


def memory(folder: Path) -> list[bool]:
    """Mine ten million records by coreset and by every strategy that scores each record alone, in new processes."""
    file = folder / "many.parquet"
    write_many(file)
    names = [
        name
        for name in strategies()
        if name not in ("query_by_committee", "mc_dropout", "novelty", "outlier", "badge", "typicality")
        and "box" not in name  # whose records have boxes
        and "object" not in name
    ]
    held = []
    for name in names:
        command = [sys.executable, __file__, "mine", str(file), name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak, seconds = map(float, done.stdout.split())
        print(f"{name}, {MANY:,} records of {file.stat().st_size >> 20} MiB: {seconds:.0f} s")
        held.append(at_most(f"{name} of {MANY:,} records, peak", peak / 2**30, MEMORY / 2**30, " GiB"))
    file.unlink()
    return held


def write_many(file: Path) -> None:
    """Write ten million records, a row group at a time, without the code that is measured."""
    rows, size = 100_000, 8
    writer = None
    for start in range(0, MANY, rows):
        table = records.from_arrays(
            ids_of(start, rows),
            class_names=[f"class {number}" for number in range(10)],
            confidences=confidences_of(rows, start),
            embeddings=vectors_of(rows, size, start),
        )
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table, row_group_size=rows)
    writer.close()


def mine_many(file: str, name: str) -> None:
    """Mine, and print this process's peak memory in bytes and its processor time in seconds."""
    started = time.process_time()
    reference = records.from_arrays(
        ids_of(MANY, 10), confidences=confidences_of(10, 1), embeddings=vectors_of(10, 8, 1)
    )
    mine(file, name, 100, reference=None if name == "coreset" else reference)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(peak, time.process_time() - started)


def main() -> int:
    """Print the times, ratios and memory; return 1 if a limit is broken."""
    os.environ["OMP_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(limits=1):
        # first, as the peak of a new process starts at the memory of the process that starts it
        held = memory(Path(folder))
        every_strategy()
        held += [nearest_reference(), *k_center(), goals(), *local_outliers()]
    return 0 if all(held) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["mine"]:
        mine_many(*sys.argv[2:])
    else:
        raise SystemExit(main())
