"""The decision between detectors and between segmenters, by boxes, masks and pixels."""

import json

import numpy as np
import pytest

from alhelpers.evaluation import (
    Classifications,
    Detections,
    NoGroundTruth,
    Segmentations,
    TestSet,
    compare_evaluated,
    compare_predictions,
    read_compare_config,
)

IMAGES = 40


def boxes(seed, moved=0.0, kept=1.0):
    """Two objects an image, small and large ones by turns; the last images have none."""
    draw, rng = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for number in range(2 * (IMAGES - 5)):
        size = 20.0 if number % 2 else 110.0
        left, top = draw.uniform(0, 40, 2) + rng.normal(0, moved, 2) * size
        row = {"image_id": number // 2, "label": "cat" if number % 3 else "dog", "left": left, "top": top}
        row |= {"right": left + size, "bottom": top + size, "score": rng.uniform()}
        if rng.uniform() < kept:
            rows.append(row)
    return rows


def masks(rows, size=(180, 190)):
    made = []
    for row in rows:
        mask = np.zeros(size, dtype=bool)
        left, top, right, bottom = (max(int(row[side]), 0) for side in ("left", "top", "right", "bottom"))
        mask[top:bottom, left:right] = True
        made.append({"image_id": row["image_id"], "label": row["label"], "score": row["score"], "mask": mask})
    return made


@pytest.fixture(scope="module")
def rows():
    return boxes(0), boxes(1, moved=0.2), boxes(2, moved=0.03, kept=0.95)


def decide(kind, rows, config):
    return compare_predictions(
        TestSet(kind, list(range(IMAGES)), rows[0], tuple(rows[1:])),
        read_compare_config(config | {"bootstrap": {"samples": 200}}),
    )


@pytest.mark.parametrize("kind", ["box", "binary"])
def test_detectors_are_compared_by_size_and_label_with_intervals(kind, rows):
    rows = rows if kind == "box" else [masks(each) for each in rows]
    options = {"points": "101", "by_size": "yes"}
    found = decide(kind, rows, {"mean_average_precision": options, "precision_recall": {"size": [0, 1000]}})
    first, second = found.metrics
    models = [Detections(rows[0], each, range(IMAGES), masks=kind == "binary") for each in rows[1:]]
    for place, side in enumerate(("previous", "new")):
        assert first[side] == models[place].mean_average_precision(101).value
        assert second[side] == models[place].average_precision(size=(0, 1000)).value
    assert found.better and first["interval"]["low"] > 0
    assert [row["name"] for row in first["sizes"]] == ["small", "medium", "large"]
    small, medium, large = first["sizes"]
    assert small["new"] == models[1].mean_average_precision(101, "small").value
    assert set(medium.values()) == {"medium", None} and large["low"] <= large["new"] - large["previous"]
    for row in first["rows"]:
        assert row["low"] <= row["new"] - row["previous"] <= row["high"]
    assert "size medium" in str(found) and json.dumps(found.to_dict())


def test_a_metric_without_ground_truth_of_the_size_names_the_model(rows):
    message = "precision_recall of model 'previous': no ground truth has an area from 1024 to 9216"
    with pytest.raises(NoGroundTruth, match=message):
        decide("box", rows, {"precision_recall": {"size": "medium"}})


def test_masks_are_compared_by_pixels_as_well(rows):
    rows = [masks(each) for each in rows]
    found = decide("binary", rows, {"mean_iou": {"min_confidence": 0.9}, "precision_recall": {}})
    direct = [Segmentations.from_masks(rows[0], each).mean_iou() for each in rows[1:]]
    assert [found.previous, found.new] == [each.value for each in direct]
    assert found.metric == "mean_iou" and found.better and "mean_iou, won" in str(found)


def test_segmenters_are_compared_by_maps():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=(IMAGES, 8, 8))
    maps = [np.where(rng.uniform(size=truth.shape) < share, truth, 0) for share in (0.3, 0.6)]
    old, new = (Segmentations(truth, each, ["none", "cat", "dog"]) for each in maps)
    found = compare_evaluated(old, new, read_compare_config({"mean_iou": {}, "accuracy": {}}))
    assert found.better and found.metrics[1]["new"] == (maps[1] == truth).mean()
    assert compare_evaluated(new, old, read_compare_config({"mean_iou": {}})).action == "discard"
    with pytest.raises(
        ValueError, match="mean_average_precision cannot compare models that predict 'pixels'"
    ):
        compare_evaluated(old, new, read_compare_config({"mean_average_precision": {}}))
    with pytest.raises(ValueError, match="precision_recall of model 'previous': .* needs the confidences"):
        compare_evaluated(old, new, read_compare_config({"precision_recall": {}}))
    with pytest.raises(ValueError, match="'previous' is read as Segmentations and 'new' as Classifications"):
        compare_evaluated(old, Classifications("a", "a", [1]), read_compare_config({"accuracy": {}}))


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        ("box", "mean_iou", "mean_iou cannot compare models that predict 'box' annotations"),
        ("binary", "accuracy", "accuracy cannot compare models that predict 'binary' annotations"),
    ],
)
def test_metrics_that_do_not_fit_are_named(kind, metric, message):
    with pytest.raises(ValueError, match=message):
        decide(kind, [[], [], []], {metric: {}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points 1 must be an integer, 2 or more"),
        ({"points": "all"}, "points 'all' must be an integer"),
        ({"size": "tiny"}, "size 'tiny' must be 'small', 'medium' or 'large'"),
        ({"size": [1]}, r"size \[1\] must be 'small'"),
        ({"size": [0, -1]}, "size .* must be 'small'"),
        ({"by_size": "maybe"}, "by_size 'maybe' must be true or false"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        read_compare_config({"precision_recall": options})


def test_masks_of_another_size_and_of_images_that_are_not_tested_are_named(rows):
    rows = [masks(each[:2]) for each in rows]
    rows[1][0]["mask"] = rows[1][0]["mask"].T
    for metric in ("mean_iou", "precision_recall"):
        with pytest.raises(
            ValueError, match=r"masks of image 0 have the sizes \(180, 190\) and \(190, 180\)"
        ):
            decide("binary", rows, {metric: {}})
    rows[2][0]["image_id"] = 99
    with pytest.raises(ValueError, match="new has a row of image 99, which is not among items"):
        decide("binary", rows, {"mean_iou": {}})
