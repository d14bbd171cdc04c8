"""The time that cron triggers follow. It can be moved ahead, to try triggers that fire next week."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .errors import bad_request


@dataclass
class Clock:
    """The time of `source` (by default the real time, in UTC), moved ahead."""

    source: Callable[[], datetime] = lambda: datetime.now(UTC)
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.source() + self.ahead

    def advance(self, seconds: float) -> datetime:
        """Move the clock ahead, and return its new time; time never runs backwards."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e10:
            raise bad_request(f"a clock moves ahead by a number of seconds, 0 or more, got {seconds!r}")
        ahead = self.ahead + timedelta(seconds=seconds)
        # Long before the last date, for whatever is computed from this one.
        if self.source().year + ahead.days // 365 > 9000:
            raise bad_request("the clock cannot move beyond the year 9000: start a platform with a new clock")
        self.ahead = ahead
        return self.now()


class Alarm:
    """Waits until a time of the clock, or until the time to wait for has changed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, until: datetime | None) -> None:
        """Wait until this time, or for ever if it is None."""
        seconds = None if until is None else max(0.0, (until - self.clock.now()).total_seconds())
        try:
            # The system's clock may be set by hand, so check again at least once an hour.
            await asyncio.wait_for(self._rung.wait(), None if seconds is None else min(seconds, 3600.0))
        except TimeoutError:
            pass
        self._rung.clear()
