import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records
from alhelpers.records import RecordError


def table_of(count=50, start=0):
    rng = np.random.default_rng(start)
    return records.from_arrays(
        [f"r{k:03d}" for k in range(start, start + count)],
        confidences=rng.dirichlet(np.ones(3), size=count),
        embeddings={"": rng.normal(size=(count, 4)), "layer.1": rng.normal(size=(count, 2))},
        mc_dropout=rng.dirichlet(np.ones(3), size=(count, 5)),
        groundtruth=["cat" if k % 2 else None for k in range(count)],
        tags=[{"run": k % 7} for k in range(count)],
    )


@pytest.fixture
def forms(tmp_path):
    """The same fifty records in every form."""
    table = table_of()
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
        cut = records.parts(source, ["confidences"], rows=5)
        copy = pickle.loads(pickle.dumps(cut[3]))
        assert copy.load().equals(cut[3].load()) and cut[3].load().equals(cut[3].load()), form
        assert len(pickle.dumps(cut[3])) < 3000, form


def test_parts_of_files_whose_columns_differ_are_of_one_type(tmp_path):
    first = [{"id": "a", "tags": {"x": 1}}, {"id": "b", "split": "train"}]
    second = [{"id": "c", "tags": {"x": 0.5, "y": "n"}, "groundtruth": "cat"}]
    records.write(tmp_path / "1.parquet", first)
    records.write(tmp_path / "2.parquet", second)
    one, other = (part.load() for part in records.parts(tmp_path / "*.parquet"))
    assert one.schema == other.schema
    assert one.to_pylist()[0] == {
        "id": "a",
        "tags": {"x": 1.0, "y": None},
        "split": None,
        "groundtruth": None,
    }
    assert records.read(tmp_path / "*.parquet")["tags"].to_pylist() == [
        {"x": 1.0, "y": None},
        None,
        {"x": 0.5, "y": "n"},
    ]


def test_lists_of_any_length_are_held_to_the_first_records(tmp_path):
    table = pa.table({"id": [1, 2, 3], "confidences": [[0.5, 0.5], [1.0, 0.0], [1.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        first, second, third = records.parts(source, rows=1)
        assert first.load().schema == second.load().schema
        with pytest.raises(
            RecordError, match=r"record 3: confidences has shape \(1,\), other records have \(2,\)"
        ):
            third.load()


def test_what_does_not_fit_together_is_named(tmp_path):
    records.write(tmp_path / "a0.parquet", [{"id": "a", "confidences": [0.5, 0.5]}])
    records.write(tmp_path / "a1.parquet", [{"id": 1, "confidences": [0.5, 0.5]}])
    records.write(tmp_path / "b0.parquet", [{"id": "a", "tags": {"x": 1}}])
    records.write(tmp_path / "b1.parquet", [{"id": "b", "tags": {"x": "one"}}])
    records.write(tmp_path / "c0.parquet", [{"id": "a", "confidences": [0.5, 0.5]}])
    records.write(tmp_path / "c1.parquet", [{"id": "b", "embeddings": [0.5, 0.5]}])
    with pytest.raises(RecordError, match="id is string in .*a0.parquet and int64 in .*a1.parquet"):
        records.parts(tmp_path / "a*.parquet")
    with pytest.raises(RecordError, match="do not fit together: tags is struct<x: int64>"):
        records.parts(tmp_path / "b*.parquet")
    _, second = records.parts(tmp_path / "c*.parquet", ["confidences"])
    with pytest.raises(RecordError, match="record 'b' of records has no confidences") as error:
        second.load()
    assert (error.value.record, error.value.column) == ("b", "confidences")
    with pytest.raises(RecordError, match="rows must be a whole number"):
        records.parts(tmp_path / "b0.parquet", rows=0)


def test_an_id_that_comes_in_two_files_is_named(tmp_path):
    records.write(tmp_path / "a.parquet", table_of(10))
    records.write(tmp_path / "b.parquet", table_of(10, start=9))
    with pytest.raises(RecordError, match="id 'r009' comes more than once"):
        records.read(tmp_path / "*.parquet")
    with pytest.raises(RecordError, match="id 'r009' comes more than once"):
        records.write(tmp_path / "c.parquet", str(tmp_path / "*.parquet"))
    assert not (tmp_path / "c.parquet").exists()


# ------------------------------------------------------------------------------
# queries
# ------------------------------------------------------------------------------

CONDITIONS = [
    [],
    [{"left": "tags.run", "op": "<", "right": 3}],
    [{"left": "tags.run", "op": ">", "right": 9}],
]


@pytest.mark.parametrize("filters", CONDITIONS)
@pytest.mark.parametrize("limit", [None, 0, 4])
@pytest.mark.parametrize("order_by", [None, "groundtruth", "tags.run"])
def test_a_query_in_parts_is_the_selection(forms, filters, limit, order_by):
    for form, source in forms.items():
        query = records.query(source, filters, limit, order_by, desc=True)
        chosen = records.select(forms["table"], filters, limit, order_by, desc=True)
        assert records.select(source, filters, limit, order_by, desc=True).equals(chosen), form
        cut = records.parts(query, ["confidences"], rows=6)
        loaded = pa.concat_tables([part.load() for part in cut])
        expected = sorted(zip(chosen["id"].to_pylist(), chosen["confidences"].to_pylist(), strict=True))
        assert sorted(zip(*loaded.to_pydict().values(), strict=True)) == expected, form
        assert loaded.column_names == ["id", "confidences"]
        assert records.count(query) == chosen.num_rows
        if chosen.num_rows:
            assert records.as_table(query, ["logits"]).equals(chosen.select(["id"])), form


def test_a_query_of_a_query(forms):
    table = forms["table"]
    inner = records.query(table, CONDITIONS[1], limit=12, order_by="tags.run", desc=True)
    outer = records.query(inner, [{"left": "groundtruth", "op": "=", "right": "cat"}], limit=3)
    expected = [row for row in table.to_pylist() if row["tags"]["run"] == 2]
    expected += [row for row in table.to_pylist() if row["tags"]["run"] == 1][: 12 - len(expected)]
    met = [row["id"] for row in expected if row["groundtruth"] == "cat"]
    assert records.select(outer)["id"].to_pylist() == sorted(met)[:3]
    assert pickle.loads(pickle.dumps(records.parts(outer)[0])).load()["id"].to_pylist()


def test_a_limit_reads_no_more_parts_than_it_takes(forms, tmp_path):
    files = sorted(tmp_path.glob("part*.parquet"))
    query = records.query(forms["glob"], CONDITIONS[1], limit=5)
    whole = files[1].read_bytes()
    files[1].write_bytes(b"x" * (len(whole) // 2) + whole[len(whole) // 2 :])
    assert records.count(query) == 5


# ------------------------------------------------------------------------------
# ids
# ------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab\0é€"), max_size=20)


@settings(max_examples=150, deadline=None)
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
        twice = min(id for id in whole if whole.count(id) > 1)
        with pytest.raises(RecordError, match="comes more than once") as error:
            records.check_distinct(arrays)
        assert error.value.record == twice


def test_unlike_ids_of_one_hash_are_distinct(monkeypatch):
    monkeypatch.setattr("alhelpers.records.ids.id_hashes", lambda ids: np.zeros(len(ids), np.uint64))
    records.check_distinct([pa.array(["a", "b"]), pa.array(["c"])])
    with pytest.raises(RecordError, match="id 'b' comes more than once in pool"):
        records.check_distinct([pa.array(["a", "b"]), pa.array(["b"])], "pool")


def test_ids_of_two_kinds_are_named():
    with pytest.raises(RecordError, match="string as 'a' and int64 as 3"):
        records.check_distinct([pa.array(["a"]), pa.array([3], pa.int8())])


def test_the_hash_of_an_id_is_for_ever():
    # random draws of mining belong to it: another hash would be other picks
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


def test_ids_beyond_64_bits_are_named():
    for source in ([{"id": 2**70}], pa.table({"id": pa.array([2**63], pa.uint64())})):
        with pytest.raises(RecordError, match="64 bits"):
            records.as_table(source)
