"""The state folder: proved to be the platform's before a byte in it changes, and locked by its one server."""

import contextlib
import json
import os
import re
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Any

import filelock

from .auth import read_credentials
from .errors import StateFolderBusy, StateUnusable

DATABASE = "platform.sqlite"
LOCKS = ("server.lock", "launch.lock")
_FOLDERS = ("blobs", "incoming", "workers", "logs", "lost")
_FILES = re.compile(r"platform\.sqlite(-wal|-shm)?|credentials\.json|server\.(json|log|lock)|launch\.lock")
_DISK_CODES = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
# What a process that was killed leaves of a file that it was about to put in place.
_PART = re.compile(r"\.(credentials\.json|server\.json|platform\.sqlite)\.\w+\.part(-journal)?")


def check_folder(folder: Path) -> None:
    """Refuse what is not a state folder, nor an empty or missing one that can become it; nothing in it changes."""
    found: dict[str, os.stat_result] = {}
    try:
        for each in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a server may be closing
                found[each.name] = each.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable(folder, f"it cannot be read ({error.strerror})") from error
    for name, state in found.items():
        is_right = stat.S_ISDIR if name in _FOLDERS else stat.S_ISREG if _FILES.fullmatch(name) else bool
        if not is_right(state.st_mode):
            raise unusable(folder, f"{name} in it is a link, or not what the platform makes of that name")
    # A first server that was killed has left no more than this; its log is there only beside the lock.
    begun = {name for name in found if _PART.fullmatch(name)}
    begun |= {name for name in LOCKS if name in found and not found[name].st_size}
    begun |= {"server.log"} if "launch.lock" in begun else set()
    if found.keys() <= begun or read_credentials(folder) or _has_tables(folder / DATABASE):
        return
    raise unusable(folder, "it is not empty, and nothing in it shows that the platform has made it")


def check_writable(folder: Path) -> None:
    """Refuse a state folder of which a part cannot be written."""
    parts = [folder / name for name in _FOLDERS if (folder / name).exists()]
    for part in (*parts, *folder.glob("blobs/[0-9a-f][0-9a-f]")):
        try:  # nothing else shows it: the superuser seems to have all rights
            tempfile.TemporaryFile(dir=part).close()
        except OSError as error:
            name = part.relative_to(folder)
            raise unusable(folder, f"{name} in it cannot be written ({error.strerror})") from error


def is_disk_failure(error: Exception) -> bool:
    """Return whether an error is of the disk: full, read-only, broken, or with something else in a file's place."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_CODES
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


def unusable(folder: Path, reason: object) -> StateUnusable:
    """Build the refusal of a folder: the reason, and the way out."""
    return StateUnusable(
        f"{folder} cannot be the state folder: {reason}. Move the state folder away, or choose another one."
    )


def lock_folder(folder: Path, timeout: float = 0.0, name: str = "server.lock") -> filelock.AcquireReturnProxy:
    """Lock a state folder, made if missing, after at most `timeout` seconds; its server may be stopping."""
    check_folder(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The operating system releases it when its holder dies. Whichever thread stops the platform may release it.
        lock = filelock.FileLock(folder / name, mode=0o600, thread_local=False, poll_interval=0.02)
        return lock.acquire(timeout)
    except filelock.Timeout:
        url = (server_json(folder) or {}).get("url", "an address not written down yet")
        raise StateFolderBusy(
            f"the state folder {folder} is served already, at {url}:"
            " use alhelpers.platform.running(), or another folder"
        ) from None
    except OSError as error:
        raise unusable(folder, f"it cannot be written ({error})") from error


def server_json(folder: Path) -> dict[str, Any] | None:
    """Read where the server of a folder says that it is, or return None if it does not say."""
    try:
        content = json.loads((folder / "server.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and [type(content.get(key)) for key in ("url", "token", "pid")]
    return content if known == [str, str, int] else None


def _has_tables(path: Path) -> bool:
    """Return whether a database is the platform's; it may be another program's, so not even its lock is touched."""
    with contextlib.suppress(OSError, sqlite3.Error), contextlib.closing(open_unchanged(path)) as database:
        database.execute("SELECT scope, parent, hidden, blob, doc FROM documents LIMIT 0")
        return True
    return False


def open_unchanged(path: Path, *, with_log: bool = False) -> sqlite3.Connection:
    """Open a database for reading without changing it; with its log, only the log's index may change."""
    if not path.stat().st_size:
        raise sqlite3.DatabaseError("it is empty")  # SQLite would delete its log
    uri = f"{path.as_uri()}?mode=ro{'' if with_log else '&immutable=1'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
