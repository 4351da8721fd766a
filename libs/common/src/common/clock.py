"""The process's time: its monotonic clock plus the database's offset.

A wrong or jumping wall clock on one machine must change no token check and no timer, so the wall
clock is believed only until the first synchronisation. This is the only module that reads it.
"""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Time as the primary database sees it."""

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.monotonic()
        self.synchronised = False

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        return _EPOCH + timedelta(seconds=time.monotonic() + self._offset_seconds)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def synchronise(self, database_now: datetime) -> None:
        """Adopt the database's time, read just now (``SELECT NOW(6)``).

        Raises:
            ValueError: the moment names no time zone.
        """
        if database_now.tzinfo is None:
            raise ValueError("the database's time must be aware")
        self._offset_seconds = (database_now - _EPOCH).total_seconds() - time.monotonic()
        self.synchronised = True
