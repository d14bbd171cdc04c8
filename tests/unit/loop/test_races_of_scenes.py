import warnings

import numpy as np
import pytest

from alhelpers import data
from alhelpers.data.labels import MissingClassWarning
from alhelpers.evaluation import Detections, Segmentations
from alhelpers.learners import Detector, Segmenter
from alhelpers.loop import Entry, pick, race

COUNTS = (6, 9)


@pytest.fixture(scope="module")
def scenes():
    options = {"size": 32, "objects": "digits", "clutter": 0, "empty": 0.3}
    return data.scenes(20, **options), data.scenes(8, subset="test", **options)


@pytest.fixture(scope="module")
def detector(scenes):
    return Detector(scenes[0].class_names, steps=2, score_threshold=0.01)


def run(scenes, learner, strategy, **options):
    with warnings.catch_warnings(action="ignore", category=MissingClassWarning):
        entry = Entry(strategy, seed=1, cold_start="random")
        options = {"label_counts": COUNTS, "passes": 2, "workers": 1} | options
        return list(race(*scenes, [entry], learner=learner, **options))


@pytest.mark.parametrize(
    "strategy",
    [
        "random",
        {"cascade": [{"strategy": "weighted_box_uncertainty", "keep": "2x"}, {"strategy": "coreset"}]},
    ],
)
def test_detectors_race_by_average_precision_and_count_boxes(scenes, detector, strategy):
    first, last = run(scenes, detector, strategy)
    assert set(first) == {"strategy", "seed", "labels", "boxes", "ap50", "seconds"}
    assert (first["labels"], last["labels"]) == COUNTS
    assert first["boxes"] <= last["boxes"] <= len(scenes[0].labels())
    assert all(0 <= row["ap50"] <= 1 for row in (first, last))


def test_the_first_round_of_a_detector_is_what_the_parts_compute_by_hand(scenes, detector):
    pool, test = scenes
    labelled = []
    (row,) = run((_Watched(pool, labelled), test), detector, "random", label_counts=(6,))
    by_hand = detector.fresh(100_006)
    with warnings.catch_warnings(action="ignore", category=MissingClassWarning):
        by_hand.fit(pool.take(labelled[0]), seed=100_006)
    found = by_hand.predict(test).rows(list(test.ids))
    expected = Detections(test.labels(), found, items=list(test.ids)).average_precision(0.5).value
    assert row["ap50"] == pytest.approx(expected, abs=1e-9)
    assert row["boxes"] == len(pool.labels(labelled[0]))


class _Watched:
    """A data set that keeps the rows that are taken of it."""

    def __init__(self, dataset, taken):
        self._dataset, self._taken = dataset, taken

    def take(self, rows):
        self._taken.append(np.asarray(rows))
        return self._dataset.take(rows)

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __len__(self):
        return len(self._dataset)


def test_segmenters_race_by_mean_iou(scenes):
    pool, test = (each.segmentation() for each in scenes)
    learner = Segmenter(pool.class_names, steps=2)
    first, last = run((pool, test), learner, "metadata.bald_top")
    assert set(first) == {"strategy", "seed", "labels", "mean_iou", "seconds"}
    fitted = learner.fresh(0)
    truth = test.labels()
    perfect = Segmentations(truth, truth, test.class_names).mean_iou().value
    assert 0 <= first["mean_iou"] <= perfect == 1
    assert len(fitted.class_names) == 11


def test_pick_says_how_many_boxes_to_expect(scenes, detector):
    pool, _ = scenes
    chosen = pick(detector, pool, 5, strategy="box_uncertainty", passes=2)
    predicted = detector.predict(pool, passes=2)
    sums = np.add.reduceat(np.append(predicted.scores, 0), predicted.offsets[:-1])
    sums[np.diff(predicted.offsets) == 0] = 0
    of = dict(zip(list(pool.ids), sums.tolist(), strict=True))
    assert chosen.meta["expected_boxes"] == pytest.approx(sum(of[id] for id in chosen.ids), rel=1e-5)


def test_a_test_set_without_objects_is_refused_before_training(scenes, detector):
    empty = data.scenes(3, size=32, objects="digits", subset="test", empty=1)
    with pytest.raises(ValueError, match="none of the 3 images of the test set has an object"):
        run((scenes[0], empty), detector, "random")
