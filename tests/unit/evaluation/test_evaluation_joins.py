"""Two sides that are joined by image or label, and columns and arrays of every kind: right, warned of or refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alhelpers.evaluation import (
    Classifications,
    Detections,
    EvaluationError,
    TestSet,
    accuracy,
    average_precision,
    classification_average_precision,
    compare_predictions,
    is_better,
    paired_bootstrap,
    read_compare_config,
    top1_average_precision,
)

BOX = dict(label="a", left=0, top=0, right=4, bottom=4)


def boxes(images, **more):
    return [BOX | {"image_id": image} | more for image in images]


def found(images, **more):
    return boxes(images, **{"score": 0.5} | more)


# ------------------------------------------------------------------------------
# images
# ------------------------------------------------------------------------------


@given(st.lists(st.integers(-3, 12), min_size=1), st.lists(st.integers(-3, 12), min_size=1), st.booleans())
def test_images_that_are_numbers_here_and_text_there_are_refused(truth, predictions, swapped):
    sides = (truth, list(map(str, predictions)))
    truth, predictions = reversed(sides) if swapped else sides
    for form in (list, pd.DataFrame):
        with pytest.raises(EvaluationError, match=r"image_id of ground_truth is .* but that of predictions "):
            average_precision(form(boxes(truth)), form(found(predictions)))


@pytest.mark.parametrize(
    ("truth", "predictions", "message"),
    [
        (
            [1, 2, "3"],
            ["3", "2"],
            "is 2 but that of predictions '2', which never match: pass both as text or",
        ),
        ([1.0], ["1"], "is 1.0 but that of predictions '1'"),
        (["001"], ["1"], "image_id of predictions is '1' and that of ground_truth '001'; .* as items"),
        ([0, 1], [2, 3], "no prediction is on an image with ground truth"),
    ],
)
def test_images_of_which_none_is_shared_are_refused(truth, predictions, message):
    with pytest.raises(EvaluationError, match=message):
        average_precision(boxes(truth), found(predictions))


def test_ids_of_both_types_among_the_items_join_nothing():
    with pytest.raises(EvaluationError, match="is 0 but that of predictions '0', which never match"):
        average_precision(boxes([0]), found(["0"]), items=[0, "0"])


def test_numbers_of_every_type_are_one_image():
    for one in (np.int64(1), 1.0, np.float32(1), True):
        assert average_precision(boxes([1]), found([one])).macro == 1


@given(st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9), min_size=1))
def test_images_on_one_side_only_count_as_misses_or_as_wrong(truth, predictions):
    right, everything = truth & predictions, range(10)
    precision, recall = len(right) / len(predictions), len(right) / len(truth)
    if right:
        evaluated = average_precision(boxes(truth), found(predictions))
        assert evaluated.macro == pytest.approx(precision * recall)  # equal scores are one point
        unknown = predictions - truth
        message = f"{len(unknown)} of {len(predictions)} predictions are on images without ground truth"
        assert [message in warning for warning in evaluated.warnings] == [True] * bool(unknown)
        assert Detections(boxes(truth), found(predictions)).f1().warnings == evaluated.warnings
    given_items = average_precision(boxes(truth), found(predictions), items=everything)
    assert given_items.macro == pytest.approx(precision * recall) and not given_items.warnings


@pytest.mark.parametrize("items", [["0", "1"], [1], []])
def test_rows_of_images_that_are_not_items_are_refused(items):
    for evaluate in (average_precision, Detections):
        with pytest.raises(EvaluationError, match="ground_truth has a row of image 0, which is not among it"):
            evaluate(boxes([0]), found([0]), items=items)
    with pytest.raises(EvaluationError, match="predictions has a row of image 2, which is not among items"):
        average_precision(boxes([0]), found([0, 2]), items=[0, 1])


@pytest.mark.parametrize("kind", ["box", "class"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_comparison_refuses_predictions_of_other_images(kind, side):
    predictions = [found(["0", "1"]), found(["0", "1"])]
    predictions[side] = found(["0", 1])
    test = TestSet(kind, ["0", "1"], boxes(["0", "1"]), tuple(predictions))
    with pytest.raises(EvaluationError, match=f"{('old', 'new')[side]} has a row of image 1, which is not"):
        compare_predictions(test, read_compare_config({"f1": {}}), ("old", "new"))


@pytest.mark.parametrize("score", [np.nan, None, "high"])
def test_a_comparison_of_classes_reads_every_score(score):
    for broken in ({"score": score}, {"label": None}):
        rows = [*found(["0"]), *found(["0"]), *found(["0"], **broken)]
        test = TestSet("class", ["0"], boxes(["0"]), (rows, found(["0"])))
        with pytest.raises(EvaluationError, match="predictions of 'old'.*(score|label)"):
            compare_predictions(test, read_compare_config({"accuracy": {}}), ("old", "new"))


# ------------------------------------------------------------------------------
# labels
# ------------------------------------------------------------------------------

AS_BOXES = [[BOX | {"image_id": 0, "label": label} for label in labels] for labels in ([1, 2], ["1", "c"])]


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda: average_precision(AS_BOXES[0], [row | {"score": 1} for row in AS_BOXES[1]]),
        lambda: accuracy([1, 2], ["1", "c"]),
        lambda: accuracy([1, "a"], ["1", "a"]),
        lambda: classification_average_precision([1, 0], [[0.5, 0.5]] * 2, ["a", "b"]),
        lambda: accuracy([1.0, 2.0], np.array(["1", "2"])),
        lambda: top1_average_precision([1, 2], ["1", "c"], [0.5, 0.5]),
        lambda: Classifications([1, 2], [None, "1"], [0, 0.5]),
        lambda: classification_average_precision([1, 2], [[0.5, 0.5]] * 2, ["1", "c"]),
    ],
)
def test_labels_that_are_numbers_here_and_text_there_are_refused(evaluate):
    with pytest.raises(EvaluationError, match=r"1(\.0)?'? but .* '?[1a]'?, which never match"):
        evaluate()


NOTHING_RIGHT = (
    "labels hold 'Cat', 'Dog', predicted holds 'bird', 'cat', 'dog'; check that classes are named alike"
)


@pytest.mark.parametrize(
    "evaluate",
    [
        accuracy,
        lambda *sides: top1_average_precision(*sides, [0.5] * 4).macro,
        lambda *sides: Classifications(*sides, [0.5] * 4).f1().value,
        lambda *sides: Classifications(*sides, [0] * 4).calibration_error().value,
    ],
)
def test_classes_of_which_none_is_a_label_are_warned_of(evaluate):
    with pytest.warns(UserWarning, match=NOTHING_RIGHT) as caught:
        assert evaluate(["Dog", "Cat", "Cat", "Cat"], ["dog", "cat", "bird", "fish"]) == 0
    assert [warning.filename for warning in caught] == [__file__]


@given(st.lists(st.integers(0, 5), min_size=1), st.data())
def test_a_warning_of_classes_comes_if_and_only_if_no_label_was_predicted(labels, data):
    size = len(labels)
    predicted = data.draw(st.lists(st.none() | st.integers(0, 9), min_size=size, max_size=size))
    known = {name for name in predicted if name is not None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Classifications(labels, predicted, np.zeros(size))
    assert len(caught) == bool(known and not known & set(labels))
    for measure in (model.accuracy(), model.f1(), model.average_precision()):
        assert [str(each.message) for each in caught] == [
            text for text in measure.warnings if "alike" in text
        ]


def test_a_comparison_names_the_model_whose_classes_are_no_labels():
    predictions = (found(["0"]), found(["0"], label="A"))
    test = TestSet("class", ["0"], boxes(["0"]), predictions)
    with pytest.warns(UserWarning, match="labels hold 'a', predicted holds 'A'"):
        comparison = compare_predictions(test, read_compare_config({"accuracy": {}}), ("old", "new"))
    (warning,) = (text for text in comparison.warnings if "alike" in text)
    assert warning.startswith("new: no predicted class is among the labels")


def test_labels_of_several_types_are_labels():
    labels = [1, "a", (2, "b"), ("b", 2), 1]
    assert accuracy(labels, [1, "b", (2, "b"), ("b", 2), 1]) == 0.8
    measured = Classifications(labels, labels, np.ones(5))
    assert list(measured.f1().per_label) == [1, "a", ("b", 2), (2, "b")]


def test_columns_in_another_order_than_the_class_names_are_refused():
    frame = pd.DataFrame([[0.9, 0.1], [0.2, 0.8]], columns=["a", "b"])
    assert classification_average_precision(["a", "b"], frame, ["a", "b"]).macro == 1
    with pytest.raises(EvaluationError, match=r"columns of confidences are \['a', 'b'\], in another order"):
        classification_average_precision(["a", "b"], frame, ["b", "a"])
    with pytest.raises(
        EvaluationError, match=r"no label is among the class names: labels hold 'c', the names are"
    ):
        classification_average_precision(["c", "d"], frame, ["a", "b"])
    with pytest.raises(EvaluationError, match="class_names must be one or more that differ"):
        classification_average_precision(["a"], np.empty((1, 0)), [])
    with pytest.raises(EvaluationError, match="confidences and class_names need each other"):
        Classifications(["a"], ["a"], [1], confidences=[[1.0]])


@pytest.mark.parametrize(("names", "wrong"), [("abc", 0), ("bac", 2), ("acb", 2), ("abz", 0)])
def test_class_names_in_another_order_than_the_columns_are_warned_of(names, wrong):
    confidences = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.3, 0.3, 0.4]]
    model = Classifications("aabc", ["a", None, "b", "c"], [1, 1, 1, 1], confidences, names, items="wxyz")
    warnings = [text for text in model.average_precision().warnings if "highest of their item's" in text]
    assert len(warnings) == bool(wrong)
    if wrong:
        first = "w" if names == "bac" else "y"
        assert f"{wrong} predicted classes have not" in warnings[0] and f"in item {first!r}" in warnings[0]


# ------------------------------------------------------------------------------
# columns and arrays
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["difficult", "ignore", "weight", "weights", "sample_weight"])
@pytest.mark.parametrize("form", [list, pd.DataFrame])
def test_a_row_that_asks_not_to_count_once_is_refused(key, form):
    nothing = [1, "1", None, 1.0] if "weight" in key else [0, False, "0", None]
    plain = form([row | {key: value} for row, value in zip(boxes([0] * 4), nothing, strict=True)])
    assert average_precision(plain, found([0] * 4)).macro == 1
    for value in (2, 0.5, "yes", 1 - nothing[0]):
        row = [*boxes([0]), *boxes([0], **{key: value})]
        with pytest.raises(
            EvaluationError, match=f"row 1 of ground_truth: {key} is .* counts once here; leave out"
        ):
            average_precision(form(row), found([0]))
        with pytest.raises(EvaluationError, match=f"row 0 of predictions: {key} is "):
            average_precision(boxes([0]), form(found([0], **{key: value})))


def test_columns_that_change_nothing_are_not_read():
    assert average_precision(boxes([0], area=3, id=7), found([0], area="x")).macro == 1


def test_an_iterator_is_refused():
    for rows in ((iter(boxes([0])), found([0])), (boxes([0]), iter(found([0])))):
        with pytest.raises(
            EvaluationError, match="must be a list of dicts or a DataFrame, got list_iterator"
        ):
            average_precision(*rows)


def test_shares_beside_pixels_are_warned_of():
    pixels, shares = boxes([0], right=640, bottom=480), found([0], right=1, bottom=0.75)
    for truth, predicted in ((pixels, shares), (shares, [box | {"score": 1} for box in pixels])):
        (warning,) = average_precision(truth, predicted).warnings
        assert "if one side holds shares of the image and the other pixels, none match" in warning
    assert not average_precision(shares, shares).warnings
    nothing = average_precision(pixels, [], items=[0]).warnings  # neither shares nor pixels
    assert not any("shares of the image" in warning for warning in nothing)


def test_boxes_without_area_are_never_found_and_warned_of():
    flat = boxes([0], right=0)
    evaluated = average_precision([*boxes([0]), *flat], found([0]) + [flat[0] | {"score": 0.1}])
    assert evaluated.macro == 0.5
    assert evaluated.warnings == ("1 boxes of the ground truth have no area: nothing can match them",)


def test_a_box_at_the_threshold_matches_unless_more_is_asked():
    truth, half = boxes([0]), found([0], right=2)
    model = Detections(truth, half)
    assert (
        model.average_precision(0.5).value == model.f1(0.5).value == average_precision(truth, half).macro == 1
    )
    assert model.mean_average_precision().value == pytest.approx(0.1)  # at 0.50 of ten thresholds
    assert model.calibration_error(iou_threshold=0.5).value == model.f1(score_threshold=0.5).value - 0.5
    assert model.evaluate(0.5, strict_iou=True).macro == average_precision(truth, half, 0.5, True).macro == 0
    assert model.f1(0.5, score_threshold=np.nextafter(0.5, 1)).value == 0


def test_an_overlap_of_one_is_an_equal_box():
    thirds = {"left": 1 / 3, "right": 2 / 3, "top": 0.1, "bottom": 0.7}
    nearly = thirds | {"right": np.nextafter(2 / 3, 1)}
    for measure in (average_precision, lambda *rows: Detections(*rows[:2]).evaluate(*rows[2:])):
        assert measure(boxes([0], **thirds), found([0], **thirds), 1).macro == 1
        assert measure(boxes([0], **thirds), found([0], **nearly), 1).macro == 0
        with pytest.raises(EvaluationError, match="above 0 and below 1 with strict_iou, got 1"):
            measure(boxes([0]), found([0]), 1, True)


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f4", ">f8", "i8", "u1", "longdouble"]),
    form=st.sampled_from([np.asfortranarray, lambda given: np.repeat(given, 2, 0)[::2], pd.DataFrame, list]),
    steps=st.sampled_from([1, 3, 200]),
)
def test_confidences_of_every_type_and_layout_are_ranked_as_scikit_learn_ranks_them(seed, dtype, form, steps):
    rng = np.random.default_rng(seed)
    count, classes = rng.integers(1, 40), rng.integers(1, 5)
    values = rng.integers(0, steps, size=(count, classes)) / (1 if dtype in ("i8", "u1") else steps)
    values = values.astype(dtype)  # many ties; with one step all scores are equal
    labels = rng.integers(classes, size=count)
    values.flags.writeable = False
    evaluated = classification_average_precision(labels, form(values), range(classes))
    for label, area in evaluated.per_label.items():
        exact = values[:, label].astype(np.float64)
        assert area == pytest.approx(average_precision_score(labels == label, exact))
    beyond = values.max() > 1
    assert any("logits rank records otherwise" in warning for warning in evaluated.warnings) == beyond


@pytest.mark.parametrize("dtype", ["Float64", "float64", "Int64"])
def test_frames_of_nullable_types_are_read_and_what_is_missing_is_named(dtype):
    rows = pd.DataFrame(found([0, 1])).astype({"image_id": "Int64", "label": "category", "left": dtype})
    assert average_precision(pd.DataFrame(boxes([0, 1])), rows).macro == 1
    rows["left"] = rows["left"].where([True, False])
    with pytest.raises(EvaluationError, match="left"):
        average_precision(boxes([0, 1]), rows)


def test_scores_that_are_no_confidences_are_warned_of():
    def warnings(*scores, **threshold):
        rows = [row for score in scores for row in boxes([0], score=score)]
        return Detections(boxes([0]), rows).f1(**threshold).warnings

    assert warnings(0.5, 4) == (
        "scores are from 0.5 to 4: a score_threshold of 0.5 is one of confidences from 0 to 1",
    )
    assert warnings(0.5, -0.1) and warnings(1.1, score_threshold=0) and warnings(1.1, score_threshold=1)
    assert not warnings(0, 0.1, 0.9, 1, np.nextafter(1, 2)) and not warnings(0.5, 4, score_threshold=2)
    assert not warnings(0.5, -4, score_threshold=-2)
    for message, score in (
        ("row 1 of the predictions has 4.0; logits go through", 4),
        ("row 1 of the predictions has -1.1e-06", -1.1e-6),
        ("row 1 of the predictions has 1.0000011", 1.0000011),
    ):
        with pytest.raises(EvaluationError, match=message):
            Detections(boxes([0]), [*found([0]), *boxes([0], score=score)]).calibration_error()
    for rounded in (1 + 9e-7, -9e-7):
        assert Classifications(["a"], ["a"], [rounded]).calibration_error().value == pytest.approx(
            abs(1 - rounded)
        )


def test_masked_values_are_missing():
    masked = np.ma.array([0.5, 0.5], mask=[False, True])
    with pytest.raises(EvaluationError, match="row 1 of confidence: confidence is nan"):
        Classifications(["a", "b"], ["a", "b"], masked)
    assert Classifications(["a", "b"], ["a", None], masked).accuracy().value == 0.5
    with pytest.raises(EvaluationError, match="row 1 of labels: labels is None"):
        accuracy(np.ma.array([1, 2], mask=[False, True]), [1, 2])
    with pytest.raises(EvaluationError, match="row 0 of confidences holds NaN"):
        classification_average_precision(["a", "a"], np.ma.array([[1], [1]], mask=[[1], [0]]), ["a"])


# ------------------------------------------------------------------------------
# which of two is better
# ------------------------------------------------------------------------------

SURE, UNSURE = (Classifications([0, 1] * 5, [0, 1] * 4 + [0, 0], np.full(10, score)) for score in (0.9, 0.6))
NEAR, EXACT = (Detections(boxes([0]), found([0], left=left)) for left in (1, 0))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (SURE.calibration_error(), UNSURE.calibration_error()),
        (EXACT.average_precision(0.9), NEAR.average_precision(0.9)),
        (EXACT.mean_average_precision(), NEAR.mean_average_precision()),
        (EXACT.f1(0.9), NEAR.f1(0.9)),
        (SURE.accuracy(), Classifications([0, 1] * 5, [0] * 10, np.ones(10)).accuracy()),
    ],
)
def test_of_two_measures_the_better_one_is_known(better, worse):
    assert is_better(better, worse) and not is_better(worse, better) and not is_better(better, better)
    with pytest.raises(AttributeError, match="cannot assign to field 'value'"):
        better.value = worse.value
    gap = abs(better.value - worse.value)
    assert is_better(better, worse, gap * 0.99) and not is_better(better, worse, gap * 1.01)
    with pytest.raises(EvaluationError, match="one is better: leave out higher_is_better"):
        is_better(better, worse, higher_is_better=not better.higher_is_better)
    for compare in (is_better, paired_bootstrap):
        with pytest.raises(
            EvaluationError, match="two metrics cannot be compared: .*'F1 of boxes at IoU 0.8, from"
        ):
            compare(NEAR.f1(0.8), better)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(0, 300))
def test_numbers_are_compared_as_they_are_written(new, old, min_delta):
    """In decimals: 0.8 is not more than 0.1 above 0.7, though its float is."""
    numbers = [number / 1000 for number in (new, old, min_delta)]
    assert is_better(*numbers) == is_better(*numbers, higher_is_better=True) == (new - old > min_delta)
    assert is_better(*numbers, higher_is_better=False) == (old - new > min_delta)


def test_what_is_no_number_and_no_measure_is_named():
    evaluation = average_precision(boxes([0]), found([0]))
    with pytest.raises(
        EvaluationError, match="new is of type Evaluation; pass two numbers, such as the macro"
    ):
        is_better(evaluation, evaluation)
    for numbers in [(np.nan, 0.5, 0), (0.5, np.inf, 0), (0.5, 0.5, np.nan)]:
        with pytest.raises(EvaluationError, match="cannot compare: .* must be a finite number"):
            is_better(*numbers)
    with pytest.raises(EvaluationError, match="min_delta must be 0 or more"):
        is_better(0.8, 0.7, -0.1)
    with pytest.raises(EvaluationError, match="old is of type Measure"):
        is_better(0.5, SURE.accuracy())
    with pytest.raises(EvaluationError, match="previous must be a Measure, .* got Evaluation"):
        paired_bootstrap(evaluation, evaluation)


def test_the_first_item_that_differs_is_named():
    here, there = (
        Classifications("ab", "ab", [1, 1], items=items).accuracy() for items in ([1, 2], [1, "2"])
    )
    for compare in (is_better, lambda new, old: paired_bootstrap(old, new)):
        with pytest.raises(
            EvaluationError, match="other items: 2 and 2, the first that differ are '2' and 2"
        ):
            compare(here, there)
    assert not is_better(here, Classifications("ab", "ab", [1, 1], items=range(1, 3)).accuracy())
