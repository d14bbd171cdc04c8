"""Label errors in boxes."""

import numpy as np
import pytest
from cleanlab.object_detection import rank
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alhelpers import data, evaluation, mining
from alhelpers.evaluation import EvaluationError
from alhelpers.learners import BoxPredictions
from alhelpers.mining import MiningError, PoolExhausted

SIDES = ("left", "top", "right", "bottom")
KINDS = ("overlooked", "misplaced", "swapped", "spurious")
SIZE, CLASSES = 64, 5


def row(image, label, box, score=None):
    found = {"image_id": image, "label": label, **dict(zip(SIDES, map(float, box), strict=True))}
    return found if score is None else {**found, "score": score}


# ------------------------------------------------------------------------------
# by hand, and by brute force
# ------------------------------------------------------------------------------


def test_each_kind_of_error_is_found():
    there, near, away = (0, 0, 10, 10), (0, 0, 10, 5), (30, 30, 40, 40)
    predictions = [row(image, "cat", there, 0.8) for image in ("right", "place", "class", "none")]
    labels = [
        row("right", "cat", there),
        row("place", "cat", near),
        row("class", "dog", there),
        row("none", "cat", there),
        row("none", "cat", away),
    ]
    predictions.append(row("none", "dog", (50, 50, 60, 60), 0.7))
    found = mining.box_label_errors(labels, predictions)
    np.testing.assert_allclose(found.overlooked, [0, 0, 0, 0, 0.7])
    np.testing.assert_allclose(found.misplaced, [0, 0.4, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found.swapped, [0, 0, 0.8, 0, 0])
    np.testing.assert_allclose(found.spurious, [0.2, 0.2, 0.2, 0.2, 1])
    assert found.better.tolist() == [[0, -1], [1, -1], [-1, 2], [3, -1], [-1, -1]]
    assert all(values.dtype == np.float32 for values in found[:4])
    chosen = mining.relabel_boxes(labels, predictions, 4)
    assert chosen.ids == ["none", "class", "place", "right"]
    np.testing.assert_allclose(chosen.scores, [1, 0.8, 0.4, 0.2])
    first, second, *_ = chosen.meta["errors"]["none"]
    assert first == {"kind": "spurious", "score": 1.0, "label": 4, "prediction": None}
    assert (second["kind"], second["label"], second["prediction"]) == ("overlooked", None, 4)
    swapped = chosen.meta["errors"]["class"][0]
    assert (swapped["kind"], swapped["label"], swapped["prediction"]) == ("swapped", 2, 2)
    assert all(error["score"] > 0 for each in chosen.meta["errors"].values() for error in each)
    sure = mining.relabel_boxes([CAT], [{**CAT, "score": 1.0}], 1)
    assert sure.ids == ["i"] and sure.meta["errors"] == {"i": []} and sure.scores.tolist() == [0]


def by_brute_force(labels, predictions):
    """The four scores, box by box."""

    def overlap(first, second):
        if first["image_id"] != second["image_id"]:
            return 0
        return evaluation.iou([[first[side] for side in SIDES]], [[second[side] for side in SIDES]])[0, 0]

    iou = {(p, g): overlap(a, b) for p, a in enumerate(predictions) for g, b in enumerate(labels)}
    pairs = [pair for pair, value in iou.items() if value > 0]
    s = [each["score"] for each in predictions]

    def same(p, g):
        return predictions[p]["label"] == labels[g]["label"]

    def nearest(p, g, of_class=False):
        return all(iou[p, g] >= iou[p, h] for h in range(len(labels)) if not of_class or same(p, h))

    def mutual(p, g):
        return nearest(p, g) and all(s[p] * iou[p, g] >= s[q] * iou[q, g] for q in range(len(s)))

    def largest(values):
        return max(values, default=0)

    overlooked, misplaced, swapped, spurious = [], [], [], []
    for p in range(len(s)):
        covered = largest(
            min(1, 2 * iou[pair]) if mutual(*pair) else iou[pair] for pair in pairs if pair[0] == p
        )
        overlooked.append(s[p] * (1 - covered))
    for g in range(len(labels)):
        near = [pair for pair in pairs if pair[1] == g]
        place = [(s[p] * iou[p, g], p) for p, _ in near if same(p, g) and nearest(p, g, of_class=True)]
        misplaced.append(s[max(place)[1]] * (1 - iou[max(place)[1], g]) if place else 0)
        of = {True: 0, False: 0}
        for p, _ in near:
            if nearest(p, g):
                of[same(p, g)] = max(of[same(p, g)], s[p] * iou[p, g])
        swapped.append(max(0, of[False] - of[True]))
        spurious.append(
            1 - largest(s[p] * (min(1, 4 * iou[p, g]) if nearest(p, g) else iou[p, g]) for p, _ in near)
        )
    return overlooked, misplaced, swapped, spurious


# No two products of such a score with an IoU are equal, so that there are no ties.
SCORES = st.permutations([np.sqrt(prime / 20) for prime in (2, 3, 5, 7, 11, 13)])
SIDE = st.integers(1, 9)
BOXES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("ab"), SIDE, SIDE, SIDE, SIDE).map(
        lambda drawn: row(*drawn[:2], (drawn[2], drawn[3], drawn[2] + drawn[4], drawn[3] + drawn[5]))
    ),
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(BOXES, BOXES, SCORES)
def test_the_scores_are_those_of_brute_force(labels, places, scores):
    predictions = [{**each, "score": score} for each, score in zip(places, scores, strict=False)]
    common = [row("common", "a", (0, 0, 5, 5)), row("common", "b", (20, 0, 25, 5))]
    labels, predictions = labels + common, predictions + [{**each, "score": 1.0} for each in common]
    found = mining.box_label_errors(labels, predictions)
    for name, expected in zip(KINDS, by_brute_force(labels, predictions), strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-6, err_msg=name)


# ------------------------------------------------------------------------------
# errors that are known, beside cleanlab
# ------------------------------------------------------------------------------


def simulated(seed, images, rate=0.08):
    """Labels with errors, noisy predictions, and the kind of each label's and prediction's error ("" for none)."""
    draw = np.random.default_rng(seed)
    labels, predictions, wrong, missed = [], [], [], []

    def place():
        wide = draw.uniform(10, 28, 2)
        corner = draw.uniform(0, SIZE - wide)
        return np.append(corner, corner + wide)

    def moved(box, shares):
        box = np.clip(box + shares * np.tile(box[2:] - box[:2], 2), 0, SIZE)
        return np.append(box[:2], np.maximum(box[2:], box[:2] + 1))

    def another(label):
        return (label + draw.integers(1, CLASSES)) % CLASSES

    for image in range(images):
        for _ in range(draw.integers(1, 6)):
            box, label = place(), draw.integers(CLASSES)
            kind = [*KINDS[:3], ""][int(np.searchsorted(np.cumsum([rate] * 3), draw.random(), side="right"))]
            if kind != "overlooked":
                shift = draw.uniform(0.25, 0.5, 4) * draw.choice([-1, 1], 4) * (kind == "misplaced")
                labels.append(row(image, another(label) if kind == "swapped" else label, moved(box, shift)))
                wrong.append(kind)
            if draw.random() < 0.08:
                continue
            hard = draw.random() < 0.06
            found = another(label) if hard else label
            score = float(draw.beta(3, 3) if hard else draw.beta(6, 1.3))
            predictions.append(row(image, found, moved(box, draw.normal(size=4) * 0.05), score))
            missed.append(kind == "overlooked")
        for _ in range(draw.poisson(0.4)):
            predictions.append(row(image, draw.integers(CLASSES), place(), float(draw.beta(1.2, 4))))
            missed.append(False)
        if draw.random() < 2 * rate:
            labels.append(row(image, draw.integers(CLASSES), place()))
            wrong.append("spurious")
    return labels, predictions, np.array(wrong), np.array(missed)


def of_cleanlab(labels, predictions, images):
    """Cleanlab's scores, higher is an error, in the order of the rows; its thresholds as it does best here."""
    given = [{"bboxes": [], "labels": [], "rows": []} for _ in range(images)]
    found = [[[] for _ in range(CLASSES)] for _ in range(images)]
    rows = [[[] for _ in range(CLASSES)] for _ in range(images)]
    for number, each in enumerate(labels):
        of = given[each["image_id"]]
        of["bboxes"].append([each[side] for side in SIDES])
        of["labels"].append(int(each["label"]))
        of["rows"].append(number)
    for number, each in enumerate(predictions):
        found[each["image_id"]][each["label"]].append([*(each[side] for side in SIDES), each["score"]])
        rows[each["image_id"]][each["label"]].append(number)
    truth = [
        {"bboxes": np.reshape(of["bboxes"], (-1, 4)), "labels": np.array(of["labels"], int)} for of in given
    ]
    boxes = []
    for image in found:
        boxes.append(np.empty(CLASSES, dtype=object))
        boxes[-1][:] = [np.reshape(each, (-1, 5)) for each in image]

    def flat(scores, places, count):
        result = np.zeros(count)
        for values, of in zip(scores, places, strict=True):
            result[of] = np.nan_to_num(1 - np.asarray(values, dtype=float))
        return result

    both, places = {"labels": truth, "predictions": boxes}, [of["rows"] for of in given]
    swapped = rank.compute_swap_box_scores(**both, high_probability_threshold=0.7)
    misplaced = rank.compute_badloc_box_scores(**both, low_probability_threshold=0.3)
    overlooked = rank.compute_overlooked_box_scores(**both, high_probability_threshold=0.5)
    return {
        "overlooked": flat(overlooked, [sum(of, []) for of in rows], len(predictions)),
        "misplaced": flat(misplaced, places, len(labels)),
        "swapped": flat(swapped, places, len(labels)),
        "image": 1 - rank.get_label_quality_scores(truth, boxes, verbose=False),
    }


def test_injected_errors_are_found_better_than_by_cleanlab():
    # Average precision of ours less cleanlab's, of 60 images, over 24 seeds, mean and deviation: overlooked 0.42
    # and 0.15, misplaced 0.31 and 0.14, swapped 0.12 and 0.10. So the means of three seeds fall below these limits with
    # probabilities under 1 in 700.
    least = {"overlooked": 0.1, "misplaced": 0.05, "swapped": -0.05}
    gains = {kind: [] for kind in least}
    for seed in range(3):
        labels, predictions, wrong, missed = simulated(seed, images=60)
        ours, theirs = mining.box_label_errors(labels, predictions), of_cleanlab(labels, predictions, 60)
        for kind, each in gains.items():
            right = missed if kind == "overlooked" else wrong == kind
            own, other = (
                average_precision_score(right, scores) for scores in (getattr(ours, kind), theirs[kind])
            )
            each.append(own - other)
    for kind, each in gains.items():
        assert np.mean(each) > least[kind], (kind, each)


# ------------------------------------------------------------------------------
# what is wrong
# ------------------------------------------------------------------------------

CAT = row("i", "cat", (0, 0, 5, 5))


@pytest.mark.parametrize(
    ("labels", "predictions", "error", "message"),
    [
        ([CAT], [CAT], EvaluationError, "row 0 of predictions has no 'score'"),
        ([CAT], [{**CAT, "score": 1.5}], MiningError, "row 0 of predictions: score is 1.5"),
        ([CAT], [{**CAT, "score": np.nan}], EvaluationError, "score is nan"),
        ([{**CAT, "right": -1.0}], [{**CAT, "score": 1}], EvaluationError, "row 0 of labels: left, top"),
        ([{**CAT, "left": np.nan}], [{**CAT, "score": 1}], EvaluationError, "row 0 of labels: left"),
        (
            [{**CAT, "image_id": 1}],
            [{**CAT, "image_id": "1", "score": 1}],
            EvaluationError,
            "image_id of labels is 1 but that of predictions '1', which never match",
        ),
        ([CAT], [{**CAT, "label": "Cat", "score": 1}], MiningError, "'Cat'.* have no class in common"),
    ],
)
def test_wrong_rows_are_named(labels, predictions, error, message):
    with pytest.raises(error, match=message):
        mining.box_label_errors(labels, predictions)
    with pytest.raises(error, match=message):
        mining.relabel_boxes(labels, predictions, 1)


def test_what_is_not_rows_is_named():
    dataset = data.scenes(1, size=16)
    empty = BoxPredictions(np.zeros(2, dtype=int), np.zeros((0, 4)), np.zeros((0, 1)), ("cat",))
    with pytest.raises(
        MiningError, match=r"predictions are a BoxPredictions: .* predictions.rows\(dataset.ids\)"
    ):
        mining.relabel_boxes([CAT], empty, 1)
    with pytest.raises(MiningError, match=r"labels are a \w+: pass its rows, as dataset.labels\(\) returns"):
        mining.relabel_boxes(dataset, [], 1)


def test_crowds_cover_what_is_in_them():
    crowd = {**row("i", "cat", (0, 0, 50, 50)), "iscrowd": 1}
    found = mining.box_label_errors(
        [crowd, CAT], [{**CAT, "score": 1.0}, row("i", "cat", (20, 0, 30, 10), 0.9)]
    )
    assert not any(values.any() for values in found[:4])
    objects = data.Objects.from_rows([crowd, CAT], ["i"], (50, 50), ["cat"], is_crowd=[True, False])
    dataset = data.ObjectSet("set", np.zeros((1, 50, 50), dtype=np.uint8), objects, ["cat"], ids=["i"])
    labels = [*dataset.labels(), *dataset.crowds()]
    assert not mining.box_label_errors(labels, [{**CAT, "score": 1.0}]).spurious.any()


def test_without_boxes_there_is_nothing_to_find():
    found = mining.box_label_errors([], [])
    assert [len(values) for values in found] == [0, 0, 0, 0, 0]
    assert mining.box_label_errors([CAT], []).spurious.tolist() == [1]
    assert mining.box_label_errors([], [{**CAT, "score": 0.5}]).overlooked.tolist() == [0.5]
    assert mining.box_label_errors([{**CAT, "right": 0.0}], [{**CAT, "score": 1}]).spurious.tolist() == [1]
    with pytest.raises(PoolExhausted, match="size=2 images were asked for, but 1 have boxes"):
        mining.relabel_boxes([CAT], [], 2)
    with pytest.raises(MiningError, match="size must be a whole number"):
        mining.relabel_boxes([CAT], [], 0)
