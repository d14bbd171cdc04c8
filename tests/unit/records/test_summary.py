import datetime

import numpy as np
import pyarrow as pa
import pytest

from alhelpers import records
from alhelpers.records import RecordError, summary


def given(count=30):
    rng = np.random.default_rng(0)
    return records.from_arrays(
        np.arange(count),
        class_names=["cat", "dog"],
        confidences=rng.dirichlet([1, 1], size=count),
        mc_dropout=rng.dirichlet([1, 1], size=(count, 3)),
        groundtruth=[["cat", "dog", None][k % 3] for k in range(count)],
        detections=[[{"left": float(j)} for j in range(k % 3)] for k in range(count)],
        tags=[{"run": k, "deep": {"on": k % 2 == 0}} for k in range(count)],
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    parts = records.parts
    monkeypatch.setattr(summary, "parts", lambda source: parts(source, rows=4))


def test_describe_summarizes_each_column():
    table = given()
    found = {row["column"]: row for row in records.describe(table)}
    assert list(found["id"].values()) == ["id", "int64", (), 1.0, None, None, None, None]
    passes = records.column(table, "mc_dropout")
    assert found["mc_dropout"]["shape"] == (3, 2) and found["mc_dropout"]["type"] == "float"
    assert found["mc_dropout"]["min"] == passes.min() and found["mc_dropout"]["max"] == passes.max()
    assert found["mc_dropout"]["mean"] == pytest.approx(passes.mean(dtype=np.float64))
    assert found["groundtruth"]["present"] == pytest.approx(2 / 3)
    assert found["groundtruth"]["top"] == {"cat": 10, "dog": 10}
    assert (found["tags.run"]["min"], found["tags.run"]["max"]) == (0, 29)
    assert found["tags.deep.on"]["top"] == {False: 15, True: 15}
    assert (found["detections"]["mean"], found["detections"]["max"]) == (1.0, 2)
    assert found["detections.left"]["present"] == 1.0
    assert found["detections.left"]["mean"] == pytest.approx(1 / 3)


def test_describe_does_not_count_texts_that_all_differ(monkeypatch):
    monkeypatch.setattr(summary, "_MAX_TEXTS", 3)
    rows = [{"id": k, "split": "train", "metadata": {"name": f"n{k}"}} for k in range(20)]
    found = {row["column"]: row["top"] for row in records.describe(rows)}
    assert found == {"id": None, "split": {"train": 20}, "metadata.name": None}


def test_describe_leaves_out_nan_and_knows_times_and_keys_with_dots():
    days = [datetime.datetime(2026, 1, 1 + k) for k in range(20)]
    rows = [
        {"id": k, "metadata": {"x": [float("nan"), 1.5, 2.5][k % 3], "at": day, "a.b": k, "a": {"b": -k}}}
        for k, day in enumerate(days)
    ]
    found = records.describe(rows)
    x, at, one, other = (row for row in found if row["column"] != "id")
    assert (x["min"], x["max"], x["mean"], x["present"]) == (1.5, 2.5, (7 * 1.5 + 6 * 2.5) / 13, 1.0)
    assert (at["min"], at["max"], at["mean"]) == (days[0], days[-1], None)
    assert [(row["column"], row["min"], row["max"]) for row in (one, other)] == [
        ("metadata.a.b", 0, 19),
        ("metadata.a.b", -19, 0),
    ]


def test_validate_counts_records_that_are_right(tmp_path):
    records.write(tmp_path / "a.parquet", given())
    assert records.validate(given()) == records.validate(tmp_path / "a.parquet") == 30


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("confidences", [0.5, 0.75], "record 17: confidences are not valid"),
        ("confidences", [-0.5, 1.5], "record 17: confidences are not valid"),
        ("mc_dropout", [[1, 0], [0.5, 0.5], [0.5, 0.25]], "record 17: mc_dropout are not valid"),
        ("confidence", 1.5, "record 17: confidence are not valid"),
        ("class_names", ["cat"], "record 17: confidences has 2 classes for 1 class names"),
        ("id", 2, "id 2 comes more than once"),
    ],
)
def test_validate_names_the_record_and_the_column(column, value, message):
    rows = given().to_pylist()
    rows[17][column] = value
    table = pa.Table.from_pylist(rows)
    with pytest.raises(RecordError, match=message) as error:
        records.validate(table)
    assert error.value.record == (2 if column == "id" else 17)


def test_validate_checks_several_labels_and_numbers_by_their_own_rules():
    several = np.array([[0.9, 0.8], [0.1, 0.0], [1.0, 1.0]], np.float32)
    members = np.array([[[-3.0], [9.0]]] * 3, np.float32)
    of_labels = records.from_arrays(
        [1, 2, 3], confidences=several, mc_dropout=np.stack([several] * 2, axis=1)
    )
    of_numbers = records.from_arrays([1, 2, 3], query_by_committee=members)
    assert records.validate(of_labels, task="multilabel") == 3
    assert records.validate(of_numbers, task="regression") == 3
    with pytest.raises(RecordError, match="record 1: confidences are not valid"):
        records.validate(of_labels)
    for values, task, column in (
        (several[:, None] * 1.5, "multilabel", "mc_dropout"),
        (members, "multilabel", "query_by_committee"),
    ):
        with pytest.raises(RecordError, match=f"record 1: {column} are not valid"):
            records.validate(records.from_arrays([1, 2, 3], **{column: values}), task=task)
    with pytest.raises(
        ValueError,
        match="task is 'labels': it must be one of classification, multilabel, detection, regression",
    ):
        records.validate(of_labels, task="labels")


@pytest.mark.parametrize(
    ("field", "good", "bad", "message"),
    [
        ("confidences", [0.5, 0.5], [0.5, 0.25], "confidences are not valid"),
        ("confidence", 1, 1.25, "confidence must be from 0 to 1, got 1.25"),
    ],
)
def test_validate_looks_at_the_confidences_of_boxes(field, good, bad, message):
    boxes = [{field: good}, {field: bad}]
    with pytest.raises(RecordError, match=f"record 'b': detections.{message}"):
        records.validate([{"id": "a", "detections": boxes[:1]}, {"id": "b", "detections": boxes}])


def test_validate_lets_each_class_of_a_box_have_its_own_confidence():
    rows = [{"id": "a", "detections": [{"confidences": [0.5, 0.75]}, {"confidences": [0.25, 0.0]}]}]
    assert records.validate(rows, task="detection") == 1
    with pytest.raises(RecordError, match="record 'a': detections.confidences are not valid"):
        records.validate(rows)
    rows[0]["detections"][1]["confidences"] = [0.5, 1.25]
    with pytest.raises(RecordError, match="record 'a': detections.confidence must be from 0 to 1"):
        records.validate(rows, task="detection")


@pytest.mark.parametrize(
    ("field", "good", "bad", "rule"),
    [
        ("class_certainty", 0, 1.25, "from 0 to 1"),
        ("location_certainty", 1, -0.25, "from 0 to 1"),
        ("existence_certainty", 0.5, 2, "from 0 to 1"),
        ("object_certainty", 0.5, 2, "from 0 to 1"),
        ("box_variance", 7, -1, "0 or more"),
        ("width", 0.5, 0, "above 0"),
        ("height", 0.5, -1, "above 0"),
    ],
)
def test_validate_looks_at_the_numbers_of_boxes(field, good, bad, rule):
    rows = [{"id": k, "detections": [{field: good}] * k} for k in range(10)]
    assert records.validate(rows) == 10
    rows.append({"id": 10, "detections": [{field: good}, {field: bad}]})
    with pytest.raises(RecordError, match=f"record 10: detections.{field} must be {rule}, got {bad}"):
        records.validate(rows)
