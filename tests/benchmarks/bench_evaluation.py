"""Evaluating 100,000 detections over 5,000 images: the kit against pycocotools and dtlpymetrics.

The limits: from lists of dicts to average precisions, no slower than pycocotools at the same single threshold, and at
most a tenth of dtlpymetrics' time. Its matching would take a quarter of an hour for all images, so matching and curves
are compared on 100 images, the kit on the same 100; its curves, which start from matches in a file, at full size.
"""

import contextlib
import copy
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dtlpy as dl
import numpy as np
import pandas as pd
from dtlpymetrics import calc_precision_recall
from dtlpymetrics.utils import measure_annotations
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alhelpers.evaluation import Detections, average_precision, paired_bootstrap
from alhelpers.evaluation.curves import evaluate_hits

DETECTIONS, IMAGES, LABELS = 100_000, 5_000, 10
FEW_IMAGES = 100
OF_PYCOCOTOOLS, OF_DTLPYMETRICS = 1.0, 0.1
THRESHOLD = 0.5
SAMPLES = 1000

Rows = list[dict[str, Any]]


def scenes(seed: int) -> tuple[Rows, Rows]:
    """Make ground truth, and as many predictions: two of three near a ground truth, the others anywhere."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 500, (DETECTIONS, 2)), rng.uniform(10, 80, (DETECTIONS, 2))
    image, label = np.arange(DETECTIONS) % IMAGES, rng.integers(LABELS, size=DETECTIONS)
    near = rng.uniform(size=DETECTIONS) < 2 / 3
    moved = np.where(
        near[:, None], corner + rng.normal(0, 4, corner.shape), rng.uniform(0, 500, corner.shape)
    )
    score = rng.permutation(DETECTIONS) / DETECTIONS
    score = np.where(near, (1 + score) / 2, score)
    truth = rows_of(image, label, corner, size)
    found = rows_of(image, label, moved, size)
    return truth, [row | {"score": value} for row, value in zip(found, score.tolist(), strict=True)]


def rows_of(image: np.ndarray, label: np.ndarray, corner: np.ndarray, size: np.ndarray) -> Rows:
    """Write boxes as the kit takes them."""
    ends = corner + size
    return [
        {
            "image_id": int(image[k]),
            "label": f"label {label[k]}",
            **dict(zip(("left", "top"), corner[k].tolist(), strict=True)),
            **dict(zip(("right", "bottom"), ends[k].tolist(), strict=True)),
        }
        for k in range(len(image))
    ]


def coco_rows(rows: Rows) -> Rows:
    """Write boxes as pycocotools takes them."""
    made = []
    for number, row in enumerate(rows):
        width, height = row["right"] - row["left"], row["bottom"] - row["top"]
        form = {
            "id": number + 1,
            "image_id": row["image_id"],
            "category_id": int(row["label"].split()[1]) + 1,
        }
        form |= {"bbox": [row["left"], row["top"], width, height], "area": width * height, "iscrowd": 0}
        made.append(form | ({"score": row["score"]} if "score" in row else {}))
    return made


class Pycocotools:
    """Evaluates with pycocotools at one threshold; the ground truth's index is made beforehand."""

    def __init__(self, truth: Rows, found: Rows) -> None:
        self.coco = COCO()
        self.coco.dataset = {
            "images": [{"id": image} for image in range(IMAGES)],
            "categories": [{"id": number + 1} for number in range(LABELS)],
            "annotations": coco_rows(truth),
        }
        self.found = coco_rows(found)
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco.createIndex()

    def prepare(self) -> Rows:
        """Copy the predictions: loadRes writes into them."""
        return copy.deepcopy(self.found)

    def __call__(self, found: Rows) -> float:
        """Return the macro average precision, which is interpolated at 101 recalls."""
        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(self.coco, self.coco.loadRes(found), "bbox")
            run.params.iouThrs = np.array([THRESHOLD])
            run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
            run.params.maxDets = [1000]
            run.evaluate()
            run.accumulate()
        return float(run.eval["precision"].mean())


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


def interleaved(variants: dict[str, tuple[Callable, Callable]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each variant, run in turn; what is prepared for it is not timed."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (prepare, run) in variants.items():
            given = prepare()
            started = time.perf_counter()
            run(given)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # pandas has one for each of dtlpymetrics' boxes
    truth, found = scenes(0)
    with tempfile.TemporaryDirectory() as folder:
        held = [
            against_pycocotools(truth, found),
            against_dtlpymetrics(truth, found, Path(folder)),
            against_its_curves(truth, found, Path(folder)),
        ]
    show_bootstrap(truth, found)
    return 0 if all(held) else 1


def against_pycocotools(truth: Rows, found: Rows) -> bool:
    """Compare at full size and one threshold."""
    theirs = Pycocotools(truth, found)
    ours = average_precision(truth, found, THRESHOLD).macro
    # The same up to its interpolation at 101 points; the unit tests hold both to be equal without it.
    assert abs(theirs(theirs.prepare()) - ours) < 0.01, ours
    times = interleaved(
        {
            "alhelpers": (lambda: None, lambda _: average_precision(truth, found, THRESHOLD)),
            "pycocotools": (theirs.prepare, theirs),
        },
        rounds=5,
    )
    return report(f"{DETECTIONS} detections, {IMAGES} images", times, "pycocotools", OF_PYCOCOTOOLS)


def against_dtlpymetrics(truth: Rows, found: Rows, folder: Path) -> bool:
    """Compare matching and curves together, on the first images."""
    few = [[row for row in rows if row["image_id"] < FEW_IMAGES] for rows in (truth, found)]
    annotations = [sdk_annotations(rows, prefix) for rows, prefix in zip(few, "gp", strict=True)]
    theirs = Dtlpymetrics(folder)
    times = interleaved(
        {
            "alhelpers": (lambda: None, lambda _: average_precision(*few, THRESHOLD)),
            "dtlpymetrics": (lambda: None, lambda _: theirs.curves(theirs.matched(*annotations))),
        },
        rounds=3,
    )
    return report(f"{len(few[1])} detections, {FEW_IMAGES} images", times, "dtlpymetrics", OF_DTLPYMETRICS)


def against_its_curves(truth: Rows, found: Rows, folder: Path) -> bool:
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

    def ours(_: None) -> float:
        matches = pd.read_csv(theirs.path)
        right = (matches.geometry_score >= THRESHOLD).to_numpy()
        labels = matches.first_label.tolist(), matches.second_label.tolist()
        return evaluate_hits(*labels, matches.second_confidence.to_numpy(), right).macro

    times = interleaved(
        {
            "alhelpers": (lambda: None, ours),
            "dtlpymetrics": (lambda: None, lambda _: theirs.curves_of_file()),
        },
        rounds=3,
    )
    return report(f"curves of {DETECTIONS} matches in a file", times, "dtlpymetrics", OF_DTLPYMETRICS)


def report(what: str, times: dict[str, float], rival: str, limit: float) -> bool:
    """Print the times and whether their ratio keeps the limit."""
    for name, value in times.items():
        print(f"{what}: {name:<22} {value:9.3f} s")
    ratio = times["alhelpers"] / times[rival]
    held = ratio <= limit
    print(f"{ratio:.4f} of the time of {rival}; the limit of {limit} is {'held' if held else 'BROKEN'}")
    return held


def show_bootstrap(truth: Rows, found: Rows) -> None:
    """Print how long it takes to draw all test images again, for each metric."""
    rng = np.random.default_rng(1)
    other = [
        row | {"score": float(score)} for row, score in zip(found, rng.uniform(size=len(found)), strict=True)
    ]
    models = [Detections(truth, rows, range(IMAGES)) for rows in (found, other)]
    for name in ("average_precision", "f1", "calibration_error", "mean_average_precision"):
        measures = [getattr(model, name)() for model in models]
        started = time.perf_counter()
        result = paired_bootstrap(*measures, samples=SAMPLES)
        print(
            f"paired bootstrap, {SAMPLES} samples: {name:<22} {time.perf_counter() - started:9.3f} s"
            f"  {result.difference:+.4f} ({result.low:+.4f} to {result.high:+.4f})"
        )


if __name__ == "__main__":
    raise SystemExit(main())
