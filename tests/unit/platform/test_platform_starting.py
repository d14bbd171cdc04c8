"""Worker processes, forked and started: they are alike, and what happens to the process that is forked harms none."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from alhelpers import forking
from alhelpers.platform.starting import Forked, Starter, is_alive, required
from alhelpers.platform.workers import Dispatcher, Worker, _cause

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

STATE = """
import gc, json, logging, os, random, signal, sys, threading, threadpoolctl
import numpy as np
print(json.dumps({
    "environment": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path,
    "main": [sys.modules["__main__"].__file__, sys.modules["__main__"].__spec__.name, sys.modules["__main__"].__name__],
    "python": [str(sys.flags), sys.executable],
    "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "signals": [str(signal.getsignal(number)) for number in (2, 13, 15, 17)],
    "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "files": sorted(os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in (0, 1, 2)),
    "streams": [sys.stdin.encoding, sys.__stdout__.encoding, sys.__stdout__.write_through, os.isatty(0)],
    "threads": [threading.active_count(), threading.current_thread().name, threading.main_thread().name],
    "blas": sorted([str(pool["internal_api"]), pool["num_threads"]] for pool in threadpoolctl.threadpool_info()),
    "logging": [logging.root.level, [type(each).__name__ for each in logging.root.handlers], os.umask(0o22)],
    "collector": [gc.isenabled(), gc.get_threshold()], "hooks": len(sys.meta_path),
}))
print(json.dumps([random.random(), np.random.rand(), os.urandom(4).hex()]))
"""


def played(scene):
    """Make a test of a scene with a starter whose processes are gone afterwards, and the files to them closed."""

    def test(tmp_path):
        async def play():
            starter = Starter()
            try:
                await scene(starter, tmp_path)
            finally:
                await starter.close()

        # The session's platform may have workers of its own.
        children, files = set(psutil.Process().children()), len(os.listdir("/proc/self/fd"))
        asyncio.run(play())
        left = [each.cmdline() for each in set(psutil.Process().children()) - children]
        assert not [each for each in left if "alhelpers.platform.worker" in each]
        assert len(os.listdir("/proc/self/fd")) <= files

    return test


async def start(starter, folder, code, **variables):
    """Start a worker with a service's code."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DATALOOP_PATH": str(folder), "PYTHONUNBUFFERED": "1"} | variables
    worker = await starter.start(folder / "code", environment)
    setup = {"service": {"id": "1", "name": "s"}, "package": {}, "module": {}, "concurrency": 1}
    setup["codebase"] = {"kind": "text", "text": f"{code}\ndef run():\n    return 7\n"}
    tell(worker, "setup", **setup)
    return worker


def tell(worker, kind, **content):
    worker.stdin.write(json.dumps({"kind": kind, **content}).encode() + b"\n")


async def heard(worker, kind):
    """Listen until there is a message of a kind; return it and the lines that were printed before."""
    printed = []
    async for line in worker.stdout:
        message = json.loads(line)
        if message["kind"] == kind:
            return message, printed
        assert message["kind"] != "broken", message["error"]
        if message["kind"] == "log":
            printed.append(message["text"])
    raise AssertionError(f"the worker ended without the message {kind!r}; it said {printed}")


async def ended(worker):
    forking.end_group(worker.pid)
    while await worker.stdout.read(1 << 16) or await worker.stderr.read(1 << 16):
        pass
    return await worker.wait()


def server_of(starter):
    return psutil.Process(starter._server._process._process.pid)


@played
async def test_a_forked_worker_is_like_a_started_one(starter, tmp_path):
    found, drawn = [], []
    for number, forks in enumerate((False, True, True)):
        starter.forks = forks
        # An environment, too, of its own.
        worker = await start(starter, tmp_path / "same", STATE, GIVEN=str(min(number, 1)))
        assert isinstance(worker, Forked) == forks
        _, printed = await heard(worker, "ready")
        for into, line in zip((found, drawn), printed[-2:], strict=True):
            into.append(json.loads(line))
        if forks:
            assert psutil.Process(worker.pid).ppid() == server_of(starter).pid
            assert os.getsid(server_of(starter).pid) == server_of(starter).pid  # Ctrl-C is not for it
        assert await ended(worker) == -signal.SIGKILL
        (tmp_path / "same" / "code" / "main.py").unlink()
    started, forked, again = found
    assert [each["environment"].pop("GIVEN") for each in found] == ["0", "1", "1"]
    for part, value in started.items():
        assert forked[part] == again[part] == value, part
    assert started["session"] == [True, True] and Path(started["cwd"]) == tmp_path / "same" / "code"
    assert len({value for values in drawn for value in values}) == 9
    assert "dtlpy" not in forking.SDK_DEPENDENCIES  # it has read its settings anew


@played
async def test_what_a_service_requires_is_imported_before_its_first_worker(starter, tmp_path):
    await starter.prepare(["sklearn.cluster"], dict(os.environ))
    server = server_of(starter)
    await starter.prepare([], dict(os.environ))
    shown = 'import sys\nprint("sklearn.cluster" in sys.modules)'
    worker = await start(starter, tmp_path / "worker", shown)
    _, printed = await heard(worker, "ready")
    assert printed[-1].strip() == "True" and server_of(starter) == server
    await ended(worker)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("numpy==2.4\ntorch>=2\n# pandas\nrequests\nscikit-learn\n", ["numpy", "torch"]),
        ("Torch\n torch\n--index numpy\n", []),
        (None, []),
    ],
)
def test_large_packages_are_known_by_the_requirements(tmp_path, content, expected):
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("main.py", "")
        if content is not None:
            archive.writestr("requirements.txt", content)
    assert required({"kind": "zip", "path": str(tmp_path / "code.zip")}) == expected


def test_a_codebase_that_is_no_archive_requires_nothing(tmp_path):
    (tmp_path / "code.zip").write_bytes(b"PK damaged")
    for name in ("code.zip", "none.zip"):
        assert required({"kind": "zip", "path": str(tmp_path / name)}) == []
    assert required({"kind": "text", "text": ""}) == []


@played
async def test_how_a_worker_ended_is_known(starter, tmp_path):
    for way, cause in {
        "os._exit(7)": "exit code 7",
        "os.kill(os.getpid(), 11)": "signal SIGSEGV",
    }.items():
        worker = await start(starter, tmp_path / way, f"import os\n{way}")
        while await worker.stdout.readline():
            pass
        assert _cause(await worker.wait()) == cause


@played
async def test_when_the_process_that_is_forked_dies_the_workers_go_on_and_the_next_ones_get_another(
    starter, tmp_path
):
    first = await start(starter, tmp_path / "first", "")
    await heard(first, "ready")
    server = server_of(starter)
    server.kill()
    server.wait()
    # Its death is noticed now: this one is started.
    second = await start(starter, tmp_path / "second", "")
    third = await start(starter, tmp_path / "third", "")
    assert [isinstance(each, Forked) for each in (first, second, third)] == [True, False, True]
    assert server_of(starter).pid != server.pid
    for worker in (first, second, third):
        tell(worker, "run", job={"id": "1", "functionName": "run", "input": {}})
        message, _ = await heard(worker, "end")
        assert message["output"] == 7
    codes = [await ended(worker) for worker in (first, second, third)]
    assert codes == [None, -signal.SIGKILL, -signal.SIGKILL]
    assert "the cause is unknown" in _cause(codes[0])


@played
async def test_when_it_dies_in_the_middle_of_its_imports_the_worker_is_started(starter, tmp_path):
    (tmp_path / "deadly.py").write_text("import os\nos.kill(os.getpid(), 9)")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    starter._imported = ["deadly"]
    worker = await start(starter, tmp_path / "worker", "", PYTHONPATH=path)
    assert not isinstance(worker, Forked)
    await heard(worker, "ready")
    await ended(worker)


@played
async def test_what_one_worker_has_imported_is_there_for_the_next(starter, tmp_path):
    asks = "import sys\nprint('pyarrow.dataset' in sys.modules)\nimport pyarrow.dataset"
    for there in ("False", "True"):
        worker = await start(starter, tmp_path / there, asks)
        message, printed = await heard(worker, "imported")
        assert printed == [there]
        assert set(message["names"]) >= {"numpy", "pyarrow.dataset"} and "torch" not in message["names"]
        # What cannot be imported is left to the code that wants it.
        await starter.preload([*message["names"], "no_such_module", "antigravity.nothing"])
        await ended(worker)


@played
async def test_where_what_is_read_at_the_start_has_changed_a_worker_is_started(starter, tmp_path):
    for variables, forked in (({}, True), ({"OMP_NUM_THREADS": "3"}, False), ({}, True)):
        worker = await start(starter, tmp_path / "worker", "", **variables)
        assert isinstance(worker, Forked) == forked
        await ended(worker)


LEFT_BEHIND = {
    "a program that keeps the standard error": "subprocess.Popen(['sleep', '60'], start_new_session=True)",
    "a fork that keeps all pipes": "os.fork() or (os.setsid(), time.sleep(60))",
}


@pytest.mark.parametrize("way", LEFT_BEHIND)
def test_a_worker_that_dies_is_missed_also_if_a_process_that_it_left_behind_keeps_its_pipes(tmp_path, way):
    code = f"import os, subprocess, sys, time\n{LEFT_BEHIND[way]}\nprint('the last words', flush=True)\nos._exit(7)"

    async def play(starter):
        dispatcher = Dispatcher(tmp_path, None, None)
        worker = Worker("1", tmp_path / "workers" / "1", process=await start(starter, tmp_path / "1", code))
        begun = time.monotonic()
        try:
            return await asyncio.wait_for(dispatcher._handle_messages(worker), 60), time.monotonic() - begun
        finally:
            await starter.close()

    for forks in (True, False):
        starter = Starter()
        starter.forks = forks
        reason, seconds = asyncio.run(play(starter))
        assert reason == "its worker process died (exit code 7)" and seconds < 20
        assert "the last words" in (tmp_path / "logs" / "1.jsonl").read_text()
        shutil.rmtree(tmp_path / "1")


def test_the_next_server_starts_while_a_process_writes_into_the_folder_of_a_worker(tmp_path):
    folder = tmp_path / "workers" / ("a" * 32)
    folder.mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    stop = threading.Event()

    def write():
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / str(number)).touch()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            asyncio.run(started(tmp_path))
    finally:
        stop.set()
        thread.join()


async def started(folder):
    async def change(_):
        return []

    dispatcher = Dispatcher(folder, change, None)
    await dispatcher.start()
    await dispatcher.close()


def test_a_client_lives_on_when_the_clock_is_set(monkeypatch):
    process, boot_time = psutil.Process(), psutil.boot_time()
    assert is_alive(process) and process.create_time() == psutil.Process().create_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_time + 2)
    assert psutil.Process().create_time() != process.create_time() and is_alive(process)
