"""Measure accuracy against annotations of three noisy annotators: ``data/relabelling.parquet``.

Run ``python tests/benchmarks/relabelling.py`` (a few minutes of one core). ``stopping.py`` writes the page.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stopping_curves import write

from alhelpers import data, mining, parallel, records
from alhelpers.loop import Annotators

RUNS = Path(__file__).parents[2] / "data" / "relabelling.parquet"
OURS, PEER = "consensus", "ActiveLab"
_METHODS = (OURS, PEER, "random new")
_NOISE = 0.2
_FIRST, _BATCH, _LAST = 60, 40, 740
_FOLDS = 5


class Setting(NamedTuple):
    """What a run is of; ``pool`` is the number of records."""

    dataset: str
    learner: str
    pool: int
    method: str
    seed: int


class Task(NamedTuple):
    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    classes: int


def settings(seeds: int = 4) -> list[Setting]:
    """Return all settings."""
    tasks = [
        ("digits", "linear", 250),
        ("digits", "linear", 1297),
        ("mnist", "linear", 2000),
        ("digits", "trees", 1297),
    ]
    return [
        Setting(*task, name, seed) for seed, task, name in itertools.product(range(seeds), tasks, _METHODS)
    ]


def run(setting: Setting) -> list[dict[str, Any]]:
    """Run one active learning and return a row for each number of annotations."""
    warnings.simplefilter("ignore")
    task = _task(setting)
    draw = np.random.default_rng(1000 + setting.seed)
    annotators = Annotators(task.labels, 3, classes=task.classes, noise=_NOISE, seed=setting.seed)
    annotators.ask(draw.choice(len(task.labels), _FIRST, replace=False))
    known, rows = np.full(len(task.labels), mining.MISSING), []
    last = min(_LAST, annotators.annotations.size - _BATCH)
    while True:
        votes = annotators.annotations
        labelled = np.flatnonzero((votes != mining.MISSING).any(1))
        before = np.where(known[labelled] == mining.MISSING, votes[labelled].max(1), known[labelled])
        confidences = _out_of_sample(setting, task, labelled, before)
        labels = _consensus(setting.method, votes[labelled], confidences)
        known[labelled] = labels
        model = _fitted(setting, task.inputs[labelled], labels)
        rows.append(
            setting._asdict()
            | {
                "annotations": int(annotators.spent),
                "accuracy": float((model.predict(task.test_inputs) == task.test_labels).mean()),
                "records": len(labelled),
                "right": float((labels == task.labels[labelled]).mean()),
            }
        )
        if annotators.spent >= last:
            return rows
        free = np.setdiff1d(np.arange(len(votes)), labelled)
        fresh = _confidences(model, task.inputs[free], task.classes) if len(free) else None
        annotators.ask(_picks(setting.method, votes, labelled, confidences, free, fresh, draw))


def _picks(
    method: str,
    votes: np.ndarray,
    labelled: np.ndarray,
    confidences: np.ndarray,
    free: np.ndarray,
    fresh: np.ndarray | None,
    draw: np.random.Generator,
) -> np.ndarray:
    """Return the rows to ask about next, new or labelled."""
    if method == OURS:
        pool = None if fresh is None else records.from_arrays(free, confidences=fresh)
        known = records.from_arrays(labelled, confidences=confidences)
        found = mining.relabel(known, _BATCH, pool=pool, annotations=votes[labelled], accuracy=1 - _NOISE)
        return np.array(found.ids)
    given = (votes != mining.MISSING).sum(1)
    scores = draw.random(len(votes))
    if method == "random new":
        scores = scores - given
    else:
        scores = 1e-6 * scores
        again, new = _activelab(votes[labelled], confidences, fresh)
        scores[labelled] += again
        scores[free] += new
    scores[given == votes.shape[1]] = -np.inf
    return np.argsort(-scores)[:_BATCH]


def _activelab(votes: np.ndarray, confidences: np.ndarray, fresh: np.ndarray | None) -> tuple[Any, Any]:
    """Return cleanlab's scores, higher is better."""
    from cleanlab.multiannotator import get_active_learning_scores

    given = np.where(votes == mining.MISSING, np.nan, votes)
    with contextlib.redirect_stdout(io.StringIO()):
        again, new = get_active_learning_scores(given, confidences, fresh)
    return -again, -new


def _consensus(method: str, votes: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """Return the labels to train on: cleanlab's for its method, else ours."""
    if method != PEER:
        return mining.consensus(votes, confidences, accuracy=1 - _NOISE).labels
    if ((votes != mining.MISSING).sum(1) < 2).all():  # cleanlab refuses these
        return votes.max(1)
    from cleanlab.multiannotator import get_label_quality_multiannotator

    given = np.where(votes == mining.MISSING, np.nan, votes)
    with contextlib.redirect_stdout(io.StringIO()):
        found = get_label_quality_multiannotator(given, confidences, verbose=False)
    return found["label_quality"]["consensus_label"].to_numpy().astype(int)


def _task(setting: Setting) -> Task:
    pool, test = data.load(setting.dataset, seed=setting.seed)
    inputs, others = (each.inputs().reshape(len(each), -1) for each in (pool, test))
    inputs, labels = inputs[: setting.pool], pool.labels()[: setting.pool]
    if setting.dataset != "digits":
        from sklearn.decomposition import PCA

        components = PCA(40, random_state=0).fit(inputs)
        inputs, others = components.transform(inputs), components.transform(others)
    return Task(inputs, labels, others, test.labels(), len(pool.class_names))


def _fitted(setting: Setting, inputs: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    if setting.learner == "trees":
        return ExtraTreesClassifier(30, random_state=setting.seed).fit(inputs, labels)
    return LogisticRegression(C=0.1, max_iter=100, tol=1e-3).fit(inputs, labels)


def _confidences(model: Any, inputs: np.ndarray, classes: int) -> np.ndarray:
    found = np.zeros((len(inputs), classes))
    found[:, model.classes_] = model.predict_proba(inputs)
    return found


def _out_of_sample(setting: Setting, task: Task, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return confidences of records from models that did not learn from them: a cross-validation."""
    from sklearn.model_selection import KFold

    found = np.zeros((len(rows), task.classes))
    for kept, out in KFold(_FOLDS, shuffle=True, random_state=setting.seed).split(rows):
        model = _fitted(setting, task.inputs[rows[kept]], labels[kept])
        found[out] = _confidences(model, task.inputs[rows[out]], task.classes)
    return found


def make(path: Path, seeds: int, workers: int = 1) -> None:
    """Run all settings, and write the rows of those that are done after each."""
    rows: list[dict[str, Any]] = []
    chosen = settings(seeds)
    for done, found in enumerate(parallel.run(run, chosen, workers=workers, threads=1), 1):
        rows += found
        write(rows, path)
        print(f"{done}/{len(chosen)} {chosen[done - 1]} {found[-1]['accuracy']:.3f}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=RUNS)
    parser.add_argument("-s", "--seeds", type=int, default=4)
    parser.add_argument("-w", "--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    make(options.output, options.seeds, options.workers)
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
