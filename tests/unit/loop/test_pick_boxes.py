"""Picks by what detectors and segmenters predict of images: equal to mining their records."""

import numpy as np
import pytest

from alhelpers import data, mining
from alhelpers.learners import DetectorFunction, Segmenter
from alhelpers.loop import pick

COUNT = 12


@pytest.fixture(scope="module")
def pool():
    return data.scenes(COUNT, size=32, seed=1, objects="digits", empty=0.3)


def noisy_detector(*scenes):
    """A detector that moves true boxes, and overlooks some, by its seed and the image."""
    images = [image.tobytes() for each in scenes for image in np.asarray(each.inputs(np.arange(len(each))))]
    ids = {image: row for row, image in enumerate(images)}
    truth = [each.labels(np.array([row])) for each in scenes for row in range(len(each))]
    names = list(scenes[0].class_names)

    def detect(images, seed):
        found = []
        for image in np.asarray(images):
            row = ids[image.tobytes()]
            rng = np.random.default_rng([seed, row])
            kept = [box for box in truth[row] if rng.random() < 0.8]
            boxes = [[box[side] for side in ("left", "top", "right", "bottom")] for box in kept]
            moved = np.reshape(boxes, (-1, 4)) + rng.normal(0, 0.3 + 0.1 * row, (len(boxes), 4))
            moved = moved.clip(0, 32)
            confidences = np.full((len(kept), len(names)), 0.1, dtype=np.float32)
            confidences[np.arange(len(kept)), [names.index(box["label"]) for box in kept]] = rng.uniform(
                0.5, 0.9
            )
            found.append((moved, confidences))
        return found

    return DetectorFunction(detect, names)


def test_boxes_are_picked_as_their_records_are_mined(pool):
    detector = noisy_detector(pool)
    table = detector.predict(pool, passes=5, seed=3).to_records(pool.ids)
    for options in ({}, {"of": "location", "over": "mean"}, {"max_boxes": 3.0}):
        found = pick(detector, pool, 6, strategy="box_uncertainty", passes=5, seed=3, **options)
        expected = mining.mine(table, "box_uncertainty", 6, seed=3, **options)
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(found) < 6 and found.meta["expected_boxes"] <= 3
    plan = [{"strategy": "box_uncertainty", "share": 0.5}, {"strategy": "random", "share": 0.5}]
    both = pick(detector, pool, 6, strategy=plan, passes=5, seed=3, max_boxes=4)
    assert both.ids == mining.combine(table, plan, 6, seed=3, max_boxes=4).ids
    assert set(both.meta["strategies"].values()) == {"box_uncertainty", "random"}


@pytest.mark.parametrize("in_files", [False, True])
def test_the_labels_of_a_reference_are_counted(pool, in_files, tmp_path):
    reference = data.scenes(8, size=32, seed=2, objects="digits", frequencies={"0": 0.1})
    if in_files:
        data.write_coco(tmp_path / "reference.json", reference, images=tmp_path)
        reference = data.coco(tmp_path / "reference.json", tmp_path)
    options = {"strategy": "weighted_box_uncertainty", "passes": 3}
    chosen = pick(noisy_detector(pool, reference), pool, 3, reference=reference, **options)
    labels = [row["label"] for row in reference.labels(np.arange(8))]
    counts = chosen.meta["class_counts"]
    assert chosen.meta["classes_counted"] == "boxes of the reference"
    assert {name: count for name, count in counts.items() if count} == {n: labels.count(n) for n in {*labels}}


def test_images_are_picked_by_the_scores_of_their_segmentation(pool):
    maps = pool.segmentation()
    segmenter = Segmenter(maps.class_names, seed=0)
    table = segmenter.predict(maps, passes=3, seed=2).to_records(maps.ids)
    found = pick(segmenter, maps, 4, strategy="metadata.bald", passes=3, seed=2)
    expected = mining.mine(table, "metadata.bald", 4)
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.scores, expected.scores)
    weighted = {"weights": [{"strategy": name, "weight": 1} for name in ("metadata.bald", "metadata.blur")]}
    blur = np.arange(COUNT)
    assert len(pick(segmenter, maps, 4, strategy=weighted, passes=3, metadata={"blur": blur})) == 4
    with pytest.raises(mining.MissingField, match="needs metadata.bold, .* it predicts .*metadata.bald"):
        pick(segmenter, maps, 4, strategy="metadata.bold", passes=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "mc_dropout"}, "'mc_dropout' needs mc_dropout.* take a strategy of boxes"),
        ({"strategy": "metadata.blur"}, "'metadata.blur' needs metadata.blur"),
        ({"max_boxes": 0}, "max_boxes must be a number above 0"),
        ({"passes": 0}, "needs detections.class_certainty in the records.*predict with passes"),
    ],
)
def test_what_a_detector_does_not_predict(given, message, pool):
    with pytest.raises(mining.MiningError, match=message):
        pick(noisy_detector(pool), pool, 3, **{"strategy": "box_uncertainty", **given})


def test_boxes_of_a_segmenter_are_not_counted(pool):
    maps = pool.segmentation()
    with pytest.raises(mining.MiningError, match="max_boxes=3 .*learner is of a segmentation"):
        pick(Segmenter(maps.class_names), maps, 3, strategy="random", max_boxes=3)


def test_the_default_strategy_is_that_of_the_task(pool):
    detector, maps = noisy_detector(pool), pool.segmentation()
    segmenter = Segmenter(maps.class_names, seed=0)
    for learner, images, strategy in (
        (detector, pool, "box_uncertainty"),
        (segmenter, maps, "metadata.bald"),
    ):
        found = pick(learner, images, 4, passes=3)
        assert found.ids == pick(learner, images, 4, strategy=strategy, passes=3).ids
