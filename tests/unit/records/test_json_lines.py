import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, st.text()), min_size=1, max_size=30))
def test_floats_and_texts_come_back_as_they_were(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    rows = [
        {"id": k, "embeddings": [one, two], "tags": {"note": text}}
        for k, (one, two, text) in enumerate(values)
    ]
    records.to_json_lines(path, rows)
    assert records.from_json_lines(path).to_pylist() == rows


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
        ({"prediction": {}}, "line 4 of .*a.jsonl has no id"),
        (wrong(colour=1), "line 4 of .*a.jsonl: field 'colour' is unknown; known fields: id"),
        (wrong(tag={}), r"field 'tag' is unknown \(did you mean 'tags'\?\)"),
        (
            predicting(confidences=[0.5, 0.5], confidence="x"),
            "line 4 of .*: record 'b': confidence must be numbers|no confidence",
        ),
        (predicting(logit=[0.5]), r"field 'prediction.logit' is unknown \(did you mean 'logits'\?\)"),
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


def test_files_that_hold_nothing_are_named(tmp_path):
    with pytest.raises(RecordError, match="cannot read records from .*a.jsonl': No such file"):
        records.from_json_lines(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(RecordError, match="a.jsonl holds no record"):
        records.from_json_lines(tmp_path / "a.jsonl")
