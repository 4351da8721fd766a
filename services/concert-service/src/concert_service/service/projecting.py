"""The projection of the inventory: what reservation-service tells becomes what readers see."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from common import inbox
from common.clock import Clock
from common.database import Database, Transaction
from common.errors import DependencyUnavailable, MessageRejected
from common.events import InventoryChanged, SeatChange
from common.logging import get_logger
from concert_service.domain.projection import (
    Projected,
    SeatUnknown,
    next_availability_version,
    project,
)
from concert_service.store import projection as store
from concert_service.store.cache import Cache

CONSUMER = "concert.inventory.changed.v1"
MAX_UNTOLD = 10_000

projection_lag_seconds = Gauge(
    "stagedoor_concert_projection_lag_seconds", "Age of the newest inventory change projected"
)
projection_writes = Counter(
    "stagedoor_concert_projection_writes", "Availability writes to Redis by outcome", ["outcome"]
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One performance moved on: from version ``base`` to ``version``."""

    performance_id: str
    base: int
    version: int
    projected: Projected


class Projector:
    """Applies inventory changes in one transaction, then tells Redis."""

    def __init__(self, database: Database, cache: Cache, clock: Clock) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._untold: dict[str, int] = {}

    async def apply(self, messages: Sequence[tuple[str, InventoryChanged]]) -> None:
        """Project (message id, event) pairs, in whatever order and however often they come.

        Raises:
            MessageRejected: an event names a performance or a seat that does not exist.
            DependencyUnavailable: nothing was committed, or it is unknown; the inbox knows.
        """
        steps = await self._database.run(lambda tx: self._project(tx, messages))
        for step in steps:
            await self._tell(step)
        if messages:
            newest = max(event.occurred_at for _, event in messages)
            projection_lag_seconds.set((self._clock.now() - newest).total_seconds())

    async def tell_again(self) -> None:
        """Make up for writes that Redis did not take: nobody may be shown what was before them."""
        for performance_id, version in list(self._untold.items()):
            await self._cache.require_availability(performance_id, version)
            if self._untold.get(performance_id) == version:
                del self._untold[performance_id]

    async def _project(
        self, tx: Transaction, messages: Sequence[tuple[str, InventoryChanged]]
    ) -> list[Step]:
        new = await inbox.first_times(tx, CONSUMER, [message_id for message_id, _ in messages])
        events: defaultdict[str, list[InventoryChanged]] = defaultdict(list)
        for message_id, event in messages:
            # A repeat is kept as "nothing new": its first time may have ended before Redis knew.
            events[event.performance_id] += [event] if message_id in new else []
        # Sorted: two projectors must not lock performances crosswise.
        return [await self._step(tx, name, events[name]) for name in sorted(events)]

    async def _step(
        self, tx: Transaction, performance_id: str, events: Sequence[InventoryChanged]
    ) -> Step:
        row = await store.lock_projection(tx, performance_id)
        if row is None:
            raise MessageRejected(f"performance {performance_id} does not exist")
        base = row.availability_version
        if not events:
            return Step(performance_id, base, base, Projected(()))
        changes = [change for event in events for change in event.seats]
        projected = await self._decide(tx, performance_id, changes)
        heard = max(event.version for event in events)
        version = next_availability_version(base, heard, bool(projected.seats))
        await store.write_projection(tx, row, projected, version, heard)
        return Step(performance_id, base, version, projected)

    async def _decide(
        self, tx: Transaction, performance_id: str, changes: Sequence[SeatChange]
    ) -> Projected:
        ids = {change.seat_id for change in changes}
        records = await store.seat_records(tx, performance_id, sorted(ids))
        try:
            return project(records, changes)
        except SeatUnknown as error:
            raise MessageRejected(f"performance {performance_id}: {error}") from error

    async def _tell(self, step: Step) -> None:
        try:
            if step.base == step.version:
                await self._cache.require_availability(step.performance_id, step.version)
                return
            outcome = await self._cache.advance_availability(
                step.performance_id, step.base, step.version, step.projected
            )
        except DependencyUnavailable:
            # Committed all the same. Retried by a job, healed by the entry's end at the latest.
            outcome = "lost"
            if len(self._untold) < MAX_UNTOLD:
                self._untold[step.performance_id] = step.version
        projection_writes.labels(outcome).inc()
