"""The primary and the replica as a service uses them."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from common.clock import Clock
from common.database.connections import Connection, Params, Result, Server
from common.database.errors import RetryTransaction
from common.database.heartbeat import Heartbeat
from common.database.pool import Pool
from common.database.session import Session, Transaction
from common.errors import DependencyUnavailable, OutcomeUnknown
from common.metrics import database_seconds, database_transactions
from common.settings import CommonSettings

T = TypeVar("T")

_RETRY_JITTER_SECONDS = 0.02


class Database:
    """Two pools: decisions go to the primary, reads that may be a little old to the replica.

    ``clock``, when given, is kept at the primary's time.
    """

    def __init__(self, settings: CommonSettings, *, clock: Clock | None = None) -> None:
        primary, replica = Server.primary(settings), Server.replica(settings)
        self._primary = Pool(primary, settings.database_pool_size)
        self._replica = Pool(replica, settings.database_pool_size)
        self._timeout_seconds = settings.database_timeout_seconds
        self._max_lag_seconds = settings.replica_max_lag_seconds
        self._heartbeat = Heartbeat(primary, replica, clock or Clock(), self._replica.expire)
        self._background: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, settings: CommonSettings, *, clock: Clock | None = None) -> "Database":
        """Build and start one."""
        database = cls(settings, clock=clock)
        await database.start()
        return database

    async def start(self) -> None:
        """Begin the heartbeat. The servers need not be up: connections are opened when needed."""
        self._heartbeat.start()

    async def close(self) -> None:
        """End the heartbeat, let callbacks of finished transactions end, close connections."""
        await self._heartbeat.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=self._timeout_seconds)
        self._primary.close()
        self._replica.close()

    async def run(self, work: Callable[[Transaction], Awaitable[T]], *, attempts: int = 3) -> T:
        """Do ``work`` in one transaction and commit it before returning.

        ``work`` is called again, with a fresh transaction and therefore fresh reads, when it lost
        against a concurrent one. It must do nothing but SQL: rows stay locked while it runs, and
        what it did elsewhere would happen twice. ``after_commit`` is for the rest.

        Raises:
            DependencyUnavailable: nothing was committed; also when all attempts met contention.
            OutcomeUnknown: it may be committed. Look its effect up; never run it again blindly.
            UniqueViolation, CheckViolation: nothing was committed.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout_seconds
        attempt = 1
        while True:
            try:
                async with self.transaction() as tx:
                    result = await work(tx)
            except RetryTransaction:
                if attempt >= attempts or loop.time() >= give_up_at:
                    raise
                await asyncio.sleep(random.uniform(0, _RETRY_JITTER_SECONDS * 2**attempt))
                attempt += 1
            else:
                return result

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One attempt of `run`: commits at the end of the block, rolls back on any error.

        Raises:
            RetryTransaction: lost against a concurrent transaction; nothing was committed.
        """
        tx: Transaction | None = None
        outcome, began = "committed", time.monotonic()
        try:
            async with self._primary.connection() as connection:
                tx = Transaction(connection)
                await tx.begin()
                try:
                    yield tx
                except Exception:
                    await tx.rollback()
                    raise
                # A cancelled task leaves in_transaction set, and the pool hangs up.
                await tx.commit()
        except BaseException as error:
            outcome = _outcome(error)
            if tx is not None and tx.committed:  # cancelled while COMMIT was under way
                self._finish(tx)
            raise
        finally:
            database_transactions.labels(outcome).inc()
            database_seconds.observe(time.monotonic() - began)
        await tx.run_callbacks()

    def _finish(self, tx: Transaction) -> None:
        task = asyncio.create_task(tx.run_callbacks())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @asynccontextmanager
    async def primary(self) -> AsyncIterator[Session]:
        """Reads that decide something; each statement stands alone."""
        async with self._primary.connection() as connection:
            yield Session(connection, "primary")

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Session]:
        """Reads that may be ``replica_max_lag_seconds`` old, each statement standing alone.

        They come from the primary when the replica is older than that, or is lost meanwhile.
        """
        async with AsyncExitStack() as stack:
            if self.replica_is_fresh():
                try:
                    connection = await stack.enter_async_context(self._replica.connection())
                except DependencyUnavailable:
                    pass  # its heartbeat was young a moment ago; the primary answers instead
                else:
                    yield _ReplicaSession(connection, stack, self._primary)
                    return
            connection = await stack.enter_async_context(self._primary.connection())
            yield Session(connection, "primary")

    @property
    def replica_lag_seconds(self) -> float | None:
        """Age of what the replica shows; None while it cannot be read."""
        return self._heartbeat.replica_age_seconds

    def replica_is_fresh(self) -> bool:
        """Whether `replica` would ask the replica now."""
        age = self.replica_lag_seconds
        return age is not None and age <= self._max_lag_seconds


def _outcome(error: BaseException) -> str:
    match error:
        case RetryTransaction():
            return "contended"
        case OutcomeUnknown():
            return "unknown"
        case DependencyUnavailable():
            return "unavailable"
        case _:
            return "rolled_back"


class _ReplicaSession(Session):
    """Moves to the primary, once, when the replica fails under it: reads can be repeated."""

    def __init__(self, connection: Connection, stack: AsyncExitStack, primary: Pool) -> None:
        super().__init__(connection, "replica")
        self._stack = stack
        self._primary = primary

    async def _execute(self, sql: str, params: Params) -> Result:
        try:
            return await super()._execute(sql, params)
        except DependencyUnavailable:
            if self.source == "primary":
                raise
        self._connection = await self._stack.enter_async_context(self._primary.connection())
        self.source = "primary"
        return await super()._execute(sql, params)
