import os
import shutil
import warnings
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alhelpers.mining import MiningError, append_picks, mine, parse_config, picks_of, read_picks, run

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


def test_picks_without_a_configuration_are_refused(pool, tmp_path):
    with pytest.raises(MiningError, match=r"select them by mining\.run, not by mining\.mine"):
        append_picks(tmp_path / "picks.parquet", mine(pool, "entropy", 5))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/picks/*.parquet", "memory://picks/[ab].parquet"])
def test_picks_of_several_files_are_refused(url, pool):
    for call in (lambda: read_picks(url), lambda: append_picks(url, run({"size": 5}, pool))):
        with pytest.raises(MiningError, match="name one file"):
            call()


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


# ------------------------------------------------------------------------------
# damage
# ------------------------------------------------------------------------------


@pytest.fixture
def rounds(pool, tmp_path):
    """A file of three rounds, and its picks."""
    path = tmp_path / "picks.parquet"
    for _ in range(3):
        append_picks(path, run({"size": 10}, pool, picked=read_picks(path)["id"].to_pylist()))
    return path, read_picks(path)


def test_any_byte_that_is_wrong_is_noticed_and_only_what_it_holds_is_lost(rounds):
    path, table = rounds
    content, kept = path.read_bytes(), []
    for place in range(0, len(content), 11):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = read_picks(path)
            except MiningError as error:  # the names or types of columns are others
                assert "is not a file of picks" in str(error)
                continue
        ids = found["id"].to_pylist()
        assert warned or found == table
        if warned:
            assert f"): {len(ids)} of its picks can be read" in str(warned[0].message)
            assert set(ids) <= set(table["id"].to_pylist())
            kept.append(len(ids))
    assert set(kept) == {0, 20, 30}  # of the footer, of the ids of a round, of another column


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:50], lambda b: b"", lambda b: bytes(len(b))]
)
def test_a_file_of_which_nothing_can_be_read_is_set_aside(damage, rounds, pool):
    path, _ = rounds
    content = damage(path.read_bytes())
    for number in (1, 2):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged .*: 0 of its picks can be read"):
            assert len(read_picks(path)) == 0
        with pytest.warns(UserWarning, match=f"kept as .*picks.parquet.damaged-{number}, and 0 of its picks"):
            append_picks(path, run({"size": 5}, pool))
        assert (path.parent / f"picks.parquet.damaged-{number}").read_bytes() == content
        assert len(read_picks(path)) == 5
    assert len(os.listdir(path.parent)) == 3


def test_what_can_be_read_of_a_damaged_file_is_written_anew(rounds, pool):
    path, table = rounds
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        left = read_picks(path)
    with pytest.warns(UserWarning, match=f"and {len(left)} of its picks are in the new file"):
        new = append_picks(path, run({"size": 5}, pool, picked=left["id"].to_pylist()))
    assert len(left) >= 20 and read_picks(path) == pa.concat_tables([left, new])


def test_a_disk_that_is_full_leaves_a_damaged_file_in_its_place(rounds, pool, monkeypatch):
    path, _ = rounds
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        append_picks(path, run({"size": 5}, pool))
    assert os.listdir(path.parent) == ["picks.parquet"] and len(path.read_bytes()) == 100


def test_files_of_one_round_that_another_program_wrote_are_read(rounds):
    path, table = rounds
    wide = table.set_column(0, "id", table["id"].cast(pa.large_string()))
    pq.write_table(wide, path)
    assert read_picks(path) == table
    pq.write_table(table.set_column(1, "score", pa.array(["high"] * 30)), path)
    with pytest.raises(MiningError, match="is not a file of picks: .*high"):
        read_picks(path)
