import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_records import full_table, ids_of
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records
from alhelpers.records import RecordError


@pytest.fixture
def forms(tmp_path):
    """The same fifty records in every form."""
    table = full_table(50)
    records.write(tmp_path / "one.parquet", table)
    pq.write_table(table, tmp_path / "groups.parquet", row_group_size=7)
    for place in range(3):
        records.write(tmp_path / f"part{place}.parquet", table.slice(place * 20, 20))
    return {
        "table": table,
        "rows": table.to_pylist(),
        "file": tmp_path / "one.parquet",
        "small groups": tmp_path / "groups.parquet",
        "glob": str(tmp_path / "part*.parquet"),
        "query": records.query(tmp_path / "one.parquet"),
    }


@pytest.mark.parametrize("rows", [3, 7, 20, 1000])
def test_parts_hold_every_record_once_in_order_whatever_the_form(forms, rows):
    for form, source in forms.items():
        cut = records.parts(source, rows=rows)
        loaded = [part.load() for part in cut]
        assert [part.rows for part in cut] == [table.num_rows for table in loaded], form
        assert all(0 < part.rows <= 1.5 * rows for part in cut), form
        assert pa.concat_tables(loaded).combine_chunks().equals(forms["table"]), form
        assert records.count(source) == 50, form
        assert records.field_names(source) == forms["table"].column_names, form


def test_a_part_loads_the_columns_that_are_asked_for_and_there(forms):
    for form, source in forms.items():
        (part, *_) = records.parts(source, ["mc_dropout", "embeddings:layer.1", "nothing"], rows=10)
        assert part.load().column_names == ["id", "embeddings:layer.1", "mc_dropout"], form
        assert records.parts(source, [])[0].load().column_names == ["id"], form


def test_a_part_is_read_again_and_travels_to_other_processes_alone(forms):
    for form, source in forms.items():
        part = records.parts(source, ["confidences"], rows=5)[3]
        copy = pickle.loads(pickle.dumps(part))
        assert copy.load().equals(part.load()) and part.load().equals(part.load()), form
        assert len(pickle.dumps(part)) < 3000, form


def test_parts_of_files_whose_columns_differ_are_of_one_type(tmp_path):
    records.write(tmp_path / "1.parquet", [{"id": "a", "tags": {"x": 1}}, {"id": "b", "split": "train"}])
    records.write(tmp_path / "2.parquet", [{"id": "c", "tags": {"x": 0.5, "y": "n"}, "groundtruth": "cat"}])
    one, other = (part.load() for part in records.parts(tmp_path / "*.parquet"))
    assert one.schema == other.schema
    tags = {"x": 1.0, "y": None}
    assert one.to_pylist()[0] == {"id": "a", "tags": tags, "split": None, "groundtruth": None}
    whole = records.read(tmp_path / "*.parquet")
    assert whole["tags"].to_pylist() == [tags, None, {"x": 0.5, "y": "n"}]


def test_lists_of_any_length_are_held_to_the_first_records(tmp_path):
    table = pa.table({"id": [1, 2, 3], "confidences": [[0.5, 0.5], [1.0, 0.0], [1.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        first, second, third = records.parts(source, rows=1)
        assert first.load().schema == second.load().schema
        with pytest.raises(RecordError, match=r"record 3: confidences has shape \(1,\), other records have"):
            third.load()


def test_what_does_not_fit_together_is_named(tmp_path):
    for name, values in {
        "a0": {"id": "a", "confidences": [0.5, 0.5]},
        "a1": {"id": 1, "confidences": [0.5, 0.5]},
        "b0": {"id": "a", "tags": {"x": 1}},
        "b1": {"id": "b", "tags": {"x": "one"}},
        "c0": {"id": "a", "confidences": [0.5, 0.5]},
        "c1": {"id": "b", "embeddings": [0.5, 0.5]},
    }.items():
        records.write(tmp_path / f"{name}.parquet", [values])
    with pytest.raises(RecordError, match="id is string in .*a0.parquet and int64 in .*a1.parquet"):
        records.parts(tmp_path / "a*.parquet")
    with pytest.raises(RecordError, match="do not fit together: tags is struct<x: int64>"):
        records.parts(tmp_path / "b*.parquet")
    _, second = records.parts(tmp_path / "c*.parquet", ["confidences"])
    with pytest.raises(RecordError, match="^record 'b' has no confidences") as error:
        second.load()
    assert (error.value.record, error.value.column) == ("b", "confidences")
    with pytest.raises(RecordError, match="rows must be a whole number"):
        records.parts(tmp_path / "b0.parquet", rows=0)


def test_an_id_that_comes_in_two_files_is_named(tmp_path):
    records.write(tmp_path / "a.parquet", full_table(9))
    records.write(tmp_path / "b.parquet", full_table(9, start=8))
    with pytest.raises(RecordError, match="id 'r8' comes more than once"):
        records.read(tmp_path / "*.parquet")
    with pytest.raises(RecordError, match="id 'r8' comes more than once"):
        records.write(tmp_path / "c.parquet", str(tmp_path / "*.parquet"))
    assert not (tmp_path / "c.parquet").exists()


# ------------------------------------------------------------------------------
# queries
# ------------------------------------------------------------------------------

FEW = [{"left": "tags.run_id", "op": "<", "right": 1}]


def test_a_query_of_a_query(forms):
    inner = records.query(
        forms["table"], [{"left": "tags.run_id", "op": ">", "right": 0}], 20, "tags.run_id", True
    )
    outer = records.query(inner, [{"left": "groundtruth", "op": "=", "right": "dog"}], limit=3)
    rows = [row for run in (2, 1) for row in forms["rows"] if row["tags"]["run_id"] == run][:20]
    met = sorted(row["id"] for row in rows if row["groundtruth"] == "dog")
    assert met and ids_of(records.select(outer)) == met[:3]
    assert pickle.loads(pickle.dumps(records.parts(outer)[0])).load().num_rows


def test_a_limit_reads_no_more_parts_than_it_takes(forms, tmp_path):
    middle = tmp_path / "part1.parquet"
    query = records.query(forms["glob"], FEW, limit=5)
    whole = middle.read_bytes()
    middle.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(RecordError, match="part1.parquet is not a Parquet file"):
        records.read(middle)
    assert records.count(query) == 5


# ------------------------------------------------------------------------------
# ids
# ------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab\0é€"), max_size=20)


@settings(max_examples=150)
@given(
    st.one_of(
        st.lists(st.lists(TEXTS, max_size=6), max_size=4),
        st.lists(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=6), max_size=4),
    ),
    st.integers(0, 2),
)
def test_ids_are_distinct_as_a_set_says(pieces, skipped):
    whole = [id for piece in pieces for id in piece[skipped:]]
    kind = pa.string() if all(isinstance(id, str) for piece in pieces for id in piece) else pa.int64()
    arrays = [pa.array(piece, kind)[skipped:] for piece in pieces]
    if len(set(whole)) == len(whole):
        records.check_distinct(arrays)
    else:
        with pytest.raises(RecordError, match="comes more than once") as error:
            records.check_distinct(arrays)
        assert error.value.record == min(id for id in whole if whole.count(id) > 1)


def test_unlike_ids_of_one_hash_are_distinct(monkeypatch):
    monkeypatch.setattr("alhelpers.records.ids.id_hashes", lambda ids: np.zeros(len(ids), np.uint64))
    records.check_distinct([pa.array(["a", "b"]), pa.array(["c"])])
    with pytest.raises(RecordError, match="id 'b' comes more than once in pool"):
        records.check_distinct([pa.array(["a", "b"]), pa.array(["b"])], "pool")


def test_ids_of_two_kinds_are_named():
    with pytest.raises(RecordError, match="string as 'a' and int64 as 3"):
        records.check_distinct([pa.array(["a"]), pa.array([3], pa.int8())])


def test_the_hash_of_an_id_never_changes():
    # random draws of mining depend on it: another hash would mean other picks
    ids = ["", "a", "item-000000001", "0123456789abcdef01234567", "\0", "é" * 9]

    def mixed(id):
        text = id.encode()
        bits = len(text)
        for start in range(0, len(text), 8):
            word = text[start : start + 8]
            bits ^= int.from_bytes(bytes(8 - len(word)) + word, "little")
            bits = bits * 0x9E3779B97F4A7C15 % 2**64
            bits ^= bits >> 29
        return bits

    assert records.id_hashes(pa.array(["x", *ids])[1:]).tolist() == [mixed(id) for id in ids]
    assert records.id_hashes(pa.array([3, -1])).tolist() == [3, 2**64 - 1]
    assert records.id_hashes(pa.array([], pa.string())).tolist() == []
