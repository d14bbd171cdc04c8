"""Measure the learning curves of ``data/learning-curves.parquet``, on which forecasts and stopping are tested.

Run ``python tests/benchmarks/stopping_curves.py`` (a few minutes of one core); ``stopping.py`` reads them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alhelpers import data, files, mining, parallel, records
from alhelpers.learners import SklearnLearner

CURVES = Path(__file__).parents[2] / "data" / "learning-curves.parquet"
_STRATEGIES = ("random", "margin", "entropy")
_SEEDS = range(2)
_LAST = 900

# Records of the pool that a strategy sees in each round, and on which the criteria of stopping are measured.
_CANDIDATES = 600


class Setting(NamedTuple):
    """What a curve is of."""

    dataset: str
    learner: str
    strategy: str
    seed: int


def settings() -> list[Setting]:
    """Return all settings, a seed after the other."""
    chosen = itertools.product(_SEEDS, ("digits", "mnist", "fashion"), ("linear", "trees"), _STRATEGIES)
    return [Setting(dataset, learner, strategy, seed) for seed, dataset, learner, strategy in chosen]


def label_counts(first: int = 20, last: int = _LAST) -> list[int]:
    """Return numbers of labels, each 5 % above the one before, but at least 5."""
    counts = [first]
    while counts[-1] < last:
        counts.append(counts[-1] + max(5, round(counts[-1] * 0.05)))
    return counts


def curve(setting: Setting) -> list[dict[str, Any]]:
    """Run one active learning and return a row for each number of labels.

    ``accuracy`` is on the whole test set; the other columns are the criteria of :func:`alhelpers.mining.stop`, of this
    round and the one before, on the same records of the pool in all rounds.
    """
    pool, test = data.load(setting.dataset, seed=setting.seed)
    draw = np.random.default_rng(setting.seed)
    truth, learner = test.labels(), _learner(setting)
    watched = pool.take(draw.choice(len(pool), min(_CANDIDATES, len(pool)), replace=False))
    counts = label_counts()
    labelled, before, rows = draw.choice(len(pool), counts[0], replace=False), [], []
    for count, following in zip(counts, [*counts[1:], counts[-1]], strict=True):
        seed = 100_000 * setting.seed + count
        fitted = learner.fresh(seed)
        fitted.fit(pool.take(labelled), seed=seed)
        accuracy = (fitted.predict(test).confidences.argmax(1) == truth).mean()
        watched_now = fitted.predict(watched).confidences
        criteria = mining.stop([*before, watched_now], window=1)
        measured = {criterion.name: criterion.value for criterion in criteria}
        rows.append(setting._asdict() | {"labels": count, "accuracy": accuracy} | measured)
        before = [watched_now]
        if following > count:
            free = np.setdiff1d(np.arange(len(pool)), labelled)
            free = np.sort(draw.choice(free, min(_CANDIDATES, len(free)), replace=False))
            part = records.from_arrays(free, confidences=fitted.predict(pool.take(free)).confidences)
            picked = mining.mine(part, setting.strategy, following - count, seed=seed).ids
            labelled = np.concatenate([labelled, np.array(picked)])
    return rows


def _learner(setting: Setting) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    if setting.learner == "linear":
        return SklearnLearner(LogisticRegression(C=0.1, max_iter=100, tol=1e-3))
    if setting.learner == "trees":
        return SklearnLearner(ExtraTreesClassifier(40, n_jobs=1))
    raise ValueError(f"learner is {setting.learner!r}: it must be linear or trees")


def make(path: Path, workers: int = 1) -> None:
    """Run all settings, and write the rows of those that are done after each."""
    rows: list[dict[str, Any]] = []
    for done, found in enumerate(parallel.run(curve, settings(), workers=workers, threads=1), 1):
        rows += found
        write(rows, path)
        print(f"{done}/{len(settings())} {settings()[done - 1]} {found[-1]['accuracy']:.3f}", flush=True)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as a small Parquet file."""
    import pandas

    table = pandas.DataFrame(rows)
    floats = table.select_dtypes("float").columns
    table[floats] = table[floats].round(4).astype("float32")
    with files.replacing(path) as place:
        table.to_parquet(place, index=False, compression="zstd")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=CURVES)
    parser.add_argument("-w", "--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    make(options.output, options.workers)
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
