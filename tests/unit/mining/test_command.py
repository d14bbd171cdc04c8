"""`alhelpers mine` where files, folders and readers are not as it wishes: one sentence, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_mining import make_table

from alhelpers import mining, records
from alhelpers.cli import main

resource = pytest.importorskip("resource")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records.write("pool.parquet", make_table())
    Path("config.json").write_text('{"size": 20}')
    return tmp_path


def arguments(*more, config="config.json", source="pool.parquet", output="picks.parquet"):
    return ["mine", config, source, "-o", output, *more]


def shell(command, **options):
    """Run a line of bash, in which $MINE is the command."""
    environment = os.environ | {"MINE": f"{sys.executable} -m alhelpers.cli mine config.json pool.parquet"}
    given = {
        "shell": True,
        "executable": "/bin/bash",
        "capture_output": True,
        "text": True,
        "env": environment,
    }
    return subprocess.run(command, check=False, **given | options)


def test_a_reader_that_has_enough_is_no_error(folder):
    for command, rounds in (
        ("$MINE -o picks.parquet --dry-run | true; exit ${PIPESTATUS[0]}", 0),
        ("$MINE -o picks.parquet --json | head -c 5 > /dev/null; exit ${PIPESTATUS[0]}", 1),
        ("$MINE -o picks.parquet >&-", 2),
    ):
        done = shell(command)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(mining.read_picks("picks.parquet")) == 20 * rounds


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_printed_is_said_and_the_picks_are_kept(folder):
    done = shell("$MINE -o picks.parquet > /dev/full")
    assert done.returncode == 1 and len(mining.read_picks("picks.parquet")) == 20
    first, second = done.stderr.splitlines()
    assert (
        first.startswith("error: stopped printing: OSError(28") and second == "picks.parquet holds the picks"
    )


def limited():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_full_disk_leaves_the_picks_as_they_were(folder):
    for there in (False, True):
        before = Path("picks.parquet").read_bytes() if there else None
        done = shell("$MINE -o picks.parquet", preexec_fn=limited)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("error: no picks were written to picks.parquet: [Errno 27]")
        assert done.stderr.count("\n") == 1
        kept = {".picks.parquet.lock", "config.json", "pool.parquet"} | (
            {"picks.parquet"} if there else set()
        )
        assert set(os.listdir()) == kept
        if there:
            assert Path("picks.parquet").read_bytes() == before
        else:
            assert main(arguments()) == 0


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("config.json/picks.parquet", 1, "no picks were written to config.json/picks.parquet: "),
        ("config.json/in/picks.parquet", 1, "no picks were written to config.json/in/picks.parquet: "),
        ("/proc/picks.parquet", 1, "no picks were written to /proc/picks.parquet: "),
        ("/proc/in/picks.parquet", 1, "no picks were written to /proc/in/picks.parquet: "),
        ("config.json", 1, "config.json is not a file of picks: "),
    ],
)
def test_places_that_cannot_hold_picks(output, code, message, folder, capsys):
    before = sorted(os.listdir())
    assert main(arguments(output=output)) == code
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert sorted(name for name in os.listdir() if not name.endswith(".lock")) == before
    assert Path("config.json").read_text() == '{"size": 20}'


def test_a_missing_folder_is_made(folder, capsys):
    assert main(arguments("--dry-run", output="in/it/picks.parquet")) == 0 and not os.path.exists("in")
    assert main(arguments(output="in/it/picks.parquet")) == 0
    assert len(mining.read_picks("in/it/picks.parquet")) == 20


def test_picks_are_local(folder, capsys):
    for output in ("s3://bucket/picks.parquet", ".", ""):
        with pytest.raises(SystemExit) as stopped:
            main(arguments(output=output))
        assert stopped.value.code == 2 and f"must be a local file, got {output!r}" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["config.json", "pool.parquet"]


@pytest.mark.parametrize(
    "source", ["s3://bucket/pool.parquet", "s3://bucket/pool.jsonl", "*.jsonl", "none/*.parquet"]
)
def test_records_that_are_not_there(source, folder, capsys):
    Path("novelty.json").write_text('{"strategy": "novelty"}')
    for given in (arguments(source=source), arguments("--reference", source, config="novelty.json")):
        assert main(given) == 1
        err = capsys.readouterr().err
        assert source in err and err.startswith("error: ") and err.count("\n") == 1
    assert not os.path.exists("picks.parquet")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[" * 100_000, "config.json: not valid JSON: "),
        ('{"size": 1e999}', "size inf must be"),
        ('{"select": {"filters": [{"left": "id", "op": "=", "right": NaN}]}}', "a value that JSON cannot: "),
        ('{"plan": {"weights": [{"strategy": "margin", "weight": 1}, {"strategy": "entropy", "weight": NaN}]}}',
         "weight nan must be a number above 0"),
    ],
)  # fmt: skip
def test_configurations_beyond_json(config, message, folder, capsys):
    Path("config.json").write_text(config)
    assert main(arguments()) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_single_member_is_one_sentence(folder, capsys):
    records.write("one.parquet", [{"id": "a", "mc_dropout": [[0.5, 0.5]]}])
    Path("config.json").write_text('{"strategy": "mc_dropout", "size": 1}')
    assert main(arguments(source="one.parquet")) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: strategy 'mc_dropout': samples must have ") and err.count("\n") == 1


def test_damaged_picks_are_set_aside_and_written_anew(folder, capsys):
    assert main(arguments()) == 0 and main(arguments()) == 0
    first, path = mining.read_picks("picks.parquet"), Path("picks.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 10] ^= 1  # in the first round
    path.write_bytes(content)
    capsys.readouterr()
    assert main(arguments("--dry-run")) == 0
    assert capsys.readouterr().err.startswith("warning: picks.parquet is damaged (")
    assert path.read_bytes() == content
    assert main(arguments("--json")) == 0
    said = capsys.readouterr()
    assert said.err.count("warning: ") == said.err.count("\n") == 2
    assert "it is kept as picks.parquet.damaged-1" in said.err and json.loads(said.out)["round"] == 3
    assert Path("picks.parquet.damaged-1").read_bytes() == content
    found = mining.read_picks("picks.parquet")["id"].to_pylist()
    assert set(first["id"].to_pylist()[20:]) <= set(found) and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("strategy", "code", "message"),
    [
        ("own.py:boom", 1, "own.py, line 2 failed: ZeroDivisionError: division by zero"),
        ("nosuch", 2, "--strategy nosuch: strategy 'nosuch' is unknown; there are: "),
        ("own.py:other", 2, "--strategy own.py:other: own.py has no function 'other'; it has: boom"),
        ("gone.py:other", 2, "--strategy gone.py:other: gone.py is not a file of Python"),
    ],
)
def test_what_is_wrong_with_a_strategy_of_the_command_line(strategy, code, message, folder, capsys):
    Path("own.py").write_text("def boom(confidences):\n    return 1 / 0\n")
    assert main(arguments("--strategy", strategy)) == code
    err = capsys.readouterr().err
    assert (
        err.startswith(f"error: {message}") and err.count("\n") == 1 and not os.path.exists("picks.parquet")
    )
