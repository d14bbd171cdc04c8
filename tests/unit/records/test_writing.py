import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alhelpers import records
from alhelpers.records import RecordError, writing


def rows(start, stop):
    return [{"id": f"r{k:03d}", "confidences": [0.25, 0.75], "tags": {"n": k}} for k in range(start, stop)]


def test_append_adds_behind_what_is_there(tmp_path):
    path = tmp_path / "deep" / "a.parquet"
    records.append(path, rows(0, 3))
    records.append(path, records.as_table(rows(3, 5)))
    records.write(tmp_path / "b.parquet", rows(5, 9))
    records.append(path, records.query(tmp_path / "b.parquet", [{"left": "tags.n", "op": "<", "right": 7}]))
    assert records.read(path).equals(records.as_table(rows(0, 7)))
    assert os.listdir(path.parent) == ["a.parquet"]


def test_row_groups_stay_full_whatever_is_appended(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "ROW_GROUP", 10)
    path = tmp_path / "a.parquet"
    for start, stop in [(0, 4), (4, 9), (9, 33), (33, 34)]:
        records.append(path, rows(start, stop))
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(k).num_rows for k in range(meta.num_row_groups)] == [10, 10, 10, 4]
    assert records.read(path).equals(records.as_table(rows(0, 34)))


def test_documents_of_the_appended_records_may_have_other_keys(tmp_path):
    path = tmp_path / "a.parquet"
    records.append(path, [{"id": 1, "tags": {"x": 1}, "split": "train"}])
    records.append(path, [{"id": 2, "tags": {"x": 0.5, "y": "n"}, "groundtruth": "cat"}])
    assert records.read(path).to_pylist() == [
        {"id": 1, "tags": {"x": 1.0, "y": None}, "split": "train", "groundtruth": None},
        {"id": 2, "tags": {"x": 0.5, "y": "n"}, "split": None, "groundtruth": "cat"},
    ]


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (rows(1, 2), "id 'r001' comes more than once"),
        (
            [{"id": 1, "confidences": [0.5, 0.5]}],
            "id is string in the file and int64 in the records to append",
        ),
        ([{"id": "a", "confidences": [1.0]}], r"confidences is fixed_size_list<.*>\[2\] in the file and"),
        ([{"id": "a"}], "record 'a' of .*a.parquet has no confidences, other records have"),
        ([{**rows(9, 10)[0], "confidence": 1}], "record 'r000' of .*has no confidence, other"),
        ([{**rows(9, 10)[0], "tags": {"n": "x"}}], "tags is struct.* in the file and"),
        ([{"id": "a", "confidences": [float("nan"), 0]}], "record 'a': confidences holds NaN"),
        ([], "hold no record"),
    ],
)
def test_what_cannot_be_appended_leaves_the_file_as_it_is(tmp_path, added, message):
    path = tmp_path / "a.parquet"
    records.write(path, rows(0, 3))
    whole = path.read_bytes()
    with pytest.raises(RecordError, match=message):
        records.append(path, added)
    assert path.read_bytes() == whole and os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("first", [0, 3])
def test_an_append_that_another_process_overtook_is_named(tmp_path, monkeypatch, first):
    path = tmp_path / "a.parquet"
    if first:
        records.write(path, rows(0, first))
    regrouped = writing._regrouped

    def overtaken(tables):
        yield from regrouped(tables)
        monkeypatch.undo()
        records.write(path, rows(0, 4))

    monkeypatch.setattr(writing, "_regrouped", overtaken)
    with pytest.raises(RecordError, match="was changed by another process meanwhile: append once more"):
        records.append(path, rows(5, 6))
    assert records.count(path) == 4 and os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("point", ["pyarrow.parquet.ParquetWriter.write_table", "os.fsync", "os.replace"])
def test_a_process_that_dies_while_it_writes_leaves_the_old_file_whole(tmp_path, point):
    path = tmp_path / "a.parquet"
    records.write(path, rows(0, 300))
    whole = path.read_bytes()
    module, _, name = point.rpartition(".")
    code = f"""
import os, signal, sys
import pyarrow.parquet
from alhelpers import records
done = {module}.{name}
calls = []

def die(*given, **options):
    # the records to append are written before: it is the file itself that is being written now
    calls.append(None)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return done(*given, **options)

{module}.{name} = die
records.append(sys.argv[1], [{{"id": "new", "confidences": [0.5, 0.5], "tags": {{"n": 1}}}}])
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert path.read_bytes() == whole
    assert records.read(str(tmp_path / "*.parquet")).num_rows == 300
    records.append(path, rows(300, 301))
    assert records.count(path) == 301


NOT_PARQUET = "a.parquet is not a Parquet file of records, or a part of it is missing"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, share):
    path = tmp_path / "a.parquet"
    records.write(path, rows(0, 300))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for look in (records.read, records.parts, records.count, records.field_names, records.validate):
        with pytest.raises(RecordError, match=NOT_PARQUET):
            look(path)
    with pytest.raises(RecordError, match=NOT_PARQUET):
        records.append(path, rows(400, 401))


def test_a_file_that_is_broken_or_gone_when_it_is_read_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    records.write(path, rows(0, 3000))
    (part,) = records.parts(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(1000) + whole[1004:])
    with pytest.raises(RecordError, match=NOT_PARQUET):
        part.load()
    path.unlink()
    with pytest.raises(RecordError, match="a.parquet .*No such file"):
        part.load()


def test_a_file_that_another_one_replaced_is_not_read_on(tmp_path):
    path = tmp_path / "a.parquet"
    records.write(path, rows(0, 30))
    before = records.parts(path, rows=10)
    records.write(path, rows(100, 130))
    for part in before:
        with pytest.raises(
            RecordError, match="a.parquet was changed while its records were read: start again"
        ):
            part.load()
    assert records.count(path) == 30


def test_files_in_another_form_are_named(tmp_path):
    records.to_json_lines(tmp_path / "a.jsonl", rows(0, 3))
    with pytest.raises(
        RecordError, match="a.jsonl is not a Parquet file .*read it with from_json_lines or convert"
    ):
        records.read(tmp_path / "a.jsonl")
    pq.write_table(pa.table([["a"], ["b"]], ["id", "id"]), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match="have more than one column 'id'"):
        records.read(tmp_path / "a.parquet")
    with pytest.raises(RecordError, match="records have more than one column 'split': rename or drop one"):
        records.as_table(pa.table([["a"], ["b"], ["c"]], ["id", "split", "split"]))


def test_no_file_at_all_is_named(tmp_path):
    for look in (records.read, records.parts, records.count, records.query, records.describe):
        with pytest.raises(RecordError, match="no file matches"):
            look(str(tmp_path / "*.parquet"))
    with pytest.raises(RecordError, match="no file matches"):
        records.write(tmp_path / "a.parquet", tmp_path / "b.parquet")
    with pytest.raises(RecordError, match="hold no record"):
        records.parts([])


def test_files_without_a_record_are_no_records(tmp_path):
    none = pa.table({"id": pa.array([], pa.string()), "confidences": pa.array([], pa.list_(pa.float32()))})
    pq.write_table(none, tmp_path / "a.parquet")
    (part,) = records.parts(tmp_path / "a.parquet")
    assert (part.rows, part.load().num_rows, records.count(tmp_path / "a.parquet")) == (0, 0, 0)
    for use in (records.read, lambda path: records.write(tmp_path / "b.parquet", path)):
        with pytest.raises(RecordError, match="hold no record"):
            use(tmp_path / "a.parquet")


@pytest.mark.parametrize("use", [records.write, records.append, records.to_json_lines])
def test_a_path_and_records_in_the_wrong_order_are_named(tmp_path, use):
    for given in (rows(0, 1), records.as_table(rows(0, 1)), records.query(rows(0, 1))):
        with pytest.raises(
            RecordError, match="a path must be text or a pathlib.Path, got .*; it comes first"
        ):
            use(given, tmp_path / "a.parquet")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["s3://bucket/a.parquet", "gs://b/*.jsonl", "https://host/a", "file:///a"])
def test_lines_and_what_is_appended_to_are_local_files(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    for path in (url, Path(url), records.Files(url)):
        with pytest.raises(RecordError, match="local files only"):
            records.from_json_lines(path)
        with pytest.raises(RecordError, match="local files only"):
            records.append(path, rows(0, 1))
        with pytest.raises(RecordError, match="local files only"):
            records.convert(path, "a.parquet")
    for use in (
        records.read,
        records.query,
        records.count,
        records.validate,
        lambda path: records.write(path, rows(0, 1)),
    ):
        with pytest.raises(RecordError, match="write it as text"):
            use(Path(url))
    assert os.listdir(tmp_path) == []


def test_json_lines_of_no_records_or_of_one_twice_are_not_written(tmp_path):
    twice = pa.concat_tables([records.as_table(rows(0, 2))] * 2)
    for given, message in (
        (twice, "id 'r000' comes more than once"),
        (records.query(twice[:1], limit=0), "no record"),
    ):
        with pytest.raises(RecordError, match=message):
            records.to_json_lines(tmp_path / "a.jsonl", given)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [".", "*.parquet", "part?.parquet"])
def test_records_are_written_to_one_file(tmp_path, name):
    for put in (records.write, records.append, records.to_json_lines):
        with pytest.raises(RecordError, match="name one file, not a folder or a glob"):
            put(tmp_path / name, rows(0, 1))
    assert os.listdir(tmp_path) == []
