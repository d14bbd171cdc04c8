import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alhelpers import mining, records
from alhelpers.records import RecordError


def box(name="cat", confidences=(0.75, 0.25), left=1.0):
    place = {"left": left, "top": 2.0, "width": 3.0, "height": 0.5}
    return {"class_name": name, "confidence": max(confidences), "confidences": list(confidences), **place}


ROWS = [
    {"id": "a", "detections": [box(left=0.0), box("dog", (0.25, 0.75))]},
    {"id": "b", "detections": []},
    {"id": "c", "detections": [box(None, (0.5, 0.5), left=-4.5)]},
    {"id": "d", "detections": []},
]


def check_boxes(found):
    assert found.offsets.tolist() == [0, 2, 2, 3, 3] and len(found) == 3
    assert found.class_name.tolist() == ["cat", "dog", None]
    assert found.confidence.tolist() == [0.75, 0.75, 0.5]
    assert found.confidences.tolist() == [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]
    assert found.left.tolist() == [0.0, 1.0, -4.5] and found.height.tolist() == [0.5] * 3
    assert found.logits is None


@pytest.mark.parametrize("form", ["rows", "table", "file", "file of lists", "table of lists"])
def test_boxes_of_every_form_are_flat_arrays(tmp_path, form):
    path, lists = tmp_path / "a.parquet", tmp_path / "lists.parquet"
    records.write(path, ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), lists)
    source = {
        "rows": ROWS,
        "table": records.as_table(ROWS),
        "file": path,
        "file of lists": lists,
        "table of lists": pq.read_table(lists),
    }[form]
    check_boxes(records.boxes(records.as_table(source)))
    loaded = [part.load() for part in records.parts(source, ["detections"], rows=1)]
    assert len(loaded) == 4
    check_boxes(records.boxes(pa.concat_tables(loaded)))
    empty = records.boxes(loaded[1])
    assert len(empty) == 0 and empty.confidences.shape == (0, 2) and empty.left.shape == (0,)
    chosen = records.select(source, [{"left": "id", "op": "in", "right": ["c", "d"]}])
    assert records.boxes(chosen).offsets.tolist() == [0, 1, 1]


def test_boxes_to_records_and_back():
    first = records.boxes(records.as_table(ROWS))
    table = records.from_arrays(["a", "b", "c", "d"], detections=first)
    assert table.equals(records.as_table(ROWS))
    with pytest.raises(RecordError, match="detections has 4 rows for 3 ids"):
        records.from_arrays(["a", "b", "c"], detections=first)


CERTAIN = {
    "class_certainty": 0.5,
    "location_certainty": 0.75,
    "existence_certainty": 1.0,
    "object_certainty": 0.25,
    "box_variance": 2.0,
}


def test_certainties_and_vectors_of_boxes_come_back_from_every_form(tmp_path):
    whole = {**box(), "embeddings": [1.0, -2.0, 0.5], **CERTAIN}
    table = records.as_table([{"id": "a", "detections": [whole, whole]}, {"id": "b", "detections": []}])
    records.write(tmp_path / "a.parquet", table)
    records.to_json_lines(tmp_path / "a.jsonl", table)
    forms = (table, records.read(tmp_path / "a.parquet"), records.from_json_lines(tmp_path / "a.jsonl"))
    for each in forms:
        assert each.equals(table) and each["detections"].to_pylist() == [[whole, whole], []]
        found = records.boxes(each)
        assert found.embeddings.tolist() == [whole["embeddings"]] * 2
        assert {name: getattr(found, name).tolist() for name in CERTAIN} == {
            k: [v] * 2 for k, v in CERTAIN.items()
        }
        assert records.from_arrays(["a", "b"], detections=found).equals(table)
    described = {row["column"]: row for row in records.describe(table)}
    assert described["detections.location_certainty"]["mean"] == 0.75
    assert described["detections.embeddings"]["shape"] == (3,)


def test_a_region_has_what_it_has():
    table = records.as_table([{"id": 1, "detections": [{"confidences": np.array([0.25, 0.75])}] * 2}])
    found = records.boxes(table)
    assert found.left is None and found.class_name.tolist() == [None, None]
    assert found.confidence.tolist() == [0.75, 0.75]


def test_files_with_and_without_boxes_fit_together(tmp_path):
    records.write(tmp_path / "1.parquet", ROWS[:1])
    records.write(tmp_path / "2.parquet", [{"id": "z", "detections": []}])
    table = records.read(tmp_path / "*.parquet")
    assert records.boxes(table).offsets.tolist() == [0, 2, 2]
    first, second = (part.load() for part in records.parts(tmp_path / "*.parquet"))
    assert first.schema == second.schema
    assert records.boxes(second).confidences.shape == (0, 2)
    records.write(tmp_path / "3.parquet", [{"id": "y", "detections": [{"class_name": "cat"}]}])
    with pytest.raises(RecordError, match="'y' has a box without confidence, other records' boxes have"):
        records.read(tmp_path / "*.parquet")


def broken(**values):
    return [{**box(), **values}]


@pytest.mark.parametrize(
    ("detections", "record", "message"),
    [
        (broken(left=float("nan")), "b", "record 'b': detections.left holds NaN"),
        (broken(confidences=[0.5, np.inf]), "b", "record 'b': detections.confidences holds NaN"),
        (broken(confidences=[1.0]), "b", "record 'b': detections.confidences has shape"),
        (broken(left=None), "b", "record 'b' has no detections.left, other records have"),
        (broken(left="wide"), "b", "record 'b': detections.left must be numbers"),
        (broken(class_name=3), None, "detections.class_name has values of several kinds"),
        (broken(widht=3), "b", r"a box has no field 'widht' \(did you mean 'width'\?\); its fields are: cl"),
        (None, "b", "record 'b' has no detections, other records have: use an empty list where"),
        (box(), "b", "must be a list of boxes"),
        ([None], "b", "record 'b': a box must be a dict, got None"),
    ],
)
def test_boxes_that_break_the_schema_are_named(detections, record, message):
    with pytest.raises(RecordError, match=message) as error:
        records.as_table([ROWS[0], {"id": "b", "detections": detections}])
    assert error.value.record == record


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[{"left": 1.0}], [{"left": None}]], "record 'b' has no detections.left, other records have"),
        ([[{"left": 1.0}], [{"left": float("nan")}]], "record 'b': detections.left holds NaN"),
        (
            [[{"logits": [1.0]}], [{"logits": [1.0, 2.0]}]],
            r"record 'b': detections.logits has shape \(2,\), ",
        ),
        ([[{"left": 1.0}], None], "record 'b' has no detections, other records have: use an empty list"),
        ([[{"left": 1.0}], [None]], "record 'b' has a box that is null"),
        ([[{"left": 1.0}], [{"right": 3.0}]], "a box has no field 'right'"),
        ([[{"class_name": 1}], []], "detections.class_name must be text"),
        ([1, 2], "detections must be a list of boxes in each record, got int64"),
    ],
)
def test_tables_of_boxes_that_break_the_schema_are_named(column, message):
    with pytest.raises(RecordError, match=message):
        records.as_table(pa.table({"id": ["a", "b"], "detections": column}))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("width", -3, "above 0, got -3"),
        ("height", 0, "above 0, got 0"),
        ("confidence", 7, "from 0 to 1, got 7"),
    ],
)
def test_numbers_that_no_box_can_have_are_refused(field, value, rule):
    numbers = {
        "left": [0.0, 1],
        "top": [0.0, 1],
        "width": [2.0, 2],
        "height": [2.0, 2],
        "confidence": [0.5, 1],
    }
    numbers[field] = [numbers[field][0], value]
    boxes = records.Boxes(
        np.array([0, 1, 1, 2]), **{name: np.float32(each) for name, each in numbers.items()}
    )
    with pytest.raises(RecordError, match=f"record 'c': detections.{field} must be {rule}"):
        records.from_arrays(["a", "b", "c"], detections=boxes)
    rows = [{"id": "c", "detections": [{name: each[1] for name, each in numbers.items()}]}]
    with pytest.raises(RecordError, match=f"record 'c': detections.{field} must be {rule}"):
        records.validate(rows, task="detection")


def test_boxes_of_no_area_are_not_mined():
    rows = [{"id": "c", "detections": [{"confidence": 0.5, "width": -3.0, "height": 1.0}]}]
    with pytest.raises(RecordError, match="record 'c': detections.width must be above 0, got -3"):
        mining.mine(rows, "confidence", 1)
