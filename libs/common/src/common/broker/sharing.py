"""Spreading lanes over replicas.

The first process to subscribe is the active consumer of every lane, and stays it: the others only
wait. RabbitMQ 3.10 knows no priorities among them. So each replica counts how many replicas there
are (consumers of ``<service>.members``), and one that is active in more than its share gives the
surplus up: it finishes the batch in hand, closes the lane's channel (its unacknowledged messages go
back in order) and queues up again behind the others.

A process learns that it is active by being given a message, so idle lanes may stay unevenly spread
until there is something to decide.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aio_pika.abc import AbstractRobustChannel

from common.broker import metrics
from common.broker.ordered import Lane
from common.broker.publishing import CONNECTION_ERRORS

EVERY_SECONDS = 1.0
HAND_OVER_SECONDS = 5.0

_log = structlog.get_logger("broker")


class LaneShare:
    """Keeps this process's active lanes at its share."""

    def __init__(
        self,
        lanes: Sequence[tuple[Lane, AbstractRobustChannel]],
        count_members: Callable[[], Awaitable[int]],
    ) -> None:
        self._lanes = lanes
        self._count_members = count_members

    async def run(self) -> None:
        """Compare and give up, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS * random.uniform(0.75, 1.25))
            try:
                async with asyncio.timeout(HAND_OVER_SECONDS):
                    await self._level()
            except CONNECTION_ERRORS:
                _log.debug("lane-share-unknown")

    async def _level(self) -> None:
        active = [place for place in self._lanes if place[0].active]
        metrics.LANES_ACTIVE.set(len(active))
        surplus = len(active) - math.ceil(len(self._lanes) / max(1, await self._count_members()))
        for lane, channel in active[: max(0, surplus)]:
            await self._give_up(lane, channel)

    async def _give_up(self, lane: Lane, channel: AbstractRobustChannel) -> None:
        async with lane.in_hand:
            lane.lost()
            underlying = await channel.get_underlay_channel()
            # The robust channel opens itself again and consumes anew, behind the others.
            await underlying.close()
            lane.lost()
        _log.info("lane-given-up", queue=lane.queue)
