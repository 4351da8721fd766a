"""What the API may believe about a performance without asking the database each time."""

import asyncio
from dataclasses import dataclass

from common.clock import Clock
from common.database import Database
from common.events import SaleState
from reservation_service.domain import Performance
from reservation_service.store import performances

OPEN_SECONDS = 1.0
"""How long an open sale is believed; the lane decides anyway."""
OTHER_SECONDS = 0.1
"""How long any other state is believed: nobody should be told "not open" once it is."""


@dataclass(frozen=True, slots=True)
class _Seen:
    performance: Performance
    until: float


class Sales:
    """Performances by id, read from the primary by one caller at a time and kept for a moment."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._loading: dict[str, asyncio.Task[Performance | None]] = {}

    async def find(self, performance_id: str) -> Performance | None:
        """A performance whose plan is complete; None is never remembered.

        Raises:
            DependencyUnavailable: the primary does not answer.
        """
        seen = self._seen.get(performance_id)
        if seen is not None and self._clock.monotonic() < seen.until:
            return seen.performance
        loading = self._loading.get(performance_id)
        if loading is None:
            loading = asyncio.create_task(self._load(performance_id))
            self._loading[performance_id] = loading
            loading.add_done_callback(lambda _: self._loading.pop(performance_id, None))
        # Shielded: the first caller's cancellation must not fail those who wait with it.
        return await asyncio.shield(loading)

    async def _load(self, performance_id: str) -> Performance | None:
        async with self._database.primary() as session:
            found = await performances.find(session, performance_id)
        if found is None or not found.complete:
            self._seen.pop(performance_id, None)
            return None
        seconds = OPEN_SECONDS if found.sale is SaleState.OPEN else OTHER_SECONDS
        self._seen[performance_id] = _Seen(found, self._clock.monotonic() + seconds)
        return found
