"""Measure ``data/detection-curves.parquet`` and ``data/detection-scores.parquet``: loops of boxes and masks.

Run ``python tests/benchmarks/detection_curves.py`` (over an hour of one core), again if it was stopped: what
is done is kept, unless another commit of the package did it. ``detection_loops.py`` writes the page that reads them.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from box_errors import THRESHOLDS, image_errors, image_scores
from commits import committed_code
from detection_settings import FOREGROUND, SEEDS, SETTINGS, TEST, Setting

from alhelpers import data, files
from alhelpers.data.labels import MissingClassWarning
from alhelpers.learners import Detector
from alhelpers.loop import Entry, race
from alhelpers.protocols import Dataset

_DATA = Path(__file__).parents[2] / "data"
CURVES, SCORES = _DATA / "detection-curves.parquet", _DATA / "detection-scores.parquet"

# Of the scores: images to learn from, and others to predict.
LEARNED, PREDICTED, SCORE_PASSES = 400, 600, 20


def make_curves(path: Path = CURVES) -> None:
    """Race each setting, seed and strategy that is not yet in the file, and add its rows."""
    for name, setting in SETTINGS.items():
        for seed in setting.seeds:
            for strategy in setting.strategies:
                key = {"setting": name, "strategy": strategy, "seed": seed}
                if not _is_in(path, key):
                    started = time.process_time()
                    rows = [key | _of_row(row) for row in run(setting, strategy, seed)]
                    _add(path, rows)
                    print(f"{time.process_time() - started:5.0f} s {key} {rows[-1]['value']:.3f}", flush=True)


def run(setting: Setting, strategy: str, seed: int) -> Iterator[dict[str, Any]]:
    """Race one strategy of a setting under one seed."""
    pool, test = drawn(setting, seed)
    plan, counts = setting.strategies[strategy], setting.sooner
    if strategy in ("random", FOREGROUND):
        plan, counts = "random", setting.counts
    if strategy == FOREGROUND:
        pool = pool.take(with_objects(pool))
    entry = Entry(plan, seed, strategy, cold_start="random")
    learner = setting.learner(pool.class_names)
    return race(
        pool, test, [entry], learner=learner, label_counts=counts, passes=setting.passes, workers=1, threads=1
    )


def drawn(setting: Setting, seed: int) -> tuple[Dataset, Dataset]:
    """Return the pool and the test set of a seed; all seeds share no scene but the objects pasted into them."""
    pool = data.scenes(setting.pool, seed=seed, **setting.scenes)
    test = data.scenes(TEST, seed=seed, subset="test", **(setting.scenes | setting.test))
    return (pool.segmentation(), test.segmentation()) if setting.task == "segmentation" else (pool, test)


def with_objects(pool: Dataset) -> np.ndarray:
    """Return the rows of the images that truly hold an object."""
    rows = np.arange(len(pool))
    if pool.task == "segmentation":
        return np.flatnonzero(pool.labels(rows).reshape(len(pool), -1).any(axis=1))
    there = {row["image_id"] for row in pool.labels(rows)}
    return np.flatnonzero([id in there for id in np.asarray(pool.ids).tolist()])


def _of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the file: the measure of any task is the value."""
    value = row["ap50"] if "ap50" in row else row["mean_iou"]
    return {"labels": row["labels"], "boxes": row.get("boxes", 0), "value": value, "seconds": row["seconds"]}


# ------------------------------------------------------------------------------
# scores of images
# ------------------------------------------------------------------------------


def make_scores(path: Path = SCORES) -> None:
    """Measure how far scores of images agree with their errors, for each seed and way of merging."""
    for seed in SEEDS:
        if _is_in(path, {"seed": seed}):
            continue
        scenes = data.scenes(LEARNED + PREDICTED, seed=seed)
        averaging = Detector(scenes.class_names, merge="grid", seed=seed)
        averaging.fit(scenes.take(np.arange(LEARNED)), seed=seed)
        merging = Detector(scenes.class_names, merge="iou")
        merging.network.load_state_dict(averaging.network.state_dict())
        others = scenes.take(np.arange(LEARNED, len(scenes)))
        plain = averaging.predict(others)
        errors = {least: image_errors(plain, others, least) for least in THRESHOLDS}
        merges = {
            "none": plain,
            "grid": averaging.predict(others, passes=SCORE_PASSES, seed=seed),
            "iou": merging.predict(others, passes=SCORE_PASSES, seed=seed),
        }
        rows = [
            {"seed": seed, "threshold": least, "merge": merge, "score": score, "over": over}
            | {"spearman": _spearman(values, errors[least])}
            for merge, found in merges.items()
            for (score, over), values in image_scores(found).items()
            for least in THRESHOLDS
        ]
        _add(path, rows)
        print(f"scores of seed {seed}: {max(row['spearman'] for row in rows):.3f}", flush=True)


def _spearman(values: np.ndarray, errors: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if not np.ptp(values) or not np.ptp(errors):
        return 0.0  # what is the same for all images orders none
    return float(spearmanr(values, errors).statistic)


# ------------------------------------------------------------------------------
# files
# ------------------------------------------------------------------------------


def _is_in(path: Path, key: Mapping[str, Any]) -> bool:
    if not path.is_file():
        return False
    import pandas

    table = pandas.read_parquet(path)
    others = set(table.get("commit", ["an older one"])) - {committed_code()}
    if others:
        raise RuntimeError(
            f"{path} holds what commit {', '.join(sorted(others))} measured, and this is {committed_code()}: "
            "move it away"
        )
    return bool((table[[*key]] == pandas.Series(key)).all(axis=1).any())


def _add(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a small Parquet file, which is written whole or not at all."""
    import pandas

    table = pandas.DataFrame(rows).assign(commit=committed_code())
    if path.is_file():
        table = pandas.concat([pandas.read_parquet(path), table], ignore_index=True)
    floats = table.select_dtypes("float").columns
    table[floats] = table[floats].astype("float32").round(4)
    with files.replacing(path) as place:
        table.to_parquet(place, index=False, compression="zstd")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--scores", type=Path, default=SCORES)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", MissingClassWarning)
    make_scores(options.scores)
    make_curves(options.curves)
    return 0


if __name__ == "__main__":
    sys.exit(main())
