"""Worker processes: who runs which execution, when.

There is one process a service, which lives on between executions: making the service's instance may load a model, and
the first processes import what the later ones are forked with. Executions wait in the state as 'created' and here in
queues; what is lost when the server dies is read back from the state at its next start.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alhelpers.forking import end_group

from .api import Call
from .auth import write_private
from .errors import ApiError
from .events import Event
from .logs import Logs
from .services.executions import jobs
from .starting import Forked, Starter
from .store import now

logger = logging.getLogger(__name__)

# How long a worker without work is kept, in seconds.
IDLE = 300.0
# How many workers may rest, ready for the next execution of their service, beside those that work.
RESTING = 4
# How long executions may wait while all workers are busy before one more is started: they may wait for each other.
STALLED = 20.0
# How long code that was told to stop may go on before its process is killed.
GRACE = 3.0
PACKAGE_ROOT = Path(__file__).resolve().parents[2]

Change = Callable[[Callable[[Call], Any]], Awaitable[Any]]


@dataclass
class Worker:
    """One child process, and what it is doing.

    Parameters
    ----------
    service_id : str
        Whose functions it runs.
    folder : Path
        Its folder: the SDK's files, and the working folder.
    """

    service_id: str
    folder: Path
    slots: int = 1
    single_use: bool = False
    ready: bool = False
    # Takes no more work: its service has changed, or it is done.
    retired: bool = False
    running: dict[str, asyncio.TimerHandle | None] = field(default_factory=dict)
    # Which function each of them runs.
    functions: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | Forked | None = None
    idle: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Say whether it starts, works, or ends: whether it takes a processor."""
        return bool(self.running) or self.retired or not self.ready

    def tell(self, kind: str, **content: Any) -> None:
        """Send a message to the process, if it still listens."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self.process.stdin.write(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def kill(self) -> None:
        """End the process, and what it has started itself, at once."""
        self.retired = True
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                end_group(self.process.pid)
            else:
                self.process.kill()


class Dispatcher:
    """Gives executions to workers; lives in the server's event loop.

    Parameters
    ----------
    folder : Path
        The state folder.
    change : callable
        Runs a function on the state thread, as one transaction.
    cookie : callable
        Gives the content of the SDK's cookie file for a worker whose caches lie in the folder that it is given.
    """

    def __init__(self, folder: Path, change: Change, cookie: Callable[[Path], dict[str, Any]]) -> None:
        self.folder = folder / "workers"
        self.logs = Logs(folder / "logs")
        self.limit = max(2, os.cpu_count() or 1)
        self._change, self._cookie = change, cookie
        self._starter = Starter()
        self._queues: dict[str, deque[str]] = {}
        self._workers: dict[str, Worker] = {}
        self._resting: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stalled: asyncio.TimerHandle | None = None
        self._extra = 0
        self._closing = False
        # Set, and replaced by a fresh one, whenever a log grows: for those who follow it.
        self.logged = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Say whether executions run or wait for a worker."""
        waiting = any(queue for service, queue in self._queues.items() if service not in self._resting)
        return waiting or any(worker.running for worker in self._workers.values())

    def replicas(self, service_id: str) -> list[dict[str, Any]]:
        """List the worker processes of a service."""
        return [
            {
                "name": worker.folder.name,
                "status": "Running" if worker.ready else "Initializing",
                "executions": len(worker.running),
            }
            for worker in self._workers.values()
            if worker.service_id == service_id and not worker.retired
        ]

    # ------------------------------------------------------------------------------------------ life and death

    async def start(self) -> None:
        """Take up what an earlier server left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        for service_id, execution_id in await self._change(jobs.recover):
            self._enqueue(service_id, execution_id)
        self._schedule()

    async def close(self) -> None:
        """Kill the workers; what they ran is run again by the next server."""
        self._closing = True
        for worker in list(self._workers.values()):
            worker.kill()
        if self._stalled is not None:
            self._stalled.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._starter.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def notice(self, events: list[Event]) -> None:
        """React to what happened in a transaction."""
        for event in events:
            if event.resource == "Execution" and event.action == "Created" and event.detail.get("service"):
                self._enqueue(event.detail["service"], event.id)
            elif event.resource == "Execution" and event.action == "Stopped":
                self._stop(event.id)
            elif event.resource == "Service":
                self._service_changed(event)
        self._schedule()

    def _service_changed(self, event: Event) -> None:
        if event.action == "Paused":
            self._resting.add(event.id)
        else:
            # Where it still rests, that shows when a worker is to be started.
            self._resting.discard(event.id)
        if event.action in ("Updated", "Restarted", "Paused", "Deleted"):
            for worker in self._workers.values():
                if worker.service_id == event.id:
                    self._retire(worker)
        if event.action == "Deleted":
            self._queues.pop(event.id, None)
            self.logs.drop(event.id)

    # -------------------------------------------------------------------------------------------------- choice

    def _enqueue(self, service_id: str, execution_id: str) -> None:
        queue = self._queues.setdefault(service_id, deque())
        if execution_id not in queue:
            queue.append(execution_id)

    def _schedule(self) -> None:
        """Give waiting executions to workers that are free, and start workers where there is room."""
        if self._closing:
            return
        short = False
        # The service whose next execution has waited longest comes first; ids grow with time.
        for service_id in sorted(
            (s for s in self._queues if self._queues[s]), key=lambda s: self._queues[s][0]
        ):
            if service_id in self._resting:
                continue
            worker = self._worker_of(service_id)
            if worker is not None and worker.busy:
                self._feed(worker)
            elif not self._may_work():
                short = True
            elif worker is not None:
                self._feed(worker)
            elif self._make_room():
                self._launch(service_id)
        self._watch(short)

    def _worker_of(self, service_id: str) -> Worker | None:
        found = (
            each for each in self._workers.values() if each.service_id == service_id and not each.retired
        )
        return next(found, None)

    def _may_work(self) -> bool:
        """Say whether one more worker may be at work."""
        return self._working() < self.limit + self._extra

    def _working(self) -> int:
        return sum(worker.busy for worker in self._workers.values())

    def _make_room(self) -> bool:
        """Say whether one more process may be started, after stopping an idle one if need be."""
        if len(self._workers) < self.limit + self._extra + RESTING:
            return True
        for worker in self._workers.values():  # the least recently used one comes first
            if worker.ready and not worker.running and not worker.retired:
                self._retire(worker)
                break
        return False  # its end schedules again

    def _watch(self, short: bool) -> None:
        """Allow one more process when nothing moves: executions may wait for executions that find no worker."""
        if not short and self._working() < self.limit:
            self._extra = 0
        if not short and self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if short and self._stalled is None:
            self._stalled = asyncio.get_running_loop().call_later(STALLED, self._add_room)

    def _add_room(self) -> None:
        self._stalled = None
        if self._extra < 3 * self.limit:
            self._extra += 1
        self._schedule()

    def _feed(self, worker: Worker) -> None:
        queue = self._queues.get(worker.service_id)
        while queue and worker.ready and len(worker.running) < worker.slots and not worker.retired:
            execution_id = queue.popleft()
            worker.running[execution_id] = None
            worker.retired = worker.single_use
            # Moved to the end, so that the first worker is the one that has rested longest.
            self._workers[worker.folder.name] = self._workers.pop(worker.folder.name)
            if worker.idle is not None:
                worker.idle.cancel()
            self._spawn(self._run(worker, execution_id))

    def _retire(self, worker: Worker) -> None:
        """Let a worker finish what it runs, and end then."""
        worker.retired = True
        if not worker.running:
            worker.kill()

    # ------------------------------------------------------------------------------------------------ one worker

    def _launch(self, service_id: str) -> Worker:
        worker = Worker(service_id, self.folder / uuid.uuid4().hex)
        self._workers[worker.folder.name] = worker
        self._spawn(self._live(worker))
        return worker

    async def _live(self, worker: Worker) -> None:
        """Start a worker, listen to it until it ends, and settle what it leaves."""
        problem: str | None = None
        try:
            setup = await self._change(lambda call: jobs.describe(call, worker.service_id))
            if setup is None:
                self._resting.add(worker.service_id)
            else:
                worker.slots, worker.single_use = setup["concurrency"], setup["singleUse"]
                await self._begin(worker, setup)
                problem = await self._listen(worker)
        except ApiError as error:
            await self._give_up(worker, error.message)
        except OSError as error:
            await self._give_up(worker, f"the worker process cannot be started: {error}")
        finally:
            worker.kill()
            await self._bury(worker, problem)

    async def _begin(self, worker: Worker, setup: dict[str, Any]) -> None:
        home, sdk = worker.folder / "code", worker.folder / "sdk"
        home.mkdir(mode=0o700, parents=True)
        sdk.mkdir(mode=0o700)
        write_private(sdk / "cookie.json", self._cookie(sdk))
        local = "127.0.0.1,localhost"
        path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {
            **{"DATALOOP_PATH": str(sdk), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            **{"NO_PROXY": local, "no_proxy": local},
        }
        worker.process = await self._starter.start(home, environment)
        if worker.retired:
            worker.kill()
        worker.tell("setup", **setup)

    async def _listen(self, worker: Worker) -> str | None:
        """Act on a worker's messages until it ends; say why, if it went wrong before it was ready."""
        assert worker.process is not None and worker.process.stdout is not None
        strays = asyncio.create_task(self._read_strays(worker))
        try:
            async for line in worker.process.stdout:
                message = json.loads(line)
                if message["kind"] == "broken":
                    await self._give_up(worker, message["message"], message["error"])
                    return None
                await self._hear(worker, message)
        except ValueError as error:
            return f"its worker sent what cannot be read: {error}"
        finally:
            worker.kill()
            await strays
            code = await worker.process.wait()
            worker.process = None
        return f"its worker process died ({_cause(code)})"

    async def _hear(self, worker: Worker, message: dict[str, Any]) -> None:
        if message["kind"] == "log":
            self._log(worker, message["id"], message["level"], message["text"], message["time"])
        elif message["kind"] == "imported":
            self._spawn(self._starter.learn(message["names"]))
        elif message["kind"] == "ready":
            worker.ready = True
            self._rest(worker)
            self._schedule()
        elif message["kind"] == "progress":
            await self._change(lambda call: jobs.note(call, message))
        elif message["kind"] == "end":
            await self._settle([message["id"]], lambda call: jobs.end(call, message))
            self._release(worker, message["id"])

    async def _run(self, worker: Worker, execution_id: str) -> None:
        """Hand one execution to a worker."""
        job = await self._change(lambda call: jobs.begin(call, execution_id))
        if job is None:
            worker.retired = worker.retired and not worker.single_use
            self._release(worker, execution_id)
            return
        worker.functions[execution_id] = job["functionName"]
        seconds = job["executionTimeout"]
        worker.running[execution_id] = asyncio.get_running_loop().call_later(
            seconds, lambda: self._spawn(self._time_out(execution_id, seconds))
        )
        worker.tell("run", job=job)

    def _release(self, worker: Worker, execution_id: str) -> None:
        timer = worker.running.pop(execution_id, None)
        worker.functions.pop(execution_id, None)
        if timer is not None:
            timer.cancel()
        if worker.retired and not worker.running:
            worker.kill()
        elif not worker.running:
            self._rest(worker)
        self._schedule()

    def _rest(self, worker: Worker) -> None:
        if worker.idle is not None:
            worker.idle.cancel()
        worker.idle = asyncio.get_running_loop().call_later(IDLE, self._end_idle, worker)

    def _end_idle(self, worker: Worker) -> None:
        if not worker.running:
            self._retire(worker)

    async def _give_up(self, worker: Worker, message: str, error: str | None = None) -> None:
        """Fail all that waits for a service whose code cannot be had or made: it would fail for the same reason."""
        waiting = [*worker.running, *self._queues.pop(worker.service_id, ())]
        worker.running.clear()
        for execution_id in waiting:
            self._log(worker, execution_id, "ERROR", error or message)
        await self._settle(waiting, lambda call: jobs.fail(call, waiting, message, error))

    async def _bury(self, worker: Worker, problem: str | None) -> None:
        """Settle what a worker that has ended leaves, and make room for the next one."""
        self._workers.pop(worker.folder.name, None)
        if worker.idle is not None:
            worker.idle.cancel()
        for timer in worker.running.values():
            if timer is not None:
                timer.cancel()
        left = list(worker.running)
        worker.running.clear()
        if left and not self._closing:
            reason = problem or "its worker process was stopped"
            await self._settle(left, lambda call: jobs.lost(call, left, reason))
        elif problem and not worker.ready and not worker.retired and not self._closing:
            await self._give_up(worker, problem)
        shutil.rmtree(worker.folder, ignore_errors=True)
        self._schedule()

    # ------------------------------------------------------------------------------------------------- stopping

    async def _settle(self, execution_ids: list[str], settle: Callable[[Call], None]) -> None:
        """Bring executions to their end; they end even if what reacts to that fails."""
        try:
            await self._change(settle)
        except Exception as error:
            logger.exception("cannot settle the executions %s", execution_ids)
            message = f"the platform failed on the end of this execution: {error}"
            await self._change(lambda call: jobs.abandon(call, execution_ids, message))

    async def _time_out(self, execution_id: str, seconds: float) -> None:
        message = f"the execution took longer than the {seconds:g} seconds of its service's executionTimeout"
        await self._settle([execution_id], lambda call: jobs.fail(call, [execution_id], message))
        self._stop(execution_id)

    def _stop(self, execution_id: str) -> None:
        """Stop the code of an execution that has ended for the state already."""
        for queue in self._queues.values():
            with contextlib.suppress(ValueError):
                queue.remove(execution_id)
        for worker in self._workers.values():
            if execution_id in worker.running:
                self._spawn(self._stop_on(worker, execution_id))

    async def _stop_on(self, worker: Worker, execution_id: str) -> None:
        if len(worker.running) > 1:
            # Others run beside it: ask first. A thread that waits below Python does not hear.
            worker.tell("interrupt", id=execution_id)
            for _ in range(int(GRACE / 0.1)):
                await asyncio.sleep(0.1)
                if execution_id not in worker.running:
                    return
        others = [each for each in worker.running if each != execution_id]
        for timer in worker.running.values():
            if timer is not None:
                timer.cancel()
        worker.running.clear()
        worker.kill()
        if others:
            reason = "its worker was stopped to end another execution: run again"
            await self._change(lambda call: jobs.again(call, others, reason))

    # ----------------------------------------------------------------------------------------------------- logs

    async def _read_strays(self, worker: Worker) -> None:
        """Log what a worker's process, or its children, write past Python."""
        assert worker.process is not None and worker.process.stderr is not None
        with contextlib.suppress(ValueError):
            async for line in worker.process.stderr:
                text = line.decode(errors="replace").rstrip()
                if text:
                    running = list(worker.running)
                    self._log(worker, running[0] if len(running) == 1 else None, "ERROR", text)

    def _log(
        self, worker: Worker, execution_id: str | None, level: str, text: str, time: str | None = None
    ) -> None:
        entry = {"timestamp": time or now(), "level": level, "message": text, "executionId": execution_id}
        about = {"functionName": worker.functions.get(execution_id or ""), "replicaId": worker.folder.name}
        self.logs.add(worker.service_id, [entry | about])
        self.logged.set()
        self.logged = asyncio.Event()

    async def wait_for_log(self, grown: asyncio.Event, seconds: float) -> None:
        """Wait until a log has grown, or some time has passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(grown.wait(), seconds)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the dispatcher of workers failed", exc_info=task.exception())


def _cause(code: int | None) -> str:
    if code is None:
        return "as did the process that forked it, so nothing tells why"
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"signal {names.get(-code, -code)}"
    return f"exit code {code}"
