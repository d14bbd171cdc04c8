"""One process of a service, as the dispatcher knows it."""

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alhelpers.forking import end_group

from .starting import Forked


@dataclass
class Worker:
    """One child process: the executions that it runs, its service, and its folder with the SDK's files and the code."""

    service_id: str
    folder: Path
    slots: int = 1
    single_use: bool = False
    ready: bool = False
    retired: bool = False  # takes no more work: its service has changed, or it is done
    running: dict[str, asyncio.TimerHandle | None] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)  # which function each of them runs
    process: asyncio.subprocess.Process | Forked | None = None
    idle: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether it starts, works or ends: whether it takes a processor."""
        return bool(self.running) or self.retired or not self.ready

    def send(self, kind: str, **content: Any) -> None:
        """Send a message to the process, if it still listens."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self.process.stdin.write(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def drop_all(self) -> list[str]:
        for timer in self.running.values():
            if timer is not None:
                timer.cancel()
        dropped = list(self.running)
        self.running.clear()
        return dropped

    def kill(self) -> None:
        """End the process and its children at once."""
        self.retired = True
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                end_group(self.process.pid)
            else:
                self.process.kill()
