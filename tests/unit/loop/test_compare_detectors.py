"""The decision between two detectors and two segmenters, by learners or by their predictions."""

import numpy as np
import pytest

from alhelpers import data
from alhelpers.evaluation import Detections, Segmentations
from alhelpers.learners import BoxPredictions, DetectorFunction, SegmentationPredictions
from alhelpers.loop import compare_models

NAMES = ("cat", "dog")
COUNT, SIZE = 40, 24


def ids():
    return [f"image {number}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def test_set():
    """One object an image, none on each fifth, and a crowd on each tenth."""
    rng, rows, crowds = np.random.default_rng(0), [], []
    for number, name in enumerate(ids()):
        left, top = rng.integers(0, 12, 2).tolist()
        box = {"image_id": name, "label": NAMES[number % 2], "left": left, "top": top}
        if number % 5:
            rows.append(box | {"right": left + 8, "bottom": top + 8})
            crowds.append(False)
        if number % 10 == 1:
            rows.append(box | {"left": 0, "top": 21, "right": 24, "bottom": 24})
            crowds.append(True)
    masks = [np.zeros((SIZE, SIZE), dtype=bool) for _ in rows]
    for row, mask in zip(rows, masks, strict=True):
        mask[row["top"] : row["bottom"], row["left"] : row["right"]] = True
    objects = data.Objects.from_rows(rows, ids(), (SIZE, SIZE), NAMES, masks=masks, is_crowd=crowds)
    images = np.zeros((COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)  # so that a detector can tell them apart
    return data.ObjectSet("scenes", images, objects, NAMES, ids=ids())


def detections(test_set, kept, seed):
    """Find some of the objects, and one in each crowd."""
    rng, found = np.random.default_rng(seed), [[] for _ in range(COUNT)]
    for row in [*test_set.labels(), *test_set.crowds()]:
        if rng.uniform() < kept:
            sides = [row[side] for side in ("left", "top", "right", "bottom")]
            confidences = [0.1, 0.1]
            confidences[NAMES.index(row["label"])] = rng.uniform(0.3, 1)
            found[ids().index(row["image_id"])].append((sides, confidences))
    boxes, confidences = zip(*(each for image in found for each in image), strict=True)
    return BoxPredictions(np.cumsum([0, *map(len, found)]), np.array(boxes), np.array(confidences), NAMES)


def maps(test_set, kept, seed):
    """Find some of the pixels."""
    rng, truth = np.random.default_rng(seed), test_set.segmentation().labels()
    guess = np.where((rng.uniform(size=truth.shape) < kept) & (truth != 255), truth, 0)
    confidences = np.moveaxis(np.eye(3, dtype=np.float32)[guess], -1, 1) * 0.8 + 0.2 / 3
    return SegmentationPredictions(confidences, ("background", *NAMES))


def test_detectors_are_compared_by_average_precision_without_crowds(test_set):
    old, new = detections(test_set, 0.4, 0), detections(test_set, 0.9, 1)
    found = compare_models(old, new, test_set)
    truth = [*test_set.labels(), *test_set.crowds()]
    for predictions, value in ((old, found.previous), (new, found.new)):
        measured = Detections(truth, predictions.rows(ids()), ids())
        assert value == measured.average_precision().value
    assert found.better and found.test_items == COUNT
    worse = compare_models(new, old, test_set, {"mean_average_precision": {"points": 101, "by_size": True}})
    assert worse.action == "discard" and worse.metrics[0]["sizes"][0]["name"] == "small"


def test_a_detector_takes_part_by_a_function(test_set):
    new = detections(test_set, 0.9, 1)

    def find(images):
        numbers = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        cuts = [slice(*new.offsets[number : number + 2]) for number in numbers.tolist()]
        return [(new.boxes[cut], new.confidences[cut]) for cut in cuts]

    learner, old = DetectorFunction(find, NAMES), detections(test_set, 0.4, 0)
    assert compare_models(old, learner, test_set).difference == compare_models(old, new, test_set).difference


def test_segmenters_are_compared_by_mean_iou(test_set):
    segmentation = test_set.segmentation()
    old, new = maps(test_set, 0.4, 0), maps(test_set, 0.8, 1)
    found = compare_models(
        old, new, segmentation, {"mean_iou": {"min_confidence": 0.95}, "precision_recall": {}}
    )
    direct = Segmentations(segmentation.labels(), new.confidences, segmentation.class_names).mean_iou()
    assert found.better and found.new == direct.value
    assert [row["name"] for row in found.rows] == ["background", "cat", "dog"]
    assert compare_models(new, old, segmentation).action == "discard"


def test_predictions_of_other_rows_or_classes_are_refused(test_set):
    old = detections(test_set, 0.4, 0)
    nothing = BoxPredictions(np.zeros(4, dtype=int), np.zeros((0, 4)), np.zeros((0, 2)), NAMES)
    with pytest.raises(ValueError, match="the new model has 40 predictions, and the test set 3 rows"):
        compare_models(nothing, old, test_set.take(np.arange(3)))
    other = BoxPredictions(old.offsets, old.boxes, old.confidences, ("cat", "emu"))
    with pytest.raises(
        ValueError, match="the new model predicts cat, emu, and the class names of the test set are cat"
    ):
        compare_models(old, other, test_set)
    with pytest.raises(ValueError, match="mean_iou cannot compare models that predict 'box' annotations"):
        compare_models(old, old, test_set, {"mean_iou": {}})
