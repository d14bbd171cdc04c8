"""Mining of a large pool, compared with faiss, scikit-activeml, small-text and scikit-learn.

Each limit is printed with the measured value. Peers run in turn; times are medians of processor time on one core, as
threads that wait would count as work. A peer that would take minutes does a part of the work, and its time is scaled
by its known cost, which is printed with it. The floors of searches for neighbours are the products of all pairs: where
vectors lie in clusters, most pairs are left out, which can be faster. That of k-center is one pass of differences, as
each vector is compared with one pick at least. Ten million records are mined in bench_mining_memory.py.
"""

import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from measuring import Report, interleaved
from sklearn.neighbors import LocalOutlierFactor
from threadpoolctl import threadpool_limits

from alhelpers import records, scores
from alhelpers.mining import combine, mine, strategies
from alhelpers.mining._neighbours import squared_distances

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers import what is deprecated
    from skactiveml.pool import CoreSet
    from small_text.query_strategies.coresets import greedy_coreset

FAISS_LIMIT = 1.0
SKACTIVEML_LIMIT, SMALL_TEXT_LIMIT, LOF_LIMIT = 25.0, 300.0, 3.0
#: Seconds for a choice by several goals.
GOALS_LIMIT = 3.0

report = Report(__file__)
at_least, at_most = report.at_least, report.at_most
PRODUCTS = "the products of all pairs alone"


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


def nearest_reference() -> None:
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
    at_most(
        "embedding distance, 50,000 x 128 to 10,000, over faiss flat",
        times["alhelpers"] / times["faiss"],
        FAISS_LIMIT,
        "x",
        floor=seconds_of(lambda: products(pool, base)) / times["faiss"],
        why=PRODUCTS,
    )


def k_center() -> None:
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
    once = seconds_of(lambda: squared_distances(pool, pool[0]))
    for peer, seconds, limit in (
        ("scikit-activeml", skactiveml, SKACTIVEML_LIMIT),
        ("small-text", small_text, SMALL_TEXT_LIMIT),
    ):
        at_least(
            f"k-center, 100,000 x 128, budget 500, over {peer}",
            seconds / times["alhelpers"],
            limit,
            floor=seconds / once,
            why="the distances to one pick",
        )


def goals() -> None:
    """Measure sampling goals against the greedy cover, whose distances they compute too."""
    count, budget = 100_000, 100
    confidences = confidences_of(count, 5)
    pool = vectors_of(count, 128, 4)
    table = records.from_arrays(ids_of(0, count), confidences=confidences, embeddings=pool)
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
    at_most(
        "goals, 100,000 x 128, budget 100",
        seconds,
        GOALS_LIMIT,
        floor=seconds_of(lambda: products(pool, pool[:budget])),
        why="the products of the pool with as many picks",
    )


def local_outliers() -> bool:
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
    seconds = seconds_of(lambda: (products(base, base), products(pool, base)))
    at_least(
        "local outlier factor, 20,000 fitted and 50,000 scored x 64, over scikit-learn",
        times["scikit-learn"] / times["alhelpers"],
        LOF_LIMIT,
        floor=times["scikit-learn"] / seconds,
        why=PRODUCTS,
    )
    return same_best


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the median processor time of a floor."""
    return interleaved({"floor": run}, 3)["floor"]


def products(vectors: np.ndarray, base: np.ndarray) -> None:
    """Multiply all pairs of vectors, in blocks that fit into the processor's cache."""
    columns = np.ascontiguousarray(base.T)
    for start in range(0, len(vectors), 256):
        np.matmul(vectors[start : start + 256], columns)


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    os.environ["OMP_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    with threadpool_limits(limits=1):
        every_strategy()
        nearest_reference()
        k_center()
        goals()
        same_best = local_outliers()
    return report.code() if same_best else 1


if __name__ == "__main__":
    raise SystemExit(main())
