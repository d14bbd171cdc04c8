"""Which worker runs what, when: the dispatcher's choices, with workers that only pretend."""

import asyncio
import contextlib
import resource
import signal
from types import SimpleNamespace

import pytest

from alhelpers.platform import workers
from alhelpers.platform.events import Event
from alhelpers.platform.logs import LogFilter, Logs
from alhelpers.platform.services.executions import jobs
from alhelpers.platform.starting import Starter


class Pretending(workers.Dispatcher):
    """A dispatcher whose workers start at once, and run until they are told to end."""

    def __init__(self, folder, limit=2, slots=1):
        super().__init__(folder, change=None, cookie=None)
        self.limit, self.slots = limit, slots
        self.started, self.launched = [], []

    def _launch(self, service_id):
        worker = workers.Worker(
            service_id, self.folder / f"{service_id}-{len(self.launched)}", slots=self.slots
        )
        worker.ready = True
        self._workers[worker.folder.name] = worker
        self.launched.append(service_id)
        self._assign(worker)

    async def _run_execution(self, worker, execution_id):
        self.started.append(execution_id)
        return True

    def _retire(self, worker):
        super()._retire(worker)
        if not worker.running:
            self._workers.pop(worker.folder.name)

    async def ask(self, *executions):
        """Tell of new executions, each as 'service:number'."""
        self.handle_events(
            [Event("Execution", "Created", each, {"service": each.split(":")[0]}) for each in executions]
        )
        await asyncio.sleep(0)

    async def end(self, execution_id):
        (worker,) = [each for each in self._workers.values() if execution_id in each.running]
        self._release(worker, execution_id)
        await asyncio.sleep(0)


def played(stalled=workers.STALLED, **options):
    """Make a test of a scene with a dispatcher."""

    def decorate(scene):
        def test(tmp_path, monkeypatch):
            async def main():
                dispatcher = Pretending(tmp_path, **options)
                with contextlib.suppress(asyncio.CancelledError):
                    await scene(dispatcher)
                dispatcher._closing = True

            monkeypatch.setattr(workers, "STALLED", stalled)
            asyncio.run(main())

        return test

    return decorate


@played()
async def test_one_process_a_service_and_one_execution_at_a_time(dispatcher):
    await dispatcher.ask("a:1", "a:2", "b:1")
    assert dispatcher.launched == ["a", "b"] and dispatcher.started == ["a:1", "b:1"]
    await dispatcher.end("a:1")
    assert dispatcher.launched == ["a", "b"] and dispatcher.started[2:] == ["a:2"]
    assert dispatcher.busy
    await dispatcher.end("a:2")
    await dispatcher.end("b:1")
    assert not dispatcher.busy and len(dispatcher._workers) == 2


@played(slots=3)
async def test_threads_share_a_process(dispatcher):
    await dispatcher.ask("a:1", "a:2", "a:3", "a:4")
    assert dispatcher.launched == ["a"] and dispatcher.started == ["a:1", "a:2", "a:3"]


@played()
async def test_no_more_work_than_allowed_and_the_longest_waiting_comes_first(dispatcher):
    await dispatcher.ask("a:1", "b:2", "d:4")
    await dispatcher.ask("c:3")
    assert dispatcher.started == ["a:1", "b:2"]
    await dispatcher.end("a:1")
    assert dispatcher.started[2:] == ["c:3"]  # its id is the smaller one
    await dispatcher.end("b:2")
    assert dispatcher.started[3:] == ["d:4"]


@played()
async def test_the_one_that_has_rested_longest_makes_room(dispatcher):
    services = "abcdef"  # two at work and four at rest
    for service in services:
        await dispatcher.ask(f"{service}:1")
        await dispatcher.end(f"{service}:1")
    await dispatcher.ask("a:2")
    await dispatcher.end("a:2")
    await dispatcher.ask("g:1")
    dispatcher._schedule()
    left = [worker.service_id for worker in dispatcher._workers.values()]
    assert left == ["c", "d", "e", "f", "a", "g"]


@played()
async def test_a_changed_service_gets_a_new_process_after_what_runs(dispatcher):
    await dispatcher.ask("a:1", "a:2")
    dispatcher.handle_events([Event("Service", "Updated", "a")])
    assert dispatcher.launched == ["a", "a"] and dispatcher.started == ["a:1"]
    await asyncio.sleep(0)
    assert dispatcher.started == ["a:1", "a:2"]  # beside it: there was room


@played()
async def test_what_is_stopped_while_it_waits_never_starts(dispatcher):
    await dispatcher.ask("a:1", "a:2", "a:3")
    dispatcher.handle_events([Event("Execution", "Stopped", "a:2")])
    await dispatcher.end("a:1")
    assert dispatcher.started == ["a:1", "a:3"]


@played(stalled=0.01)
async def test_executions_that_wait_for_each_other_get_one_more_worker(dispatcher):
    await dispatcher.ask("a:1", "b:1", "c:1", "c:2")
    assert dispatcher.started == ["a:1", "b:1"]
    await asyncio.sleep(0.1)
    assert dispatcher.started[2:] == ["c:1"]
    await dispatcher.end("c:1")
    assert dispatcher.started[3:] == ["c:2"]  # at once: the room stays while it is needed
    await dispatcher.end("c:2")
    await dispatcher.end("b:1")
    assert dispatcher._extra == 0


@played()
async def test_rest_does_not_count_as_work(dispatcher):
    dispatcher._paused.add("a")
    await dispatcher.ask("a:1")
    assert dispatcher.started == [] and not dispatcher.busy
    dispatcher.handle_events([Event("Service", "Resumed", "a")])
    await asyncio.sleep(0)
    assert dispatcher.started == ["a:1"] and dispatcher.busy


@played()
async def test_an_execution_ends_even_if_those_who_are_told_fail(dispatcher):
    settled = []

    async def change(task):
        settled.append(task)
        if len(settled) == 1:
            raise RuntimeError("a listener failed")

    dispatcher._change = change
    await dispatcher._settle(["a:1"], lambda call: None)
    assert len(settled) == 2  # the second one only writes the end down


def test_what_the_platform_cannot_start_fails_and_holds_no_place(tmp_path, monkeypatch):
    """A disk that is full until the fourth attempt to write."""
    attempts = []

    async def change(task):
        attempts.append(task)
        if len(attempts) < 4:
            raise OSError("the disk is full")

    async def main():
        dispatcher = workers.Dispatcher(tmp_path, change, None)
        worker = workers.Worker("a", tmp_path / "w", ready=True, running={"a:1": None})
        await dispatcher._run_or_fail(worker, "a:1")
        return worker

    monkeypatch.setattr(workers, "LONGEST_WAIT", 0.01)
    assert not asyncio.run(main()).running
    assert len(attempts) == 4 and attempts[-1].func is jobs.force_fail


@pytest.mark.parametrize("content", [b"x" * (3 << 20), b"a\nb" * 9, b"one\n" + b"y" * 200_000 + b"\nlast"])
def test_any_standard_error_is_logged(tmp_path, content):
    async def main():
        dispatcher = Pretending(tmp_path)
        stderr = asyncio.StreamReader(limit=1 << 20)
        worker = workers.Worker("a", tmp_path / "w", process=SimpleNamespace(stderr=stderr))
        stderr.feed_data(content)
        stderr.feed_eof()
        await dispatcher._log_stderr(worker)
        return dispatcher.logs.read("a", 0, LogFilter({}), 10_000)[0]

    logged = [entry["message"] for entry in asyncio.run(main())]
    assert (
        "".join(logged) == content.decode().replace("\n", "")
        and max(map(len, logged)) < 2 * workers.LONGEST_LINE
    )


def test_services_see_no_secrets():
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "DATABASE_URL": "postgres://u:p@h",
        "LANGCHAIN_API_KEY": "x",
        "ANY": "x",
    }
    kept = {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ALHELPERS_DATA": "/d",
        "TZ": "UTC",
    }
    assert Starter.shared(secrets | kept) == kept


def test_services_see_the_environment_that_the_server_started_with(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "before")
    dispatcher, seen = workers.Dispatcher(tmp_path, None, lambda folder: {}), []

    async def start(folder, environment):
        seen.append(environment["LD_LIBRARY_PATH"])
        return SimpleNamespace(stdin=None)

    monkeypatch.setattr(dispatcher._starter, "start", start)
    monkeypatch.setenv("LD_LIBRARY_PATH", "after an import")
    asyncio.run(dispatcher._start_process(workers.Worker("a", tmp_path / "w"), {}))
    assert seen == ["before"]


def test_a_full_disk_leaves_no_half_line_and_one_is_passed_over(tmp_path, monkeypatch):
    logs = Logs(tmp_path / "logs")
    entry = {"timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "message": "x", "executionId": "e"}
    logs.add("s", [entry])
    before = (tmp_path / "logs" / "s.jsonl").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limit[1]))
    try:
        with pytest.raises(OSError):
            logs.add("s", [entry] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "logs" / "s.jsonl").read_bytes() == before
    (tmp_path / "logs" / "s.jsonl").write_bytes(before[:20] + before)
    logs.add("s", [entry])
    assert len(logs.read("s", 0, LogFilter({}), 9)[0]) == 1 == logs.last("s", "e", 9)[1]
