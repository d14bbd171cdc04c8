"""Evaluating 100,000 detections over 5,000 images: the kit against the evaluators of COCO on the package index.

From lists of dicts, ground truth and predictions, to average precisions of 101 recalls, at one overlap and at the mean
of ten; both sides read both. All must find the same to 1e-9. Processor time.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import faster_coco_eval
import hotcoco
import numpy as np
from measuring import Report, interleaved
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alhelpers.evaluation import COCO_THRESHOLDS, Detections

DETECTIONS, IMAGES, LABELS = 100_000, 5_000, 10
#: The modules' classes of data sets and evaluations, and the most that the kit's time may be of theirs.
PEERS = {
    "pycocotools": (COCO, COCOeval, 0.05),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster, 1.0),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval, 1.0),
}
ROUNDS = 3

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
    score = np.where(near, (1 + score) / 2, score).argsort(kind="stable").argsort() / DETECTIONS
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
    """Write boxes as COCO's files hold them."""
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


def evaluate(coco: type, evaluation: type, truth: Rows, found: Rows, thresholds: Sequence[float]) -> float:
    """Return the mean of the average precisions that one of the other evaluators finds, from dicts on."""
    document = {
        "images": [{"id": image} for image in range(IMAGES)],
        "categories": [{"id": number + 1, "name": str(number)} for number in range(LABELS)],
        "annotations": truth,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        if coco is COCO:
            known = coco()
            known.dataset = document
            known.createIndex()
        else:
            known = coco(document)
        run = evaluation(known, known.loadRes(found), "bbox")
        run.params.iouThrs = np.array(thresholds)
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [1000]
        run.evaluate()
        run.accumulate()
    return float(np.asarray(run.eval["precision"]).mean())


def against(report: Report, thresholds: Sequence[float], truth: Rows, found: Rows) -> None:
    """Compare with all others at some thresholds."""

    def ours() -> float:
        model = Detections(truth, found, range(IMAGES))
        one = len(thresholds) == 1
        return (
            model.average_precision(thresholds[0], 101) if one else model.mean_average_precision(101)
        ).value

    value = ours()
    variants: dict[str, Callable[[], float]] = {"alhelpers": ours}
    for name, (coco, evaluation, _) in PEERS.items():
        # Dicts of its own: they write the same values into them each time.
        annotations, given = coco_rows(truth), coco_rows(found)
        variants[name] = functools.partial(evaluate, coco, evaluation, annotations, given, thresholds)
        theirs = variants[name]()
        assert abs(theirs - value) < 1e-9, (name, theirs, value)
    times = interleaved(variants, ROUNDS)
    for name, (*_, limit) in PEERS.items():
        what = f"{DETECTIONS} detections, {IMAGES} images, {len(thresholds)} overlaps over {name}"
        report.at_most(what, times["alhelpers"] / times[name], limit, " of its time")


def main() -> int:
    """Print the ratios; return 1 if a limit is broken."""
    truth, found = scenes(0)
    report = Report(__file__)
    for thresholds in ((0.5,), COCO_THRESHOLDS):
        against(report, thresholds, truth, found)
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
