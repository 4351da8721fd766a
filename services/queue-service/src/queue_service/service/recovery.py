"""Rooms come into being here, and come back after Redis lost them or its last moments.

Crash points of a rebuild, and what repairs each:

* after the epoch was raised in MySQL, before Redis has it: what turns hand out is refused by the
  fence (`WrongEpoch`), and whoever meets that, or a missing room, rebuilds again;
* between two parts: the room has no run id yet, so turns ask for another rebuild;
* after the last part, before steering: the room began with the policy as it was read; the next
  look at the versions steers it again, since its version is 0.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from common.database import Database
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.redis import Lease
from queue_service.domain import QueueState, TicketState, longest_poll, pause_at
from queue_service.store import (
    AdmissionStore,
    NumbersUsedUp,
    PolicyStore,
    Queue,
    RoomFrame,
    RoomMissing,
    RoomRestarted,
    RoomStore,
)

_TRIES = 20
_RIVAL_SECONDS = 0.05
_ABSENT_MARGIN_SECONDS = 1.0
LEASE_SECONDS = 3.0

T = TypeVar("T")
MakeLease = Callable[[str, float], Lease]

log = get_logger(__name__)


class Recovery:
    """Builds, rebuilds and extends rooms from what MySQL knows."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: RoomStore,
        admissions: AdmissionStore,
        policies: PolicyStore,
        lease: MakeLease,
        numbers_reserved: int,
        hold_seconds: float | None,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._admissions = admissions
        self._policies = policies
        self._lease = lease
        self._numbers_reserved = numbers_reserved
        self._hold_seconds = hold_seconds
        self._building: dict[str, asyncio.Task[None]] = {}

    async def in_room(self, concert_id: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and rebuild or extend the room as often as the call finds it wanting.

        Raises:
            QueueUnknown: there is no such queue.
            DependencyUnavailable: the room does not come back in time.
        """
        for _ in range(_TRIES):
            try:
                return await call()
            except (RoomMissing, RoomRestarted):
                await self.rebuild(concert_id)
            except NumbersUsedUp:
                await self.reserve_numbers(concert_id)
        raise DependencyUnavailable("redis")

    async def reserve_numbers(self, concert_id: str) -> None:
        """Let the room hand out more arrival numbers."""
        count = self._numbers_reserved
        numbers_to = await self._database.run(
            lambda tx: self._admissions.reserve_numbers(tx, concert_id, count)
        )
        await self._rooms.raise_ceiling(concert_id, numbers_to)

    async def rebuild(self, concert_id: str) -> None:
        """Make the room agree with MySQL under a new epoch; leave it to a rival who has begun.

        Raises:
            QueueUnknown: there is no such queue.
        """
        # All callers here share one attempt; other processes are kept away by a lease. Both only
        # spare work: the epoch is the fence.
        task = self._building.get(concert_id)
        if task is None:
            task = asyncio.create_task(self._attempt(concert_id))
            self._building[concert_id] = task
            task.add_done_callback(lambda done: self._built(concert_id, done))
        await asyncio.shield(task)

    def _built(self, concert_id: str, task: asyncio.Task[None]) -> None:
        del self._building[concert_id]
        if not task.cancelled():
            task.exception()  # whoever waited was told

    async def _attempt(self, concert_id: str) -> None:
        async with self._database.primary() as session:
            queue = await self._policies.queue(session, concert_id)
        lease = self._lease(f"rebuild:{concert_id}", LEASE_SECONDS)
        if not await lease.try_acquire():
            await asyncio.sleep(_RIVAL_SECONDS)
            return
        async with self._database.primary() as session:
            epoch = await self._admissions.epoch(session, concert_id)
        # A failed rebuild keeps the lease, so that a queue in trouble is no hot loop.
        if await self._rooms.sound_epoch(concert_id) < max(epoch, 1):
            await self._rebuild(queue, await self._hold(concert_id, queue))
        await lease.release()

    async def _rebuild(self, queue: Queue, hold_seconds: float) -> None:
        concert_id = queue.concert_id
        found = await self._database.run(
            lambda tx: self._admissions.next_epoch(tx, concert_id, self._numbers_reserved)
        )
        if found is None:
            return
        room, sequence, inside = found
        frame = RoomFrame(
            epoch=room.epoch + 1,
            last=room.numbers_to,
            ceiling=room.numbers_to + self._numbers_reserved,
            sequence=sequence,
            seed=room.seed,
            opened=room.opened,
            drawn_base=room.drawn_base,
            drawn_count=room.drawn_count,
            is_fresh=room.epoch == 0,
            hold_seconds=hold_seconds,
            policy=queue.policy,
            sale=queue.sale,
        )
        await self._rooms.rebuild(concert_id, frame, inside)
        await self._rooms.steer(concert_id, queue.version, queue.policy, queue.performances)
        if not frame.is_fresh:
            log.warning(
                "room-rebuilt", concert_id=concert_id, epoch=frame.epoch, inside=len(inside)
            )

    async def _hold(self, concert_id: str, queue: Queue) -> float:
        """Seconds without admissions: so long until everybody who was in line has asked again.

        After a total loss that is the longest poll interval; when only the server's last moments
        may be missing, the interval of the last one in line.
        """
        if self._hold_seconds is not None:
            return self._hold_seconds
        longest = longest_poll(queue.policy.place_grace_seconds)
        with suppress(RoomMissing):
            look = await self._rooms.look(concert_id)
            pause = pause_at(
                look.waiting,
                look.rate_per_minute or queue.policy.admit_per_minute,
                TicketState.WAITING,
                QueueState.OPEN,
            )
            return min(longest, math.ceil(pause) + _ABSENT_MARGIN_SECONDS)
        return longest
