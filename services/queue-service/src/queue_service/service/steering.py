"""Policy and sale, from MySQL to the rooms.

A change is committed first and then told to the room; if the process dies in between, every
worker's next look (`watch`, under a second) finds the newer version and tells it again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from common.database import Database, Transaction
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import InventoryChanged, PerformanceSaleChanged, PerformanceScheduled
from common.inbox import first_time
from common.logging import get_logger
from queue_service.domain import QueueUnknown
from queue_service.service.door import Door
from queue_service.service.recovery import Recovery
from queue_service.store import PolicyChange, PolicyStore, Queue, RoomStore

CONSUMER = "queue"

log = get_logger(__name__)


class Steering:
    """What administrators and the sale make of the queues."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: RoomStore,
        policies: PolicyStore,
        recovery: Recovery,
        door: Door,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._policies = policies
        self._recovery = recovery
        self._door = door
        self._active: dict[str, int] = {}
        self._unsaved: dict[tuple[str, str], tuple[int, int]] = {}

    async def queue(self, concert_id: str) -> Queue:
        """Policy and sale of one queue, as decided.

        Raises:
            QueueUnknown
        """
        async with self._database.primary() as session:
            return await self._policies.queue(session, concert_id)

    async def change(self, concert_id: str, fields: Mapping[str, Any], changed_by: str) -> Queue:
        """Change some fields of a policy; the room follows before this returns, or soon after.

        Raises:
            QueueUnknown
        """
        change = PolicyChange(fields, changed_by)
        queue = await self._database.run(lambda tx: self._policies.change(tx, concert_id, change))
        try:
            await self._steer(queue)
            await self._door.attend(concert_id)
        except DependencyUnavailable:
            # The change stands; every worker's next look tells the room.
            log.info("steered-later", concert_id=concert_id)
        return queue

    async def figures(self, before: str | None, limit: int) -> Sequence[dict[str, Any]]:
        """Figures of the queues from the replica, newest first."""
        async with self._database.replica() as session:
            return await self._policies.figures(session, before, limit)

    async def performance_scheduled(self, event: PerformanceScheduled, envelope: Envelope) -> None:
        """A performance exists: its concert has a queue from now on."""

        async def work(tx: Transaction) -> None:
            if await first_time(tx, CONSUMER, envelope.id):
                await self._policies.announce(tx, event)

        await self._database.run(work)
        await self._refresh(event.concert_id)

    async def sale_changed(self, event: PerformanceSaleChanged, envelope: Envelope) -> None:
        """A performance opened, paused, closed or was cancelled."""

        async def work(tx: Transaction) -> None:
            if await first_time(tx, CONSUMER, envelope.id):
                await self._policies.change_sale(tx, event)

        await self._database.run(work)
        await self._refresh(event.concert_id)
        await self._door.attend(event.concert_id)

    async def inventory_changed(self, event: InventoryChanged, _: Envelope) -> None:
        """Seats left changed; idempotent by version, saved to MySQL within a second or so."""
        figure = (event.version, event.seats_left)
        try:
            await self._recovery.in_room(
                event.concert_id,
                lambda: self._rooms.stock(event.concert_id, event.performance_id, *figure),
            )
        except QueueUnknown:
            log.info("stock-before-queue", concert_id=event.concert_id)
        key = (event.concert_id, event.performance_id)
        self._unsaved[key] = max(self._unsaved.get(key, figure), figure)

    async def save_stock(self) -> None:
        """Write the stock heard of since the last time. It is a hint: a crash may lose the last."""
        unsaved, self._unsaved = self._unsaved, {}
        for (concert_id, performance_id), (version, seats_left) in unsaved.items():
            await self._save(concert_id, performance_id, version, seats_left)

    async def _save(self, concert_id: str, performance_id: str, version: int, left: int) -> None:
        try:
            await self._database.run(
                lambda tx: self._policies.save_stock(tx, concert_id, performance_id, version, left)
            )
        except DependencyUnavailable:
            self._unsaved.setdefault((concert_id, performance_id), (version, left))

    async def watch(self) -> None:
        """Find the queues in which anything can happen, and tell rooms what they do not know."""
        async with self._database.primary() as session:
            active = await self._policies.active(session)
        for concert_id, version in active.items():
            # A room rebuilt elsewhere may not have been told: the last turn says what it knows.
            told = min(
                self._active.get(concert_id, 0), self._door.versions.get(concert_id, version)
            )
            if version > told:
                await self._refresh(concert_id)
        self._active = active

    @property
    def active(self) -> list[str]:
        """Queues in which anything can happen, as of the last `watch`."""
        return list(self._active)

    async def _refresh(self, concert_id: str) -> None:
        await self._steer(await self.queue(concert_id))

    async def _steer(self, queue: Queue) -> None:
        await self._recovery.in_room(
            queue.concert_id,
            lambda: self._rooms.steer(
                queue.concert_id, queue.version, queue.policy, queue.performances
            ),
        )
