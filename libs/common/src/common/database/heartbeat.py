"""How old is what the replica shows? A row written on the primary, read through the replica.

The same connection to the primary tells the process's clock the database's time. Both connections
are outside the pools: a busy pool must not make the replica look old.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import structlog

from common.clock import Clock
from common.database.connections import Connection, Server, connect
from common.metrics import replica_lag_seconds

_log = structlog.get_logger(__name__)

WRITE_SECONDS = 0.5
READ_SECONDS = 0.25
ANSWER_SECONDS = 1.0
"""A server that takes longer for these tiny statements counts as lost."""

_FIRST_BEAT = (
    "INSERT INTO heartbeat (id, beat_at) VALUES (1, NOW(6)) ON DUPLICATE KEY UPDATE id = id"
)
# Every process runs this; the condition lets about two a second through, from whomever.
_BEAT = (
    "UPDATE heartbeat SET beat_at = NOW(6)"
    " WHERE id = 1 AND beat_at < NOW(6) - INTERVAL 400000 MICROSECOND"
)
_NOW = "SELECT NOW(6) AS moment"
_READ = "SELECT beat_at FROM heartbeat WHERE id = 1"


class Heartbeat:
    """Two background tasks; ``replica_age_seconds`` grows by itself when either end stops."""

    def __init__(
        self, primary: Server, replica: Server, clock: Clock, on_replica_lost: Callable[[], None]
    ) -> None:
        self._primary = replace(primary, timeout_seconds=ANSWER_SECONDS)
        self._replica = replace(replica, timeout_seconds=ANSWER_SECONDS)
        self._clock = clock
        self._on_replica_lost = on_replica_lost
        self._seen: datetime | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def replica_age_seconds(self) -> float | None:
        """Age of the newest beat seen through the replica; None while it cannot be read."""
        if self._seen is None:
            return None
        return max(0.0, (self._clock.now() - self._seen).total_seconds())

    def start(self) -> None:
        """Begin; no server needs to be up."""
        self._tasks = [
            asyncio.create_task(self._keep(self._primary, self._beat, WRITE_SECONDS, self._quiet)),
            asyncio.create_task(self._keep(self._replica, self._look, READ_SECONDS, self._lost)),
        ]

    async def stop(self) -> None:
        """End both tasks and their connections."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def _keep(
        self,
        server: Server,
        step: Callable[[Connection, bool], Awaitable[None]],
        every_seconds: float,
        failed: Callable[[], None],
    ) -> None:
        connection: Connection | None = None
        healthy = True
        try:
            while True:
                try:
                    fresh = connection is None
                    connection = connection or await connect(server)
                    await step(connection, fresh)
                    healthy = True
                except Exception as error:  # noqa: BLE001 - whatever it is, the next round tries again
                    if healthy:
                        _log.warning("heartbeat-lost", server=server.name, error=str(error))
                    healthy = False
                    if connection is not None:
                        connection.close()
                    connection = None
                    failed()
                await asyncio.sleep(every_seconds)
        finally:
            if connection is not None:
                connection.close()

    async def _beat(self, connection: Connection, first: bool) -> None:
        asked_at = self._clock.monotonic()
        rows = (await connection.execute(_NOW)).rows
        # A process that was frozen between question and answer would adopt an old time.
        if self._clock.monotonic() - asked_at < WRITE_SECONDS:
            self._clock.synchronise(rows[0]["moment"])
        await connection.execute(_FIRST_BEAT if first else _BEAT)

    async def _look(self, connection: Connection, first: bool) -> None:
        del first
        rows = (await connection.execute(_READ)).rows
        self._seen = rows[0]["beat_at"] if rows else None
        if (age := self.replica_age_seconds) is not None:
            replica_lag_seconds.set(age)

    def _quiet(self) -> None:
        """The primary's loss shows in the age of its last beat."""

    def _lost(self) -> None:
        self._seen = None
        self._on_replica_lost()
