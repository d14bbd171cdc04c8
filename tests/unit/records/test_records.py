import operator
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records
from alhelpers.records import RecordError

NAMES = ["cat", "dog", "fox"]


def arrays(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "confidences": rng.dirichlet(np.ones(3), size=count).astype(np.float32),
        "logits": rng.normal(size=(count, 3)).astype(np.float32),
        "embeddings": {
            "": rng.normal(size=(count, 4)).astype(np.float32),
            "layer.1": rng.normal(size=(count, 2)).astype(np.float32),
        },
        "mc_dropout": rng.dirichlet(np.ones(3), size=(count, 5)).astype(np.float32),
        "query_by_committee": rng.dirichlet(np.ones(3), size=(count, 2)).astype(np.float32),
    }


def full_table(count=6):
    return records.from_arrays(
        [f"r{k}" for k in range(count)],
        split="train",
        class_names=NAMES,
        groundtruth=[NAMES[k % 3] if k % 2 else None for k in range(count)],
        tags=[{"run_id": k % 3, "note": f"n{k}"} for k in range(count)],
        metadata=[{"x": k / 2, "deep": {"y": k}} for k in range(count)],
        **arrays(count),
    )


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
    given_arrays, table = arrays(), full_table()
    for name in ("confidences", "logits", "mc_dropout", "query_by_committee"):
        np.testing.assert_array_equal(records.column(table, name), given_arrays[name])
    for layer, values in given_arrays["embeddings"].items():
        name = f"embeddings:{layer}" if layer else "embeddings"
        np.testing.assert_array_equal(records.column(table, name), values)
    best = given_arrays["confidences"].argmax(axis=1)
    assert records.column(table, "class_name").tolist() == [NAMES[k] for k in best]
    np.testing.assert_array_equal(
        records.column(table, "confidence"), given_arrays["confidences"].max(axis=1)
    )
    assert table["class_names"].to_pylist() == [NAMES] * 6
    assert set(table["split"].to_pylist()) == {"train"}


def test_a_column_shares_the_tables_memory():
    table = full_table()
    for name in ("confidences", "mc_dropout"):
        first, again = records.column(table, name), records.column(table, name)
        assert np.shares_memory(first, again) and not first.flags.writeable
    part = records.column(table.slice(2, 3), "mc_dropout")
    np.testing.assert_array_equal(part, records.column(table, "mc_dropout")[2:5])
    assert np.shares_memory(part, records.column(table, "mc_dropout"))


def test_parquet_round_trip_keeps_types(tmp_path):
    table = full_table()
    records.write(tmp_path / "deep" / "a.parquet", table)
    back = records.read(tmp_path / "deep" / "a.parquet")
    assert back.equals(table)
    assert back["mc_dropout"].type.list_size == 5 and back["mc_dropout"].type.value_type.list_size == 3
    assert os.listdir(tmp_path / "deep") == ["a.parquet"]


def test_read_some_columns(tmp_path):
    records.write(tmp_path / "a.parquet", full_table())
    table = records.read(str(tmp_path / "a.parquet"), columns=["embeddings", "mc_dropout", "nothing"])
    assert set(table.column_names) == {"id", "embeddings", "mc_dropout"}


def test_read_a_glob_in_sorted_order_with_columns_that_differ(tmp_path):
    table = full_table()
    records.write(tmp_path / "b.parquet", table.slice(3))
    records.write(tmp_path / "a.parquet", table.slice(0, 3).drop_columns(["groundtruth"]))
    back = records.read(str(tmp_path / "*.parquet"))
    assert back["id"].to_pylist() == table["id"].to_pylist()
    assert back["groundtruth"].to_pylist()[:3] == [None] * 3
    np.testing.assert_array_equal(records.column(back, "logits"), records.column(table, "logits"))
    records.write(tmp_path / "c.parquet", back)


def test_a_list_of_dicts_round_trip(tmp_path):
    given_rows = rows()
    records.write(tmp_path / "a.parquet", given_rows)
    back = records.read(tmp_path / "a.parquet")
    assert back["id"].to_pylist() == [row["id"] for row in given_rows]
    np.testing.assert_allclose(records.column(back, "mc_dropout"), [row["mc_dropout"] for row in given_rows])
    np.testing.assert_allclose(records.column(back, "embeddings"), [row["embeddings"] for row in given_rows])


def test_empty_documents_and_missing_texts_are_null(tmp_path):
    given_rows = [
        {"id": 1, "tags": {}, "metadata": {"a": {}, "b": 1}},
        {"id": 2, "tags": {"t": 1}, "metadata": None, "split": "test"},
    ]
    records.write(tmp_path / "a.parquet", given_rows)
    back = records.read(tmp_path / "a.parquet").to_pylist()
    assert back == [
        {"id": 1, "tags": None, "metadata": {"b": 1}, "split": None},
        {"id": 2, "tags": {"t": 1}, "metadata": None, "split": "test"},
    ]


def test_tables_of_ordinary_lists_become_fixed_sizes():
    table = pa.table(
        {"id": ["a", "b"], "confidences": [[0.5, 0.5], [1, 0]], "mc_dropout": [[[1, 0], [0, 1]]] * 2}
    )
    checked = records.as_table(table)
    assert checked["confidences"].type == pa.list_(pa.float32(), 2)
    assert records.column(checked, "mc_dropout").shape == (2, 2, 2)


def test_numbers_as_ids():
    assert records.as_table([{"id": 3}, {"id": 1}])["id"].to_pylist() == [3, 1]


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    records.write(path, full_table())

    def broken(writer, table, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", broken)
    with pytest.raises(KeyboardInterrupt):
        records.write(path, full_table(3))
    monkeypatch.undo()
    assert records.read(path).num_rows == 6 and os.listdir(tmp_path) == ["a.parquet"]


def changed(place, **values):
    given_rows = rows()
    given_rows[place] = {**given_rows[place], **values}
    return given_rows


def lacking(place, name):
    given_rows = rows()
    del given_rows[place][name]
    return given_rows


@pytest.mark.parametrize(
    ("given_rows", "record", "column", "message"),
    [
        ([], None, None, "hold no record"),
        (changed(2, id="r0"), "r0", "id", "id 'r0' comes more than once"),
        (changed(2, id=None), None, "id", "record 2 of records must be a dict with an 'id'"),
        (changed(2, id=7), None, "id", "id has values of several kinds"),
        (
            changed(2, confidences=[0.5, 0.5]),
            "r2",
            "confidences",
            r"has shape \(2,\), other records have \(3,\)",
        ),
        (changed(2, mc_dropout=[[1, 0, 0], [1, 0]]), "r2", "mc_dropout", "rows of one length"),
        (changed(1, confidences=[0.5, np.nan, 0.5]), "r1", "confidences", "NaN or infinity"),
        (changed(3, mc_dropout=np.full((5, 3), np.inf)), "r3", "mc_dropout", "NaN or infinity"),
        (changed(1, confidence=float("nan")), "r1", "confidence", "NaN or infinity"),
        (changed(1, confidence="high"), "r1", "confidence", "must be numbers"),
        (lacking(1, "embeddings"), "r1", "embeddings", "record 'r1' has no embeddings"),
        ([{"id": "a", "confidences": 0.5}], None, "confidences", "must be a vector of numbers"),
        ([{"id": "a", "confidences": []}], None, "confidences", "must be a vector of numbers"),
        ([{"id": "a", "mc_dropout": [0.5, 0.5]}], None, "mc_dropout", "must be predictions x classes"),
        ([{"id": "a", "groundtruth": 3}], None, "groundtruth", "groundtruth must be text"),
        ([{"id": "a", "tags": "x"}], None, "tags", "tags must be dicts"),
        ([{"id": "a", "colour": 3}], None, "colour", "column 'colour' is not in the schema"),
        (
            [{"id": "a", "metadata": {"x": 1}}, {"id": "b", "metadata": {"x": "1"}}],
            None,
            "metadata",
            "several kinds",
        ),
        ([3], None, "id", "must be a dict"),
        (3, None, None, "must be a list of dicts, a pyarrow.Table, a query, or a path"),
    ],
)
def test_records_that_break_the_schema_are_named(tmp_path, given_rows, record, column, message):
    with pytest.raises(RecordError, match=message) as error:
        records.write(tmp_path / "a.parquet", given_rows)
    assert (error.value.record, error.value.column) == (record, column)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a", "b"], "confidences": [[0.5, 0.5], [1.0]]}, r"record 'b': confidences has shape \(1,\)"),
        ({"id": ["a", "b"], "confidences": [[0.5, 0.5], None]}, "record 'b' has no confidences"),
        (
            {"id": ["a", "b"], "confidences": [[0.5, 0.5], [1.0, None]]},
            "record 'b': confidences holds .* or a number is missing",
        ),
        (
            {"id": ["a", "b"], "mc_dropout": [[[1.0, 0.0]], [[1.0]]]},
            r"record 'b': mc_dropout has shape \(1, 1\)",
        ),
        (
            {"id": ["a", "b"], "confidences": ["x", "y"]},
            "confidences must be a vector of numbers in each record",
        ),
        (
            {"id": ["a", "b"], "confidences": [["x"], ["y"]]},
            "confidences must be a vector of numbers in each record",
        ),
        ({"id": ["a", None]}, "record 1 of records has no id"),
        ({"id": [0.5, 1.5]}, "ids of records must be strings or whole numbers"),
        ({"name": ["a", "b"]}, "have no column 'id'"),
        ({"id": pa.array([], pa.string())}, "hold no record"),
    ],
)
def test_tables_that_break_the_schema_are_named(table, message):
    with pytest.raises(RecordError, match=message):
        records.as_table(pa.table(table))


def test_other_columns_are_not_checked_where_columns_are_asked_for():
    given_rows = changed(1, embeddings=None, colour="red")
    assert set(records.as_table(given_rows, columns=["confidences"]).column_names) == {"id", "confidences"}


def test_from_arrays_names_what_does_not_fit():
    with pytest.raises(RecordError, match="confidences has 2 rows for 3 ids"):
        records.from_arrays(["a", "b", "c"], confidences=np.full((2, 2), 0.5))
    with pytest.raises(RecordError, match="confidences has 2 classes for 3 class names"):
        records.from_arrays(["a"], confidences=np.full((1, 2), 0.5), class_names=NAMES)
    with pytest.raises(RecordError, match="mc_dropout must be predictions x classes"):
        records.from_arrays(["a"], mc_dropout=np.full((1, 2), 0.5))


def test_reading_what_is_not_there_is_named(tmp_path):
    with pytest.raises(RecordError, match="no file matches"):
        records.read(tmp_path / "*.parquet")
    with pytest.raises(RecordError, match="it is a folder"):
        records.read(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(RecordError, match="not a Parquet file"):
        records.read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(RecordError, match="b.parquet have no column 'id'"):
        records.read(tmp_path / "b.parquet")
    records.write(tmp_path / "c0.parquet", [{"id": "a", "confidences": [0.5, 0.5]}])
    records.write(tmp_path / "c1.parquet", [{"id": "b", "confidences": [0.5, 0.25, 0.25]}])
    with pytest.raises(RecordError, match="do not fit together"):
        records.read(tmp_path / "c*.parquet")
    with pytest.raises(RecordError, match="records have no column 'logits'"):
        records.column(records.read(tmp_path / "c0.parquet"), "logits")


# ------------------------------------------------------------------------------
# selection
# ------------------------------------------------------------------------------


def ids_of(table):
    return table["id"].to_pylist()


@pytest.mark.parametrize(
    ("left", "op", "right", "expected"),
    [
        ("tags.run_id", "=", 1, ["r1", "r4"]),
        ("tags.run_id", "!=", 1, ["r0", "r2", "r3", "r5"]),
        ("tags.run_id", ">=", 1.5, ["r2", "r5"]),
        ("metadata.x", "<", 1, ["r0", "r1"]),
        ("metadata.x", "<=", 1, ["r0", "r1", "r2"]),
        ("metadata.deep.y", ">", 3, ["r4", "r5"]),
        ("id", "in", ["r3", "r0", "zz"], ["r0", "r3"]),
        ("id", "not in", ("r3", "r0"), ["r1", "r2", "r4", "r5"]),
        ("tags.note", "like", "n_", ["r0", "r1", "r2", "r3", "r4", "r5"]),
        ("tags.note", "like", "%5", ["r5"]),
        ("tags.note", "not like", "%5", ["r0", "r1", "r2", "r3", "r4"]),
        ("groundtruth", "=", None, ["r0", "r2", "r4"]),
        ("groundtruth", "!=", None, ["r1", "r3", "r5"]),
        ("groundtruth", "!=", "cat", ["r1", "r5"]),
        ("groundtruth", "not in", ["cat"], ["r1", "r5"]),
        ("groundtruth", "not like", "c%", ["r1", "r5"]),
    ],
)
def test_filters(left, op, right, expected):
    assert ids_of(records.select(full_table(), [{"left": left, "op": op, "right": right}])) == expected


def test_filters_all_hold_and_everything_is_optional():
    table = full_table()
    both = [{"left": "tags.run_id", "op": "=", "right": 1}, {"left": "metadata.x", "op": ">", "right": 1}]
    assert ids_of(records.select(table, both)) == ["r4"]
    assert records.select(table).equals(table)
    assert ids_of(records.select(table, both, limit=0)) == []
    assert ids_of(records.select(records.select(table, limit=0), both)) == []


def test_order_and_limit():
    table = full_table()
    assert ids_of(records.select(table, order_by="tags.run_id")) == ["r0", "r3", "r1", "r4", "r2", "r5"]
    assert ids_of(records.select(table, order_by="tags.run_id", desc=True, limit=3)) == ["r2", "r5", "r1"]
    assert ids_of(records.select(table, order_by="groundtruth"))[3:] == ["r0", "r2", "r4"]
    assert ids_of(records.select(table, order_by="groundtruth", desc=True))[3:] == ["r0", "r2", "r4"]


def test_floats_compare_as_they_are_stored():
    table = records.as_table([{"id": "a", "confidence": 0.9}, {"id": "b", "confidence": 0.8}])
    for op, right, expected in [
        ("=", 0.9, ["a"]),
        ("<", 0.9, ["b"]),
        ("in", [0.9], ["a"]),
        (">=", 0.8, ["a", "b"]),
    ]:
        assert ids_of(records.select(table, [{"left": "confidence", "op": op, "right": right}])) == expected


def test_select_takes_every_form_of_records(tmp_path):
    condition = [{"left": "groundtruth", "op": "=", "right": "dog"}]
    records.write(tmp_path / "a.parquet", rows())
    for form in (rows(), records.as_table(rows()), tmp_path / "a.parquet", str(tmp_path / "*.parquet")):
        assert ids_of(records.select(form, condition)) == ["r1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"filters": [{"left": "tags.run", "op": "=", "right": 1}]},
            r"field 'tags.run' is unknown \(did you mean 'tags.run_id'\?\); the records have: id, .*tags.run_id",
        ),
        ({"filters": [{"left": "confidences", "op": "=", "right": 1}]}, "field 'confidences' is unknown"),
        ({"filters": [{"left": "id", "op": "==", "right": 1}]}, "operator '==' is unknown; there are: <, <="),
        (
            {"filters": [{"left": "id", "op": "=", "right": 1}]},
            "the value does not fit the field, which holds string",
        ),
        ({"filters": [{"left": "tags.run_id", "op": "like", "right": "1%"}]}, "the field, which holds int64"),
        ({"filters": [{"left": "tags.run_id", "op": "in", "right": 1}]}, "does not fit"),
        ({"filters": [{"left": "id", "op": "in", "right": "r1"}]}, "does not fit"),
        ({"filters": [{"left": "tags.run_id", "op": "in", "right": ["a"]}]}, "does not fit"),
        ({"filters": [{"left": "id", "op": "<", "right": None}]}, "only = and != compare with None"),
        ({"filters": [{"left": "id", "op": "="}]}, "a filter must be"),
        ({"order_by": "colour"}, "field 'colour' is unknown"),
        ({"limit": -1}, "limit must be"),
        ({"limit": 2.5}, "limit must be"),
    ],
)
def test_selections_that_do_not_fit_are_named(options, message):
    with pytest.raises(RecordError, match=message):
        records.select(full_table(), **options)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=12),
    right=st.integers(-3, 3),
    op=st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
)
def test_comparisons_equal_pythons_and_complement_each_other(values, right, op):
    table = pa.table({"id": list(range(len(values))), "metadata": [{"v": v} for v in values]})
    if all(v is None for v in values):
        return
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq}
    compare["!="] = operator.ne
    opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}[op]
    met = ids_of(records.select(table, [{"left": "metadata.v", "op": op, "right": right}]))
    rest = ids_of(records.select(table, [{"left": "metadata.v", "op": opposite, "right": right}]))
    expected = [k for k, v in enumerate(values) if v is not None and compare[op](v, right)]
    assert met == expected
    assert sorted(met + rest) == [k for k, v in enumerate(values) if v is not None]


def test_the_room_imports_neither_datasets_of_arrow_nor_anything_heavy():
    code = (
        "import sys, alhelpers.records\n"
        "found = {'torch', 'dtlpy', 'IPython', 'papermill', 'sklearn', 'pyarrow.dataset'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
