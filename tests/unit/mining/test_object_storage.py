"""Mining from object storage: the same picks on every engine, though workers die; picks kept there."""

import json
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from dask.distributed import Client, LocalCluster
from helpers_mining import same
from object_storage import OPTIONS, TOKEN

from alhelpers import mining, records
from alhelpers.cli import main
from alhelpers.mining import mine


@pytest.fixture
def source(storage, table):
    url = f"{storage.url}/bucket/pool"
    for number in range(6):
        part = records.Files(f"{url}/{number}.parquet", OPTIONS)
        records.write(part, table.slice(40 * number, 40))
    return records.Files(f"{url}/*.parquet", OPTIONS)


@pytest.fixture(scope="module")
def dask():
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("name", ["entropy", "embedding_distance", "coreset"])
def test_every_engine_picks_the_same(name, source, table, labelled, dask):
    expected = mine(table, name, 30, reference=labelled)
    same(expected, mine(source, name, 30, reference=labelled))
    same(expected, mine(source, name, 30, reference=labelled, engine=dask))


def test_processes_pick_the_same(source, table):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        same(mine(table, "margin", 20), mine(source, "margin", 20, engine=pool))


@pytest.mark.parametrize("name", ["embedding_distance", "coreset"])
def test_a_worker_that_is_killed_changes_nothing(name, source, table, labelled):
    expected = mine(table, name, 30, reference=labelled)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        victims = [next(iter(client.run(os.getpid).values()))]

        def progress(done, total):
            while victims:
                os.kill(victims.pop(), signal.SIGKILL)

        found = mine(source, name, 30, reference=labelled, engine=client, progress=progress)
        assert not victims
    same(expected, found)


def test_what_goes_wrong_on_a_worker_is_named_without_secrets(source, storage, dask):
    files = sorted((storage.folder / "bucket" / "pool").iterdir())
    seen = []

    def delete(request):
        seen.append(request[:2])
        # its footer is read twice before a worker reads it
        if seen.count(("GET", "5.parquet")) == 3 and files[-1].exists():
            files[-1].unlink()

    storage.before = delete
    with pytest.raises(records.RecordError, match="5.parquet cannot be read: No such file") as error:
        mine(source, "entropy", 10, engine=dask)
    assert TOKEN not in str(error.value)
    logs = dask.get_worker_logs()
    assert TOKEN not in str(logs) and TOKEN not in str(dask.cluster.get_logs())


def test_rounds_of_picks_are_kept_by_url(source, storage, table):
    url = f"{storage.url}/bucket/picks.parquet"
    picks = records.Files(url, OPTIONS)
    assert len(mining.read_picks(picks)) == 0
    config = {"strategy": "margin", "size": 15}
    for number in (1, 2):
        known = mining.read_picks(picks)["id"].to_pylist()
        new = mining.append_picks(picks, mining.run(config, source, picked=known))
        assert set(new["round"].to_pylist()) == {number}
    found = mining.read_picks(picks)
    assert found["id"].to_pylist() == mine(table, "margin", 30).ids
    (storage.folder / "bucket" / "picks.parquet").write_bytes(b"PAR1 but no more")
    with pytest.warns(UserWarning, match="is damaged"):
        assert len(mining.read_picks(picks)) == 0
    with pytest.warns(UserWarning, match="it is kept as .*picks.parquet.damaged-"):
        mining.append_picks(picks, mining.run(config, source))
    assert len(list((storage.folder / "bucket").glob("picks.parquet.damaged-*"))) == 1


def test_picks_that_cannot_be_kept_are_named():
    for path in (["a.parquet", "b.parquet"], 3):
        with pytest.raises(mining.MiningError, match="cannot keep picks"):
            mining.read_picks(path if path == 3 else records.Files(path))


def test_the_command_takes_urls(tmp_path, table, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records.write(f"file://{tmp_path}/pool/a.parquet", table)
    (tmp_path / "config.json").write_text(json.dumps({"strategy": "novelty", "size": 5}))
    url = f"file://{tmp_path}/pool/*.parquet"
    assert main(["mine", "config.json", url, "-o", "picks.parquet", "--reference", url, "--json"]) == 0
    found = [row["id"] for row in json.loads(capsys.readouterr().out)["picks"]]
    assert found == mine(table, "novelty", 5, reference=table).ids
