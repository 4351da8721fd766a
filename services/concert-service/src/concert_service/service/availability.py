"""Availability for a rush of readers: ready-made bytes, refreshed by one task a performance."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from common.clock import Clock
from common.database import Database, Session
from common.errors import DependencyUnavailable
from common.events import Timestamp
from concert_service.domain.availability import (
    HISTORY_LIMIT,
    Availability,
    SeatIndex,
    unbroken,
)
from concert_service.service.loading import OneLoader, read_behind_fence
from concert_service.service.recent import Recent
from concert_service.store import concerts, projection
from concert_service.store.cache import Cache, UpToDate

FRESH_SECONDS = 0.4
"""Served without asking anybody. With the replica's age and the second a client may keep an
answer (``max-age=1``), what a client shows is at most two seconds old."""
MAX_REPLICA_LAG_SECONDS = 0.6
MAX_SEATS_HELD = 1_000_000
"""Seats of all performances whose availability one process holds; about 100 bytes each."""
_SEATS_PER_READ = 5_000

_timestamp = TypeAdapter(Timestamp)


@dataclass(slots=True)
class _Held:
    """An availability as it was found at one moment, with the answers already given."""

    availability: Availability
    as_of: str
    fresh_until: float
    bodies: dict[int | None, bytes] = field(default_factory=dict)

    def body(self, since: int | None) -> bytes:
        body = self.bodies.get(since)
        if body is None:
            body = self.availability.body(self.as_of, since)
            if len(self.bodies) < HISTORY_LIMIT:  # a caller may invent any number of versions
                self.bodies[since] = body
        return body


class AvailabilityReader:
    """Answers from memory while that is fresh, else from Redis, else from the replica."""

    def __init__(self, database: Database, cache: Cache, loader: OneLoader, clock: Clock) -> None:
        self._database = database
        self._cache = cache
        self._loader = loader
        self._clock = clock
        self._held: Recent[_Held] = Recent(MAX_SEATS_HELD)

    async def body(self, performance_id: str, since: int | None) -> bytes | None:
        """The answer as JSON; None when there is no such performance.

        It is an `AvailabilityChangeView` when ``since`` can be served, else an `AvailabilityView`.
        """
        held = self._held.get(performance_id)
        if held is None or self._clock.monotonic() >= held.fresh_until:
            held = await self._refreshed(performance_id)
        return held.body(since) if held else None

    async def _refreshed(self, performance_id: str) -> _Held | None:
        async def cached() -> _Held | None:
            return await self._from_redis(performance_id)

        async def load(shared: bool) -> _Held | None:
            return await self._from_database(performance_id, shared=shared)

        name = self._cache.lock_name(f"availability:{performance_id}")
        return await self._loader.get(name, cached, load)

    async def _from_redis(self, performance_id: str) -> _Held | None:
        held = self._held.get(performance_id)
        version = held.availability.version if held else -1
        asked_at = self._clock.now()
        found = await self._cache.availability(performance_id, version)
        if found is None:
            return None
        if isinstance(found, UpToDate):
            return self._hold(held.availability, age_of=asked_at) if held else None
        if found.version < version:
            # Redis was rebuilt from an older replica: we know better, and so must every reader.
            await self._cache.require_availability(performance_id, version)
            return None
        index = held.availability.index if held else await self._index(performance_id)
        if index is None:
            return None
        known = [*held.availability.history, *found.changes] if held else found.changes
        return self._hold(
            Availability(index, found.version, found.bitmap, unbroken(known, found.version)),
            age_of=asked_at,
        )

    async def _from_database(self, performance_id: str, *, shared: bool) -> _Held | None:
        index = await self._index(performance_id)
        if index is None:
            return None
        source_age = timedelta()

        async def read(session: Session) -> tuple[int, bytes] | None:
            nonlocal source_age
            found = await projection.availability(session, performance_id)
            on_replica = session.source == "replica"
            lag = self._database.replica_lag_seconds if on_replica else 0.0
            source_age = timedelta(seconds=lag or 0.0)
            return found

        async def store(found: tuple[int, bytes]) -> bool:
            if not shared:
                return self._is_news(performance_id, found[0])
            try:
                needed = await self._cache.store_availability(performance_id, *found)
            except DependencyUnavailable:
                return self._is_news(performance_id, found[0])  # shown, not kept
            return needed <= found[0]

        asked_at = self._clock.now()
        found = await read_behind_fence(
            self._database, read, store, max_lag_seconds=MAX_REPLICA_LAG_SECONDS
        )
        if found is None:
            return None
        version, bitmap = found
        held = self._held.get(performance_id)
        history = held.availability.history if held else ()
        return self._hold(
            Availability(index, version, bitmap, unbroken(history, version)),
            age_of=asked_at - source_age,
        )

    def _is_news(self, performance_id: str, version: int) -> bool:
        held = self._held.get(performance_id)
        return held is None or version >= held.availability.version

    def _hold(self, availability: Availability, *, age_of: datetime) -> _Held:
        held = _Held(
            availability,
            as_of=_timestamp.dump_python(age_of, mode="json"),
            fresh_until=self._clock.monotonic() + FRESH_SECONDS,
        )
        index = availability.index
        self._held.put(index.performance_id, held, index.seats_total)
        return held

    async def _index(self, performance_id: str) -> SeatIndex | None:
        """The seats, which never change; None when there is no such performance."""
        held = self._held.get(performance_id)
        if held is not None:
            return held.availability.index

        async def read(session: Session) -> SeatIndex | None:
            # The row comes first: seats without it are a draft, and may not be complete.
            row = await concerts.performance(session, performance_id)
            if row is None:
                return None
            seats: list[tuple[str, str]] = []
            for start in range(0, row.seats_total, _SEATS_PER_READ):
                seats += await projection.seats_in_order(
                    session, performance_id, start, _SEATS_PER_READ
                )
            return SeatIndex.build(performance_id, seats)

        async def accept(_: SeatIndex) -> bool:
            return True

        return await read_behind_fence(self._database, read, accept)
