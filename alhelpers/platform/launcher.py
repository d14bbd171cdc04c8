"""Starting and finding servers: in a thread of this process, or as a process of its own."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import psutil

from .auth import sdk_cookie
from .clock import Clock
from .errors import StateFolderBusy
from .page.session import link_key
from .server import API, LOOPBACK, UPLOAD_LIMIT, Server

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
        """Stop the server for all clients; its state stays. Stopping twice does no harm."""
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        When the folder's database is broken, or of another version.
    OSError
        When the port is taken.
    """
    temporary = (
        tempfile.TemporaryDirectory(prefix="alhelpers-", ignore_cleanup_errors=True)
        if state_dir is None
        else None
    )
    folder = Path(temporary.name if temporary else state_dir or "").resolve()
    lock = lock_folder(folder)
    running_server = _ServerThread(folder, port, upload_limit, host, clock or Clock())
    try:
        server = running_server.launch()
    except BaseException:
        lock.release()
        raise

    def stop() -> None:
        running_server.stop()
        lock.release()
        if temporary is not None:
            temporary.cleanup()

    return Platform(server.url, server.credentials.token, folder, os.getpid(), stop)


def lock_folder(folder: Path, timeout: float = 0.0) -> filelock.BaseFileLock:
    """Lock a state folder, made if missing, after at most `timeout` seconds; its server may be stopping."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(folder / "server.lock")
    try:
        lock.acquire(timeout)
    except filelock.Timeout:
        url = (_server_json(folder) or {}).get("url", "an address not written down yet")
        raise StateFolderBusy(
            f"the state folder {folder} is served already, at {url}:"
            " use alhelpers.platform.running(), or another folder"
        ) from None
    return lock


def _lock(path: Path) -> filelock.BaseFileLock:
    # The operating system releases it when its holder dies. Whichever thread stops the platform may release it.
    return filelock.FileLock(path, mode=0o600, thread_local=False, poll_interval=0.02)


class _ServerThread:
    def __init__(self, folder: Path, port: int, upload_limit: int, host: str, clock: Clock) -> None:
        self.folder, self.port, self.upload_limit = folder, port, upload_limit
        self.host, self.clock = host, clock
        self.server: Server | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._main, name="platform", daemon=True)

    def launch(self) -> Server:
        self.thread.start()
        self.ready.wait()
        if self.error is not None or self.server is None:
            self.thread.join()
            raise self.error or RuntimeError("the platform's thread ended before it served")
        return self.server

    def stop(self) -> None:
        if self.loop is not None and self.server is not None and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.stopped.set)
            self.thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in launch()
            self.error = error
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(self.folder, self.upload_limit, host=self.host, clock=self.clock)
        try:
            await self.server.run(self.port, self.ready.set)
        except OSError:
            await self.server.close()
            raise


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
    folder = Path(state_dir).resolve()
    content = _server_json(folder)
    if content is None:
        return None
    platform = Platform(content["url"], content["token"], folder, content["pid"])
    platform._stop = lambda: _stop_process(platform)
    try:
        # The file of a killed server may name a port that another program has now.
        alive = call(platform, "GET", "/local/health", timeout=5.0).get("pid") == platform.pid
    except (OSError, ValueError):
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
    RuntimeError
        When the server does not start; the message ends with what its log says.
    """
    folder = Path(state_dir).resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(folder / "launch.lock").acquire(timeout=60.0):
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
    # The child must find this package, installed or not.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", __package__, "--state-dir", str(folder), "--stop-with-clients"]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
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
    # Collects the child's exit status when it stops, or it would stay in the process table.
    threading.Thread(target=process.wait, daemon=True).start()
    return platform


def call(
    platform: Platform, method: str, path: str, body: Any = None, timeout: float = 10.0
) -> dict[str, Any]:
    """Call a platform's own routes, without a proxy; an OSError if it does not answer, or refuses."""
    request = urllib.request.Request(
        platform.environment + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {platform.token}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        return json.loads(answer.read())


def _stop_process(platform: Platform) -> None:
    try:
        call(platform, "POST", "/local/stop")
    except OSError:
        return  # it is gone already
    # The lock is free once the server has closed its state.
    with (
        contextlib.suppress(filelock.Timeout),
        _lock(platform.state_dir / "server.lock").acquire(timeout=30.0),
    ):
        pass


def _server_json(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"url", "token", "pid"} <= content.keys() else None


def _log_tail(folder: Path) -> str:
    try:
        lines = (folder / "server.log").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
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
