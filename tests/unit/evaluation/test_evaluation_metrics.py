import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import accuracy_score, f1_score, recall_score

from alhelpers.evaluation import (
    COCO_THRESHOLDS,
    Classifications,
    Detections,
    EvaluationError,
    average_precision,
    classification_average_precision,
    reliability,
    top1_average_precision,
)
from alhelpers.evaluation.boxes import Boxes
from alhelpers.evaluation.matching import Pairs

SIDES = ("left", "top", "right", "bottom")
BOX = dict(image_id="x", label="a", left=0, top=0, right=4, bottom=4)


def random_scene(seed, images=6, labels="abc", count=60):
    """Ground truth and predictions that lie near it, with distinct scores and overlaps."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for _ in range(int(rng.integers(1, count))):
        left, top = rng.uniform(0, 40, 2)
        width, height = rng.uniform(5, 25, 2)
        place = {"image_id": int(rng.integers(images)), "label": labels[rng.integers(len(labels))]}
        box = [left, top, left + width, top + height]
        truth.append(place | dict(zip(SIDES, box, strict=True)))
        for _ in range(int(rng.integers(0, 4))):
            moved = np.array(box) + np.tile(rng.normal(0, 2.5, 2), 2)
            guess = place | dict(zip(SIDES, moved.tolist(), strict=True))
            if rng.uniform() < 0.2:
                guess["label"] = labels[rng.integers(len(labels))]
            predictions.append(guess)
    for row, score in zip(predictions, rng.permutation(len(predictions)).tolist(), strict=True):
        row["score"] = (score + 1) / (len(predictions) + 1)
    return truth, predictions


def coco_form(row, number, categories):
    width, height = row["right"] - row["left"], row["bottom"] - row["top"]
    form = {"id": number + 1, "image_id": row["image_id"], "category_id": categories[row["label"]]}
    form |= {"bbox": [row["left"], row["top"], width, height], "area": width * height, "iscrowd": 0}
    return form | ({"score": row["score"]} if "score" in row else {})


def coco_evaluation(truth, predictions, label, thresholds):
    """Run pycocotools for one label, at the recalls k/n where the interpolated precision can step."""
    categories = {name: number + 1 for number, name in enumerate("abcz")}
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in {row["image_id"] for row in [*truth, *predictions]}],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [coco_form(row, number, categories) for number, row in enumerate(truth)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([coco_form(row, number, categories) for number, row in enumerate(predictions)])
        run = COCOeval(coco, found, "bbox")
        total = sum(row["label"] == label for row in truth)
        run.params.catIds = [categories[label]]
        run.params.recThrs = np.arange(1, total + 1) / total
        run.params.iouThrs = np.array(thresholds)
        run.params.maxDets = [10_000]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    return run


@pytest.mark.parametrize("seed", range(30))
def test_detection_equals_pycocotools(seed):
    truth, predictions = random_scene(seed)
    if not predictions:
        predictions = [truth[0] | {"score": 0.5}]
    measured = Detections(truth, predictions)
    thresholds = np.array(COCO_THRESHOLDS)
    mean = measured.mean_average_precision()
    singles = [measured.average_precision(threshold) for threshold in COCO_THRESHOLDS]
    for label in sorted({row["label"] for row in truth}):
        run = coco_evaluation(truth, predictions, label, thresholds)
        areas = run.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
        assert [single.per_label[label] for single in singles] == pytest.approx(areas.tolist())
        assert mean.per_label[label] == pytest.approx(areas.mean())
    assert mean.value == pytest.approx(np.mean(list(mean.per_label.values())))
    assert mean.value == pytest.approx(np.mean([single.value for single in singles]))
    plain = average_precision(truth, predictions, 0.5)
    assert (singles[0].value, singles[0].per_label) == (
        pytest.approx(plain.macro),
        pytest.approx(plain.per_label),
    )


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_the_matches_are_those_of_pycocotools(seed, threshold):
    truth, predictions = random_scene(seed, images=3, labels="ab")
    if not predictions:
        return
    boxes = Boxes.read(truth, "truth"), Boxes.read(predictions, "predictions")
    right = Pairs.find(*boxes, np.array([row["score"] for row in predictions]), 0.1).match(threshold)
    theirs = set()
    for label in {row["label"] for row in truth}:
        for image in coco_evaluation(truth, predictions, label, [threshold]).evalImgs:
            if image:
                theirs |= {
                    number - 1
                    for number, match in zip(image["dtIds"], image["dtMatches"][0], strict=True)
                    if match
                }
    assert set(np.flatnonzero(right >= 0).tolist()) == theirs


@pytest.mark.parametrize("seed", range(20))
def test_the_f1_of_boxes_counts_predictions_from_a_score_on(seed):
    truth, predictions = random_scene(seed)
    found = Detections(truth, predictions).f1(0.6, score_threshold=0.4)
    kept = [row for row in predictions if row["score"] >= 0.4]
    per_label = {}
    for label in sorted({row["label"] for row in truth}):
        of_label = [[row for row in rows if row["label"] == label] for rows in (truth, kept)]
        curve = average_precision(*of_label, 0.6).curves[label]
        right = round(curve.recall[-1] * len(of_label[0])) if len(of_label[1]) else 0
        per_label[label] = 2 * right / (len(of_label[0]) + len(of_label[1]))
    assert found.per_label == pytest.approx(per_label)
    assert found.value == pytest.approx(np.mean(list(per_label.values())))


def random_classes(seed, classes="abcd"):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    confidences = rng.dirichlet(np.ones(len(classes)), size=count)
    if seed % 2:
        confidences = np.round(confidences, 1)  # ties
    labels = rng.choice(list(classes[: 1 + seed % len(classes)]), size=count)
    return labels, np.array(list(classes))[confidences.argmax(axis=1)], confidences, list(classes)


@pytest.mark.parametrize("seed", range(30))
def test_f1_and_accuracy_equal_scikit_learn(seed):
    labels, predicted, confidences, _ = random_classes(seed)
    measured = Classifications(labels, predicted, confidences.max(axis=1))
    names = sorted(set(labels.tolist()))
    f1, accuracy = measured.f1(), measured.accuracy()
    scores = f1_score(labels, predicted, labels=names, average=None, zero_division=0)
    assert f1.per_label == pytest.approx(dict(zip(names, scores, strict=True)))
    assert f1.value == pytest.approx(
        f1_score(labels, predicted, labels=names, average="macro", zero_division=0)
    )
    recalls = recall_score(labels, predicted, labels=names, average=None)
    assert accuracy.per_label == pytest.approx(dict(zip(names, recalls, strict=True)))
    assert accuracy.value == pytest.approx(accuracy_score(labels, predicted))


@pytest.mark.parametrize("seed", range(30))
def test_the_average_precision_measured_is_the_one_evaluated(seed):
    labels, predicted, confidences, names = random_classes(seed)
    top = confidences.max(axis=1)
    full = Classifications(labels, predicted, top, confidences, names).average_precision()
    plain = classification_average_precision(labels, confidences, names)
    assert full.value == pytest.approx(plain.macro) and full.per_label == pytest.approx(plain.per_label)
    other = tuple(text for text in full.warnings if "no predicted class is among the labels" not in text)
    assert other == plain.warnings and "full" in full.method
    top1, plain = (
        Classifications(labels, predicted, top).average_precision(),
        top1_average_precision(labels, predicted, top),
    )
    assert top1.value == pytest.approx(plain.macro) and top1.per_label == pytest.approx(plain.per_label)
    assert top1.warnings == plain.warnings and "top-1" in top1.method


def plain_calibration_error(confidence, right, bins):
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            place for place, value in enumerate(confidence) if (low < value or number == 0) and value <= high
        ]
        if inside:
            gap = np.mean([confidence[place] for place in inside]) - np.mean(
                [right[place] for place in inside]
            )
            error += len(inside) / len(confidence) * abs(gap)
    return error


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 20).map(lambda twentieth: twentieth / 20) | st.floats(0, 1), st.booleans()),
        min_size=1,
    ),
    bins=st.integers(1, 20),
)
def test_the_calibration_error_is_its_definition(rows, bins):
    confidence, right = [row[0] for row in rows], [row[1] for row in rows]
    measured = Classifications(["a"] * len(rows), ["a" if good else "b" for good in right], confidence)
    found = measured.calibration_error(bins)
    assert found.value == pytest.approx(plain_calibration_error(confidence, right, bins))
    for label in found.per_label:
        mine = [place for place, good in enumerate(right) if good == (label == "a")]
        part = [[values[place] for place in mine] for values in (confidence, right)]
        assert found.per_label[label] == pytest.approx(plain_calibration_error(*part, bins))
    assert not found.higher_is_better and 0 <= found.value <= 1


def test_calibration_error_known_values():
    # Ten predictions at 0.8 of which eight are right: calibrated. Sure and always wrong: as bad as can be.
    calibrated = Classifications(["a"] * 10, ["a"] * 8 + ["b"] * 2, [0.8] * 10)
    assert calibrated.calibration_error().value == pytest.approx(0)
    assert Classifications(["a", "a"], ["b", "b"], [1.0, 1.0]).calibration_error().value == 1
    apart = BOX | {"left": 8, "right": 12}
    boxes = Detections([BOX], [BOX | {"score": 0.75}, apart | {"score": 0.25}])
    assert boxes.calibration_error(bins=2).value == pytest.approx(0.25)
    assert boxes.calibration_error(bins=1).value == pytest.approx(0)


def test_nothing_predicted_is_never_right_and_has_no_confidence():
    measured = Classifications(["a", "a", "b"], ["a", None, "b"], [0.5, np.nan, 0.5])
    assert measured.accuracy().value == pytest.approx(2 / 3)
    assert measured.f1().per_label == pytest.approx({"a": 2 / 3, "b": 1})
    assert measured.average_precision().per_label == pytest.approx({"a": 0.5, "b": 1})
    assert measured.calibration_error().value == pytest.approx(0.5)
    blind = Classifications(["a"], [None], [0])
    assert blind.accuracy().value == blind.f1().value == blind.average_precision().value == 0


def test_an_image_without_any_box_is_an_item_too():
    assert Detections([BOX], []).items == ("x",)
    assert Detections([BOX], [], items=["y", "x"]).items == ("y", "x")


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: Detections([BOX], []).f1(0), "iou_threshold must be above 0"),
        (lambda: Detections([BOX], []).f1(score_threshold=np.nan), "score_threshold must be a finite number"),
        (lambda: Detections([BOX], []).calibration_error(), "needs at least one prediction"),
        (lambda: Detections([BOX], [BOX | {"score": 3}]).calibration_error(), "row 0 .* has 3.0"),
        (lambda: Detections([BOX], [], items=["x", "x"]).f1(), "items holds an image twice"),
        (lambda: Classifications(["a"], ["a"], [0.5]).calibration_error(0), "bins must be an integer"),
        (lambda: Classifications(["a"], ["a"], [0.5]).calibration_error(1.5), "bins must be an integer"),
        (lambda: Classifications(["a"], [None], [0]).calibration_error(), "needs at least one prediction"),
        (lambda: Classifications(["a"], ["a"], [7]).calibration_error(), "row 0 .* has 7.0"),
        (lambda: Classifications(["a"], ["a", "b"], [1, 1]), "equally long, got 1, 2, 2"),
        (lambda: Classifications(["a"], ["a"], [1], items=[1, 2]), "items must be as many as labels"),
        (lambda: Classifications(["a"], ["a"], [np.nan]), "confidence is nan"),
    ],
)
def test_what_cannot_be_measured_is_named(measure, message):
    with pytest.raises(EvaluationError, match=message):
        measure()


# ------------------------------------------------------------------------------------------- reliability


@given(
    st.lists(
        st.tuples(st.integers(0, 20).map(lambda step: step / 20), st.booleans()), min_size=1, max_size=60
    ),
    st.integers(1, 12),
)
def test_the_rows_of_a_reliability_diagram_are_their_definition(predictions, bins):
    confidence, right = (np.array(column) for column in zip(*predictions, strict=True))
    rows = reliability(confidence, right, bins)
    assert [row["low"] for row in rows] == [number / bins for number in range(bins)]
    for number, row in enumerate(rows):
        inside = (confidence > row["low"]) & (confidence <= row["high"]) | (confidence == 0) & (number == 0)
        assert row["count"] == inside.sum()
        if row["count"]:
            assert row["confidence"] == pytest.approx(confidence[inside].mean())
            assert row["accuracy"] == pytest.approx(right[inside].mean())
        else:
            assert row["confidence"] is row["accuracy"] is None
    gaps = [row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows if row["count"]]
    assert sum(gaps) / len(right) == pytest.approx(plain_calibration_error(confidence, right, bins))


@pytest.mark.parametrize(
    ("confidence", "right", "bins", "message"),
    [
        ([], np.array([], bool), 10, "needs at least one prediction"),
        ([0.5], [1], 10, "right must be 1 truth values, one a prediction; got int"),
        ([0.5, 0.5], [True], 10, "right must be 2 truth values"),
        ([1.5], [True], 10, "row 0 of the predictions has 1.5"),
        ([np.nan], [True], 10, "confidence is nan"),
        ([0.5], [True], 0, "bins"),
    ],
)
def test_an_unusable_reliability_diagram_is_named(confidence, right, bins, message):
    with pytest.raises(EvaluationError, match=message):
        reliability(confidence, right, bins)
