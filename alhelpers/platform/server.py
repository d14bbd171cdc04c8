"""The HTTP server: aiohttp for the wire, one thread for the state."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientPayloadError, web
from aiohttp.http import HttpProcessingError

from .api import Call, Raw, Route, run_listeners
from .auth import CAUSE_HEADER, Credentials, load_credentials, prove, sdk_cookie, write_private
from .clock import Alarm, Clock
from .errors import ApiError, StateUnusable, bad_request, not_emulated
from .events import Event
from .folder import check_writable, is_disk_failure, unusable
from .page.routes import Pages, is_page
from .services import LISTENERS, ROUTES
from .services.executions.jobs import cause_of
from .services.items.files import ItemFiles
from .services.services.logs import ServiceLogs
from .services.triggers import models as triggers
from .services.triggers import routes as trigger_routes
from .starting import is_alive
from .store import Store
from .uploads import FORM_LIMIT, read_body
from .validation import require
from .workers import Dispatcher

logger = logging.getLogger(__name__)
wire_logger = logging.getLogger(f"{__name__}.wire")

API = "/api/v1"
LOOPBACK = "127.0.0.1"
UPLOAD_LIMIT = 1 << 30
BODY_LIMIT = 1 << 28
# How long a server with --stop-with-clients waits for the first client, and after the last one, in seconds.
FIRST_CLIENT = 60.0
LAST_CLIENT = 5.0
# How long a connection may take to show the token, in seconds, and how many may be open that have not.
LOGIN_SECONDS, MAX_STRANGERS = 10.0, 64
# How long a server that stops waits for what is under way, and waits after a failure of its clock, in seconds.
STOP_SECONDS, RETRY_SECONDS = 2.0, 10.0
STOPPING = "this server is about to stop: start another one"


@dataclass
class Server:
    """One state folder, served over HTTP; the caller holds the folder's lock."""

    folder: Path
    upload_limit: int = UPLOAD_LIMIT
    stop_with_clients: bool = False
    host: str = LOOPBACK
    clock: Clock = field(default_factory=Clock)
    url: str = ""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        try:
            check_writable(self.folder)
            self.store = Store(self.folder)
            self.credentials: Credentials = load_credentials(self.folder)
            with contextlib.suppress(PermissionError):  # another user's
                self.folder.chmod(0o700)
            self.workers = Dispatcher(self.folder, self._change, self._worker_cookie)
        except (OSError, sqlite3.Error) as error:
            raise unusable(self.folder, error) from error
        self._state = ThreadPoolExecutor(max_workers=1, thread_name_prefix="platform-state")
        # What only reads does not wait for what writes, and what fetches one document not for a slow query.
        self._fetching = ThreadPoolExecutor(max_workers=1, thread_name_prefix="platform-fetching")
        self._querying = ThreadPoolExecutor(max_workers=2, thread_name_prefix="platform-querying")
        self._own, self._readers = threading.local(), list[Store]()
        self._clients: list[psutil.Process] = []
        self._deadline = time.monotonic() + FIRST_CLIENT
        self._runner: web.AppRunner | None = None
        # The connections that have shown the token, and since when there are others.
        self._known: set[Any] = set()
        self._strangers: dict[Any, float] = {}
        self._alarm = Alarm(self.clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._files = ItemFiles(self._on_state, self.store.incoming, self.upload_limit)
        self._pages = Pages(self.credentials, self.workers.logs, self._on_state, self._files.thumbnail)

    @property
    def base(self) -> str:
        """The root of the API, which the SDK calls an environment."""
        return self.url + API

    # ----------------------------------------------------------------------------------------- life and death

    async def start(self, port: int) -> None:
        """Listen, or raise an OSError; then take up the work of an earlier server, if the folder can be used."""
        # No access log: a line a request would cost more than the request, and urls may name private files.
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=wire_logger,
            # A body could unpack to a thousand times its size.
            auto_decompress=False,
            keepalive_timeout=3600,
            shutdown_timeout=1,
            handle_signals=False,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, port).start()
        # Every address can be reached as itself from this machine, except those that mean "all".
        reached = LOOPBACK if self.host in ("", "0.0.0.0", "::") else self.host
        reached = f"[{reached}]" if ":" in reached else reached
        self.url = f"http://{reached}:{self._runner.addresses[0][1]}"
        content = {"url": self.url, "pid": os.getpid(), "token": self.credentials.token}
        self._loop = asyncio.get_running_loop()
        try:
            write_private(self.folder / "server.json", content)
            await self.workers.start()
        except (OSError, sqlite3.Error) as error:
            raise unusable(self.folder, error) from error

    def _worker_cookie(self, cache: Path) -> dict[str, Any]:
        return sdk_cookie(self.url, self.base, self.credentials.token, cache)

    async def run(self, port: int, ready: Callable[[], None]) -> None:
        """Serve until ``stopped`` is set."""
        try:
            await self.start(port)
        except (OSError, OverflowError, StateUnusable) as error:
            await self.close()
            raise error if isinstance(error, StateUnusable) else OSError(*error.args) from error
        ready()
        watchers = [asyncio.create_task(self._watch_clock()), asyncio.create_task(self._watch_strangers())]
        if self.stop_with_clients:
            watchers.append(asyncio.create_task(self._watch_clients()))
        await self.stopped.wait()
        for watcher in watchers:
            watcher.cancel()
        await self.close()

    async def close(self) -> None:
        """Stop listening, finish what is under way or, if it takes long, undo it, and close the state."""
        interruption = asyncio.create_task(self._interrupt())
        await self.workers.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for pool in (self._state, self._fetching, self._querying):
            await asyncio.to_thread(pool.shutdown)
        interruption.cancel()
        await self._files.close()
        for reader in self._readers:
            reader.close()
        self.store.close()
        with contextlib.suppress(OSError):
            (self.folder / "server.json").unlink()

    async def _interrupt(self) -> None:
        await asyncio.sleep(STOP_SECONDS)
        while True:
            for store in (self.store, *self._readers):
                store.interrupt()  # again and again: a transaction may be between two statements
            await asyncio.sleep(0.01)

    async def _watch_clients(self) -> None:
        while time.monotonic() < self._deadline:
            await asyncio.sleep(0.5)
            self._clients = [client for client in self._clients if is_alive(client)]
            # A notebook may be closed while its model trains: the work goes on.
            if self._clients or self.workers.busy:
                self._deadline = time.monotonic() + LAST_CLIENT
        self.stopped.set()

    async def _watch_clock(self) -> None:
        """Fire cron triggers when their time has come: those that were missed first, then each at its time."""
        while True:
            try:
                await self._alarm.wait(await self._fire_due())
            except Exception:
                logger.exception("the clock of the cron triggers failed")
                await asyncio.sleep(RETRY_SECONDS)

    async def _fire_due(self) -> datetime | None:
        """Fire the cron triggers whose time has come, each on its own; return when the next one's comes."""
        while scheduled := await self._change(lambda call: triggers.scheduled(call.store)):
            at, trigger_id = scheduled[0]
            if at > self.clock.now():
                return at
            try:
                await self._change(partial(trigger_routes.fire, trigger_id=trigger_id))
            except Exception:
                logger.exception("the cron trigger %s failed", trigger_id)
                await self._change(partial(trigger_routes.skip, trigger_id=trigger_id))
        return None

    async def _watch_strangers(self) -> None:
        """Close connections that do not show the token in time, and of too many the oldest."""
        while self._runner is not None and self._runner.server is not None:
            now, open_ = time.monotonic(), self._runner.server.connections
            self._known.intersection_update(open_)
            self._strangers = {
                each: self._strangers.get(each, now) for each in open_ if each not in self._known
            }
            too_many = list(self._strangers)[: max(0, len(self._strangers) - MAX_STRANGERS)]
            for each, since in self._strangers.items():
                if each in too_many or now - since > LOGIN_SECONDS:
                    each.force_close()
            await asyncio.sleep(1.0)

    async def _change(self, task: Callable[[Call], Any]) -> Any:
        """Run a function of the server's own on the state thread, as one transaction."""
        return await asyncio.get_running_loop().run_in_executor(
            self._state, self._run_transaction, self.store, task, {}, {}, None, []
        )

    # -------------------------------------------------------------------------------------------------- wiring

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._check_access], client_max_size=BODY_LIMIT)
        application.on_response_prepare.append(_add_security_headers)
        add = application.router.add_route
        add("POST", "/token", self._login)
        add("GET", "/token", self._prove)
        add("GET", f"{API}/local/health", self._health)
        add("POST", f"{API}/local/clients", self._register)
        add("POST", f"{API}/local/stop", self._stop)
        add("POST", f"{API}/local/clock", self._move_clock)
        ServiceLogs(self._change, self.workers).add_to(application.router, API)
        self._files.add_to(application.router, API)
        for route in ROUTES:
            add(route.method, API + route.path, self._endpoint(route))
        self._pages.add_to(application.router)
        add("*", "/{path:.*}", self._unknown)
        return application

    @web.middleware
    async def _check_access(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse requests without the token, and answer every failure with a message: JSON, or a page."""
        failure = self._pages.failure if is_page(request.path) else _failure
        try:
            self._check_headers(request)
            if is_page(request.path):
                return await self._pages.serve(request, handler, self._known)
            if self.credentials.accepts(request.headers.get("Authorization")):
                self._known.add(request.protocol)
            elif request.path != "/token":
                raise ApiError(
                    401, "no valid token: log in with the cookie that alhelpers.platform.cookie() gives"
                )
            return await handler(request)
        except ApiError as error:
            return failure(error.status, error.message)
        except web.HTTPRequestEntityTooLarge:
            return failure(400, f"the request is larger than {BODY_LIMIT} bytes: send it in parts")
        except RecursionError:
            return failure(400, "the JSON in the request nests too deeply")
        except UnicodeEncodeError as error:
            return failure(400, f"the request holds text that is not valid Unicode: {error.reason}")
        except OverflowError as error:
            return failure(400, f"a number or a date in the request is out of range: {error}")
        except (ConnectionError, web.RequestPayloadError, ClientPayloadError) as error:
            logger.info("%s %s was broken off: %s", request.method, request.path, type(error).__name__)
            return failure(400, "the request is not complete")
        except web.HTTPException as error:
            return failure(error.status, error.reason)
        except Exception as error:
            if self.store.stopping:
                return failure(409, STOPPING)
            if is_disk_failure(error):
                logger.error("%s %s failed: %s", request.method, request.path, error)
                return failure(
                    507,
                    f"the disk of the state folder failed ({error}): make room or repair it, then try again",
                )
            logger.exception("%s %s failed", request.method, request.path)
            # 500 is the one 5xx that the SDK does not retry for half a minute.
            return failure(
                500, f"the offline platform failed on {request.method} {request.path}: see its log"
            )

    def _check_headers(self, request: web.Request) -> None:
        """Refuse packed bodies, and another host: a web page whose name was pointed at 127.0.0.1 (DNS rebinding)."""
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise ApiError(415, "the body of a request must not be packed: send it without Content-Encoding")
        if is_loopback(self.host) and not is_loopback(_host_of(request.headers.get("Host", LOOPBACK))):
            raise ApiError(
                403,
                f"this server answers to 127.0.0.1 and localhost only, not to {request.headers['Host']!r}",
            )

    def _endpoint(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def endpoint(request: web.Request) -> web.Response:
            answer = await self._on_state(route.handler, request, await read_body(request))
            return web.Response(text=answer.text, headers=answer.headers, content_type="application/json")

        return endpoint

    async def _on_state(self, handler: Callable[[Call], Any], request: web.Request, body: Any) -> Raw:
        loop = asyncio.get_running_loop()
        by = request.headers.get(CAUSE_HEADER, "").split()
        told = (handler, dict(request.match_info), request.query, body, by)
        if pool := self._pool_for(request, body):
            try:
                return await loop.run_in_executor(pool, self._transact, self._reader, *told)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY:
                    raise
            # It makes what it reads when that is first asked for.
        # If a client disconnects, the state thread still finishes its transaction.
        return await asyncio.shield(
            loop.run_in_executor(self._state, self._transact, lambda: self.store, *told)
        )

    def _pool_for(self, request: web.Request, body: Any) -> ThreadPoolExecutor | None:
        """Return the threads for a request that only reads."""
        if "query" in request.path.split("/"):
            changes = isinstance(body, dict) and (body.get("delete") or "update" in body)
            return None if changes else self._querying
        return self._fetching if request.method == "GET" else None

    def _reader(self) -> Store:
        """Return the store of a thread that only reads."""
        if not hasattr(self._own, "store"):
            self._own.store = self.store.reader()
            self._readers.append(self._own.store)
        return self._own.store

    def _transact(self, store: Callable[[], Store], handler: Callable[[Call], Any], *request: Any) -> Raw:
        result = self._run_transaction(store(), handler, *request)
        return result if isinstance(result, Raw) else Raw(json.dumps(result))

    def _run_transaction(
        self, store: Store, task: Callable[[Call], Any], params: Any, query: Any, body: Any, by: list[str]
    ) -> Any:
        """Run a function on a request, which the executions `by` may have sent, as one transaction."""
        if self.store.stopping:
            raise ApiError(409, STOPPING)
        with store.transaction():
            call = Call(store, self.base, self.credentials.email, params, query, body, self.clock)
            store.cause = cause_of(store, by)
            result = task(call)
            events = run_listeners(call, LISTENERS)
        self._notify_loop(events)
        return result

    def _notify_loop(self, events: list[Event]) -> None:
        """Pass committed events on to the alarm and the workers, which live in the event loop."""
        if self._loop is None:
            return
        if any(event.resource == "Trigger" for event in events):
            self._loop.call_soon_threadsafe(self._alarm.ring)
        for_workers = [event for event in events if event.resource in ("Execution", "Service")]
        if for_workers:
            self._loop.call_soon_threadsafe(self.workers.handle_events, for_workers)

    async def _unknown(self, request: web.Request) -> web.Response:
        if is_page(request.path):
            raise ApiError(404, f"there is no page {request.path}")
        raise not_emulated(f"{request.method} {request.path}")

    # --------------------------------------------------------------------------------------------- own routes

    async def _login(self, request: web.Request) -> web.Response:
        body = require(await read_body(request, FORM_LIMIT))
        if not self.credentials.login(body):
            raise ApiError(
                401, "login failed: the password is the 'secret' in the state folder's credentials.json"
            )
        return web.json_response(
            {"id_token": self.credentials.token, "refresh_token": self.credentials.secret}
        )

    async def _prove(self, request: web.Request) -> web.Response:
        """Prove, to a client that sends the token only then, that this is the server that its file names."""
        challenge = request.query.get("challenge", "")
        return web.json_response({"proof": prove(self.credentials.token, challenge, self.url)})

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pid": os.getpid()})

    async def _register(self, request: web.Request) -> web.Response:
        body = require(await read_body(request))
        pid, created = body.get("pid"), body.get("createTime")
        if not isinstance(pid, int) or not 0 < pid < 1 << 31 or not isinstance(created, int | float):
            raise bad_request(f"a client is {{'pid': number, 'createTime': seconds}}, got {body!r}")
        if self.stopped.is_set():
            raise ApiError(409, STOPPING)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._clients.append(psutil.Process(pid))
        self._deadline = time.monotonic() + LAST_CLIENT
        return web.json_response({"clients": len(self._clients)})

    async def _move_clock(self, request: web.Request) -> web.Response:
        """Move the clock ahead, and fire what falls due before the answer is sent."""
        moment = self.clock.advance(require(await read_body(request)).get("seconds"))
        await self._fire_due()
        self._alarm.ring()
        return web.json_response({"now": moment.isoformat()})

    async def _stop(self, request: web.Request) -> web.Response:
        # After the answer is on its way, not before.
        asyncio.get_running_loop().call_later(0.05, self.stopped.set)
        return web.json_response({"status": "stopping"})


# ---------------------------------------------------------------------------------------------------- defences


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(header: str) -> str:
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


async def _add_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Keep browsers from guessing content types, and from running what an item's bytes may hold."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    if request.path.startswith(API):
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox")


def _hide_content(record: logging.LogRecord) -> bool:
    """Log a request that is not HTTP as one line, without what was sent: a line that is too long may hold a key."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.exc_info = f"{record.msg}: {type(error).__name__}", None
    return True


wire_logger.addFilter(_hide_content)


def _failure(status: int, message: str) -> web.Response:
    return web.json_response({"message": message, "status": status}, status=status)
