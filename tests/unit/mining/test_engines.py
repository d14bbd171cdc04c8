"""Every strategy picks the same on every engine, in every order of the records, in every partition."""

import operator
import os
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import helpers_mining
import numpy as np
import pyarrow as pa
import pytest
from dask.distributed import Client, LocalCluster
from helpers_mining import make_table

from alhelpers import records
from alhelpers.mining import MiningError, badge, combine, coreset, mine, strategies, typicality
from alhelpers.mining._engine import engine_of

PLANS = {
    "cascade": {"cascade": [{"strategy": "margin", "keep": "3x"}, {"strategy": "coreset"}]},
    "side by side": [
        {"strategy": "badge", "share": 0.5},
        {"strategy": "outlier", "share": 0.5, "options": {"n_neighbors": 5}},
    ],
    "weights": {
        "weights": [{"strategy": "entropy", "weight": 2}, {"strategy": "embedding_distance", "weight": 1}]
    },
}


@pytest.fixture(scope="module")
def files(table, tmp_path_factory):
    return written(table, tmp_path_factory.mktemp("pool"))


def written(table, folder):
    """Write the records to one file, and shuffled to several, one of a single record."""
    records.write(folder / "one.parquet", table)
    mixed = table.take(np.random.default_rng(9).permutation(table.num_rows))
    for number, (start, stop) in enumerate([(0, 1), (1, 70), (70, 200), (200, 240)]):
        records.write(folder / f"many-{number}.parquet", mixed.slice(start, stop - start))
    return folder


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def dask():
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def engines(processes, dask):
    return [None, processes, dask]


@pytest.fixture
def many_rounds(monkeypatch):
    """Let strategies that go in rounds need several of them also in a small pool."""
    monkeypatch.setattr(coreset, "_CANDIDATES", 4)
    monkeypatch.setattr(coreset, "_MIN_CANDIDATES", 2)
    monkeypatch.setattr(badge, "_CANDIDATES", 1)


def same(first, second):
    helpers_mining.same(first, second)
    assert first.meta == second.meta


@pytest.mark.parametrize("name", strategies())
def test_every_engine_partition_and_order_picks_the_same(name, table, labelled, files, engines):
    given = {"reference": labelled, "seed": 5}
    expected = mine(table, name, 30, **given)
    same(expected, mine(table.to_pylist(), name, 30, **given))
    same(expected, mine(files / "one.parquet", name, 30, **given))
    for engine in engines:
        same(expected, mine(files / "many-*.parquet", name, 30, engine=engine, **given))


@pytest.mark.parametrize(
    "name", [name for name, each in strategies().items() if each["reference"] == "optional"]
)
def test_a_reference_that_is_optional_may_be_missing(name, table, files, processes):
    expected = mine(table, name, 30)
    for engine in (None, processes):
        same(expected, mine(files / "many-*.parquet", name, 30, engine=engine))


@pytest.mark.parametrize("name", strategies())
def test_ties_between_copies_of_records_too(name, labelled, tmp_path, processes):
    rng = np.random.default_rng(3)
    copies = make_table(9).take(rng.integers(9, size=240))
    copies = copies.set_column(0, "id", pa.array([f"c{k:03d}" for k in rng.permutation(240)]))
    folder, given = written(copies, tmp_path), {"reference": labelled, "seed": 2}
    expected = mine(copies, name, 60, **given)
    same(expected, mine(folder / "one.parquet", name, 60, **given))
    for engine in (None, processes):
        same(expected, mine(folder / "many-*.parquet", name, 60, engine=engine, **given))


@pytest.mark.usefixtures("many_rounds")
@pytest.mark.parametrize("name", ["coreset", "badge"])
def test_the_number_of_rounds_changes_nothing(name, table, labelled, files, dask, monkeypatch):
    several = mine(files / "many-*.parquet", name, 30, reference=labelled)
    same(several, mine(files / "many-*.parquet", name, 30, reference=labelled, engine=dask))
    monkeypatch.undo()
    same(several, mine(table, name, 30, reference=labelled))


@pytest.mark.parametrize("name", PLANS)
def test_plans_too(name, table, labelled, files, engines):
    expected = combine(table, PLANS[name], 20, reference=labelled)
    for engine in engines:
        found = combine(files / "many-*.parquet", PLANS[name], 20, reference=labelled, engine=engine)
        same(expected, found)


def test_a_pool_larger_than_is_kept_is_read_again(table, labelled, files, monkeypatch):
    monkeypatch.setattr("alhelpers.mining._pool._CACHE_BYTES", 3000)
    for name in ("coreset", "badge", "outlier"):
        same(mine(table, name, 30), mine(files / "many-*.parquet", name, 30))


def test_typicality_samples_large_pools(table, files, dask, monkeypatch):
    monkeypatch.setattr(typicality, "_MAX_RECORDS", 100)
    found = mine(table, "typicality", 20, seed=2)
    assert found.meta["sample"] == 100 and found.meta["pool"] == 240
    drawn = set(mine(table, "random", 140, seed=2).ids)  # the largest numbers: those outside the sample
    assert not drawn & set(found.ids)
    same(found, mine(files / "many-*.parquet", "typicality", 20, seed=2, engine=dask))


def test_queries_are_pools(table, labelled, files, engines):
    chosen = [{"left": "groundtruth", "op": "!=", "right": "cat"}]
    left = records.select(table, chosen)
    for name in ("margin", "coreset", "outlier"):
        expected = mine(left, name, 10)
        for engine in engines:
            same(expected, mine(records.query(files / "many-*.parquet", chosen), name, 10, engine=engine))


def test_threads_are_an_engine(table, files):
    with ThreadPoolExecutor(2) as pool:
        same(mine(table, "coreset", 10), mine(files / "many-*.parquet", "coreset", 10, engine=pool))


def test_progress_goes_up_to_the_whole(files, labelled, engines):
    for engine in engines:
        for name in ("margin", "embedding_distance", "outlier", "coreset", "badge", "typicality"):
            total = 12 if name in ("coreset", "badge", "typicality") else 240
            calls = []
            mine(files / "many-*.parquet", name, 12, reference=labelled, engine=engine,
                 progress=lambda done, all_of_it, calls=calls: calls.append((done, all_of_it)))  # fmt: skip
            assert calls == sorted(calls) and calls[-1] == (total, total)


def test_ids_that_come_twice_in_two_files_are_named(table, tmp_path, engines):
    records.write(tmp_path / "0.parquet", table.slice(0, 100))
    records.write(tmp_path / "1.parquet", table.slice(99))
    twice = table["id"][99].as_py()
    for engine in engines:
        for name in ("margin", "coreset", "outlier", "random", "badge", "typicality"):
            with pytest.raises(records.RecordError, match=f"id '{twice}' comes more than once") as error:
                mine(tmp_path / "*.parquet", name, 5, engine=engine)
            assert error.value.record == twice


def test_what_is_wrong_is_named_on_every_engine(table, tmp_path, engines):
    rows = table.select(["id", "confidences", "embeddings"]).to_pylist()
    rows[17]["confidences"] = [3.0, 1.0, 0.5, 0.5]
    rows[30]["embeddings"] = [0.0] * 6
    records.write(tmp_path / "0.parquet", rows[:17])
    records.write(tmp_path / "1.parquet", rows[17:])
    for engine in engines:
        with pytest.raises(records.RecordError, match=f"record '{rows[17]['id']}' .*sums to 5") as error:
            mine(tmp_path / "*.parquet", "margin", 5, engine=engine)
        assert error.value.record == rows[17]["id"]
        with pytest.raises(records.RecordError, match=f"record '{rows[30]['id']}': embeddings is a zero"):
            mine(tmp_path / "*.parquet", "coreset", 5, engine=engine, metric="cosine")


def _dies(item, context):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_of_an_executor_that_dies_is_named():
    with ProcessPoolExecutor(1) as pool, pytest.raises(MiningError, match="a worker of the engine died"):
        list(engine_of(pool)(_dies, [1, 2], None))


def test_results_are_taken_as_they_are_asked_for():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = engine_of(pool)(operator.add, items(), 1)
        assert [next(results) for _ in range(3)] == [1, 2, 3]
        assert len(taken) < 100
        results.close()


def test_what_tasks_share_is_sent_to_a_cluster_once(dask):
    shared = _Counted()
    assert list(engine_of(dask)(_marked, range(20), shared)) == list(range(20))
    # tasks on one worker see one object
    assert len(_Counted.seen) <= 2


class _Counted:
    seen: set = set()


def _marked(item, context):
    _Counted.seen.add(id(context))
    return item


def test_a_cluster_that_loses_a_worker_gives_the_same_answer(table, labelled, files):
    expected = mine(table, "embedding_distance", 30, reference=labelled)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        workers = client.run(os.getpid)
        victims = [next(iter(workers.values()))]

        def progress(done, total):
            while victims:
                os.kill(victims.pop(), signal.SIGKILL)

        given = {"reference": labelled, "engine": client, "progress": progress}
        found = mine(files / "many-*.parquet", "embedding_distance", 30, **given)
        assert not victims
    same(expected, found)


def test_a_selection_can_be_sent(table):
    found = mine(table, "coreset", 5)
    same(found, pickle.loads(pickle.dumps(found)))
