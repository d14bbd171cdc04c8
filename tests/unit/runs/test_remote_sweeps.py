"""Sweeps whose results go to object storage, on workers that share no folder."""

import io
import json
import os
import uuid

import nbformat
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from object_storage import OPTIONS, TOKEN

from alhelpers import cli
from alhelpers.runs import Processes, SweepError, cluster, results, sweep

PARAMETERS = 'seed: int = 0\ntable: str = "small.csv"\n'
CODE = """
import os
from helper import double
from alhelpers.notebook import record
with open(table) as file:
    record("lines", len(file.readlines()))
record("value", double(seed))
record("cwd", os.getcwd())
"""


@pytest.fixture
def path(notebook, tmp_path):
    (tmp_path / "helper.py").write_text("def double(value):\n    return 2 * value\n")
    (tmp_path / "small.csv").write_text("a\n1\n2\n")
    (tmp_path / "not_needed.csv").write_text("a\n")
    return notebook(PARAMETERS, CODE)


@pytest.fixture
def ran(monkeypatch):
    """Answer requests without running them; return the seeds."""
    found = []

    def execute(self, request):
        found.append(request["parameters"]["seed"])
        return {"copy": json.dumps(request["output"]), "seconds": 1, "recorded": {"value": found[-1]}}

    monkeypatch.setattr(Processes, "execute", execute)
    return found


def swept(path, output, seeds, **given):
    return sweep(path, {"seed": seeds}, output, given.pop("workers", 1), say=lambda line: None, **given)


def test_workers_that_do_not_see_the_folder_run_in_one_of_their_own(path, storage, monkeypatch):
    monkeypatch.setattr(cluster, "_sees", lambda folder: False)
    url = f"{storage.url}/bucket/sweeps/first"
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as local, Client(local) as client:
        table = swept(path, url, [0, 1, 2], workers=client, storage_options=OPTIONS)
    assert table["run.state"].to_list() == ["done"] * 3, table["run.error"].to_list()
    assert table["value"].to_list() == [0, 2, 4] and set(table["lines"]) == {3}
    (folder,) = set(table["cwd"])
    assert folder != str(path.parent) and not os.path.exists(folder)
    kept = storage.folder / "bucket" / "sweeps" / "first"
    assert pd.read_parquet(io.BytesIO((kept / "results.parquet").read_bytes())).equals(table)
    for name in table["run.notebook"]:
        executed = nbformat.read(kept / name, 4)
        assert executed.metadata.papermill.output_path == f"{url}/{name}"
    assert results(url, OPTIONS).equals(table)
    assert not [file for file in kept.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


@pytest.mark.parametrize("where", ["server", "memory"])
def test_a_sweep_goes_on_where_it_was_stopped(where, path, storage, ran):
    url = f"{storage.url}/bucket/sweep" if where == "server" else f"memory://{uuid.uuid4().hex}/sweep"
    given = {"storage_options": OPTIONS if where == "server" else None}
    assert swept(path, url, [0, 1], **given)["value"].to_list() == [0, 1]
    assert swept(path, url, [0, 1, 2], **given)["value"].to_list() == [0, 1, 2]
    assert ran == [0, 1, 2]
    with pytest.raises(SweepError, match=f"{url} holds a sweep with 1 settings that this one lacks"):
        swept(path, url, [0, 1], **given)


def test_all_runs_are_run_again(path, ran):
    url = f"memory://{uuid.uuid4().hex}/sweep"
    for _ in range(2):
        swept(path, url, [0, 1], fresh=True)
    assert sorted(ran) == [0, 0, 1, 1]


def test_a_storage_that_breaks_in_the_middle_loses_no_finished_run(path, storage, ran):
    url = f"{storage.url}/bucket/sweep"

    def close(request):
        if request[1] == "run.json" and any(name == "run.json" for _, name, _ in storage.requests):
            storage.token = "another"

    storage.before = close
    with pytest.raises(SweepError, match="cannot be written: no permission .*Start the sweep again") as error:
        swept(path, url, [0, 1, 2], storage_options=OPTIONS)
    assert TOKEN not in str(error.value)
    storage.before, storage.token = lambda request: None, TOKEN
    outcomes = list((storage.folder / "bucket" / "sweep").glob("runs/*/run.json"))
    assert [json.loads(file.read_text())["state"] for file in outcomes] == ["done"]
    ran.clear()
    assert swept(path, url, [0, 1, 2], storage_options=OPTIONS)["value"].to_list() == [0, 1, 2]
    assert len(ran) == 2


def test_what_cannot_be_reached_is_named(path, storage, ran):
    for url, message in (
        (f"{storage.url}/bucket/sweep", "no permission"),
        ("s3://bucket/sweep", "Install s3fs"),
    ):
        with pytest.raises(SweepError, match=message):
            swept(path, url, [0])
        with pytest.raises(SweepError, match=message):
            results(url)
    with pytest.raises(SweepError, match="does not exist: has a sweep run in"):
        results(f"{storage.url}/bucket/none", OPTIONS)
    assert not ran


def test_a_folder_of_something_else_is_not_written_to(path, storage, ran):
    (storage.folder / "bucket" / "data.csv").write_text("a")
    with pytest.raises(SweepError, match="/bucket holds other files than those of a sweep"):
        swept(path, f"{storage.url}/bucket", [0], storage_options=OPTIONS)
    assert os.listdir(storage.folder / "bucket") == ["data.csv"]


def test_the_command_takes_a_url(path, ran, tmp_path, capsys):
    url = f"file://{tmp_path}/out"
    assert cli.main(["sweep", str(path), "-g", "seed=0,1", "-o", url, "-w", "1"]) == 0
    assert f"2 runs done, 0 failed; table: {url}/results.csv" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.csv").exists()
