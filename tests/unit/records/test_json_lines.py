import datetime
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alhelpers import records
from alhelpers.records import RecordError, json_lines

DOCUMENTED = {
    "id": "a",
    "prediction": {
        "class_names": ["1", "7"],
        "class_name": "7",
        "confidences": [0.25, 0.75],
        "logits": [-1, 2.5],
    },
    "mc_dropout": [{"confidences": [0.5, 0.5]}, {"confidences": [0.25, 0.75]}],
    "query_by_committee": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]],
    "embeddings": {"": [1.0, 2.0], "early": [0.5]},
    "tags": {"run_id": 3, "site": {"name": "north"}},
    "groundtruth": {"class_name": "7"},
}
BOX = {"class_name": "cat", "confidence": 0.75, "confidences": [0.75, 0.25], "logits": [1.0, 0.0]}
BOXES = {
    "id": 1,
    "prediction": [{**BOX, "left": 1, "top": 2, "width": 3, "height": 4}],
    "embeddings": [0.5, 1.5],
    "groundtruth": "cat",
    "split": "train",
}


def lines(path, *documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def test_the_documented_form_becomes_a_record(tmp_path):
    table = records.from_json_lines(lines(tmp_path / "a.jsonl", DOCUMENTED))
    assert table.to_pylist() == [
        {
            "id": "a",
            "tags": {"run_id": 3, "site": {"name": "north"}},
            "class_names": ["1", "7"],
            "class_name": "7",
            "confidences": [0.25, 0.75],
            "logits": [-1.0, 2.5],
            "mc_dropout": [[0.5, 0.5], [0.25, 0.75]],
            "query_by_committee": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]],
            "embeddings": [1.0, 2.0],
            "embeddings:early": [0.5],
            "groundtruth": "7",
        }
    ]


def test_a_list_of_boxes_becomes_detections(tmp_path):
    table = records.from_json_lines(lines(tmp_path / "a.jsonl", BOXES, {**BOXES, "id": 2, "prediction": []}))
    found = records.boxes(table)
    assert found.offsets.tolist() == [0, 1, 1] and found.confidences.tolist() == [[0.75, 0.25]]
    assert table["embeddings"].to_pylist() == [[0.5, 1.5]] * 2
    assert table["groundtruth"].to_pylist() == ["cat", "cat"]


@pytest.mark.parametrize(
    "documents", [[DOCUMENTED], [BOXES], [{**DOCUMENTED, "detections": BOXES["prediction"]}]]
)
def test_there_and_back(tmp_path, documents):
    table = records.from_json_lines(lines(tmp_path / "a.jsonl", *documents))
    records.to_json_lines(tmp_path / "deep" / "b.jsonl", table)
    assert records.from_json_lines(tmp_path / "deep" / "b.jsonl").equals(table)
    records.write(tmp_path / "c.parquet", table)
    records.to_json_lines(tmp_path / "b.jsonl", tmp_path / "c.parquet")
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "deep" / "b.jsonl").read_bytes()


def test_many_lines_are_converted_some_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "_CHUNK_LINES", 7)
    confidences = [[k / 100, 1 - k / 100] for k in range(100)]
    documents = [
        {"id": k, "prediction": {"confidences": pair}, "tags": {"n": k} if k < 50 else {"m": "x"}}
        for k, pair in enumerate(confidences)
    ]
    path = tmp_path / "pool" / "a.parquet"
    assert records.convert(lines(tmp_path / "a.jsonl", *documents), path) == 100
    table = records.read(path)
    assert table["id"].to_pylist() == list(range(100))
    np.testing.assert_allclose(records.column(table, "confidences"), confidences, rtol=1e-6)
    assert table["tags"].to_pylist()[::50] == [{"n": 0, "m": None}, {"n": None, "m": "x"}]
    assert [each.name for each in path.parent.iterdir()] == ["a.parquet"]


def wrong(**values):
    return {"id": "b", "prediction": {"confidences": [0.5, 0.5]}, **values}


def predicting(**values):
    return {"id": "b", "prediction": values}


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 4 of .*a.jsonl is not JSON"),
        (b"\xff", "line 4 of .*a.jsonl is not JSON"),
        ([1], r"line 4 of .*a.jsonl must be an object, got \[1\]"),
        ('{"id": "b", "tags": {"n": 1, "n": 2}}', "line 4 of .*a.jsonl has the key 'n' twice"),
        ("null", "line 4 of .*a.jsonl must be an object, got None"),
        ({"prediction": {}}, "line 4 of .*a.jsonl has no id"),
        (wrong(prediction=[], detections=[]), "line 4 of .*a.jsonl has boxes twice"),
        (
            predicting(confidences=[0.5, 0.5], confidence="x"),
            "line 4 of .*: record 'b': confidence must be numbers|no confidence",
        ),
        (wrong(prediction="7"), "line 4 of .*: prediction must be an object, got '7'"),
        (predicting(confidences=[1.0]), "line 4 of .*: record 'b': confidences has"),
        (predicting(confidences=[0.5, "x"]), "line 4 of .*: record 'b': confidences must be numbers"),
        (predicting(confidences=[0.5, float("nan")]), "line 4 .*: record 'b': confidences holds NaN"),
        (predicting(), "line 4 of .*: record 'b'.* confidences"),
        (wrong(mc_dropout=[[1.0, 0.0]]), "line [14] of .*: record '.': mc_dropout|has no mc_dropout"),
        (wrong(mc_dropout=0.5), "line 4 of .*: mc_dropout must be a list of confidences, got 0.5"),
        (wrong(mc_dropout=[{"logits": [1]}]), r"line 4 of .*: mc_dropout\[0\] has no confidences"),
        (wrong(groundtruth={"name": "7"}), "line 4 of .*: groundtruth has no class_name"),
        (wrong(groundtruth=7), "line 4 of .*: groundtruth"),
        (wrong(tags={"n": "text"}), "tags"),
        (wrong(id="a"), "id 'a' comes more than once"),
        (wrong(id=3), "id"),
    ],
)
def test_a_bad_line_is_named_and_the_old_file_stays(tmp_path, monkeypatch, chunk, line, message):
    monkeypatch.setattr(json_lines, "_CHUNK_LINES", chunk)
    good = [{**wrong(), "id": id, "tags": {"n": 1}, "groundtruth": "7"} for id in ("a", "c")]
    path = lines(tmp_path / "a.jsonl", *good)
    text = line if isinstance(line, str | bytes) else json.dumps(line)
    text = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(path.read_bytes() + b"\n" + text + b"\n")
    target = tmp_path / "a.parquet"
    records.write(target, [{"id": 1}])
    with pytest.raises(RecordError, match=message):
        records.convert(path, target)
    assert records.read(target)["id"].to_pylist() == [1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jsonl", "a.parquet"]


@pytest.mark.parametrize("kept", range(0, 80, 3))
def test_a_last_line_that_is_cut_off_is_left_out_with_a_warning(tmp_path, kept):
    path = lines(tmp_path / "a.jsonl", BOXES, {**BOXES, "id": "é"} | {"id": 2})
    whole = path.read_bytes()
    (start, end) = whole.index(b"\n") + 1, len(whole) - 1
    path.write_bytes(whole[: start + kept])
    with warnings.catch_warnings(record=True) as said:
        table = records.from_json_lines(path)
    assert table["id"].to_pylist() == [1]
    assert [str(each.message)[:22] for each in said] == [f"line 2 of {path}, the"[:22]] * (kept > 0)
    path.write_bytes(whole[:end])
    assert records.from_json_lines(path)["id"].to_pylist() == [1, 2]
    path.write_bytes(whole[: start + kept] + b"\n" + whole[:start])
    if kept:
        with pytest.raises(RecordError, match="line 2 of .*a.jsonl is not JSON"):
            records.from_json_lines(path)


def test_a_glob_of_json_lines_is_read_as_one_file(tmp_path):
    lines(tmp_path / "b.jsonl", {**BOXES, "id": 2})
    lines(tmp_path / "a.jsonl", BOXES)
    assert records.from_json_lines(tmp_path / "*.jsonl")["id"].to_pylist() == [1, 2]
    lines(tmp_path / "c.jsonl", BOXES)
    with pytest.raises(RecordError, match="id 1 comes more than once"):
        records.from_json_lines(str(tmp_path / "*.jsonl"))


def test_columns_that_the_schema_does_not_know_are_left_out_alike_with_one_warning(tmp_path):
    table = records.as_table([{"id": 1, "groundtruth": "cat"}, {"id": 2, "groundtruth": "dog"}])
    foreign = table.append_column("tag", pa.array([[1], [2]]))
    for name in ("1", "2"):
        pq.write_table(foreign.slice(int(name) - 1, 1), tmp_path / f"{name}.parquet")
    lines(tmp_path / "a.jsonl", *foreign.to_pylist())
    glob = tmp_path / "*.parquet"
    for read in (
        lambda: records.read(glob),
        lambda: records.from_json_lines(tmp_path / "a.jsonl"),
        lambda: records.as_table(foreign),
        lambda: records.as_table(foreign.to_pylist()),
        lambda: records.select(records.query(glob)),
        lambda: pa.concat_tables([part.load() for part in records.parts(glob)]),
    ):
        with pytest.warns(UserWarning, match=r"left out: 'tag'.*did you mean 'tags'\?") as said:
            assert read().equals(table)
        assert len(said) == 1
    assert records.read(glob, ["groundtruth"]).equals(table)
    for source in (foreign, foreign.to_pylist(), glob, records.query(glob)):
        for put in (records.write, records.append, records.to_json_lines):
            with pytest.raises(RecordError, match="column 'tag' is not in the schema"):
                put(tmp_path / "new", source)
    with pytest.raises(RecordError, match="column 'tag' is not in the schema"):
        records.append(tmp_path / "1.parquet", [{"id": 3}])
    with pytest.raises(RecordError, match="field 'tag' is unknown"):
        records.query(glob, order_by="tag")


def test_fields_of_a_prediction_outside_of_it_are_named_with_their_place(tmp_path):
    flat = {"id": 1, "confidences": [0.1, 0.9], "class_names": ["a", "b"], "confidense": 1, "split": "test"}
    with pytest.warns(UserWarning) as said:
        table = records.from_json_lines(lines(tmp_path / "a.jsonl", flat, flat | {"id": 2}))
    (message,) = (str(each.message) for each in said)
    first = f" (line 1 of {tmp_path / 'a.jsonl'})"
    assert f"'confidences'{first}, which belongs in 'prediction': {{\"confidences\": ...}}, " in message
    assert f"'class_names'{first}, which belongs in 'prediction': {{\"class_names\": ...}}, " in message
    assert f"'confidense'{first}; put under metadata what is to be kept" in message
    assert table.column_names == ["id", "split"]


@pytest.mark.parametrize(
    ("first", "column", "end"),
    [
        ({"prediction": {"confidence": 0.5}}, "confidence", "$"),
        ({"embeddings": [1.0]}, "embeddings", "$"),
        ({"prediction": []}, "detections", ": use an empty list where nothing was found$"),
    ],
)
def test_a_line_that_lacks_what_others_have_is_named(tmp_path, first, column, end):
    for order in ([0, 1], [1, 0]):
        rows = [({"id": "a"} | first, {"id": "b"})[place] for place in order]
        message = f"of .*a.jsonl: record 'b' has no {column}, other records have{end}"
        with pytest.raises(RecordError, match=f"^line {1 + order.index(1)} {message}"):
            records.from_json_lines(lines(tmp_path / "a.jsonl", *rows))


def test_fields_inside_of_lines_that_are_not_known_are_named(tmp_path):
    document = {
        "id": 1,
        "prediction": {"logit": [0.5], "confidence": 0.5},
        "mc_dropout": [{"confidences": [1.0], "logits": [0.0]}],
        "groundtruth": {"class_name": "cat", "score": 1},
    }
    with pytest.warns(UserWarning) as said:
        records.from_json_lines(lines(tmp_path / "a.jsonl", document, {**document, "id": 2}))
    (message,) = (str(each.message) for each in said)
    for name in ("prediction.logit", "mc_dropout.logits", "groundtruth.score"):
        assert f"'{name}' (line 1 of " in message


def test_times_are_written_as_text_and_what_has_no_form_is_named(tmp_path):
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    records.to_json_lines(tmp_path / "a.jsonl", [{"id": 1, "metadata": {"at": moment, "on": moment.date()}}])
    read = records.from_json_lines(tmp_path / "a.jsonl")["metadata"].to_pylist()
    assert read == [{"at": moment.isoformat(), "on": "2026-01-02"}]
    with pytest.raises(RecordError, match="of type bytes cannot be written as JSON: convert it to text"):
        records.to_json_lines(tmp_path / "b.jsonl", [{"id": 1, "metadata": {"x": b"y"}}])
    assert not (tmp_path / "b.jsonl").exists()


def test_files_that_hold_nothing_are_named(tmp_path):
    with pytest.raises(RecordError, match="cannot read records from .*a.jsonl': no file matches"):
        records.from_json_lines(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(RecordError, match="a.jsonl holds no record"):
        records.from_json_lines(tmp_path / "a.jsonl")
