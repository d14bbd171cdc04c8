"""Evaluating 100,000 detections over 5,000 images: the kit against dtlpymetrics, and how long the bootstrap takes.

The limit: from lists of dicts to average precisions, at most a tenth of dtlpymetrics' time. Its matching would take a
quarter of an hour for all images, so matching and curves are compared on 100 images, the kit on the same 100; its
curves, which start from matches in a file, at full size.

Of the bootstrap's time for mean average precision, a fifth each goes into running maxima and divisions, a seventh each
into gathering running counts and into the weighted sums, a tenth into adding, all of them single NumPy passes over each
run of right predictions and draw: its limit is 1.1 times what was reached, that of the others a second. Where the
allocator hands memory back between labels, page faults add up to a fifth. Computing precisely only where the precision
in half of the bits is better than all later ones saved less than a tenth.
"""

import functools
import logging
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import dtlpy as dl
import numpy as np
import pandas as pd
from bench_coco_evaluators import DETECTIONS, IMAGES, LABELS, Rows, read_once, scenes
from dtlpymetrics import calc_precision_recall
from dtlpymetrics.utils import measure_annotations
from measuring import Report, interleaved

from alhelpers.evaluation import Detections, average_precision, paired_bootstrap, resamples
from alhelpers.evaluation.curves import evaluate_hits
from alhelpers.evaluation.measures import Macro, Measure, Ranking

FEW_IMAGES = 100
OF_DTLPYMETRICS = 0.1
THRESHOLD = 0.5
SAMPLES = 1000
BOOTSTRAP_SECONDS = {
    "average_precision": 1.0,
    "f1": 1.0,
    "calibration_error": 1.0,
    "mean_average_precision": 1.7,
}


def sdk_annotations(rows: Rows, prefix: str) -> dict[int, list[dl.Annotation]]:
    """Make boxes as the SDK reads them from the platform, by image."""
    made: dict[int, list[dl.Annotation]] = {}
    for number, row in enumerate(rows):
        sides = {side: row[side] for side in ("left", "top", "right", "bottom")}
        annotation = dl.Annotation.new(annotation_definition=dl.Box(label=row["label"], **sides))
        annotation.id = f"{prefix}{number}"
        if "score" in row:
            annotation.metadata = {"user": {"model": {"name": "m", "confidence": row["score"]}}}
        made.setdefault(row["image_id"], []).append(annotation)
    return made


class Dtlpymetrics:
    """Evaluates with dtlpymetrics; what it would read from the platform is handed to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.csv"

    def matched(
        self, truth: dict[int, list[dl.Annotation]], found: dict[int, list[dl.Annotation]]
    ) -> pd.DataFrame:
        """Match all images with the options of its create_model_score."""
        results = [
            measure_annotations(truth[image], found[image], match_threshold=0.01, compare_types=["box"])
            for image in truth
        ]
        return pd.concat([result["box"].to_df() for result in results], ignore_index=True)

    def curves(self, matches: pd.DataFrame) -> pd.DataFrame:
        """Make its precision-recall points, with the options that its node uses, of a file of matches."""
        matches.to_csv(self.path, index=False)
        return self.curves_of_file()

    def curves_of_file(self) -> pd.DataFrame:
        """Make the points of the file that is there."""
        scores = mock.Mock(download=mock.Mock(return_value=str(self.path)))
        dataset = mock.Mock(labels=[mock.Mock(tag=f"label {number}") for number in range(LABELS)])
        dataset.name = "dataset"
        dataset.items.list.return_value.all.return_value = [scores]
        with mock.patch.object(dl.datasets, "get", return_value=dataset):
            return calc_precision_recall("dataset", "model", THRESHOLD, "n_point_interpolation", n_points=201)


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # pandas has one for each of dtlpymetrics' boxes
    truth, found = scenes(0)
    report = Report(__file__)
    with tempfile.TemporaryDirectory() as folder:
        against_dtlpymetrics(report, truth, found, Path(folder))
        against_its_curves(report, truth, found, Path(folder))
    against_bootstrap(report, truth, found)
    return report.code()


def against_dtlpymetrics(report: Report, truth: Rows, found: Rows, folder: Path) -> None:
    """Compare matching and curves together, on the first images."""
    few = [[row for row in rows if row["image_id"] < FEW_IMAGES] for rows in (truth, found)]
    annotations = [sdk_annotations(rows, prefix) for rows, prefix in zip(few, "gp", strict=True)]
    theirs = Dtlpymetrics(folder)
    times = interleaved(
        {
            "alhelpers": lambda: average_precision(*few, THRESHOLD),
            "dtlpymetrics": lambda: theirs.curves(theirs.matched(*annotations)),
            "floor": lambda: read_once(*few),
        },
        rounds=3,
    )
    share, floor = (times[name] / times["dtlpymetrics"] for name in ("alhelpers", "floor"))
    what = f"{len(few[1])} detections, {FEW_IMAGES} images over dtlpymetrics"
    report.at_most(what, share, OF_DTLPYMETRICS, " of its time", floor=floor, why="reading each value once")


def against_its_curves(report: Report, truth: Rows, found: Rows, folder: Path) -> None:
    """Compare the curves alone at full size, both from the same file of matches."""
    theirs = Dtlpymetrics(folder)
    pd.DataFrame(
        {
            "first_id": [f"g{number}" for number in range(len(found))],
            "first_label": [row["label"] for row in truth],
            "second_id": [f"p{number}" for number in range(len(found))],
            "second_label": [row["label"] for row in found],
            "second_confidence": [row["score"] for row in found],
            "geometry_score": np.random.default_rng(0).uniform(0.2, 1, len(found)),
        }
    ).to_csv(theirs.path, index=False)

    def ours() -> float:
        matches = pd.read_csv(theirs.path)
        right = (matches.geometry_score >= THRESHOLD).to_numpy()
        labels = matches.first_label.tolist(), matches.second_label.tolist()
        return evaluate_hits(*labels, matches.second_confidence.to_numpy(), right).macro

    times = interleaved(
        {
            "alhelpers": ours,
            "dtlpymetrics": theirs.curves_of_file,
            "floor": lambda: pd.read_csv(theirs.path),
        },
        rounds=3,
    )
    share, floor = (times[name] / times["dtlpymetrics"] for name in ("alhelpers", "floor"))
    what = f"curves of {DETECTIONS} matches in a file over dtlpymetrics"
    report.at_most(what, share, OF_DTLPYMETRICS, " of its time", floor=floor, why="reading the file")


def against_bootstrap(report: Report, truth: Rows, found: Rows) -> None:
    """Report how long it takes to draw all test images again, for each metric."""
    rng = np.random.default_rng(1)
    other = [
        row | {"score": float(score)} for row, score in zip(found, rng.uniform(size=len(found)), strict=True)
    ]
    models = [Detections(truth, rows, range(IMAGES)) for rows in (found, other)]
    for name in ("average_precision", "f1", "calibration_error", "mean_average_precision"):
        measures = [getattr(model, name)() for model in models]
        result = paired_bootstrap(*measures, samples=SAMPLES)
        run = functools.partial(paired_bootstrap, *measures, samples=SAMPLES)
        taken = interleaved({name: run}, rounds=3)[name]
        print(f"{name}: {result.difference:+.4f} ({result.low:+.4f} to {result.high:+.4f})")
        floor, why = bootstrap_floor(measures)
        what = f"paired bootstrap, {SAMPLES} draws: {name}"
        report.at_most(what, taken, BOOTSTRAP_SECONDS[name], floor=floor, why=why)


def bootstrap_floor(measures: list[Measure]) -> tuple[float, str]:
    """Return the seconds that drawing takes, and one division for each precision that may count in a draw."""
    started = time.process_time()
    for _ in resamples(IMAGES, SAMPLES, at_once=100):
        pass
    drawing = time.process_time() - started
    labels = [term for one in measures if isinstance(one.term, Macro) for term in one.term.labels.values()]
    runs = sum(run.through.size for term in labels if isinstance(term, Ranking) for run in term.runs)
    if not runs:
        return drawing, "drawing the images"
    counts, shares = np.ones((2, 1 << 16), dtype=np.uint16), np.empty(1 << 16)
    rounds = 500
    started = time.process_time()
    for _ in range(rounds):
        np.divide(*counts, out=shares, dtype=np.float64)
    dividing = (time.process_time() - started) / (rounds * shares.size) * runs * SAMPLES
    return drawing + dividing, "drawing the images, and one division a run of right predictions and draw"


if __name__ == "__main__":
    raise SystemExit(main())
