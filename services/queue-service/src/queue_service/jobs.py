"""Periodic work. None of it needs a leader: conditions in scripts and SQL decide."""

import asyncio
from collections.abc import Sequence

from common.platform import Job
from queue_service.service import Door, Steering

_ROOMS_AT_ONCE = 8
_STOCK_SECONDS = 1.0
_FREE_SECONDS = 5.0
_ORPHAN_SECONDS = 30.0


class Turns:
    """Takes a turn in every active room."""

    def __init__(self, door: Door, steering: Steering) -> None:
        self._door = door
        self._steering = steering
        self._at_once = asyncio.Semaphore(_ROOMS_AT_ONCE)

    async def run(self) -> None:
        """One round."""
        rooms = self._steering.active
        results = await asyncio.gather(*map(self._attend, rooms), return_exceptions=True)
        # One room in trouble must not keep the others waiting; the job reports the first.
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _attend(self, concert_id: str) -> None:
        async with self._at_once:
            await self._door.attend(concert_id)


def jobs(
    door: Door, steering: Steering, *, turn_seconds: float, steer_seconds: float
) -> Sequence[Job]:
    """Everything queue-service does by the clock."""
    return [
        Job("queue-turns", turn_seconds, Turns(door, steering).run),
        Job("queue-steering", steer_seconds, steering.watch),
        Job("queue-stock", _STOCK_SECONDS, steering.save_stock),
        Job("queue-freeing", _FREE_SECONDS, door.free_recently_ended, lease=True),
        Job("queue-orphans", _ORPHAN_SECONDS, door.end_orphans, lease=True),
    ]
