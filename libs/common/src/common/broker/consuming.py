"""The consuming connection: one channel a queue, so that each has a prefetch of its own."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aio_pika.abc import AbstractRobustChannel
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.rabbit.helpers import ChannelManager
from faststream.rabbit.message import RabbitMessage

from common.broker.failing import Failing
from common.broker.ordered import Lane, OrderedSubscription
from common.broker.publishing import faststream_broker
from common.broker.sharing import LaneShare
from common.broker.stalls import Stalls
from common.broker.subscription import Listener, Subscription
from common.broker.topology import members_queue

_log = structlog.get_logger("broker")


async def _as_it_is(message: StreamMessage[Any]) -> StreamMessage[Any]:
    """FastStream's decoder: we parse inside our own rules, where a failure is counted."""
    return message


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a lane is consumed."""

    lane: Lane
    channel: AbstractRobustChannel


class Consumer:
    """All subscriptions of one process."""

    def __init__(
        self,
        subscriptions: Sequence[Subscription | OrderedSubscription],
        *,
        service: str,
        failing: Failing,
        url: str,
        user: str,
        password: str,
        name: str,
        drain_seconds: float,
    ) -> None:
        self._subscriptions = subscriptions
        self._service = service
        self._failing = failing
        self._drain_seconds = drain_seconds
        self._stopping = asyncio.Event()
        self._stalls = Stalls()
        self._broker: RabbitBroker = faststream_broker(
            url,
            user=user,
            password=password,
            name=name,
            channel=Channel(prefetch_count=1),
            graceful_seconds=drain_seconds,
        )
        self._listeners: list[Listener] = []
        self._places: list[_Place] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect and subscribe; queues were declared before, on the publishing connection.

        Raises:
            AMQPError, OSError: the broker is away or a queue is missing.
        """
        await self._broker.connect()
        for subscription in self._subscriptions:
            if isinstance(subscription, Subscription):
                listener = Listener(subscription, self._service, self._failing, self._stopping)
                self._listeners.append(listener)
                await self._subscribe(listener.queue, listener.prefetch, listener.receive)
            else:
                await self._start_lanes(subscription)
        if self._places:
            await self._share_lanes()

    async def stop(self) -> None:
        """Take no more, finish what is in hand within the drain time, leave the rest unacked."""
        self._stopping.set()
        lanes = [task for task in self._tasks if task.get_name().startswith("lane:")]
        if lanes:
            _, late = await asyncio.wait(lanes, timeout=self._drain_seconds)
            if late:
                _log.warning("drain-deadline-passed", lanes=len(late))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._places:
            # Close, not cancel: a cancelled consumer's successor would start with later
            # messages while the ones in our buffer are not yet returned.
            if not place.channel.is_closed:
                await place.channel.close()
        await self._broker.stop()
        for listener in self._listeners:
            await listener.cancel()

    async def _start_lanes(self, subscription: OrderedSubscription) -> None:
        # The first to subscribe is the active consumer: replicas that start together meet in
        # the middle when each goes through the lanes in an order of its own.
        queues = random.sample(list(subscription.queues), len(subscription.queues))
        for queue in queues:
            lane = Lane(subscription, queue, self._failing, self._stopping, self._stalls)
            channel = await self._subscribe(queue, lane.prefetch, lane.receive)
            channel.close_callbacks.add(lambda *_, lane=lane: lane.lost())
            self._places.append(_Place(lane, channel))
            self._spawn(f"lane:{queue}", lane.run())

    async def _share_lanes(self) -> None:
        members = members_queue(self._service).name

        async def nothing(_: RabbitMessage) -> None:
            """The members queue never holds a message."""

        await self._subscribe(members, 1, nothing)
        share = LaneShare(
            lanes=[(place.lane, place.channel) for place in self._places],
            count_members=lambda: self._consumers_of(members),
        )
        self._spawn("lane-share", share.run())
        self._spawn("stalls", self._stalls.run())

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _consumers_of(self, queue: str) -> int:
        # Past FastStream, which would remember the queue on this channel and consume it here:
        # every lane would then share one channel, its delivery tags and its prefetch.
        manager: ChannelManager = self._broker.config.channel_manager
        channel = await manager.get_channel()
        found = await channel.declare_queue(queue, passive=True, robust=False, timeout=5)
        return found.declaration_result.consumer_count or 0

    async def _subscribe(
        self, queue: str, prefetch: int, receive: Callable[[RabbitMessage], Awaitable[None]]
    ) -> AbstractRobustChannel:
        channel = Channel(prefetch_count=prefetch)
        subscriber = self._broker.subscriber(
            RabbitQueue(queue, declare=False),
            channel=channel,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_as_it_is,
        )
        subscriber(receive)
        # FastStream throws away what arrives before it calls itself running, and deliveries may
        # come in the same read as the answer to `consume`: they would stay unacknowledged.
        subscriber.running = True
        await subscriber.start()
        manager: ChannelManager = self._broker.config.channel_manager
        return await manager.get_channel(channel)
