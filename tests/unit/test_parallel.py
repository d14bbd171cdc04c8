import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from joblib.externals.loky import reusable_executor

from alhelpers import parallel

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Start processes for any job, as if there were two cores and nothing set."""
    monkeypatch.setattr(parallel, "_WORTH_A_START", 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert list(parallel.run(abs, [-1, -2, -3], workers=2)) == [
        1,
        2,
        3,
    ]  # from here on, two processes are running


def wait_for_the_other(folder, number):
    """Return this process's id when another one, too, has come here."""
    (folder / f"{number}-{os.getpid()}").touch()
    for _ in range(2000):
        if len({path.name.split("-")[1] for path in folder.iterdir()}) > 1:
            return number, os.getpid()
        threading.Event().wait(0.01)
    raise TimeoutError("no other process came")


def test_results_come_in_order_from_here_and_a_process_that_is_kept(tmp_path):
    found = []
    for name, numbers in (("first", [3, 1, 2, 0]), ("again", [5, 6])):
        (tmp_path / name).mkdir()
        jobs = [(tmp_path / name, number) for number in numbers]
        results = list(parallel.run(lambda job: wait_for_the_other(*job), jobs, workers=2))
        assert [number for number, _ in results] == numbers
        found.append({pid for _, pid in results})
    assert len(found[0]) == 2 and found[0] == found[1] and os.getpid() in found[0]


def threads_and_product(matrix):
    return torch.get_num_threads(), (matrix @ matrix).numpy().tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_fixed_and_results_the_same_anywhere(threads, other_process):
    matrices = list(torch.rand(6, 300, 300, generator=torch.Generator().manual_seed(0)))
    before = torch.get_num_threads()
    results = [
        list(parallel.run(threads_and_product, matrices, workers=workers, threads=threads))
        for workers in (1, 2, other_process)
    ]
    assert results[0] == results[1] == results[2]
    assert {count for count, _ in results[0]} == {threads} and torch.get_num_threads() == before


def test_jobs_inside_a_worker_run_one_after_another(other_process):
    def pids(_):
        return {pid for pid in parallel.run(lambda _: os.getpid(), range(3), workers=2)}, os.getpid()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(parallel.nested).result()
    assert other_process.submit(parallel.nested).result()
    inner, outer = next(parallel.run(pids, [0, 1], workers=2))
    assert inner == {outer}
    assert not parallel.nested()


def test_what_cannot_be_sent_is_computed_here(tmp_path):
    class Unreadable:
        def __reduce__(self):
            return os.strerror, ("no number",)  # fails where it is read

    lock = threading.Lock()
    jobs = [lock, Unreadable(), lock, Unreadable()]
    assert list(parallel.run(lambda job: (os.getpid(), type(job)), jobs, workers=2)) == [
        (os.getpid(), type(job)) for job in jobs
    ]


def elsewhere(folder, action):
    """Call in the other process, while this one waits for that."""
    here = os.getpid()

    def job(number):
        if os.getpid() == here:
            wait_for_the_other(folder, number)
            return 1
        (folder / f"{number}-{os.getpid()}").touch()
        threading.Event().wait(0.5)  # until this one has come here, too
        return action(number)

    return job


def test_an_error_is_raised_in_its_place_and_ends_the_rest():
    results = parallel.run(lambda number: 1 // number, [1, 0, 1, 1], workers=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(parallel.run(abs, [-1, -2], workers=2)) == [1, 2]


def test_an_error_in_another_process_says_so(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        list(parallel.run(elsewhere(tmp_path, lambda _: 1 // 0), [1, 2, 3], workers=2))
    assert "In another process" in caught.value.__notes__[0]


def test_a_process_that_dies_is_named_and_replaced(tmp_path):
    with pytest.raises(RuntimeError, match="terminated"):
        list(parallel.run(elsewhere(tmp_path, os._exit), [3, 4, 5], workers=2))
    assert list(parallel.run(abs, [-1, -2], workers=2)) == [1, 2]


def test_results_that_nobody_waits_for_end_the_processes(tmp_path):
    def job(number):
        if number:
            (tmp_path / f"{number}-{os.getpid()}").touch()
            threading.Event().wait(600)
        return wait_for_the_other(tmp_path, number)[0]

    results = parallel.run(job, [0, 1], workers=2)
    (tmp_path / f"0-{os.getpid()}").touch()
    assert next(results) == 0
    results.close()  # does not wait for the other job
    assert list(parallel.run(abs, [-1, -2], workers=2)) == [1, 2]


def test_jobs_here_count_as_nested_and_use_one_core():
    jobs = parallel.run(lambda _: (parallel.nested(), parallel.cores()), range(3), workers=2)
    assert list(jobs) == [(True, 1)] * 3
    assert not parallel.nested() and parallel.cores() == parallel.available_cores()


def test_with_a_gpu_one_process_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert set(parallel.run(lambda _: os.getpid(), range(4))) == {os.getpid()}


def test_short_jobs_start_no_process(monkeypatch):
    monkeypatch.setattr(parallel, "_WORTH_A_START", 60)
    monkeypatch.setattr(reusable_executor, "_executor", None)
    here = os.getpid()
    assert list(parallel.run(lambda _: os.getpid(), range(3), workers=3)) == [here] * 3


def test_a_dask_cluster_computes():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        results = list(parallel.run(lambda number: (number, os.getpid()), [2, 1], workers=client))
    assert [number for number, _ in results] == [2, 1] and os.getpid() not in {pid for _, pid in results}


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("", 2), ("0", 2), ("many", 2), ("9999", 2)])
def test_cores_follow_the_variable_of_other_libraries(monkeypatch, limit, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert (parallel.cores(), parallel.available_cores()) == (expected, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"workers": 0},
            "workers must be a whole number of at least 1, or a Dask client or an executor; got 0",
        ),
        ({"workers": "all"}, "workers must be .* got 'all'"),
        ({"threads": True}, "threads must be a whole number of at least 1; got True"),
    ],
)
def test_options_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        parallel.run(abs, [1], **options)


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from alhelpers import parallel\n"
        "def wait(number):\n"
        "    Path(sys.path[0], str(number)).touch()\n"
        "    while not Path(sys.path[0], str(1 - number)).exists():\n"
        "        time.sleep(0.01)\n"
        "    return os.getpid()\n"
        "print('started')\n"
        "parallel._WORTH_A_START = 0\n"
        "list(parallel.run(abs, [0, 0], workers=2))\n"
        "print(len(set(parallel.run(wait, [0, 1], workers=2))))\n"
    )
    found = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0 and found.stderr == "" and found.stdout.split() == ["started", "2"]
