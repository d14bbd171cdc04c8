import datetime
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_records import NAMES, arrays, full_table

from alhelpers import records
from alhelpers.records import RecordError


def rows(count=4):
    values = arrays(count)
    return [
        {
            "id": f"r{k}",
            "confidence": float(values["confidences"][k].max()),
            "confidences": values["confidences"][k].tolist(),
            "embeddings": values["embeddings"][""][k],
            "mc_dropout": values["mc_dropout"][k].tolist(),
            "groundtruth": NAMES[k % 3],
        }
        for k in range(count)
    ]


def test_from_arrays_and_column():
    given, table = arrays(6), full_table()
    layers = {f"embeddings:{layer}" if layer else "embeddings": v for layer, v in given["embeddings"].items()}
    for name, values in {**given, **layers}.items():
        np.testing.assert_array_equal(records.column(table, name), values)
    best = given["confidences"].argmax(axis=1)
    assert records.column(table, "class_name").tolist() == [NAMES[k] for k in best]
    np.testing.assert_array_equal(records.column(table, "confidence"), given["confidences"].max(axis=1))
    assert table["class_names"].to_pylist() == [NAMES] * 6
    assert set(table["split"].to_pylist()) == {"train"}
    with pytest.raises(RecordError, match="records have no column 'detections'"):
        records.column(table, "detections")


@pytest.mark.parametrize("name", ["confidences", "mc_dropout"])
def test_a_column_shares_the_tables_memory(name):
    table = full_table()
    whole, part = records.column(table, name), records.column(table.slice(2, 3), name)
    assert np.shares_memory(whole, records.column(table, name)) and not whole.flags.writeable
    np.testing.assert_array_equal(part, whole[2:5])
    assert np.shares_memory(part, whole)


def test_parquet_round_trip_keeps_types(tmp_path):
    path, table = tmp_path / "deep" / "a.parquet", full_table()
    records.write(path, table)
    back = records.read(path)
    assert back.equals(table)
    assert back["mc_dropout"].type.list_size == 5 and back["mc_dropout"].type.value_type.list_size == 3
    assert os.listdir(tmp_path / "deep") == ["a.parquet"]
    some = records.read(str(path), columns=["embeddings", "mc_dropout", "nothing"])
    assert set(some.column_names) == {"id", "embeddings", "mc_dropout"}


def test_empty_documents_and_missing_texts_are_null(tmp_path):
    given = [
        {"id": 1, "tags": {}, "metadata": {"a": {}, "b": 1}},
        {"id": 2, "tags": {"t": 1}, "metadata": None, "split": "test"},
    ]
    records.write(tmp_path / "a.parquet", given)
    assert records.read(tmp_path / "a.parquet").to_pylist() == [
        {"id": 1, "tags": None, "metadata": {"b": 1}, "split": None},
        {"id": 2, "tags": {"t": 1}, "metadata": None, "split": "test"},
    ]


def test_tables_of_ordinary_lists_become_fixed_sizes():
    values = {"id": [3, 1], "confidences": [[0.5, 0.5], [1, 0]], "mc_dropout": [[[1, 0], [0, 1]]] * 2}
    checked = records.as_table(pa.table(values))
    assert checked["id"].to_pylist() == [3, 1]
    assert checked["confidences"].type == pa.list_(pa.float32(), 2)
    assert records.column(checked, "mc_dropout").shape == (2, 2, 2)


ABSENT = object()


def changed(place, **values):
    given = rows()
    given[place] = {key: value for key, value in {**given[place], **values}.items() if value is not ABSENT}
    return given


@pytest.mark.parametrize(
    ("given", "record", "column", "message"),
    [
        ([], None, None, "hold no record"),
        (changed(2, id="r0"), "r0", "id", "id 'r0' comes more than once"),
        (changed(2, id=None), None, "id", "record 2 of records must be a dict with an 'id'"),
        (changed(2, id=7), None, "id", "id has values of several kinds"),
        (changed(2, confidences=[1]), "r2", "confidences", r"has shape \(1,\), other records have \(3,\)"),
        (changed(2, mc_dropout=[[1, 0, 0], [1, 0]]), "r2", "mc_dropout", "rows of one length"),
        (changed(1, confidences=[0.5, np.nan, 0.5]), "r1", "confidences", "NaN or infinity"),
        (changed(3, mc_dropout=[[np.inf] * 3] * 5), "r3", "mc_dropout", "NaN or infinity"),
        (changed(1, confidence=float("nan")), "r1", "confidence", "NaN or infinity"),
        (changed(1, confidence="high"), "r1", "confidence", "must be numbers"),
        (changed(1, embeddings=ABSENT), "r1", "embeddings", "record 'r1' has no embeddings"),
        ([{"id": "a", "confidences": 0.5}], None, "confidences", "must be a vector of numbers"),
        ([{"id": "a", "confidences": []}], "a", "confidences", "must be a vector of numbers, got"),
        ([{"id": "a", "mc_dropout": [0.5, 0.5]}], None, "mc_dropout", "must be predictions x classes"),
        ([{"id": "a", "groundtruth": 3}], None, "groundtruth", "groundtruth must be text"),
        ([{"id": "a", "tags": "x"}], None, "tags", "tags must be dicts"),
        ([{"id": "a", "colour": 3}], None, "colour", "column 'colour' is not in the schema"),
        (
            [{"id": k, "metadata": {"x": x}} for k, x in enumerate([1, "1"])],
            None,
            "metadata",
            "several kinds",
        ),
        ([{"id": 2**70}], None, "id", "64 bits"),
        ([3], None, "id", "must be a dict"),
        (3, None, None, "must be a list of dicts, a pyarrow.Table, a query, or a path"),
    ],
)
def test_records_that_break_the_schema_are_named(tmp_path, given, record, column, message):
    with pytest.raises(RecordError, match=message) as error:
        records.write(tmp_path / "a.parquet", given)
    assert (error.value.record, error.value.column) == (record, column)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("confidences", [[0.5, 0.5], [1.0]], r"record 'b': confidences has shape \(1,\)"),
        ("confidences", [[0.5, 0.5], None], "record 'b' has no confidences"),
        ("confidences", [[0.5, 0.5], [1.0, None]], "record 'b': confidences holds .* or a number is missing"),
        ("confidences", [[], [0.5, 0.5]], r"record 'a': confidences must be a vector of numbers, got \[\]"),
        ("confidences", [[None, None]] * 2, "record 'a': confidences holds .* or a number is missing"),
        ("confidences", [None, None], "record 'a' has no confidences, other records have"),
        ("mc_dropout", [[[1.0, 0.0]], [[1.0]]], r"record 'b': mc_dropout has shape \(1, 1\)"),
        ("confidences", ["x", "y"], "confidences must be a vector of numbers in each record"),
        ("confidences", [["x"], ["y"]], "confidences must be a vector of numbers in each record"),
        ("id", ["a", None], "record 1 of records has no id"),
        ("id", [0.5, 1.5], "ids of records must be strings or whole numbers"),
        ("id", pa.array([2**63], pa.uint64()), "64 bits"),
        ("id", pa.array([], pa.string()), "hold no record"),
    ],
)
def test_tables_that_break_the_schema_are_named(column, values, message):
    with pytest.raises(RecordError, match=message):
        records.as_table(pa.table({"id": ["a", "b"], column: values} if column != "id" else {"id": values}))


def test_other_columns_are_not_checked_where_columns_are_asked_for():
    given = changed(1, embeddings=None, colour="red")
    assert set(records.as_table(given, columns=["confidences"]).column_names) == {"id", "confidences"}


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        ("abc", {"confidences": np.full((2, 2), 0.5)}, "confidences has 2 rows for 3 ids"),
        (
            "a",
            {"confidences": [[0.5, 0.5]], "class_names": NAMES},
            "confidences has 2 classes for 3 class names",
        ),
        ("a", {"mc_dropout": np.full((1, 2), 0.5)}, "mc_dropout must be predictions x classes"),
    ],
)
def test_from_arrays_names_what_does_not_fit(ids, values, message):
    with pytest.raises(RecordError, match=message):
        records.from_arrays(list(ids), **values)


def test_reading_what_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "b.parquet")
    records.write(tmp_path / "c0.parquet", [{"id": "a", "confidences": [0.5, 0.5]}])
    records.write(tmp_path / "c1.parquet", [{"id": "b", "confidences": [0.5, 0.25, 0.25]}])
    for path, message in {
        "*.txt": "no file matches",
        "": "not a Parquet file",
        "empty": "no file matches",
        "a.parquet": "not a Parquet file",
        "b.parquet": "b.parquet have no column 'id'",
        "c*.parquet": "do not fit together",
    }.items():
        with pytest.raises(RecordError, match=message):
            records.read(tmp_path / path)


def test_the_module_imports_neither_datasets_of_arrow_nor_anything_heavy():
    code = (
        "import sys, alhelpers.records\n"
        "found = {'torch', 'dtlpy', 'IPython', 'papermill', 'sklearn', 'pyarrow.dataset'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("label", [1, 0, True, np.int64(1), np.bool_(True), 1.5, np.float32(1)], ids=repr)
@pytest.mark.parametrize("column", ["groundtruth", "class_name", "split", "class_names", "detections"])
def test_labels_that_are_not_text_are_refused_alike_in_every_form(tmp_path, column, label):
    def value(label):
        return {"class_names": [label], "detections": [{"class_name": label}]}.get(column, label)

    records.write(tmp_path / "0.parquet", [{"id": 0, column: value(np.str_("1"))}])
    foreign = {"id": 1, column: value(label.item() if isinstance(label, np.generic) else label)}
    pq.write_table(pa.Table.from_pylist([foreign]), tmp_path / "1.parquet")
    for use in (
        lambda: records.as_table([{"id": 1, column: value(label)}]),
        lambda: records.from_arrays([1], **{column: [label] if column == "class_names" else [value(label)]}),
        lambda: records.read(tmp_path / "1.parquet"),
        lambda: records.read(tmp_path / "*.parquet"),
    ):
        with pytest.raises(RecordError, match=r"must be .*text.* \(convert other labels with str\), got"):
            use()
    with pytest.raises(RecordError, match="values of several kinds"):
        records.as_table([{"id": k, column: value(each)} for k, each in enumerate(["1", label])])


@pytest.mark.parametrize(
    "ids", [[1, "1"], [1, 1.0], [0, False], [1.0, float("nan")], [True, False], [b"a", b"b"]]
)
def test_ids_of_other_types_are_refused_alike_in_every_form(ids):
    for use in (
        lambda: records.as_table([{"id": id} for id in ids]),
        lambda: records.from_arrays(ids),
        lambda: records.from_arrays(np.array(ids, dtype=object)),
    ):
        with pytest.raises(
            RecordError, match="ids of .* must be strings or whole numbers|values of several kinds"
        ):
            use()


TIME = np.array(["2026"], "datetime64[s]")


@pytest.mark.parametrize("vector", [["0.5"], [0.5, "0.5"], [1j, 0], [10**400], [1e39, 0], TIME], ids=str)
def test_what_numpy_would_read_as_numbers_is_refused(vector):
    for use in (
        lambda: records.as_table([{"id": "a", "embeddings": vector}]),
        lambda: records.as_table(pa.table({"id": ["a"], "embeddings": [list(map(str, vector))]})),
        lambda: records.from_arrays(["a"], embeddings=np.array([vector])),
    ):
        with pytest.raises(RecordError, match="embeddings (must be|holds)"):
            use()


@pytest.mark.parametrize(
    "values",
    [
        ["a", b"a"],
        [datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 5)],
        [datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)],
    ],
)
def test_what_arrow_would_convert_in_documents_is_refused(values):
    for each in (values, values[::-1]):
        for rows in (
            [{"id": k, "tags": {"deep": {"x": value}}} for k, value in enumerate(each)],
            [{"id": 1, "tags": {"deep": {"x": each}}}],
        ):
            with pytest.raises(RecordError, match="tags.* has values of several kinds") as error:
                records.as_table(rows)
            assert error.value.column == "tags"
