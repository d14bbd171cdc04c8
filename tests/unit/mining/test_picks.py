import os
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alhelpers.mining import MiningError, append_picks, parse_config, picks_of, read_picks, run

PLAN = {"plan": [{"strategy": "margin", "size": 3}, {"strategy": "random", "size": 2}], "size": 5}
COLUMNS = ["id", "score", "strategy", "round", "rank", "picked_at", "configuration"]


def test_no_file_is_no_picks(tmp_path):
    assert read_picks(tmp_path / "picks.parquet").column_names == COLUMNS
    assert read_picks(tmp_path / "picks.parquet").num_rows == 0


def test_each_round_is_kept_with_what_it_was(pool, tmp_path):
    path, day = tmp_path / "new folder" / "picks.parquet", datetime(2026, 1, 2, 3, tzinfo=UTC)
    first = run(PLAN, pool)
    assert append_picks(path, first, day) == read_picks(path) == picks_of(first, 1, day)
    second = run({"size": 4}, pool, picked=first.ids)
    new = append_picks(str(path), second)
    table = read_picks(path)
    assert table.slice(5) == new and table.column_names == COLUMNS
    columns = table.to_pydict()
    assert columns["id"] == first.ids + second.ids
    np.testing.assert_array_equal(table["score"].to_numpy(), np.concatenate([first.scores, second.scores]))
    assert columns["strategy"] == ["margin"] * 3 + ["random"] * 2 + ["margin"] * 4
    assert columns["round"] == [1] * 5 + [2] * 4 and columns["rank"] == [1, 2, 3, 4, 5, 1, 2, 3, 4]
    assert columns["picked_at"][:5] == [day] * 5 and columns["picked_at"][5] > day
    assert (
        columns["configuration"] == [parse_config(PLAN).digest] * 5 + [parse_config({"size": 4}).digest] * 4
    )
    assert os.listdir(path.parent) == ["picks.parquet"]


def test_ids_may_be_numbers(pool, tmp_path):
    numbered = [row | {"id": place} for place, row in enumerate(pool.to_pylist())]
    path = tmp_path / "picks.parquet"
    append_picks(path, run({"size": 5}, numbered))
    append_picks(path, run({"size": 5}, numbered, picked=read_picks(path)["id"].to_pylist()))
    assert read_picks(path)["id"].type == pa.int64() and len(set(read_picks(path)["id"].to_pylist())) == 10
    with pytest.raises(MiningError, match="holds picks of other records: .* is one, and 'r"):
        append_picks(path, run({"size": 5}, pool))


def test_no_id_comes_twice(pool, tmp_path):
    path, selection = tmp_path / "picks.parquet", run({"size": 5}, pool)
    append_picks(path, selection)
    before = path.read_bytes()
    with pytest.raises(MiningError, match=f"holds '{selection.ids[0]}' already"):
        append_picks(path, selection)
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_named_and_left_alone(pool, tmp_path):
    path = tmp_path / "picks.parquet"
    path.write_text("notes")
    with pytest.raises(MiningError, match="picks.parquet is not a file of picks"):
        append_picks(path, run({"size": 5}, pool))
    assert path.read_text() == "notes"
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(MiningError, match="not a file of picks: it has the columns id; give another name"):
        read_picks(path)
    with pytest.raises(MiningError, match="not a file of picks"):
        read_picks(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_whole(pool, tmp_path, monkeypatch):
    path, first = tmp_path / "picks.parquet", run({"size": 5}, pool)
    append_picks(path, first)
    before = path.read_bytes()
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
            with pytest.raises(OSError, match="the disk is full"):
                append_picks(path, run({"size": 5}, pool, picked=first.ids))
        assert path.read_bytes() == before
    append_picks(path, run({"size": 5}, pool, picked=first.ids))
    assert read_picks(path).num_rows == 10 and os.listdir(tmp_path) == ["picks.parquet"]
