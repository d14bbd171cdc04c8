"""Evaluating 100,000 detections over 5,000 images: the kit against the evaluators of COCO on the package index.

From lists of dicts to average precisions of 101 recalls, at one overlap and at the mean of ten. All must find the same
to 1e-9. The limits: no slower than pycocotools and faster-coco-eval; hotcoco, which is written in Rust, may be faster
by the factor below. The others' indices of the ground truth are made beforehand, the kit reads it each time.
"""

import contextlib
import copy
import io
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import faster_coco_eval
import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alhelpers.evaluation import COCO_THRESHOLDS, Detections

DETECTIONS, IMAGES, LABELS = 100_000, 5_000, 10
#: The modules' classes of data sets and evaluations, and the most that the kit's time may be of theirs.
PEERS = {
    "pycocotools": (COCO, COCOeval, 1.0),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster, 1.0),
    "hotcoco": (hotcoco.COCO, hotcoco.COCOeval, 5.0),
}
ROUNDS = 5

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


class Peer:
    """One of the other evaluators, with the ground truth in its form."""

    def __init__(self, coco: type, evaluation: type, truth: Rows, thresholds: Sequence[float]) -> None:
        document = {
            "images": [{"id": image} for image in range(IMAGES)],
            "categories": [{"id": number + 1, "name": str(number)} for number in range(LABELS)],
            "annotations": coco_rows(truth),
        }
        self.evaluation, self.thresholds = evaluation, thresholds
        with contextlib.redirect_stdout(io.StringIO()):
            if coco is COCO:
                self.coco = coco()
                self.coco.dataset = document
                self.coco.createIndex()
            else:
                self.coco = coco(document)

    def __call__(self, found: Rows) -> float:
        """Return the mean of the average precisions."""
        with contextlib.redirect_stdout(io.StringIO()):
            run = self.evaluation(self.coco, self.coco.loadRes(found), "bbox")
            run.params.iouThrs = np.array(self.thresholds)
            run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
            run.params.maxDets = [1000]
            run.evaluate()
            run.accumulate()
        return float(np.asarray(run.eval["precision"]).mean())


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


def report(what: str, times: dict[str, float], rival: str, limit: float) -> bool:
    """Print the times and whether their ratio keeps the limit."""
    for name in ("alhelpers", rival):
        print(f"{what}: {name:<22} {times[name]:9.3f} s")
    ratio = times["alhelpers"] / times[rival]
    held = ratio <= limit
    print(f"{ratio:.4f} of the time of {rival}; the limit of {limit} is {'held' if held else 'BROKEN'}")
    return held


def against(thresholds: Sequence[float], truth: Rows, found: Rows) -> bool:
    """Compare with all others at some thresholds."""

    def ours(_: None) -> float:
        model = Detections(truth, found, range(IMAGES))
        one = len(thresholds) == 1
        return (
            model.average_precision(thresholds[0], 101) if one else model.mean_average_precision(101)
        ).value

    given, value = coco_rows(found), ours(None)
    variants: dict[str, tuple[Callable, Callable]] = {"alhelpers": (lambda: None, ours)}
    for name, (coco, evaluation, _) in PEERS.items():
        peer = Peer(coco, evaluation, truth, thresholds)
        theirs = peer(copy.deepcopy(given))  # they write into the results
        assert abs(theirs - value) < 1e-9, (name, theirs, value)
        variants[name] = (lambda: copy.deepcopy(given), peer)
    times = interleaved(variants, ROUNDS)
    what = f"{DETECTIONS} detections, {IMAGES} images, {len(thresholds)} overlaps"
    return all([report(what, times, name, limit) for name, (*_, limit) in PEERS.items()])


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    truth, found = scenes(0)
    held = [against(thresholds, truth, found) for thresholds in ((0.5,), COCO_THRESHOLDS)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
