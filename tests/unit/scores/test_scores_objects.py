"""Certainty of objects of several passes, against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import scores
from alhelpers.scores import ScoreError


def make_objects(count=40, passes=5, classes=3, seed=0):
    """Boxes (M, T, 4) and confidences (M, T, C), NaN where a pass did not find an object; each is found once."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 40, (count, 1, 2)), rng.uniform(5, 20, (count, 1, 2))
    sides = np.concatenate([corner, corner + size], axis=2) + rng.uniform(-2, 2, (count, passes, 4))
    confidences = rng.random((count, passes, classes))
    missing = rng.random((count, passes)) < 0.4
    missing[np.arange(count), rng.integers(passes, size=count)] = False
    sides[missing], confidences[missing] = np.nan, np.nan
    return sides.astype(np.float32), confidences.astype(np.float32)


def iou(first, second):
    """The IoU of two sets of numbers of which a box or mask consists."""
    return len(first & second) / len(first | second)


def area_iou(a, b):
    shared = math.prod(max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1))
    return shared / (sum(math.prod(each[k + 2] - each[k] for k in (0, 1)) for each in (a, b)) - shared)


def entropy(shares):
    return -sum(p * math.log(p) for p in shares if p) / math.log(len(shares))


def with_none(confidences):
    total = sum(confidences)
    return [*(p / max(total, 1) for p in confidences), max(1 - total, 0) / max(total, 1)]


def found_by(values):
    return [[each.tolist() for each in row if not np.isnan(each).any()] for row in values.astype(float)]


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def test_certainties_of_boxes_equal_their_definitions():
    boxes, confidences = make_objects()
    location, existence, variance = [], [], []
    for rows in found_by(boxes):
        location.append(sum(area_iou(row, mean(rows)) for row in rows) / len(rows))
        existence.append(len(rows) / boxes.shape[1])
        variance.append(float(np.std(rows, axis=0).mean()))
    shares = [[with_none(row) for row in rows] for rows in found_by(confidences)]
    predictive = [1 - entropy(mean(rows)) for rows in shares]
    expected = [1 - sum(map(entropy, rows)) / len(rows) for rows in shares]
    none = [0.0] * confidences.shape[2]
    passes = [
        [(row if max(row) >= 0.6 else none) for row in np.nan_to_num(rows).tolist()] for rows in confidences
    ]
    objects = [1 - entropy(mean([with_none(row) for row in rows])) for rows in passes]
    for found, wanted in (
        (scores.object_certainty(confidences, 0.6), objects),
        (scores.location_certainty(boxes), location),
        (scores.existence_certainty(boxes), existence),
        (scores.existence_certainty(confidences), existence),
        (scores.existence_certainty(~np.isnan(boxes[..., 0])), existence),
        (scores.box_variance(boxes), variance),
        (scores.class_certainty(confidences), predictive),
        (scores.class_certainty(confidences, "expected"), expected),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_certainty_of_masks_equals_its_definition():
    rng = np.random.default_rng(1)
    masks = rng.random((30, 4, 5, 6)) < rng.uniform(0.3, 0.9, (30, 1, 5, 6))
    masks[0, 0] = masks[1, :3] = False  # not found by one pass, and by all but one
    wanted = []
    for passes in masks:
        sets = [set(map(tuple, np.argwhere(mask))) for mask in passes if mask.any()]
        votes = [pixel for each in sets for pixel in each]
        middle = {pixel for pixel in votes if 2 * votes.count(pixel) >= len(sets)}
        wanted.append(sum(iou(each, middle) for each in sets) / len(sets))
    np.testing.assert_allclose(scores.mask_certainty(masks), wanted, rtol=1e-6)
    numbers = masks.astype(np.float32)
    numbers[~masks.any(axis=(2, 3))] = np.nan
    np.testing.assert_allclose(scores.mask_certainty(numbers), wanted, rtol=1e-6)
    found = np.zeros((30, 4), bool)
    found[:, 3] = True  # one pass agrees with itself
    assert (scores.mask_certainty(masks, found) == 1).all()


@given(st.integers(0, 10_000), st.floats(0.1, 30), st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_what_does_not_change_certainty(seed, scale, shift):
    boxes, confidences = make_objects(6, 4, seed=seed)
    order = np.random.default_rng(seed).permutation(4)
    location, variance = scores.location_certainty(boxes), scores.box_variance(boxes)
    predictive, expected = (scores.class_certainty(confidences, by) for by in ("predictive", "expected"))
    for values in (location, predictive, expected):
        assert ((values >= 0) & (values <= 1)).all()
    assert (predictive <= expected + 1e-6).all()  # the entropy of a mean is at least the mean entropy
    np.testing.assert_allclose(scores.location_certainty(boxes[:, order]), location, rtol=1e-5)
    np.testing.assert_allclose(scores.class_certainty(confidences[:, order]), predictive, atol=1e-6)
    moved = boxes.astype(np.float64) * scale + shift
    np.testing.assert_allclose(scores.location_certainty(moved), location, rtol=1e-4)
    np.testing.assert_allclose(scores.box_variance(moved), variance * scale, rtol=1e-4, atol=1e-5)


def test_certain_and_uncertain_of_the_class():
    sure, other, unsure, weak = [1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.25], [0.3, 0, 0]
    missing = [np.nan] * 3
    objects = np.array(
        [[sure] * 2, [unsure] * 2, [sure, other], [weak] * 2, [weak, missing], [[0, 0, 0]] * 2]
    )
    halves, faint = 1 - math.log(2) / math.log(4), 1 - entropy([0.3, 0.7, 0, 0])
    np.testing.assert_allclose(scores.class_certainty(objects), [1, 0, halves, faint, faint, 1], atol=1e-6)
    np.testing.assert_allclose(
        scores.class_certainty(objects, "expected"), [1, 0, 1, faint, faint, 1], atol=1e-6
    )
    # classes of their own that are all likely are alike, and none of them is left out
    alike = np.full((1, 2, 3), 0.9)
    np.testing.assert_allclose(scores.class_certainty(alike), 1 - math.log(3) / math.log(4), atol=1e-6)


def test_an_object_that_half_of_the_passes_find_is_least_certain():
    found, missing, weak = [1.0, 0.0], [np.nan] * 2, [0.1, 0.0]
    objects = np.array([[found] * 4, [found] * 2 + [missing] * 2, [found] + [missing] * 3, [weak] * 4])
    wanted = [1, 1 - math.log(2) / math.log(3), 1 - entropy([0.25, 0.75, 0]), 1]
    np.testing.assert_allclose(scores.object_certainty(objects), wanted, atol=1e-6)
    with pytest.raises(ScoreError, match="least must be from 0 to 1, got 20"):
        scores.object_certainty(objects, 20)


def test_one_class_is_compared_with_none():
    one = np.array([[[1.0], [1.0]], [[0.5], [0.5]], [[0.0], [1.0]], [[0.9], [np.nan]]])
    np.testing.assert_allclose(scores.class_certainty(one), [1, 0, 0, 1 - entropy([0.9, 0.1])], atol=1e-6)


def test_the_variance_fails_where_certainty_does_not():
    small = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], float)
    once = np.array([[0, 0, 4, 4], [np.nan] * 4])
    boxes = np.stack([small, small * 20, once])
    np.testing.assert_allclose(scores.box_variance(boxes), [0.5, 10, 0])
    location = scores.location_certainty(boxes)
    assert location[0] == pytest.approx(location[1]) and location[2] == 1
    assert scores.existence_certainty(boxes).tolist() == [1, 1, 0.5]


@pytest.mark.parametrize(
    ("score", "row", "message"),
    [
        (scores.location_certainty, [[np.nan] * 4] * 2, "row 1 of boxes: no pass found this object; leave it out"),
        (scores.location_certainty, [[0, 0, 2, 2], [3, 0, 2, 2]], "row 1 of boxes, pass 1: a box must have left < r"),
        (scores.box_variance, [[0, 0, 2, 0], [0, 0, 2, 2]], "row 1 of boxes, pass 0: a box must have left < right"),
        (scores.box_variance, [[0, np.nan, 2, 2], [0, 0, 2, 2]], "row 1 of boxes, pass 0: a pass must have finite"),
        (scores.existence_certainty, [[0, 0, 2, np.inf], [0, 0, 2, 2]], "row 1 of samples, pass 0: a pass must have"),
        (scores.existence_certainty, [[np.nan] * 4] * 2, "row 1 of samples: no pass found this object"),
        (scores.class_certainty, [[0, 0, 0, 1.5], [0] * 4], "row 1 of confidences, pass 0: confidences must be from"),
        (scores.class_certainty, [[0, 0, 0, -0.5], [0] * 4], "row 1 of confidences, pass 0: confidences must be fro"),
        (scores.class_certainty, [[np.nan] * 4] * 2, "row 1 of confidences: no pass found this object"),
    ],
)  # fmt: skip
def test_what_is_refused(score, row, message):
    good = [[0, 0, 1, 1]] * 2
    with pytest.raises(ScoreError, match=message) as error:
        score(np.array([good, row, good], float))
    assert error.value.row == 1


def test_masks_and_shapes_that_are_refused():
    masks = np.ones((3, 2, 2, 2), bool)
    masks[2] = False
    for values, found, message in (
        (masks, None, "row 2 of masks: no pass found this object"),
        (masks, np.ones((3, 2), bool), "row 2 of masks, pass 0: a mask that was found has no pixel"),
        (masks, np.ones((3, 3), bool), r"must be bool of shape \(3, 2\), got bool values of shape \(3, 3\)"),
        (masks * 2.0, None, "row 0 of masks, pass 0: masks must be of 0 and 1"),
        (masks[0], None, r"masks must have shape \(M, T, H, W\)"),
    ):
        with pytest.raises(ScoreError, match=message):
            scores.mask_certainty(values, found)
    with pytest.raises(ScoreError, match=r"boxes must have shape \(M, T, 4\)"):
        scores.location_certainty(np.ones((2, 3, 5)))
    with pytest.raises(ScoreError, match=r"confidences must have shape \(M, T, C\), none of them 0 but M"):
        scores.class_certainty(np.ones((2, 0, 3)))
    with pytest.raises(ScoreError, match='entropy must be "predictive" or "expected"'):
        scores.class_certainty(np.ones((2, 2, 3)), "mean")


def test_no_objects_have_no_certainty():
    none = np.empty((0, 3, 4))
    for score in (
        scores.class_certainty,
        scores.location_certainty,
        scores.existence_certainty,
        scores.box_variance,
    ):
        assert score(none).shape == (0,)
    assert scores.mask_certainty(np.empty((0, 3, 2, 2), bool)).shape == (0,)


REDUCTIONS = {
    "max": max,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "top_k": lambda values: sum(sorted(values)[-2:]) / len(values[:2]),
}


@pytest.mark.parametrize("over", REDUCTIONS)
def test_scores_over_objects(over):
    rng = np.random.default_rng(2)
    counts = [0, 3, 1, 0, 0, 5, 2, 0]
    offsets, values = np.append(0, np.cumsum(counts)), rng.random(sum(counts))
    images = [values[start:end].tolist() for start, end in zip(offsets, offsets[1:], strict=False)]
    wanted = [REDUCTIONS[over](image) if image else 0 for image in images]
    found = scores.over_objects(values, offsets, over, 2 if over == "top_k" else None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert scores.over_objects([], [0, 0], over, 2 if over == "top_k" else None).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [0, 1]), "offsets must go from 0 to the number of objects, 2, and never down, got 0 to 1"),
        (([1.0, 2.0], [0, 2, 1, 2]), "offsets must go from 0"),
        (([1.0, 2.0], [0.0, 2.0]), "offsets must be whole numbers"),
        (([1.0, np.nan], [0, 2]), "row 1 of values is nan: it must be finite"),
        (([1.0, 2.0], [0, 2], "min"), 'over must be "max", "mean", "sum" or "top_k", got'),
        (([1.0, 2.0], [0, 2], "top_k"), 'top_k must be at least 1 with over="top_k" and None otherwise, got None'),
        (([1.0, 2.0], [0, 2], "max", 1), "top_k must be at least 1"),
        (([[1.0]], [0, 1]), r"values must have shape \(M,\)"),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit_their_objects(arguments, message):
    with pytest.raises(ScoreError, match=message):
        scores.over_objects(*arguments)


# ------------------------------------------------------------------------------
# expected errors
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [0.0, 0.2, 0.7, 1.0])
def test_expected_errors_are_those_of_drawn_objects(least):
    """Confidences are taken at their word: an object of each class, or none, with these probabilities."""
    rng = np.random.default_rng(0)
    confidences = rng.dirichlet(np.ones(4), size=200)[:, :3].astype(np.float32)
    expected = []
    for row in confidences.tolist():
        predicted, used = row.index(max(row)), bool(max(row) >= np.float32(least))
        # the object's class, 3 is none, and its errors: a wrong box, and an object that is missed
        errors = [used * (c != predicted) + (c < 3 and not (used and c == predicted)) for c in range(4)]
        expected.append(sum(p * e for p, e in zip([*row, 1 - sum(row)], errors, strict=True)))
    np.testing.assert_allclose(scores.expected_errors(confidences, least), expected, atol=1e-6)


def test_sigmoids_of_one_object_are_one_object():
    assert scores.expected_errors([[0.9, 0.9], [1, 0]]).tolist() == pytest.approx([0.2, 0])


@pytest.mark.parametrize("wrong", [[[0.5, 1.1]], [[np.nan, 0.2]], [[-0.1, 0.2]], [0.5], np.ones((2, 0))])
def test_what_is_no_confidence_has_no_expected_errors(wrong):
    with pytest.raises(ScoreError, match="confidences"):
        scores.expected_errors(wrong)
    with pytest.raises(ScoreError, match="least must be from 0 to 1, got 2"):
        scores.expected_errors([[0.5]], 2)
