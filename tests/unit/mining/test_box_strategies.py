"""Strategies of boxes, and budgets in boxes: their numbers by hand and by brute force."""

import json

import numpy as np
import pytest

from alhelpers import mining, records
from alhelpers.cli import main
from alhelpers.mining import MiningError, MissingField, UnknownOption, combine, coreset, mine

SURE = {f"{name}_certainty": 1.0 for name in ("class", "location", "existence")}
SURE |= {"object_certainty": 0.9, "box_variance": 0.0, "class_name": "cat"}


def image(id, *boxes):
    return {"id": id, "detections": [SURE | box for box in boxes]}


ROWS = [
    image("none"),
    image("class", {"class_certainty": 0.5}, {}),
    image("place", {"location_certainty": 0.4, "box_variance": 3.0}),
    image("both", {"class_certainty": 0.6, "location_certainty": 0.5, "existence_certainty": 0.5}, {}, {}),
    image("exists", {"existence_certainty": 0.7, "class_name": "dog"}, {"existence_certainty": 0.8}),
]


def scores_of(found):
    return dict(zip(found.ids, found.scores.round(6).tolist(), strict=True))


# ------------------------------------------------------------------------------
# uncertainty
# ------------------------------------------------------------------------------


def test_expected_errors_need_confidences_alone():
    boxes = [[0.5, 0.3], [0.1, 0.05]]
    rows = [
        {"id": "a", "detections": [{"confidences": each} for each in boxes]},
        {"id": "b", "detections": []},
    ]
    found = scores_of(mine(rows, "box_uncertainty", 2, of="errors", over="sum"))
    assert found == pytest.approx({"a": 0.5 + 0.3 + 0.15, "b": 0}, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"none": 0, "class": 0.5, "place": 0.6, "both": 0.85, "exists": 0.3}),
        ({"of": "class"}, {"none": 0, "class": 0.5, "place": 0, "both": 0.4, "exists": 0}),
        ({"of": "location"}, {"none": 0, "class": 0, "place": 0.6, "both": 0.5, "exists": 0}),
        (
            {"of": "existence", "over": "mean"},
            {"none": 0, "class": 0, "place": 0, "both": 0.166667, "exists": 0.25},
        ),
        ({"of": "existence", "over": "sum"}, {"none": 0, "class": 0, "place": 0, "both": 0.5, "exists": 0.5}),
        (
            {"of": "object", "over": "sum"},
            {"none": 0, "class": 0.2, "place": 0.1, "both": 0.3, "exists": 0.2},
        ),
        ({"of": "variance"}, {"none": 0, "class": 0, "place": 3, "both": 0, "exists": 0}),
        (
            {"over": "top_k", "top_k": 2},
            {"none": 0, "class": 0.25, "place": 0.6, "both": 0.425, "exists": 0.25},
        ),
    ],
)
def test_the_uncertainty_of_boxes(options, expected):
    found = mine(ROWS, "box_uncertainty", 5, **options)
    assert scores_of(found) == pytest.approx(expected, abs=1e-6)
    weighted = mine(
        ROWS, "weighted_box_uncertainty", 5, reference=[image("r", {}, {"class_name": "dog"})], **options
    )
    if "over" in options:  # both classes are as rare
        assert scores_of(weighted) == pytest.approx(expected, abs=1e-6)


def test_rare_classes_of_the_reference_weigh_more():
    labels = [
        {"id": "l1", "detections": [{"class_name": "cat"}] * 5},
        {"id": "l2", "detections": [{"class_name": "owl"}, {"class_name": "cat"}]},
        {"id": "l3", "detections": []},
    ]
    found = mine(ROWS, "weighted_box_uncertainty", 5, reference=labels, of="existence")
    weight = {"cat": (7 + 3) / (3 * 7), "dog": (7 + 3) / 3}  # dogs are seen in the pool alone
    assert scores_of(found)["exists"] == pytest.approx(0.3 * weight["dog"] + 0.2 * weight["cat"], abs=1e-6)
    assert scores_of(found)["both"] == pytest.approx(0.5 * weight["cat"], abs=1e-6)
    assert found.meta["class_counts"] == {"cat": 6, "dog": 0, "owl": 1}
    alone = mine(ROWS, "weighted_box_uncertainty", 5)
    assert alone.meta["classes_counted"] == "boxes of the records"
    assert alone.meta["class_counts"] == {"cat": 7, "dog": 1}


def test_the_weight_of_a_box_is_the_mean_over_its_classes_by_their_confidences():
    rows = [
        image("first", {"class_certainty": 0.5, "confidences": [0.6, 0.2, 0.0]}),
        image("rare", {"class_certainty": 0.5, "confidences": [0.3, 0.2, 0.1]}, {"confidences": [0.9, 0, 0]}),
    ]
    rows = [row | {"class_names": ["cat", "dog", "owl"]} for row in rows]
    labels = [{"id": "l", "detections": [{"class_name": "cat"}] * 4 + [{"class_name": "dog"}]}]
    found = scores_of(mine(rows, "weighted_box_uncertainty", 2, reference=labels, of="class"))
    weights = (5 + 3) / 3 / np.array([5, 2, 1])
    assert found["first"] == pytest.approx(0.5 * (0.6 * weights[0] + 0.2 * weights[1]) / 0.8, abs=1e-6)
    assert found["rare"] == pytest.approx(0.5 * np.dot([0.3, 0.2, 0.1], weights) / 0.6, abs=1e-6)
    rows[0]["detections"][0]["confidences"] = [0.0, 0.0, 0.0]
    assert scores_of(mine(rows, "weighted_box_uncertainty", 2, reference=labels, of="class"))["first"] == 0


@pytest.mark.parametrize(("noise", "power"), [(1.0, 1.0), (0.5, 2.0)])
def test_noise_draws_in_proportion_to_the_score(noise, power):
    # One of four is drawn 500 times. A share lies within five standard deviations but once in a million times.
    certainties = np.array([0.9, 0.7, 0.5, 0.1])
    rows = [image(k, {"class_certainty": value}) for k, value in enumerate(np.tile(certainties, 500))]
    found = mine(rows, "box_uncertainty", len(rows), noise=noise)
    scores = np.empty(len(rows))
    scores[found.ids] = found.scores
    drawn = np.bincount(scores.reshape(500, 4).argmax(axis=1), minlength=4) / 500
    shares = (1 - certainties) ** power / ((1 - certainties) ** power).sum()
    assert (np.abs(drawn - shares) < 5 * np.sqrt(shares * (1 - shares) / 500)).all()


def test_boxes_of_low_confidence_do_not_count():
    rows = [
        image("a", {"class_certainty": 0.5, "confidence": 0.1}, {"class_certainty": 0.8, "confidence": 0.6}),
        image("b", {"class_certainty": 0.1, "confidence": 0.2}),
    ]
    for strategy in ("box_uncertainty", "weighted_box_uncertainty"):
        found = mine(rows, strategy, 2, min_confidence=0.3, over="mean", reference=[image("r", {})])
        assert scores_of(found) == pytest.approx({"a": 0.2, "b": 0}, abs=1e-6)
    with pytest.raises(
        MissingField, match="needs detections.confidence or detections.confidences in the rec"
    ):
        mine(ROWS, "box_uncertainty", 1, min_confidence=0.3)


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([{"id": "a", "confidence": 0.5}], {}, MissingField, "class_certainty in the records.*with passes"),
        (
            [{"id": "a", "detections": [{"confidence": 0.5}]}],
            {},
            MissingField,
            "class_certainty.*with passes",
        ),
        (
            [image("a", {"location_certainty": 1.2})],
            {},
            records.RecordError,
            "'a'.*box 0 .*location_cert.* got 1.2",
        ),
        (
            [image("a", {}, {"box_variance": -1.0})],
            {"of": "variance"},
            records.RecordError,
            "box 1 .*at least 0",
        ),
        ([image("a", {"class_certainty": np.nan})], {}, records.RecordError, "'a'.*class_certainty"),
        (ROWS, {"of": "shape"}, UnknownOption, "option of .*must be one of 'combined'"),
        (ROWS, {"top_k": 2}, UnknownOption, 'top_k .*must be used with over="top_k"'),
        (
            ROWS,
            {"min_confidence": 1.5},
            UnknownOption,
            "option min_confidence .*must be from 0 to 1, got 1.5",
        ),
        (ROWS, {"noise": -0.5}, UnknownOption, "option noise .*must be 0 or a number above, got -0.5"),
    ],
)
def test_what_cannot_be_scored_is_named(rows, options, error, message):
    with pytest.raises(error, match=message):
        mine(rows, "box_uncertainty", 1, **options)


def test_boxes_without_a_class_are_named():
    rows = [image("a", {}), image("b", {}, {"class_name": None})]
    with pytest.raises(records.RecordError, match="record 'b' has a box without class_name"):
        mine(rows, "weighted_box_uncertainty", 1)


# ------------------------------------------------------------------------------
# objects
# ------------------------------------------------------------------------------


def objects(seed, count, prefix):
    rng = np.random.default_rng(seed)
    return {
        f"{prefix}{k:02d}": rng.normal(size=(rng.integers(4), 3)).astype(np.float32) for k in range(count)
    }


def rows_of(vectors):
    return [{"id": id, "detections": [{"embeddings": v} for v in each]} for id, each in vectors.items()]


def by_brute_force(vectors, covered, size):
    """Ids and distances of the picks: each time the image with the object farthest from all that are covered."""
    left, picks, distances = dict(vectors), [], []
    if not len(covered):
        mean = np.concatenate(list(vectors.values())).mean(axis=0)
        of = {id: np.linalg.norm(v - mean, axis=1).max() if len(v) else np.inf for id, v in left.items()}
        picks, distances = [min(of, key=of.get)], [np.inf]
        covered = left.pop(picks[0])
    while len(picks) < size:
        away = {
            id: np.linalg.norm(v[:, None] - covered, axis=2).min(axis=1).max() if len(v) else -0.0
            for id, v in left.items()
        }
        best = max(sorted(away), key=away.get)
        picks.append(best)
        distances.append(away[best])
        covered = np.concatenate([covered, left.pop(best)])
    return picks, distances


@pytest.mark.parametrize("labelled", [0, 4])
@pytest.mark.parametrize("candidates", [1, 5, 1000])
def test_objects_are_covered_as_by_brute_force(labelled, candidates, monkeypatch, tmp_path):
    monkeypatch.setattr(coreset, "_CANDIDATES", candidates)
    monkeypatch.setattr(coreset, "_MIN_CANDIDATES", candidates)
    pool, known = objects(candidates, 30, "p"), objects(1, labelled, "l")
    covered = np.concatenate([*known.values(), np.empty((0, 3))])
    reference = rows_of(known) if labelled else None
    expected, distances = by_brute_force(pool, covered, 30)
    found = mine(rows_of(pool), "object_coreset", 30, reference=reference)
    assert found.ids == expected
    np.testing.assert_allclose(found.scores[1:], distances[1:], rtol=1e-4, atol=1e-6)
    rows = rows_of(pool)
    for number, part in enumerate((rows[:7], rows[7:9], rows[9:])):
        records.write(tmp_path / f"{number}.parquet", part)
    again = mine(str(tmp_path / "*.parquet"), "object_coreset", 30, reference=reference)
    assert again.ids == found.ids and (again.scores == found.scores).all()


def test_images_without_objects_come_last():
    pool = {"b": np.ones((1, 3)), "a": np.empty((0, 3)), "c": np.zeros((2, 3))}
    found = mine(rows_of(pool), "object_coreset", 3, reference=rows_of({"l": np.ones((1, 3))}))
    assert found.ids == ["c", "a", "b"] and found.scores[1:].tolist() == [0, 0]
    with pytest.raises(MiningError, match="'object_coreset': the records' embeddings have 3 numbers.* 2;"):
        mine(rows_of(pool), "object_coreset", 1, reference=rows_of({"l": np.ones((1, 2))}))
    with pytest.raises(MissingField, match="needs detections.embeddings.*embeddings=True"):
        mine(ROWS, "object_coreset", 1)


# ------------------------------------------------------------------------------
# budgets in boxes
# ------------------------------------------------------------------------------

COUNTED = [
    {"id": id, "confidence": first, "detections": [{"confidence": value} for value in confidences]}
    for id, first, confidences in (
        ("a", 0.1, [0.9, 0.6]),
        ("b", 0.2, []),
        ("c", 0.3, [0.5]),
        ("d", 0.4, [1.0, 1.0, 0.5]),
        ("e", 0.5, [0.2]),
    )
]


@pytest.mark.parametrize(
    ("max_boxes", "ids", "expected"),
    [
        (0.5, "a", 1.5),
        (1.5, "ab", 1.5),
        (1.9, "ab", 1.5),
        (2, "abc", 2),
        (4.5, "abcd", 4.5),
        (99, "abcde", 4.7),
    ],
)
def test_a_selection_ends_where_the_boxes_do(max_boxes, ids, expected):
    found = mine(COUNTED, "confidence", 50, max_boxes=max_boxes)
    assert found.ids == list(ids) and len(found.scores) == len(ids)
    assert found.meta["expected_boxes"] == pytest.approx(expected, abs=1e-6)
    assert found.meta["max_boxes"] == max_boxes
    assert mine(COUNTED, "confidence", 2, max_boxes=max_boxes).ids == list(ids)[:2]
    config = {"strategy": "confidence", "size": 50, "max_boxes": max_boxes}
    assert mining.run(config, COUNTED).ids == list(ids)


def test_parts_of_a_plan_divide_the_boxes():
    plan = [{"strategy": "confidence", "share": 0.5}, {"strategy": "random", "share": 0.5}]
    found = combine(COUNTED, plan, 4, max_boxes=4)
    assert found.ids[:2] == ["a", "b"]
    boxes = {row["id"]: sum(box["confidence"] for box in row["detections"]) for row in COUNTED}
    assert sum(boxes[id] for id in found.ids[2:]) <= 2 or len(found.ids) == 3
    assert found.meta["expected_boxes"] == pytest.approx(sum(boxes[id] for id in found.ids), abs=1e-6)
    assert sum(part["max_boxes"] for part in found.meta["parts"]) == found.meta["max_boxes"] == 4


def test_boxes_without_a_confidence_count_as_one():
    rows = [{"id": id, "detections": [{"class_name": "cat"}] * 2} for id in "abc"]
    assert mine(rows, "random", 3, max_boxes=4).meta["expected_boxes"] == 4


@pytest.mark.parametrize(
    ("rows", "max_boxes", "error", "message"),
    [
        (COUNTED, 0, MiningError, "max_boxes must be a number above 0"),
        (COUNTED, np.nan, MiningError, "max_boxes must be a number above 0"),
        (
            [{"id": "a", "confidence": 0.5}],
            2,
            MissingField,
            "max_boxes counts .* no detections, but: id, confid",
        ),
        (
            [{"id": "a", "detections": [{"confidence": 3.0}]}],
            2,
            records.RecordError,
            "'a': the confidence of a",
        ),
        ([], 2, records.RecordError, "no record"),
    ],
)
def test_boxes_that_cannot_be_counted(rows, max_boxes, error, message):
    with pytest.raises(error, match=message):
        mine(rows, "random", 1, max_boxes=max_boxes)
    with pytest.raises(error, match=message):
        combine(rows, {"strategy": "random"}, 1, max_boxes=max_boxes)


def test_configurations_without_boxes_keep_their_digest():
    assert mining.parse_config({"max_boxes": None}).digest == mining.parse_config({}).digest
    assert mining.parse_config({"max_boxes": 5}).digest != mining.parse_config({}).digest
    with pytest.raises(ValueError, match="max_boxes"):
        mining.parse_config({"max_boxes": 0})


def test_the_command_limits_the_boxes(tmp_path, capsys):
    records.write(tmp_path / "pool.parquet", COUNTED)
    (tmp_path / "config.json").write_text(json.dumps({"strategy": "confidence", "size": 5}))
    names = [str(tmp_path / name) for name in ("config.json", "pool.parquet", "picks.parquet")]
    command = ["mine", *names[:2], "-o", names[2], "--json"]
    assert main([*command, "--max-boxes", "2"]) == 0
    assert [pick["id"] for pick in json.loads(capsys.readouterr().out)["picks"]] == ["a", "b", "c"]
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--max-boxes", "none"])
    assert "must be a number of boxes above 0, got 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "strategy", ["box_uncertainty", "weighted_box_uncertainty", "object_coreset", "confidence"]
)
@pytest.mark.parametrize("form", [list, records.as_table])
def test_a_model_that_found_nothing_scores_nothing(strategy, form):
    rows = form([image("a"), image("b")])
    with pytest.warns(UserWarning, match="no record has a box"):
        assert scores_of(mine(rows, strategy, 2)) == {"a": 0, "b": 0}
    if strategy == "weighted_box_uncertainty":
        found = mine(ROWS, strategy, 5, reference=form([image("x")]))
        assert found.ids[0] == "both"
