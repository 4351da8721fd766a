"""One load at a time of what many readers want at once, and never something old over new."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from common.clock import Clock
from common.database import Database, Session
from common.errors import DependencyUnavailable
from common.ids import new_id
from common.redis import Lease, Redis

LOCK_SECONDS = 3.0
"""A loader that takes longer has lost its lock; the version is the fence behind it."""
PATIENCE_SECONDS = 1.0
"""Then the lock's holder counts as frozen, and a reader loads for itself: the lock only spares
work, and a request must be answered within three seconds."""
POLL_SECONDS = 0.02
REDIS_REST_SECONDS = 2.0
"""After Redis did not answer it is not asked for a while: readers would wait for it each time."""

T = TypeVar("T")


class OneLoader:
    """Among this process's readers by sharing one task, among processes by a lock in Redis."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._redis_rests_until = 0.0

    async def get(
        self,
        lock_name: str,
        cached: Callable[[], Awaitable[T | None]],
        load: Callable[[bool], Awaitable[T | None]],
    ) -> T | None:
        """What the cache has, else what one loader brings.

        Args:
            lock_name: the lock's key; also names the task that this process's readers share.
            cached: asks the cache; None is a miss.
            load: asks the database; its argument says whether Redis can be written to.
        """
        task = self._running.get(lock_name)
        if task is None:
            task = asyncio.create_task(self._get(lock_name, cached, load))
            self._running[lock_name] = task
            task.add_done_callback(lambda done: self._ended(lock_name, done))
        # Shielded: a reader that hangs up must not end the load the others wait for.
        result: T | None = await asyncio.shield(task)
        return result

    def _ended(self, lock_name: str, task: asyncio.Task[Any]) -> None:
        del self._running[lock_name]
        if not task.cancelled():
            task.exception()  # retrieved, also when every reader has hung up

    async def _get(
        self,
        lock_name: str,
        cached: Callable[[], Awaitable[T | None]],
        load: Callable[[bool], Awaitable[T | None]],
    ) -> T | None:
        if self._clock.monotonic() < self._redis_rests_until:
            return await load(False)
        try:
            found = await cached()
            if found is not None:
                return found
            lease = Lease(self._redis, lock_name, LOCK_SECONDS, new_id())
            found = await self._wait_for_turn(lease, cached)
            if found is not None:
                return found
        except DependencyUnavailable as error:
            if error.dependency != "redis":
                raise
            self._redis_rests_until = self._clock.monotonic() + REDIS_REST_SECONDS
            return await load(False)
        try:
            return await load(True)
        finally:
            with suppress(DependencyUnavailable):  # it runs out by itself
                await lease.release()

    async def _wait_for_turn(
        self, lease: Lease, cached: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        """None: it is our turn to load. Else another loader has brought it meanwhile."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while not await lease.try_acquire():
            if self._clock.monotonic() >= deadline:
                return None
            await asyncio.sleep(POLL_SECONDS)
            found = await cached()
            if found is not None:
                return found
        # The loader before us may have finished between our miss and our lock.
        return await cached()


async def read_behind_fence(
    database: Database,
    read: Callable[[Session], Awaitable[T | None]],
    store: Callable[[T], Awaitable[bool]],
    *,
    max_lag_seconds: float | None = None,
) -> T | None:
    """Read from the replica; from the primary when the replica is too old for what is known.

    Args:
        database: both servers.
        read: the query; None means it does not exist.
        store: offers the result to the cache; False means something newer is known there.
        max_lag_seconds: a stricter limit than the database's own.
    """
    lag = database.replica_lag_seconds
    if max_lag_seconds is None or (lag is not None and lag <= max_lag_seconds):
        async with database.replica() as session:
            found = await read(session)
            source = session.source
        if found is not None and await store(found):
            return found
        if source == "primary":
            return found
    async with database.primary() as session:
        found = await read(session)
    if found is not None:
        await store(found)
    return found
