"""Average precision as COCO computes it, of boxes and of masks: equal to pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alhelpers.evaluation import (
    COCO_SIZES,
    Detections,
    EvaluationError,
    NoGroundTruth,
    average_precision,
    paired_bootstrap,
)
from alhelpers.evaluation.measures import _at_recalls

SIDES = ("left", "top", "right", "bottom")
HEIGHT, WIDTH = 190, 200
LABELS = ["cat", "dog", "emu"]
BOX = dict(image_id=0, label="cat", left=0, top=0, right=10, bottom=10)


def masked(row, rng):
    """Give a box a mask: an ellipse of its sides, or noise."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    x, y = (row["left"] + row["right"]) / 2, (row["top"] + row["bottom"]) / 2
    width, height = row["right"] - row["left"], row["bottom"] - row["top"]
    mask = (2 * (across - x) / width) ** 2 + (2 * (down - y) / height) ** 2 <= 1
    return row | {"mask": mask & (rng.uniform(size=mask.shape) < 0.95)}


def random_scene(seed, images=8, count=70, crowds=False, masks=False):
    """Objects of all of COCO's sizes and predictions near them, with distinct scores; one image has no objects."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        size = np.exp(rng.uniform(np.log(10), np.log(180), 2))
        corner = rng.uniform(0, np.array([WIDTH, HEIGHT]) - size)
        place = {"image_id": int(rng.integers(images)), "label": LABELS[rng.integers(3)]}
        box = np.concatenate([corner, corner + size])
        object = place | dict(zip(SIDES, box.tolist(), strict=True))
        if crowds and rng.uniform() < 0.2:
            object["iscrowd"] = 1
        truth.append(object)
        for _ in range(rng.integers(0, 5 if "iscrowd" in object else 3)):
            moved = np.concatenate([box[:2], box[:2] + size * np.exp(rng.normal(0, 0.15, 2))])
            moved += np.tile(rng.normal(0, 0.08, 2) * size, 2)
            guess = place | dict(zip(SIDES, moved.tolist(), strict=True))
            if rng.uniform() < 0.15:
                guess["label"] = LABELS[rng.integers(3)]
            found.append(guess)
    found.append(BOX | {"image_id": images})
    for row, score in zip(found, rng.permutation(len(found)).tolist(), strict=True):
        row["score"] = (score + 1) / (len(found) + 1)
    if masks:
        truth, found = ([masked(row, rng) for row in rows] for rows in (truth, found))
    return truth, found, list(range(images + 1))


def coco_form(row, number):
    left, top, right, bottom = (row[side] for side in SIDES)
    form = {"id": number + 1, "image_id": row["image_id"], "category_id": LABELS.index(row["label"]) + 1}
    form |= {"bbox": [left, top, right - left, bottom - top], "iscrowd": row.get("iscrowd", 0)}
    form["area"] = row.get("area", (right - left) * (bottom - top))
    if "mask" in row:
        form["segmentation"] = coco_masks.encode(np.asfortranarray(row["mask"].astype(np.uint8)))
        form["area"] = row.get("area", int(row["mask"].sum()))
        if "score" in row:
            del form["bbox"]
    return form | ({"score": row["score"]} if "score" in row else {})


def coco_precision(truth, found, items, most=100):
    """Return the precision of pycocotools: thresholds, recalls, labels, sizes."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "height": HEIGHT, "width": WIDTH} for image in items],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(LABELS)],
        "annotations": [coco_form(row, number) for number, row in enumerate(truth)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes([coco_form(row, number) for number, row in enumerate(found)])
        run = COCOeval(coco, results, "segm" if "mask" in truth[0] else "bbox")
        run.params.maxDets = [most]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., 0]


def check_equal(measured, precision, size):
    """Hold one measured model beside pycocotools, at one threshold and at the mean of ten."""
    means = precision.mean(axis=1)  # thresholds, labels, sizes
    place = ["all", *COCO_SIZES].index(size or "all")
    if (means[0, :, place] == -1).all():
        with pytest.raises(NoGroundTruth, match="no ground truth has an area from"):
            measured.average_precision(size=size)
        return
    for measure, expected in (
        (measured.average_precision(0.5, points=101, size=size), means[0, :, place]),
        (measured.average_precision(0.75, points=101, size=size), means[5, :, place]),
        (measured.mean_average_precision(points=101, size=size), means[:, :, place].mean(axis=0)),
    ):
        known = {label: value for label, value in zip(LABELS, expected, strict=True) if value > -1}
        assert measure.per_label == pytest.approx(known, abs=1e-9, rel=0)
        assert measure.value == pytest.approx(np.mean(list(known.values())), abs=1e-9, rel=0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("crowds", [False, True])
def test_boxes_of_all_sizes_equal_pycocotools(seed, crowds):
    scene = random_scene(seed, crowds=crowds)
    measured, precision = Detections(*scene), coco_precision(*scene)
    for size in (None, *COCO_SIZES):
        check_equal(measured, precision, size)


@pytest.mark.parametrize("seed", range(3))
def test_masks_of_all_sizes_equal_pycocotools(seed):
    scene = random_scene(seed, images=6, count=40, crowds=True, masks=True)
    measured, precision = Detections(*scene, masks=True), coco_precision(*scene)
    for size in (None, *COCO_SIZES):
        check_equal(measured, precision, size)
    assert measured.average_precision().method == "average precision of masks at IoU 0.5"


def test_the_areas_that_rows_state_and_the_most_detections_equal_pycocotools():
    truth, found, items = random_scene(30, images=2, crowds=True)
    for place, row in enumerate(truth):
        row["area"] = 9.0 + 60.0 * place  # from small to medium, whatever the boxes are
    measured = Detections(truth, found, items, max_detections=9)
    precision = coco_precision(truth, found, items, most=9)
    for size in (None, "small", "medium"):
        check_equal(measured, precision, size)
    with pytest.raises(
        NoGroundTruth, match="no ground truth has an area from 9216 to inf; the areas are from 9 to"
    ):
        measured.average_precision(size="large")


def test_a_prediction_inside_a_crowd_does_not_count_for_any_metric():
    crowd = BOX | {"left": 50, "right": 90, "bottom": 40, "iscrowd": 1}
    hit, inside = BOX | {"score": 0.6}, BOX | {"left": 55, "right": 65, "score": 0.9}
    truth, found = [BOX, crowd], [hit, inside, inside]
    measured = Detections(truth, found)
    assert average_precision(truth, found).macro == measured.average_precision().value == 1
    assert measured.f1().value == 1 and measured.calibration_error().value == pytest.approx(0.4)
    alone = Detections([BOX], found)
    assert alone.average_precision().value == pytest.approx(1 / 3) and alone.f1().value == 0.5


@pytest.mark.parametrize("points", [None, 11, 101])
def test_a_resample_is_the_metric_of_the_items_drawn(points):
    truth, found, items = random_scene(5, crowds=True)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(items), np.full(len(items), 1 / len(items)))
    measure = Detections(truth, found, items).mean_average_precision(points, size=(500, 5000))
    drawn = [
        [
            row | {"image_id": f"{row['image_id']} {copy}"}
            for row in rows
            for copy in range(counts[row["image_id"]])
        ]
        for rows in (truth, found)
    ]
    again = Detections(*drawn).mean_average_precision(points, size=(500, 5000))
    assert measure.term.values(counts[:, None].astype(np.int32)) == pytest.approx(again.value)


def test_the_interval_of_a_small_size_is_paired():
    truth, found, items = random_scene(6)
    worse = [row | {"left": row["left"] - 3} for row in found]
    models = [Detections(truth, rows, items).average_precision(0.5, 101, "small") for rows in (worse, found)]
    paired = paired_bootstrap(*models, samples=100)
    assert paired.low <= paired.difference <= paired.high and paired.difference > 0


def test_wrong_options_are_named():
    measured = Detections([BOX], [BOX | {"score": 1}])
    for size in (5, (5, 5), (-1, 5), (float("nan"), 5), (1, 2, 3)):
        with pytest.raises(EvaluationError, match="size must be the least and the greatest area"):
            measured.average_precision(size=size)
    with pytest.raises(
        EvaluationError, match="size must be one of small, medium, large, or two areas, got 'tiny'"
    ):
        measured.mean_average_precision(size="tiny")
    for points in (1, 0, 10.5):
        with pytest.raises(EvaluationError, match="points must be an integer"):
            measured.average_precision(points=points)
    with pytest.raises(EvaluationError, match="max_detections must be an integer"):
        Detections([BOX], [], max_detections=0)


def test_wrong_rows_are_named():
    crowd, mask = BOX | {"iscrowd": 1}, np.ones((4, 5), dtype=bool)
    with pytest.raises(NoGroundTruth, match="every row of the ground truth is of a crowd"):
        Detections([crowd], [])
    with pytest.raises(EvaluationError, match="row 0 of ground_truth: iscrowd must be 0 or 1, got '2'"):
        Detections([BOX | {"iscrowd": 2}], [])
    with pytest.raises(EvaluationError, match="row 0 of predictions: iscrowd is 1"):
        Detections([BOX], [crowd | {"score": 1}])
    with pytest.raises(EvaluationError, match="row 0 of ground_truth: area is -1"):
        Detections([BOX | {"area": -1}], [])
    shape = {"image_id": 0, "label": "cat", "mask": mask}
    with pytest.raises(EvaluationError, match=r"image 0 have the sizes \(4, 5\) and \(5, 4\)"):
        Detections([shape], [shape | {"score": 1, "mask": mask.T}], masks=True)
    with pytest.raises(
        EvaluationError, match="row 0 of predictions: mask must be an array of bool .* got float64"
    ):
        Detections([shape], [shape | {"score": 1, "mask": mask * np.nan}], masks=True)
    with pytest.raises(EvaluationError, match="row 0 of predictions has no 'mask'"):
        Detections([shape], [BOX | {"score": 1}], masks=True)
    empty = Detections(
        [shape, shape | {"mask": ~mask}], [shape | {"score": 1}], masks=True
    ).average_precision()
    assert empty.value == 0.5 and "1 masks of the ground truth have no area" in empty.warnings[0]


def test_recalls_are_reached_at_the_shares_that_floats_make():
    recalls = np.linspace(0, 1, 101)
    for total in range(1, 250):
        shares = np.arange(total + 1) / total
        hits = np.searchsorted(shares, recalls)  # pycocotools' rule
        found = np.arange(1, total + 1)[:, None]
        value = _at_recalls(recalls, found, found.astype(float), np.array([total]))
        assert value == np.maximum(hits, 1).sum()
