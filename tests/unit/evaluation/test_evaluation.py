import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alhelpers import evaluation
from alhelpers.evaluation import (
    Classifications,
    Detections,
    EvaluationError,
    NoGroundTruth,
    accuracy,
    average_precision,
    classification_average_precision,
    top1_average_precision,
)

CASES = json.loads((Path(__file__).parent / "data" / "precision_recall_cases.json").read_text())
DETECTION = [case for case in CASES if case["kind"] == "detection"]
CLASSIFICATION = [case for case in CASES if case["kind"] == "classification"]
SIDES = ("left", "top", "right", "bottom")
BOX = dict(image_id="x", label="a", left=0, top=0, right=4, bottom=4)


def rows_of(case, key):
    return [
        {"image_id": image["id"], "label": box["label"], **dict(zip(SIDES, box["box"], strict=True))}
        | ({"score": box["score"]} if "score" in box else {})
        for image in case["images"]
        for box in image[key]
    ]


def random_boxes(rng, count, images=4, labels="abc", scored=False, coarse=True):
    corner = rng.integers(0, 12, size=(count, 2)) if coarse else rng.uniform(0, 12, size=(count, 2))
    size = rng.integers(2, 9, size=(count, 2)) if coarse else rng.uniform(2, 9, size=(count, 2))
    rows = []
    for (left, top), (width, height) in zip(corner.tolist(), size.tolist(), strict=True):
        row = {"image_id": f"im{rng.integers(images)}", "label": labels[rng.integers(len(labels))]}
        row |= {"left": left, "top": top, "right": left + width, "bottom": top + height}
        if scored:
            row["score"] = float(rng.integers(1, 10) / 10) if coarse else float(rng.uniform())
        rows.append(row)
    return rows


def plain_iou(a, b):
    width = max(0, min(a["right"], b["right"]) - max(a["left"], b["left"]))
    height = max(0, min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]))
    area = [(box["right"] - box["left"]) * (box["bottom"] - box["top"]) for box in (a, b)]
    union = sum(area) - width * height
    return width * height / union if union else 0


def plain_hits(truth, predictions, threshold, strict):
    """Match by score, one prediction after the other (scores differ), each with the best free ground truth."""
    free, hits = list(range(len(truth))), []
    for row in sorted(predictions, key=lambda row: -row["score"]):
        best = None
        for place in free:
            if all(truth[place][key] == row[key] for key in ("image_id", "label")):
                overlap = plain_iou(truth[place], row)
                enough = overlap > threshold if strict else overlap >= threshold
                if enough and (best is None or overlap > best[0]):
                    best = overlap, place
        if best:
            free.remove(best[1])
        hits.append((row["score"], best is not None))
    return hits


def plain_interpolated(hits, total):
    """Average over the ground truths of the best precision at which each is found."""
    points = []
    for score in {score for score, _ in hits}:
        above = [right for other, right in hits if other >= score]
        points.append((sum(above), sum(above) / len(above)))
    return sum(max((p for found, p in points if found >= k), default=0) for k in range(1, total + 1)) / total


@pytest.mark.parametrize("case", DETECTION, ids=lambda case: case["name"])
@pytest.mark.parametrize("form", [list, pd.DataFrame])
def test_detection_oracle(case, form):
    truth, predictions = rows_of(case, "gt"), rows_of(case, "pred")
    truth, predictions = form(truth), form(predictions)
    expected = case["expected"]
    if expected["macro_ap"] is None:
        with pytest.raises(NoGroundTruth, match="cannot compare"):
            average_precision(truth, predictions, case["iou_threshold"])
        return
    found = average_precision(truth, predictions, case["iou_threshold"])
    assert found.per_label == pytest.approx(expected["per_label_ap"])
    assert found.macro == pytest.approx(expected["macro_ap_tie_collapsed"])
    assert found.micro == pytest.approx(expected["micro_ap_tie_collapsed"])
    strict = average_precision(truth, predictions, case["iou_threshold"], strict_iou=True)
    assert strict.macro == pytest.approx(expected["macro_ap_strict_gt"])


@pytest.mark.parametrize("case", CLASSIFICATION, ids=lambda case: case["name"])
def test_classification_oracle(case):
    labels, confidences, names = case["y_true"], np.array(case["scores"]), case["labels"]
    reference, peer = case["expected"]["reference"], case["expected"]["sklearn"]
    full = classification_average_precision(labels, confidences, names)
    assert full.macro == pytest.approx(peer["macro_ap"])
    assert full.micro == pytest.approx(peer["micro_ap"])
    assert full.per_label == pytest.approx(peer["per_label_ap"])
    predicted = np.array(names)[confidences.argmax(axis=1)]
    top1 = top1_average_precision(labels, predicted, confidences.max(axis=1))
    assert top1.macro == pytest.approx(reference["top1_macro_ap"])
    assert top1.micro == pytest.approx(reference["top1_micro_ap"])
    assert top1.per_label == pytest.approx(reference["top1_per_label_ap"])
    assert accuracy(labels, predicted) == pytest.approx(reference["accuracy"])


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("strict", [False, True])
def test_detection_equals_brute_force(seed, strict):
    rng = np.random.default_rng(seed)
    threshold = float(rng.choice([0.1, 0.25, 0.5, 0.75]))
    truth = random_boxes(rng, rng.integers(1, 40), coarse=seed % 2 == 0)
    predictions = random_boxes(rng, rng.integers(0, 60), scored=True, coarse=seed % 2 == 0)
    for row, score in zip(predictions, rng.permutation(len(predictions)).tolist(), strict=True):
        row["score"] = score / 100
    found = average_precision(truth, predictions, threshold, strict_iou=strict)
    per_label = {}
    for label in sorted({row["label"] for row in truth}):
        mine = [[row for row in rows if row["label"] == label] for rows in (truth, predictions)]
        per_label[label] = plain_interpolated(plain_hits(*mine, threshold, strict), len(mine[0]))
    assert found.per_label == pytest.approx(per_label)
    assert found.macro == pytest.approx(np.mean(list(per_label.values())))
    micro = plain_interpolated(plain_hits(truth, predictions, threshold, strict), len(truth))
    assert found.micro == pytest.approx(micro)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_detection_does_not_depend_on_the_order_of_rows(seed):
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 30, images=2, labels="ab")
    predictions = random_boxes(rng, 60, images=2, labels="abz", scored=True)  # many ties
    first = average_precision(truth, predictions, 0.3)
    shuffled = [[rows[place] for place in rng.permutation(len(rows))] for rows in (truth, predictions)]
    second = average_precision(*shuffled, 0.3)
    assert first.macro == second.macro and first.micro == second.micro and first.warnings == second.warnings
    assert list(first.per_label.items()) == list(second.per_label.items())
    for label, curve in first.curves.items():
        np.testing.assert_array_equal(curve.precision, second.curves[label].precision)
    assert 0 <= first.macro <= 1 and 0 <= first.micro <= 1


def test_among_equal_scores_the_best_overlap_is_matched_first():
    truth = [BOX | {"left": left, "right": left + 10} for left in (0, 4)]
    wide, exact = (BOX | {"left": left, "right": left + 10, "score": 0.5} for left in (2, 0))
    for predictions in ([wide, exact], [exact, wide]):
        assert average_precision(truth, predictions).macro == 1


def test_one_crowded_image_is_compared_in_batches(monkeypatch):
    rng = np.random.default_rng(3)
    truth, predictions = random_boxes(rng, 80, images=1), random_boxes(rng, 150, images=1, scored=True)
    whole = average_precision(truth, predictions)
    monkeypatch.setattr(evaluation.matching, "PAIRS_AT_ONCE", 7)
    assert average_precision(truth, predictions).per_label == whole.per_label


def test_a_hundred_thousand_detections():
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 500, size=(100_000, 2))
    frame = pd.DataFrame(
        {
            "image_id": rng.integers(5000, size=100_000),
            "label": rng.choice(list("abcdefghij"), size=100_000),
            "left": corners[:, 0],
            "top": corners[:, 1],
            "right": corners[:, 0] + 20,
            "bottom": corners[:, 1] + 20,
        }
    )
    predictions = frame.sample(frac=1, random_state=0).assign(score=rng.uniform(size=100_000))
    assert average_precision(frame, predictions).macro == pytest.approx(1)


def test_labels_without_ground_truth_are_warned_of_and_cost_only_micro():
    found = average_precision([BOX], [BOX | {"score": 0.5}, BOX | {"label": "dog", "score": 0.9}])
    assert found.macro == 1 and found.micro == 0.5 and set(found.per_label) == {"a"}
    assert found.warnings == (
        "label 'dog' was predicted but has no ground truth: the macro mean does not count these errors",
    )


def test_iou_known_values():
    found = evaluation.iou([[0, 0, 10, 10], [3, 3, 3, 3]], [[0, 0, 10, 5], [20, 20, 30, 30], [3, 3, 3, 3]])
    np.testing.assert_allclose(found, [[0.5, 0, 0], [0, 0, 0]])
    for boxes in ([[0, 0, 1]], [0, 0, 1, 1], [[0, 0, 1, 1, 1]]):
        with pytest.raises(EvaluationError, match=r"second must have shape \(boxes, 4\), got"):
            evaluation.iou([[0, 0, 1, 1]], boxes)


@pytest.mark.parametrize("seed", range(20))
def test_classification_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(5, 200)), int(rng.integers(2, 8))
    names = [f"c{k}" for k in range(classes)]
    logits = rng.normal(size=(count, classes))
    confidences = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if seed % 2:
        confidences = np.round(confidences, 1)  # ties
    truth = rng.integers(classes, size=count)
    found = classification_average_precision(np.array(names)[truth], confidences, names)
    present = np.unique(truth)
    expected = {names[k]: average_precision_score(truth == k, confidences[:, k]) for k in present}
    assert found.per_label == pytest.approx(expected)
    assert found.macro == pytest.approx(np.mean(list(expected.values())))
    one_hot = truth[:, None] == np.arange(classes)
    assert found.micro == pytest.approx(average_precision_score(one_hot.ravel(), confidences.ravel()))
    order = rng.permutation(count)
    again = classification_average_precision(np.array(names)[truth][order], confidences[order], names)
    assert again.per_label == found.per_label and again.micro == found.micro


@pytest.mark.parametrize("seed", range(10))
def test_top1_equals_detection_with_one_box(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.choice(list("abc"), size=50), rng.choice(list("abcd"), size=50)
    confidence = rng.integers(3, 10, size=50) / 10
    box = dict(left=0, top=0, right=1, bottom=1)
    truth = [box | {"image_id": k, "label": label} for k, label in enumerate(labels)]
    boxes = [
        box | {"image_id": k, "label": label, "score": score}
        for k, (label, score) in enumerate(zip(predicted, confidence, strict=True))
    ]
    found, expected = top1_average_precision(labels, predicted, confidence), average_precision(truth, boxes)
    assert found.per_label == expected.per_label and found.micro == expected.micro
    assert found.warnings == expected.warnings and len(found.warnings) == 1


def test_numbers_as_classes():
    confidences = [[0.9, 0.1], [0.2, 0.8]]
    assert classification_average_precision(np.array([0, 1]), confidences, range(2)).macro == 1
    assert accuracy(np.array([0, 1, 1, 1]), [0, 1, 0, 0]) == 0.5


def test_a_label_that_the_model_does_not_know_counts_as_zero():
    found = classification_average_precision(
        ["a", "b", "c"], [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]], ["a", "b"]
    )
    assert found.per_label == {"a": 1, "b": 1, "c": 0} and found.macro == pytest.approx(2 / 3)
    assert "label 'c' has ground truth but is not among the class names" in found.warnings[0]
    assert found.curves["c"].recall.shape == (0,)
    for names, columns in (["a"], [[1], [1]]), (["a", "b"], [[1, 0], [1, 0]]):
        measured = Classifications(["c", "a"], ["a", "a"], [1, 1], columns, names).average_precision()
        assert measured.per_label == {"a": 0.5, "c": 0}


def test_classification_warns_of_predicted_labels_without_ground_truth():
    found = classification_average_precision(["a", "a"], [[0.9, 0.1, 0], [0.1, 0.9, 0]], ["a", "b", "c"])
    assert found.macro == 1 and len(found.warnings) == 1 and "label 'b' was predicted" in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": -1}, "row 1 of predictions: left, top, right, bottom are"),
        ({"left": float("nan")}, "row 1 of predictions: left is nan"),
        ({"score": float("nan")}, "row 1 of predictions: score is nan"),
        ({"score": "high"}, "score must be a number"),
        ({"label": None}, "row 1 of predictions: label is None"),
        ({"label": pd.NA}, "row 1 of predictions: label is <NA>"),
        ({"label": ["a"]}, r"row 1 of predictions: label is \['a'\], not a name"),
        ({"image_id": float("nan")}, "row 1 of predictions: image_id is nan"),
    ],
)
def test_bad_detections_are_named(change, message):
    with pytest.raises(EvaluationError, match=message):
        average_precision([BOX], [BOX | {"score": 0.5}, BOX | {"score": 0.5} | change])


HALVES = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("evaluate", "arguments", "message"),
    [
        (average_precision, ([BOX], [BOX | {"score": 1.0}, BOX]), "row 1 of predictions has no 'score'"),
        (average_precision, (pd.DataFrame([BOX]),) * 2, "predictions has no column 'score'"),
        (average_precision, (3, []), "must be a list of dicts or a DataFrame, got int"),
        *(
            (average_precision, ([], [], bad), "iou_threshold must be above 0")
            for bad in (0, -0.5, 1.5, np.nan)
        ),
        (classification_average_precision, (["a"], HALVES, ["a", "b"]), r"numbers of shape \(1, 2\)"),
        (classification_average_precision, (["a"], HALVES[:1], ["a", "a"]), "differ from each other"),
        (
            classification_average_precision,
            (["a", "b"], [[0.5, 0.5], [np.nan, 1]], ["a", "b"]),
            "row 1 of confidences holds NaN",
        ),
        (classification_average_precision, (["a", None], HALVES, ["a", "b"]), "row 1 of labels"),
        (top1_average_precision, (["a", "b"], ["a"], [0.5]), "equally long, got 2, 1, 1"),
        (accuracy, (["a", "b"], ["a"]), "equally long, got 2, 1"),
    ],
)
def test_bad_input_is_named(evaluate, arguments, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(*arguments)


@pytest.mark.parametrize(
    ("evaluate", "arguments"),
    [
        (classification_average_precision, ([], np.empty((0, 2)), ["a", "b"])),
        (top1_average_precision, ([], [], [])),
        (accuracy, ([], [])),
        (average_precision, ([], [])),
        (Detections, ([], [BOX | {"score": 1}])),
        (Classifications, ([], [], [])),
    ],
)
def test_no_ground_truth_cannot_be_compared(evaluate, arguments):
    with pytest.raises(NoGroundTruth, match="cannot compare"):
        evaluate(*arguments)
    assert issubclass(NoGroundTruth, ValueError)
