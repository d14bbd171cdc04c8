"""Measure the learning curves of ``data/learning-curves.parquet``, on which forecasts and stopping are tested.

Run ``python tests/benchmarks/stopping_curves.py`` (about ten minutes of one core); ``stopping.py`` reads them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alhelpers import data, files, mining, parallel, records
from alhelpers.learners import SklearnLearner, TorchClassifier, build_network

CURVES = Path(__file__).parents[2] / "data" / "learning-curves.parquet"
_STRATEGIES = ("random", "margin", "entropy")
_SEEDS = range(4)
_LAST = 900

# Records of the pool that a strategy sees in each round, and on which the criteria of stopping are measured.
_CANDIDATES = 1000


class Setting(NamedTuple):
    """What a curve is of."""

    dataset: str
    learner: str
    strategy: str
    seed: int


def settings() -> list[Setting]:
    """Return all settings: the network for the digits only, as larger images take it ten times as long."""
    pairs = [*itertools.product(("digits", "mnist", "fashion"), ("linear", "trees")), ("digits", "network")]
    return [Setting(*pair, *rest) for pair in pairs for rest in itertools.product(_STRATEGIES, _SEEDS)]


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
        return SklearnLearner(ExtraTreesClassifier(60, n_jobs=1))
    return TorchClassifier(lambda seed: build_network((8, 8), 10, seed=seed), steps=100, learning_rate=6e-3)


def make(path: Path, workers: int = 1) -> None:
    """Run all settings and write their rows."""
    import pandas

    def running() -> Iterator[dict[str, Any]]:
        for done, found in enumerate(parallel.run(curve, settings(), workers=workers, threads=1), 1):
            last = found[-1]
            print(
                f"{done}/{len(settings())} {last['dataset']} {last['learner']} {last['strategy']}"
                f" {last['accuracy']:.3f}",
                flush=True,
            )
            yield from found

    table = pandas.DataFrame(list(running()))
    floats = table.select_dtypes("float").columns
    table[floats] = table[floats].round(4).astype("float32")
    for name in ("dataset", "learner", "strategy"):
        table[name] = table[name].astype("category")
    table[["seed", "labels"]] = table[["seed", "labels"]].astype("int16")
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
