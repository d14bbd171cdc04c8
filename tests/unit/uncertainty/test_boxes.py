"""Boxes of several passes, merged object by object."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import scores
from alhelpers.uncertainty import merge_boxes


def one_pass(images, classes=2):
    """A pass of lists of (box, confidences) for each image."""
    flat = [each for image in images for each in image]
    return SimpleNamespace(
        offsets=np.append(0, np.cumsum([len(image) for image in images])).astype(np.int64),
        boxes=np.array([box for box, _ in flat], dtype=np.float32).reshape(-1, 4),
        confidences=np.array([each for _, each in flat], dtype=np.float32).reshape(-1, classes),
    )


def random_images(rng, passes, images=3, objects=4):
    """Boxes on a coarse grid, so that sides, overlaps and confidences are often equal."""
    found = []
    for _ in range(passes):
        of_pass = []
        for _ in range(images):
            sides = rng.integers(0, 4, (rng.integers(objects + 1), 4)) * 2
            corners = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:] + 2], axis=1)
            of_pass.append([(box.tolist(), (rng.integers(1, 4, 2) / 4).tolist()) for box in corners])
        found.append(of_pass)
    return found


def merged(samples):
    """The objects of each image, each a list of (pass, box, confidences)."""
    objects = [
        [
            (t, box.tolist(), c.tolist())
            for t, (box, c) in enumerate(zip(*each, strict=True))
            if not np.isnan(box[0])
        ]
        for each in zip(samples.boxes, samples.confidences, strict=True)
    ]
    return [objects[start:end] for start, end in zip(samples.offsets, samples.offsets[1:], strict=False)]


def overlap(a, b):
    width, height = (max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1))
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b))
    return width * height / (areas - width * height)


def by_definition(passes, iou):
    """The objects of each image by the docstring of merge_boxes, a box at a time."""
    found = []
    for images in zip(*passes, strict=True):
        left = [(t, *each) for t, image in enumerate(images) for each in image]
        left.sort(key=lambda each: (-max(each[2]), *(-c for c in each[2]), *each[1]))
        objects = []
        while left:
            leader = left[0]
            members = [leader]
            for t in range(len(passes)):
                near = [each for each in left if each[0] == t and overlap(each[1], leader[1]) >= iou]
                if t != leader[0] and near:
                    members.append(max(near, key=lambda each: overlap(each[1], leader[1])))
            for each in members:
                left.remove(each)
            objects.append(sorted(members))
        found.append(objects)
    return found


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_merging_equals_its_definition(seed, count, iou):
    passes = random_images(np.random.default_rng(seed), count)
    samples = merge_boxes([one_pass(images) for images in passes], iou=iou)
    assert (
        samples.offsets.dtype == np.int64 and samples.boxes.dtype == samples.confidences.dtype == np.float32
    )
    assert merged(samples) == by_definition(passes, iou)
    assert np.array_equal(np.isnan(samples.boxes).any(axis=2), np.isnan(samples.confidences).all(axis=2))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_and_passes_does_not_count(seed):
    rng = np.random.default_rng(seed)
    passes = random_images(rng, 3)
    samples = merge_boxes([one_pass(images) for images in passes])
    order = rng.permutation(3)
    shuffled = [[[image[k] for k in rng.permutation(len(image))] for image in passes[t]] for t in order]
    again = merge_boxes([one_pass(images) for images in shuffled])
    np.testing.assert_array_equal(again.offsets, samples.offsets)
    np.testing.assert_array_equal(again.boxes, samples.boxes[:, order])
    np.testing.assert_array_equal(again.confidences, samples.confidences[:, order])


def test_passes_that_agree_are_certain_of_each_box():
    rng = np.random.default_rng(0)
    corner = np.arange(6)[:, None] * 20 + rng.uniform(0, 3, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 9, (6, 2))], axis=1).tolist()
    images = [[(box, [0.0, 1.0]) for box in boxes[:4]], [], [(box, [1.0, 0.0]) for box in boxes[4:]]]
    samples = merge_boxes([one_pass(images)] * 7)
    assert samples.offsets.tolist() == [0, 4, 4, 6] and samples.boxes.shape == (6, 7, 4)
    for certainty in (
        scores.class_certainty(samples.confidences),
        scores.location_certainty(samples.boxes),
        scores.existence_certainty(samples.boxes),
    ):
        assert certainty.tolist() == [1.0] * 6
    means = samples.means()
    np.testing.assert_allclose(np.sort(means[0], axis=0), np.sort(np.float32(boxes), axis=0), rtol=1e-6)


def test_an_object_of_several_classes_is_one_of_which_passes_are_unsure():
    place, beside = [0, 0, 10, 10], [30, 0, 40, 10]
    first, second = [[(place, [1.0, 0.0]), (beside, [0.0, 1.0])]], [[(place, [0.0, 1.0])]]
    samples = merge_boxes([one_pass(first), one_pass(second)])
    assert samples.boxes[:, :, 0].tolist()[0] == [0, 0] and np.isnan(samples.boxes[1, 1]).all()
    np.testing.assert_allclose(
        scores.class_certainty(samples.confidences), [1 - np.log(2) / np.log(3), 1], atol=1e-6
    )
    assert scores.existence_certainty(samples.boxes).tolist() == [1, 0.5]
    boxes, confidences = samples.means()
    assert boxes.tolist() == [place, beside]
    np.testing.assert_allclose(confidences, [[0.5, 0.5], [0, 1]])


def test_a_pass_has_one_box_of_an_object():
    twice = [[([0, 0, 10, 10], [0.9, 0.1]), ([0, 0, 10, 10], [0.2, 0.8])]]
    samples = merge_boxes([one_pass(twice)] * 3)
    assert samples.offsets.tolist() == [0, 2]
    assert (samples.confidences == np.float32([[[0.9, 0.1]], [[0.2, 0.8]]])).all()


def test_nothing_found():
    samples = merge_boxes([one_pass([[], []])] * 2)
    assert samples.offsets.tolist() == [0, 0, 0] and samples.boxes.shape == (0, 2, 4)
    assert samples.confidences.shape == (0, 2, 2) and samples.means()[0].shape == (0, 4)


GOOD = one_pass([[([0, 0, 2, 2], [0.5, 0.5])], [([1, 1, 2, 3], [0.5, 0.5])]])


def changed(**fields):
    return SimpleNamespace(**{**vars(GOOD), **fields})


@pytest.mark.parametrize(
    ("passes", "options", "message"),
    [
        ([], {}, "passes must be at least one"),
        ([GOOD], {"iou": 0}, "iou is 0: it must be above 0 and at most 1"),
        ([GOOD], {"iou": float("nan")}, "iou is nan"),
        ([GOOD, changed(offsets=[0, 2])], {}, r"passes must be of the same images, got \[2, 1\] images"),
        ([GOOD, changed(offsets=[0, 1, 3])], {}, "offsets must go from 0 to the number of objects, 2"),
        ([GOOD, changed(confidences=np.ones((2, 3)))], {}, r"the same classes, got \[2, 3\] classes"),
        ([GOOD, changed(confidences=np.ones((3, 2)))], {}, r"confidences of pass 1 must have shape \(2, C\)"),
        ([GOOD, changed(boxes=np.ones((2, 5)))], {}, r"boxes of pass 1 must have shape \(m, 4\), got \(2, 5\)"),
        ([GOOD, changed(boxes=GOOD.boxes * [1, 1, 1, 0.25])], {}, "box 1 of pass 1 must have left < right and top"),
        ([changed(boxes=GOOD.boxes * np.nan)], {}, "box 0 of pass 0 must be finite"),
        ([changed(confidences=GOOD.confidences * 3)], {}, "box 0 of pass 0 must have confidences from 0 to 1, got"),
    ],
)  # fmt: skip
def test_passes_that_are_refused(passes, options, message):
    with pytest.raises(ValueError, match=message):
        merge_boxes(passes, **options)
