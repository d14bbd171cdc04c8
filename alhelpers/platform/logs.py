"""The logs of services: one file of JSON lines each, in the state folder."""

import contextlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from .errors import bad_request

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "WARN": 30, "ERROR": 40, "CRITICAL": 50}
# A log that grows beyond this size (in bytes) loses its older half.
LARGEST = 32 << 20


class Logs:
    """The log files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, service_id: str, entries: Iterable[dict[str, Any]]) -> None:
        path = self._path(service_id)
        text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries).encode()
        with open(path, "ab", buffering=0) as file:
            size = file.tell()
            if file.write(text) < len(text):  # a full disk: half a line would spoil the next one
                file.truncate(size)
                raise OSError(f"the disk has no room for {path}")
            size += len(text)
        if size > LARGEST:
            content = path.read_bytes()[-LARGEST // 2 :]
            path.write_bytes(content[content.index(b"\n") + 1 :])

    def drop(self, service_id: str) -> None:
        self._path(service_id).unlink(missing_ok=True)

    def read(
        self, service_id: str, offset: int, wanted: "LogFilter", size: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Read at most `size` entries from an offset on: 0, or what the last call returned beside the entries."""
        found: list[dict[str, Any]] = []
        for line in self._lines(service_id, offset):
            offset += len(line)
            entry = _parsed(line)
            if entry and wanted.matches(entry):
                found.append(entry | {"serviceId": service_id})
            if len(found) == size:
                break
        return found, offset

    def last(self, service_id: str, execution_id: str, size: int) -> tuple[list[dict[str, Any]], int]:
        """Read the last entries of one execution, and count all of them."""
        # The id is plain text in its line; other lines that contain it are left out after parsing.
        needle, kept, total = execution_id.encode(), deque[dict[str, Any]](maxlen=size), 0
        for line in self._lines(service_id):
            entry = _parsed(line) if needle in line else {}
            if entry.get("executionId") == execution_id:
                kept.append(entry)
                total += 1
        return list(kept), total

    def read_all(
        self, service_ids: list[str], checkpoint: dict[str, Any], wanted: "LogFilter", size: int
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Read entries of several logs, in the order of time; `checkpoint` holds where each begins."""
        entries: list[dict[str, Any]] = []
        offsets: dict[str, int] = {}
        for service_id in service_ids:
            offset = checkpoint.get(service_id)
            offset = offset if isinstance(offset, int) and 0 < offset < 1 << 62 else 0
            found, offsets[service_id] = self.read(service_id, offset, wanted, size)
            entries += found
        return sorted(entries, key=lambda entry: entry["timestamp"]), offsets

    def _lines(self, service_id: str, offset: int = 0) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError), open(self._path(service_id), "rb") as file:
            file.seek(offset)
            yield from (line for line in file if line.endswith(b"\n"))

    def _path(self, service_id: str) -> Path:
        return self.folder / f"{service_id}.jsonl"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:  # it was being written when the machine failed
        return {}


class LogFilter:
    """The entries of a log that a request of the SDK asks for."""

    def __init__(self, body: dict[str, Any]) -> None:
        executions = body.get("executionId") or []
        self.executions = [executions] if isinstance(executions, str) else executions
        self.function, self.replica = body.get("functionName"), body.get("replicaId")
        self.text = body.get("text")
        if not isinstance(self.executions, list) or not isinstance(self.text, str | None):
            raise bad_request("'executionId' of a log is an id or a list of ids, 'text' is text to look for")
        self.level = LEVELS.get(str(body.get("logLevel") or "DEBUG").upper(), 0)
        self.start, self.end = instant(body.get("start")), instant(body.get("end"))

    def matches(self, entry: dict[str, Any]) -> bool:
        time = datetime.fromisoformat(entry["timestamp"])
        return (
            (not self.executions or entry.get("executionId") in self.executions)
            and (not self.function or entry.get("functionName") == self.function)
            and (not self.replica or entry.get("replicaId") == self.replica)
            and (not self.text or self.text in entry["message"])
            and LEVELS.get(entry["level"], 20) >= self.level
            and (self.start is None or time >= self.start)
            and (self.end is None or time <= self.end)
        )


def instant(value: Any) -> datetime | None:
    """Parse a time in a request; one without a zone is local time, as the SDK's default (midnight) is."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        return None
