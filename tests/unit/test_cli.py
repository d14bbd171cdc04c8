"""The command that mines: what it says, what it remembers, and what it leaves when it is stopped."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import CancelledError

import numpy as np
import pytest
from filelock import FileLock

from alhelpers import mining, records
from alhelpers.cli import main


def make_table(count=60, seed=0, split=None, prefix="r"):
    rng = np.random.default_rng(seed)
    return records.from_arrays(
        [f"{prefix}{row:03}" for row in range(count)],
        split=split,
        class_names=["cat", "dog", "fox"],
        confidences=rng.dirichlet(np.ones(3), count).astype(np.float32),
        embeddings=rng.normal(size=(count, 4)).astype(np.float32),
    )


@pytest.fixture
def pool(tmp_path):
    table = make_table()
    records.write(tmp_path / "pool.parquet", table)
    return table


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Write a configuration, and give the arguments that run it."""
    monkeypatch.chdir(tmp_path)

    def make(config, *more, source="pool.parquet"):
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return ["mine", "config.json", source, "-o", "picks.parquet", *more]

    return make


def said_by(capsys, arguments):
    """Run in this process; give the exit code, the object printed, and what went to stderr."""
    code = main([*arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_rounds_are_one_picking_without_repetition(pool, command, capsys):
    config = {"strategy": "entropy", "size": 25}
    found = []
    for number, count in enumerate((25, 25, 10), start=1):
        code, said, err = said_by(capsys, command(config))
        assert (code, err) == (0, "")
        assert [said[name] for name in ("round", "picked", "pool")] == [number, count, 60 - len(found)]
        assert [pick["rank"] for pick in said["picks"]] == list(range(1, count + 1))
        found += [pick["id"] for pick in said["picks"]]
    assert found == mining.mine(pool, "entropy", 60).ids
    table = mining.read_picks("picks.parquet")
    assert table["id"].to_pylist() == found
    assert set(table["configuration"].to_pylist()) == {said["configuration"]}
    before = open("picks.parquet", "rb").read()
    code, said, err = said_by(capsys, command(config))
    assert code == 3 and said == {"output": "picks.parquet", "picked": 0, "dry_run": False, "picks": []}
    assert err == "nothing is left to choose: every record was picked before (60 picks, 60 records)\n"
    assert open("picks.parquet", "rb").read() == before


def test_another_configuration_goes_on_where_the_last_one_stopped(pool, command, capsys):
    said_by(capsys, command({"strategy": "margin", "size": 10}))
    plan = [{"strategy": "entropy", "share": 0.5}, {"strategy": "random", "share": 0.5}]
    code, said, _ = said_by(capsys, command({"plan": plan, "size": 6}))
    ids = mining.read_picks("picks.parquet")["id"].to_pylist()
    first, second = ids[:10], ids[10:16]
    left = [row for row in pool.to_pylist() if row["id"] not in first]
    assert code == 0 and second == mining.combine(left, plan, 6).ids
    assert [pick["strategy"] for pick in said["picks"]] == ["entropy"] * 3 + ["random"] * 3


def test_what_is_said_to_people(pool, command, capsys):
    assert main(command({"size": 5}, "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = mining.mine(pool, "margin", 5)
    assert lines[0] == "round 1: would pick 5 of 60 records, 5 by margin"
    assert lines[1:] == [
        f"{id}\t{score:.6g}\tmargin" for id, score in zip(expected.ids, expected.scores, strict=True)
    ]
    assert sorted(os.listdir()) == ["config.json", "pool.parquet"]
    assert main(command({"size": 5})) == 0
    said = "round 1: picked 5 of 60 records, 5 by margin; picks.parquet holds them\n"
    assert capsys.readouterr() == (said, "")
    _, planned, _ = said_by(capsys, command({"size": 5}, "--dry-run"))
    assert planned["dry_run"] and planned["round"] == 2 and planned["pool"] == 55


def test_a_glob_and_a_reference_of_its_own(pool, command, tmp_path, capsys):
    table, labelled = make_table(), make_table(9, seed=1, prefix="t")
    os.remove("pool.parquet")
    for part in range(2):
        records.write(tmp_path / f"part-{part}.parquet", table.slice(30 * part, 30))
    records.write(tmp_path / "labelled.parquet", labelled)
    config = {"strategy": "novelty", "size": 8, "metric": "cosine"}
    arguments = command(config, "--reference", "labelled.parquet", source="part-*.parquet")
    _, said, _ = said_by(capsys, arguments)
    expected = mining.mine(table, "novelty", 8, reference=labelled, metric="cosine")
    assert [pick["id"] for pick in said["picks"]] == expected.ids


def test_a_strategy_of_the_command_line_has_no_options_of_another(pool, command, capsys):
    for own in (
        {"strategy": "novelty", "options": {"metric": "cosine"}},
        {"strategy": "coreset", "metric": "cosine"},
        {"plan": [{"strategy": "coreset", "share": 1}]},
    ):
        code, said, err = said_by(capsys, command(own | {"size": 8}, "--dry-run", "--strategy", "random"))
        assert code == 0 and len(said["picks"]) == 8 and "--strategy takes its place" in err
    kept = {"strategy": "novelty", "metric": "cosine", "size": 8}
    _, said, err = said_by(capsys, command(kept, "--dry-run", "--strategy", "coreset"))
    expected = mining.mine(pool, "coreset", 8, metric="cosine")
    assert [pick["id"] for pick in said["picks"]] == expected.ids and not err


def test_the_expected_boxes_are_said(command, tmp_path, capsys):
    box = {"left": 0, "top": 0, "width": 1, "height": 1, "confidence": 0.5}
    rows = [{"id": f"r{row}", "detections": [box] * 2} for row in range(9)]
    records.write(tmp_path / "boxes.parquet", rows)
    arguments = command({"strategy": "random", "size": 5}, "--dry-run", source="boxes.parquet")
    _, said, _ = said_by(capsys, [*arguments, "--max-boxes", "3"])
    assert (said["expected_boxes"], said["max_boxes"], said["ended_by_boxes"], said["picked"]) == (
        3,
        3,
        True,
        3,
    )
    _, said, _ = said_by(capsys, [*arguments, "--max-boxes", "99"])
    assert said["expected_boxes"] == 5 and said["ended_by_boxes"] is False
    _, said, _ = said_by(capsys, arguments)
    assert "expected_boxes" not in said
    main([*arguments, "--max-boxes", "3"])
    assert "3 by random, 3 boxes expected of at most 3, which ended the picks\n" in capsys.readouterr().out


def test_a_file_of_any_name_is_checked_as_the_kind_that_is_said(tmp_path, capsys):
    (tmp_path / "c.json").write_text('{"strategy": "random", "size": 3}')
    path = str(tmp_path / "c.json")
    assert main(["check", "--kind", "miner_configuration", path]) == 0
    assert capsys.readouterr().out == f"{path}: miner_configuration\n"
    assert main(["check", "--kind", "miner", path]) == 1
    assert "kind 'miner' is unknown: it must be one of subset_filter, " in capsys.readouterr().err
    assert main(["check", path]) == 1
    assert "or say what it is, such as --kind miner_configuration" in capsys.readouterr().err


def test_json_lines(pool, command, capsys):
    records.to_json_lines("pool.jsonl", pool)
    records.to_json_lines("labelled.jsonl", make_table(9, seed=1, prefix="t"))
    config = {"strategy": "embedding_distance", "size": 8}
    _, said, _ = said_by(capsys, command(config, "--reference", "labelled.jsonl", source="pool.jsonl"))
    expected = mining.mine(pool, "embedding_distance", 8, reference=make_table(9, seed=1, prefix="t"))
    assert [pick["id"] for pick in said["picks"]] == expected.ids
    with open("pool.jsonl", "a") as file:
        file.write("{\n")
    assert main(command(config, source="pool.jsonl")) == 1
    assert "line 61" in capsys.readouterr().err


def test_one_file_for_all_records(command, tmp_path, capsys):
    table, labelled = make_table(split="pool"), make_table(9, seed=1, split="train", prefix="t")
    records.write(tmp_path / "pool.parquet", [*table.to_pylist(), *labelled.to_pylist()])
    of = {name: {"filters": [{"left": "split", "op": "=", "right": name}]} for name in ("pool", "train")}
    config = {"strategy": "embedding_distance", "size": 8}
    config |= {"select": of["pool"], "select_reference": of["train"]}
    _, said, _ = said_by(capsys, command(config))
    expected = mining.mine(table, "embedding_distance", 8, reference=labelled)
    assert [pick["id"] for pick in said["picks"]] == expected.ids and said["pool"] == 60


NEVER = {"left": "id", "op": "=", "right": "x"}


@pytest.mark.parametrize(
    ("config", "more", "code", "message"),
    [
        ({"sise": 5}, [], 2, "json: miner_configuration has the unknown key 'sise'; known are 'strategy'"),
        ({"strategy": "margn"}, [], 2, "config.json: strategy 'margn' is unknown; did you mean 'margin'"),
        ("{", [], 2, "config.json: not valid JSON: Expecting"),
        ({"strategy": "mc_dropout"}, [], 1, "strategy 'mc_dropout' needs mc_dropout"),
        ({"strategy": "novelty"}, [], 1, "strategy 'novelty' needs a reference"),
        ({"select": {"order_by": "splt"}}, [], 1, "field 'splt' is unknown"),
        (
            {"strategy": "novelty"},
            ["--reference", "gone.parquet"],
            1,
            "cannot read records from 'gone.parquet'",
        ),
        ({}, ["-o", "pool.parquet"], 1, "pool.parquet is not a file of picks: it has the columns id"),
        ({"select": {"filters": [NEVER]}}, [], 3, "none of 60 records fits select"),
    ],
)
def test_exit_codes_and_one_line_of_error(pool, command, capsys, config, more, code, message):
    assert main(command(config, *more)) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == (code > 0) and err.startswith("error: ") == (code in (1, 2))


@pytest.mark.parametrize("arguments", [[], ["c", "r"], ["c", "r", "-o", "p", "--workers", "0"], ["c", "-o"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["mine", *arguments])
    assert stopped.value.code == 2


def test_files_that_are_not_there_are_named(pool, command, capsys):
    arguments = command({})
    os.remove("config.json")
    assert main(arguments) == 2 and "config.json" in capsys.readouterr().err
    assert main(command({}, source="gone*.parquet")) == 1
    assert "cannot read records from 'gone*.parquet': no file matches" in capsys.readouterr().err


def test_two_at_once_on_one_file_are_refused(pool, command, capsys):
    with FileLock(".picks.parquet.lock"):
        assert main(command({})) == 1
        assert "another run picks for picks.parquet at this moment" in capsys.readouterr().err
        assert main(command({}, "--dry-run")) == 0 and main([*command({}), "-o", "other.parquet"]) == 0
    assert not os.path.exists("picks.parquet") and main(command({})) == 0


def test_an_interrupt_leaves_the_picks_as_they_are(pool, command, capsys, monkeypatch):
    assert main(command({})) == 0
    before = open("picks.parquet", "rb").read()
    # a process that a shell put into the background does not hear Ctrl-C, and the tests may be one
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", lambda *_: signal.raise_signal(signal.SIGINT))
            assert main(command({})) == 1
    finally:
        signal.signal(signal.SIGINT, heard)
    assert capsys.readouterr().err == "error: interrupted: picks.parquet is unchanged\n"
    assert open("picks.parquet", "rb").read() == before
    assert sorted(os.listdir()) == [".picks.parquet.lock", "config.json", "picks.parquet", "pool.parquet"]
    assert main(command({})) == 0


# --------------------------------------------------------------------------------------- processes of their own


def test_a_run_that_is_killed_leaves_the_old_file_whole(pool, command):
    arguments = command({"size": 7})
    assert main(arguments) == 0
    before = open("picks.parquet", "rb").read()
    code = (
        "import os, signal; from alhelpers.cli import main; "
        f"os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); main({arguments!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert open("picks.parquet", "rb").read() == before
    assert main(arguments) == 0
    found = mining.read_picks("picks.parquet")
    assert found["id"].to_pylist() == mining.mine(pool, "margin", 14).ids
    assert set(found["round"].to_pylist()) == {1, 2}


def test_a_terminal_sees_a_bar(pool, command):
    termios = pytest.importorskip("termios")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (25, 80))
    process = [sys.executable, "-m", "alhelpers.cli", *command({"size": 5})]
    done = subprocess.run(process, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False)
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert done.returncode == 0 and done.stdout.startswith("round 1: picked 5 of 60 records")
    assert b"mining" in drawn and b"100%" in drawn and b"60.0/60.0" in drawn


def test_workers_and_a_cluster_pick_the_same(pool, command, capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    config = {"strategy": "coreset", "size": 8, "select": {"limit": 50, "order_by": "confidence"}}
    _, here, _ = said_by(capsys, command(config, "--dry-run"))
    arguments = command(config, "--dry-run", "--json", "--workers", "2")
    process = [sys.executable, "-m", "alhelpers.cli", *arguments]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.stderr == "" and json.loads(done.stdout) == here
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=1, **options) as cluster:
        address = ["--scheduler", cluster.scheduler_address]
        assert said_by(capsys, command(config, "--dry-run", *address)) == (0, here, "")

        def lose(*_, **__):
            raise CancelledError("score-1")

        monkeypatch.setattr(mining, "run", lose)
        code, _, err = said_by(capsys, command(config, *address))
        assert code == 1 and err.startswith(f"error: the cluster {address[1]} lost the work: ")
        assert not os.path.exists("picks.parquet")
