"""The relay: publishes what transactions left in the outbox.

A row leaves only after its confirm, so a message is sent at least once; consumers have an inbox.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from common.database.connections import Connection, Params, Result, Server, connect
from common.errors import DependencyUnavailable
from common.metrics import outbox_oldest_seconds, outbox_published, outbox_rows
from common.outbox import channel
from common.redis import Redis, messages
from common.settings import CommonSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to publish. ``exchange`` is the topic when the destination is the stream."""

    id: int
    destination: str
    event_id: str
    source: str
    type: str
    exchange: str
    routing_key: str
    subject: str
    message_key: str | None
    traceparent: str | None
    occurred_at: datetime
    payload: str


Publish = Callable[[list[OutboxRow]], Awaitable[Collection[int]]]
"""Publishes rows in order and returns the ids of those that were confirmed.

Rows whose ids are missing, or all of them when it raises, stay and are tried again."""

BATCH_CHARACTERS = 1_000_000
"""Most payload published at once, unless one message alone is larger: all of it has to be confirmed
within one message's deadline, or the rest is sent again and again."""
POLL_SECONDS = 0.1
PING_SECONDS = 1.0
MEASURE_SECONDS = 5.0
_MEASURED_ROWS = 10_000
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LEAST_TIMEOUT_SECONDS = 2.0  # GET_LOCK itself waits for one

# No cursor over ids: a transaction with a lower id may commit later, and would be skipped.
_READ = """
SELECT id, destination, event_id, source, type, exchange, routing_key, subject, message_key,
    traceparent, occurred_at, payload
FROM outbox WHERE destination = %s ORDER BY id LIMIT %s
"""
_DELETE = "DELETE FROM outbox WHERE id IN %s"
_MEASURE = """
SELECT COUNT(*) AS waiting, TIMESTAMPDIFF(MICROSECOND, MIN(occurred_at), NOW(6)) AS age
FROM (SELECT occurred_at FROM outbox WHERE destination = %s ORDER BY id LIMIT %s) AS oldest
"""
_LOCK = "SELECT GET_LOCK(%s, 1) AS locked"
_HELD = "SELECT IS_USED_LOCK(%s) = CONNECTION_ID() AS held"


class _LockedSession:
    """The session that holds the relay's lock, and with which it reads and deletes.

    One session for both: whoever lost the lock lost the means to delete as well.
    """

    def __init__(self, connection: Connection, lock: str) -> None:
        self._connection = connection
        self._lock = lock
        self._turn = asyncio.Lock()

    async def execute(self, sql: str, params: Params) -> Result:
        async with self._turn:
            return await self._connection.execute(sql, params)

    async def acquire(self) -> None:
        """Wait for the lock, for as long as another relay is active."""
        locked = 0
        while locked != 1:
            locked = (await self.execute(_LOCK, (self._lock,))).rows[0]["locked"]

    async def keep(self) -> None:
        """Show the server that we are alive; it hangs up on whoever is silent for 4 s.

        Raises:
            DependencyUnavailable: the lock is no longer ours.
        """
        while True:
            await asyncio.sleep(PING_SECONDS)
            if (await self.execute(_HELD, (self._lock,))).rows[0]["held"] != 1:
                raise DependencyUnavailable("database")


class Relay:
    """Publishes one destination's rows; of all replicas of the service, one relay is active.

    Rows go out in the order of their ids. A frozen or killed relay is replaced within about five
    seconds. A destination that fails is tried again, ever more slowly, and holds back no other.

    Args:
        settings: whose primary and schema.
        destination: `BROKER` or `STREAM`.
        publish: sends rows and tells which were confirmed.
        redis: where `Outbox` rings; without it the relay only polls.
        batch_rows: how many rows are published at once.
        deadline_seconds: longest time for one batch.
    """

    def __init__(
        self,
        settings: CommonSettings,
        destination: str,
        publish: Publish,
        *,
        redis: Redis | None = None,
        batch_rows: int = 200,
        deadline_seconds: float = 5.0,
    ) -> None:
        server = Server.primary(settings)
        seconds = max(_LEAST_TIMEOUT_SECONDS, server.timeout_seconds)
        self._server = replace(server, timeout_seconds=seconds)
        self._lock = f"{server.schema}.outbox.{destination}"
        self._channel = channel(settings.redis_prefix, destination)
        self._destination = destination
        self._publish = publish
        self._redis = redis
        self._batch_rows = batch_rows
        self._deadline_seconds = deadline_seconds
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._measured_at = 0.0
        self.active = False
        """Whether this relay, and not a replica's, publishes now."""

    async def start(self) -> None:
        """Begin; no server needs to be up."""
        self._stopping.clear()
        self._tasks = [asyncio.create_task(self._run(), name=f"relay-{self._destination}")]
        if self._redis is not None:
            self._tasks.append(asyncio.create_task(self._listen(self._redis)))

    async def stop(self) -> None:
        """Finish the batch in hand, within its deadline, and let another relay take over."""
        self._stopping.set()
        self._wake.set()
        if not self._tasks:
            return
        # Waiting for the lock, or for a server that is gone, is not worth waiting for.
        patience = self._deadline_seconds + self._server.timeout_seconds if self.active else 0
        await asyncio.wait(self._tasks[:1], timeout=patience)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def wake(self) -> None:
        """Look for rows now instead of at the next poll."""
        self._wake.set()

    async def _listen(self, redis: Redis) -> None:
        async for _ in messages(redis, self._channel, on_subscribed=self.wake):
            self.wake()

    async def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                async with self._locked() as session:
                    failures = 0
                    await self._relay(session)
            except* Exception as errors:  # noqa: BLE001 - a relay that ends would stop the service's events
                failures += 1
                reason = "; ".join(repr(error) for error in errors.exceptions)
                _log.warning("relay-interrupted", destination=self._destination, reason=reason)
                await self._pause(failures)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[_LockedSession]:
        connection = await connect(self._server)
        try:
            session = _LockedSession(connection, self._lock)
            await session.acquire()
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(session.keep())
                self.active = True
                yield session
                keeper.cancel()
        finally:
            self.active = False
            connection.close()
            for gauge in (outbox_rows, outbox_oldest_seconds):
                with suppress(KeyError):  # only the active relay knows these figures
                    gauge.remove(self._destination)

    async def _relay(self, session: _LockedSession) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._wake.clear()
            await self._measure(session)
            found = await session.execute(_READ, (self._destination, self._batch_rows))
            rows = [OutboxRow(**row) for row in found.rows]
            if not rows:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()
                continue
            confirmed = 0
            for part in _parts(rows):
                confirmed += await self._move(session, part)
                if self._stopping.is_set():
                    break
            if confirmed:
                failures = 0
            if confirmed < len(rows):
                failures += 1
                await self._pause(failures)

    async def _move(self, session: _LockedSession, rows: list[OutboxRow]) -> int:
        """Publish, and delete what is confirmed; how many that were."""
        confirmed = await self._send(rows)
        if confirmed:
            await session.execute(_DELETE, (confirmed,))
            outbox_published.labels(self._destination).inc(len(confirmed))
        return len(confirmed)

    async def _send(self, rows: list[OutboxRow]) -> list[int]:
        """Publish; the ids of what is confirmed, whatever goes wrong with the rest."""
        ids = {row.id for row in rows}
        reason = "not confirmed"
        confirmed: list[int] = []
        try:
            async with asyncio.timeout(self._deadline_seconds):
                confirmed = [id_ for id_ in await self._publish(rows) if id_ in ids]
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows stay and are tried again
            reason = repr(error)
        if len(confirmed) < len(rows):
            _log.warning(
                "relay-not-confirmed",
                destination=self._destination,
                rows=len(rows),
                confirmed=len(confirmed),
                reason=reason,
            )
        return confirmed

    async def _pause(self, failures: int) -> None:
        """Wait, longer after every failure; only stopping cuts it short."""
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
        with suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(longest / 2, longest)):
                await self._stopping.wait()

    async def _measure(self, session: _LockedSession) -> None:
        if time.monotonic() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = time.monotonic()
        row = (await session.execute(_MEASURE, (self._destination, _MEASURED_ROWS))).rows[0]
        outbox_rows.labels(self._destination).set(row["waiting"])
        outbox_oldest_seconds.labels(self._destination).set((row["age"] or 0) / 1_000_000)


def _parts(rows: list[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """The rows in order, in parts of at most `BATCH_CHARACTERS` or one row."""
    part: list[OutboxRow] = []
    characters = 0
    for row in rows:
        if part and characters + len(row.payload) > BATCH_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(row)
        characters += len(row.payload)
    if part:
        yield part
