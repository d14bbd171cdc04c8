"""Starting and finding servers: in a thread of this process, or as a process of its own."""

import asyncio
import contextlib
import functools
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from .auth import prove, sdk_cookie
from .clock import Clock
from .errors import StateFolderBusy
from .folder import lock_folder, server_json
from .page.session import link_key
from .server import API, LOOPBACK, UPLOAD_LIMIT, Server
from .starting import python_path

LAUNCH_SECONDS = 60.0


@dataclass
class Platform:
    """A running platform.

    Parameters
    ----------
    url : str
        The server's address, ``http://127.0.0.1:PORT``: what the SDK calls the gate.
    token : str
        The bearer token. Keep it out of logs and outputs.
    state_dir : Path
        The folder with the platform's state.
    pid : int
        The process that serves it.
    """

    url: str
    token: str = field(repr=False)
    state_dir: Path
    pid: int
    _stop: Callable[[], None] = field(repr=False, default=lambda: None)

    @property
    def environment(self) -> str:
        """The url of the API: what the SDK calls an environment."""
        return self.url + API

    @property
    def page(self) -> str:
        """The link that opens the platform's page in a browser and logs it in. Keep it as private as the token."""
        return f"{self.url}/?token={link_key(self.token)}"

    def stop(self) -> None:
        """Stop the server for all clients; its state stays. Stopping twice does no harm.

        A TimeoutError means that it has not ended within half a minute.
        """
        self._stop()

    def advance_clock(self, seconds: float) -> str:
        """Move the clock that cron triggers follow ahead; what falls due has fired when this returns.

        However many times of a trigger lie between, it fires once.

        Parameters
        ----------
        seconds : float
            How far; a week is 604800.

        Returns
        -------
        str
            The clock's new time, ISO, UTC.
        """
        return call(self, "POST", "/local/clock", {"seconds": seconds}, timeout=60.0)["now"]

    def __enter__(self) -> "Platform":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


# ------------------------------------------------------------------------------------------------- in a thread


def start(
    state_dir: str | os.PathLike[str] | None = None,
    port: int = 0,
    *,
    upload_limit: int = UPLOAD_LIMIT,
    host: str = LOOPBACK,
    clock: Clock | None = None,
) -> Platform:
    """Start a platform in a daemon thread of this process.

    Parameters
    ----------
    state_dir : path, optional
        Where its state lives. Without one: a temporary folder, which ``stop()`` deletes.
    port : int
        The port; 0 lets the system pick one.
    upload_limit : int
        The largest file that an upload may bring, in bytes.
    host : str
        The address to listen on. Leave it at 127.0.0.1 unless other machines must reach the platform, and then only in
        a network that you trust: it speaks plain HTTP, and whoever has the token can do everything.
    clock : Clock, optional
        The time that cron triggers follow; the real time, where not given.

    Returns
    -------
    Platform
        The running platform.

    Raises
    ------
    StateFolderBusy
        When another server owns the folder.
    StateUnusable
        When the folder is not the platform's, cannot be written, or its database is broken or of another version.
    OSError
        When the port is taken.
    """
    with contextlib.ExitStack() as opened:
        if state_dir is None:
            state_dir = opened.enter_context(
                tempfile.TemporaryDirectory(prefix="alhelpers-", ignore_cleanup_errors=True)
            )
        folder = Path(os.path.realpath(state_dir))
        opened.enter_context(lock_folder(folder))
        make = functools.partial(Server, folder, upload_limit, host=host, clock=clock or Clock())
        serving: Future[tuple[Server, asyncio.AbstractEventLoop]] = Future()
        thread = threading.Thread(target=_serve, args=(make, port, serving), name="platform", daemon=True)
        thread.start()
        server, loop = serving.result()
        held = opened.pop_all()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            loop.call_soon_threadsafe(server.stopped.set)
        thread.join()
        held.close()

    return Platform(server.url, server.credentials.token, folder, os.getpid(), stop)


def _serve(make: Callable[[], Server], port: int, serving: Future) -> None:
    async def serve() -> None:
        server = make()
        await server.run(port, lambda: serving.set_result((server, asyncio.get_running_loop())))

    try:
        asyncio.run(serve())
    except BaseException as error:
        if serving.done():
            raise
        serving.set_exception(error)


# ------------------------------------------------------------------------------------------------ as a process


def running(state_dir: str | os.PathLike[str]) -> Platform | None:
    """Find the live server of a state folder.

    Parameters
    ----------
    state_dir : path
        The state folder.

    Returns
    -------
    Platform or None
        The platform, if it answers, or None if nothing serves the folder.
    """
    folder = Path(os.path.realpath(state_dir))
    content = server_json(folder)
    if content is None:
        return None
    platform = Platform(content["url"], content["token"], folder, content["pid"])
    platform._stop = lambda: _stop_process(platform)
    try:
        alive = call(platform, "GET", "/local/health", timeout=5.0).get("pid") == platform.pid
    except OSError:
        return None
    return platform if alive else None


def ensure(state_dir: str | os.PathLike[str]) -> Platform:
    """Find the server of a state folder, or start one as a process of its own.

    The process outlives this one as long as any client lives: it stops about five seconds after the last of the
    processes that called this has ended. Several processes may call this at once; one server results.

    Parameters
    ----------
    state_dir : path
        The state folder; made if missing.

    Returns
    -------
    Platform
        The running platform, with this process registered as a client.

    Raises
    ------
    StateUnusable
        When the folder is not the platform's.
    RuntimeError
        When the server does not start; the message ends with what its log says.
    """
    folder = Path(os.path.realpath(state_dir))
    with lock_folder(folder, 3 * LAUNCH_SECONDS, "launch.lock"):
        for _ in range(3):
            platform = running(folder) or _spawn(folder)
            try:
                created = psutil.Process().create_time()
                call(platform, "POST", "/local/clients", {"pid": os.getpid(), "createTime": created})
            except OSError:
                continue  # it stopped between the two requests: start another
            return platform
    raise RuntimeError(f"the servers of {folder} stopped as soon as they started; {_log_tail(folder)}")


def _spawn(folder: Path) -> Platform:
    command = [sys.executable, "-m", __package__, "--state-dir", str(folder), "--stop-with-clients"]
    with open(folder / "server.log", "ab") as log:
        known = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": python_path()},
            start_new_session=True,
        )
    # It prints a line once it serves; if it fails, its output is closed instead.
    timer = threading.Timer(LAUNCH_SECONDS, process.kill)
    timer.start()
    line = process.stdout.readline() if process.stdout else b""
    timer.cancel()
    platform = running(folder) if line else None
    if platform is None:
        process.kill()
        process.wait()
        raise RuntimeError(f"the platform of {folder} did not start; {_log_tail(folder)}")
    for line in (folder / "server.log").read_bytes()[known:].decode(errors="replace").splitlines():
        if " WARNING " in line:  # what it has repaired
            warnings.warn(line, stacklevel=3)
    # Collects the child's exit status when it stops, or it would stay in the process table.
    threading.Thread(target=process.wait, daemon=True).start()
    return platform


def call(
    platform: Platform, method: str, path: str, body: Any = None, timeout: float = 10.0
) -> dict[str, Any]:
    """Call a platform's own routes; an OSError if it does not answer in time, or refuses.

    The token is sent when the server has proved on the same connection that it knows it: the file of a killed server
    may name a port that another program has now.
    """
    try:
        address = platform.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
            connection.connect()
            connection.auto_open = 0
            # Ends an answer of which a byte comes now and then, too.
            deadline = threading.Timer(timeout, connection.sock.shutdown, [socket.SHUT_RDWR])
            deadline.start()
            try:
                challenge = secrets.token_hex()
                proof = _exchange(connection, "GET", f"/token?challenge={challenge}", None, {}).get("proof")
                if proof != prove(platform.token, challenge, platform.url):
                    raise ConnectionError(f"{platform.url} is not the platform of {platform.state_dir}")
                headers = {"Authorization": f"Bearer {platform.token}", "Content-Type": "application/json"}
                return _exchange(connection, method, API + path, body and json.dumps(body), headers)
            finally:
                deadline.cancel()
    except (http.client.HTTPException, ValueError, OverflowError) as error:
        raise ConnectionError(f"{platform.url} gave no answer that can be read: {error!r}") from error


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
) -> dict[str, Any]:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read(1 << 16)
    if answer.status != 200:
        raise ConnectionError(f"{method} {path} was refused ({answer.status}): {content!r}")
    found = json.loads(content)
    return found if isinstance(found, dict) else {}


def _stop_process(platform: Platform) -> None:
    try:
        with contextlib.suppress(TimeoutError):  # it may be slow
            call(platform, "POST", "/local/stop")
    except OSError:
        return  # it is gone already
    # The lock is free once the server has closed its state.
    try:
        lock_folder(platform.state_dir, timeout=30.0).lock.release()
    except StateFolderBusy as error:
        raise TimeoutError(f"process {platform.pid} was asked to stop and still runs: {error}") from None


def _log_tail(folder: Path) -> str:
    log = folder / "server.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "its log ends with: " + ("\n".join(lines[-10:]) or "(nothing)")


# ----------------------------------------------------------------------------------------------- logging in


def cookie(platform: Platform) -> dict[str, Any]:
    """Return the content of the ``cookie.json`` that logs the SDK in.

    Write it to ``$DATALOOP_PATH/cookie.json`` before ``dtlpy`` is imported. It holds the token: keep it private.

    Parameters
    ----------
    platform : Platform
        The platform to log in to.

    Returns
    -------
    dict
        JSON-ready content.
    """
    return sdk_cookie(platform.url, platform.environment, platform.token, platform.state_dir / "sdk")
