"""Worker processes: which of them runs which execution, and when.

There is one process a service, which lives on between executions: making the service's instance may load a model, and
the first processes import what the later ones are forked with. Executions wait in the state as 'created' and here in
queues; what is lost when the server dies is read back from the state at its next start.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .api import Call
from .auth import write_private
from .errors import ApiError
from .events import Event
from .logs import Logs
from .services.executions import jobs
from .starting import Starter, end_output, python_path, required
from .store import now
from .worker_process import Worker

logger = logging.getLogger(__name__)

# How long a worker without work is kept, in seconds.
IDLE = 300.0
# How many idle workers are kept for the next execution of their service, beside those that work.
MAX_IDLE = 4
# After how long a wait for busy workers one more is started, in seconds: executions may wait for each other.
STALLED = 20.0
# How long interrupted code may go on before its process is killed, in seconds.
GRACE = 3.0
# How long at most to wait until the end of an execution that could not be written is written again, in seconds.
LONGEST_WAIT = 60.0
# A longer line of a process's standard error is logged in pieces.
LONGEST_LINE = 1 << 16

Change = Callable[[Callable[[Call], Any]], Awaitable[Any]]


class Dispatcher:
    """Assigns executions to workers; lives in the server's event loop. `change` runs a function on the state thread."""

    def __init__(self, folder: Path, change: Change, cookie: Callable[[Path], dict[str, Any]]) -> None:
        self.folder = folder / "workers"
        self.logs = Logs(folder / "logs")
        self.limit = max(2, os.cpu_count() or 1)
        self._change, self._cookie = change, cookie
        self._starter = Starter()
        # As it is now: what a later import sets here, as OpenCV's does, would keep workers from being forked.
        self._environment = self._starter.shared(os.environ) | {
            **{"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }
        self._queues: dict[str, deque[str]] = {}
        self._workers: dict[str, Worker] = {}
        self._paused: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stalled: asyncio.TimerHandle | None = None
        self._extra = 0
        self._closing = False
        # Set, and replaced by a new one, whenever a log grows.
        self.logged = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether executions run or wait for a worker."""
        waiting = any(queue for service, queue in self._queues.items() if service not in self._paused)
        return waiting or any(worker.running for worker in self._workers.values())

    def replicas(self, service_id: str) -> list[dict[str, Any]]:
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
        """Take over the executions that an earlier server left."""
        self._remove_folders()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for service_id, execution_id in await self._change(jobs.recover):
            self._enqueue(service_id, execution_id)
        self._schedule()

    async def close(self) -> None:
        """Kill the workers; the next server runs their executions again."""
        self._closing = True
        for worker in list(self._workers.values()):
            worker.kill()
        if self._stalled is not None:
            self._stalled.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._starter.close()
        self._remove_folders()

    def _remove_folders(self) -> None:
        """Delete the workers' folders; a process that was left behind may go on to write into one."""
        for path in self.folder.glob("[0-9a-f]" * 32):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def handle_events(self, events: list[Event]) -> None:
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
            self._paused.add(event.id)
        else:
            # If it is still paused, that shows when a worker is started.
            self._paused.discard(event.id)
        if event.action == "Created":
            self._create_task(self._prepare(event.id))
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
        """Assign waiting executions to free workers, and start workers if there is room."""
        if self._closing:
            return
        short = False
        # The service whose next execution has waited longest comes first; ids grow with time.
        for service_id in sorted(
            (s for s in self._queues if self._queues[s]), key=lambda s: self._queues[s][0]
        ):
            if service_id in self._paused:
                continue
            worker = self._worker_of(service_id)
            if worker is not None and worker.busy:
                self._assign(worker)
            elif self._working() >= self.limit + self._extra:
                short = True
            elif worker is not None:
                self._assign(worker)
            elif self._make_room():
                self._launch(service_id)
        self._watch_for_stall(short)

    def _worker_of(self, service_id: str) -> Worker | None:
        found = (
            each for each in self._workers.values() if each.service_id == service_id and not each.retired
        )
        return next(found, None)

    def _working(self) -> int:
        return sum(worker.busy for worker in self._workers.values())

    def _make_room(self) -> bool:
        """Return whether one more process may be started, after stopping an idle one if need be."""
        if len(self._workers) < self.limit + self._extra + MAX_IDLE:
            return True
        for worker in self._workers.values():  # the least recently used one comes first
            if worker.ready and not worker.running and not worker.retired:
                self._retire(worker)
                break
        return False  # its end schedules again

    def _watch_for_stall(self, short: bool) -> None:
        """Allow one more process when nothing moves: executions may wait for executions without a worker."""
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

    def _assign(self, worker: Worker) -> None:
        queue = self._queues.get(worker.service_id)
        while queue and worker.ready and len(worker.running) < worker.slots and not worker.retired:
            execution_id = queue.popleft()
            worker.running[execution_id] = None
            worker.retired = worker.single_use
            # Moved to the end, so that the first worker is the one that has been idle longest.
            self._workers[worker.folder.name] = self._workers.pop(worker.folder.name)
            if worker.idle is not None:
                worker.idle.cancel()
            self._create_task(self._run_or_fail(worker, execution_id))

    def _retire(self, worker: Worker) -> None:
        """Stop a worker after the executions that it runs."""
        worker.retired = True
        if not worker.running:
            worker.kill()

    # ------------------------------------------------------------------------------------------------ one worker

    def _launch(self, service_id: str) -> Worker:
        worker = Worker(service_id, self.folder / uuid.uuid4().hex)
        self._workers[worker.folder.name] = worker
        self._create_task(self._run_worker(worker))
        return worker

    async def _run_worker(self, worker: Worker) -> None:
        """Start a worker, handle its messages until it ends, and settle its executions."""
        reason: str | None = None
        try:
            setup = await self._change(lambda call: jobs.worker_setup(call, worker.service_id))
            if setup is None:
                self._paused.add(worker.service_id)
            else:
                worker.slots, worker.single_use = setup["concurrency"], setup["singleUse"]
                await self._start_process(worker, setup)
                reason = await self._handle_messages(worker)
        except ApiError as error:
            await self._fail_service(worker, error.message)
        except Exception as error:
            logger.exception("a worker of the service %s failed", worker.service_id)
            await self._fail_service(worker, f"the worker process cannot be started: {error}")
        finally:
            worker.kill()
            await self._clean_up(worker, reason)

    async def _prepare(self, service_id: str) -> None:
        """Import what the code of a new service requires, before an execution waits for it."""
        with contextlib.suppress(ApiError):  # it has been deleted
            setup = await self._change(lambda call: jobs.worker_setup(call, service_id))
            if setup is not None and not self._closing:
                names = await asyncio.to_thread(required, setup["codebase"])
                await self._starter.prepare(names, self._environment)

    async def _start_process(self, worker: Worker, setup: dict[str, Any]) -> None:
        home, sdk = worker.folder / "code", worker.folder / "sdk"
        home.mkdir(mode=0o700, parents=True)
        sdk.mkdir(mode=0o700)
        write_private(sdk / "cookie.json", self._cookie(sdk))
        worker.process = await self._starter.start(home, self._environment | {"DATALOOP_PATH": str(sdk)})
        if worker.retired:
            worker.kill()
        worker.send("setup", **setup)

    async def _handle_messages(self, worker: Worker) -> str | None:
        """Handle a worker's messages until it ends; return the reason if it failed."""
        assert worker.process is not None and worker.process.stdout is not None
        stderr = asyncio.create_task(self._log_stderr(worker))
        end = asyncio.create_task(end_output(worker.process))
        try:
            async for line in worker.process.stdout:
                message = json.loads(line)
                if message["kind"] == "broken":
                    await self._fail_service(worker, message["message"], message["error"])
                    return None
                try:
                    await self._handle_message(worker, message)
                except Exception as error:
                    logger.exception("a message of the service %s failed", worker.service_id)
                    await self._fail_execution(message.get("id", ""), error)
                    self._stop(message.get("id", ""))
        except ValueError as error:
            return f"its worker sent an unreadable message: {error}"
        finally:
            worker.kill()
            await stderr
            end.cancel()
            code = await worker.process.wait()
            worker.process = None
        return f"its worker process died ({_cause(code)})"

    async def _handle_message(self, worker: Worker, message: dict[str, Any]) -> None:
        if message["kind"] == "log":
            self._log(worker, message["id"], message["level"], [message["text"]], message["time"])
        elif message["kind"] == "imported":
            self._create_task(self._starter.preload(message["names"]))
        elif message["kind"] == "ready":
            worker.ready = True
            self._schedule_idle_timeout(worker)
            self._schedule()
        elif message["kind"] == "progress":
            await self._change(lambda call: jobs.record_progress(call, message))
        elif message["kind"] == "end":
            await self._settle([message["id"]], lambda call: jobs.record_end(call, message))
            self._release(worker, message["id"])

    async def _run_execution(self, worker: Worker, execution_id: str) -> bool:
        """Start an execution on a worker; return whether it may still run."""
        job = await self._change(lambda call: jobs.start(call, execution_id, worker.folder.name))
        if job is None:
            return False
        worker.functions[execution_id] = job["functionName"]
        seconds = job["executionTimeout"]
        worker.running[execution_id] = asyncio.get_running_loop().call_later(
            seconds, lambda: self._create_task(self._time_out(execution_id, seconds))
        )
        worker.send("run", job=job)
        return True

    async def _run_or_fail(self, worker: Worker, execution_id: str) -> None:
        try:
            if await self._run_execution(worker, execution_id):
                return
        except Exception as error:
            logger.exception("the execution %s cannot be started", execution_id)
            await self._fail_execution(execution_id, error)
        worker.retired = worker.retired and not worker.single_use
        self._release(worker, execution_id)

    async def _fail_execution(self, execution_id: str, error: Exception) -> None:
        """Fail an execution that the platform itself cannot run on."""
        message = f"the platform failed on this execution: {error}"
        await self._settle([execution_id], lambda call: jobs.fail(call, [execution_id], message))

    def _release(self, worker: Worker, execution_id: str) -> None:
        timer = worker.running.pop(execution_id, None)
        worker.functions.pop(execution_id, None)
        if timer is not None:
            timer.cancel()
        if worker.retired and not worker.running:
            worker.kill()
        elif not worker.running:
            self._schedule_idle_timeout(worker)
        self._schedule()

    def _schedule_idle_timeout(self, worker: Worker) -> None:
        if worker.idle is not None:
            worker.idle.cancel()
        worker.idle = asyncio.get_running_loop().call_later(IDLE, self._stop_if_idle, worker)

    def _stop_if_idle(self, worker: Worker) -> None:
        if not worker.running:
            self._retire(worker)

    async def _fail_service(self, worker: Worker, message: str, error: str | None = None) -> None:
        """Fail all executions of a service whose code cannot be loaded: each would fail for the same reason."""
        waiting = [*worker.drop_all(), *self._queues.pop(worker.service_id, ())]
        for execution_id in waiting:
            self._log(worker, execution_id, "ERROR", [error or message])
        await self._settle(waiting, lambda call: jobs.fail(call, waiting, message, error))

    async def _clean_up(self, worker: Worker, reason: str | None) -> None:
        """Settle the executions of a worker that has ended, and schedule others in its place."""
        self._workers.pop(worker.folder.name, None)
        if worker.idle is not None:
            worker.idle.cancel()
        left = worker.drop_all()
        if left and not self._closing:
            reason = reason or "its worker process was stopped"
            await self._settle(left, lambda call: jobs.settle_lost(call, left, reason))
        elif reason and not worker.ready and not worker.retired and not self._closing:
            await self._fail_service(worker, reason)
        shutil.rmtree(worker.folder, ignore_errors=True)
        self._schedule()

    # ------------------------------------------------------------------------------------------------- stopping

    async def _settle(self, execution_ids: list[str], settle: Callable[[Call], None]) -> None:
        """End executions, even if a listener to that fails, and if the disk is full when it has room again."""
        wait = 0.0
        while True:
            try:
                await self._change(settle)
                return
            except Exception as error:
                if self._closing:
                    return  # the next server runs them again
                logger.exception("cannot settle the executions %s", execution_ids)
                message = f"the platform failed on the end of this execution: {error}"
            settle = functools.partial(jobs.force_fail, execution_ids=execution_ids, message=message)
            await asyncio.sleep(wait)
            wait = min(2 * wait + 1, LONGEST_WAIT)

    async def _time_out(self, execution_id: str, seconds: float) -> None:
        message = f"the execution took longer than the {seconds:g} seconds of its service's executionTimeout"
        await self._settle([execution_id], lambda call: jobs.fail(call, [execution_id], message))
        self._stop(execution_id)

    def _stop(self, execution_id: str) -> None:
        """Stop the code of an execution that has ended in the state already."""
        for queue in self._queues.values():
            with contextlib.suppress(ValueError):
                queue.remove(execution_id)
        for worker in self._workers.values():
            if execution_id in worker.running:
                self._create_task(self._stop_on(worker, execution_id))

    async def _stop_on(self, worker: Worker, execution_id: str) -> None:
        if len(worker.running) > 1:
            # Others run in the same process: interrupt first, which a thread that waits in C code does not notice.
            worker.send("interrupt", id=execution_id)
            for _ in range(int(GRACE / 0.1)):
                await asyncio.sleep(0.1)
                if execution_id not in worker.running:
                    return
        others = [each for each in worker.drop_all() if each != execution_id]
        worker.kill()
        if others:
            reason = "its worker was stopped to end another execution: run again"
            await self._change(lambda call: jobs.run_again(call, others, reason))

    # ----------------------------------------------------------------------------------------------------- logs

    async def _log_stderr(self, worker: Worker) -> None:
        """Log what a worker's process, or its children, write to standard error."""
        assert worker.process is not None and worker.process.stderr is not None
        rest = b""
        while chunk := await worker.process.stderr.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            self._log_lines(worker, lines)
            await asyncio.sleep(0)  # however much there is, others get their turn
        self._log_lines(worker, [rest])

    def _log_lines(self, worker: Worker, lines: list[bytes]) -> None:
        running = list(worker.running)
        texts = [line.decode(errors="replace").rstrip() for line in lines]
        self._log(
            worker, running[0] if len(running) == 1 else None, "ERROR", [text for text in texts if text]
        )

    def _log(
        self, worker: Worker, execution_id: str | None, level: str, texts: list[str], time: str | None = None
    ) -> None:
        about = {"functionName": worker.functions.get(execution_id or ""), "replicaId": worker.folder.name}
        about |= {"timestamp": time or now(), "level": level, "executionId": execution_id}
        try:
            self.logs.add(worker.service_id, [about | {"message": text} for text in texts])
        except OSError as error:  # a full disk
            logger.warning("a line of the log of service %s is lost: %s", worker.service_id, error)
        self.logged.set()
        self.logged = asyncio.Event()

    async def wait_for_log(self, grown: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(grown.wait(), seconds)

    def _create_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the dispatcher of workers failed", exc_info=task.exception())


def _cause(code: int | None) -> str:
    if code is None:
        return "as did the process that forked it, so the cause is unknown"
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"signal {names.get(-code, -code)}"
    return f"exit code {code}"
