"""Ordered subscriptions: lanes. One active consumer a queue, batches in the broker's order.

FastStream runs one handler a message, each in a task of its own. The handler therefore only
enqueues, and `_Buffer` releases deliveries in the order of their tags, whatever order the tasks
ran in. One loop a lane takes up to ``max_batch`` of them, has the service decide them together,
and acknowledges up to the last decided one: what is acknowledged is always a prefix of the lane.

When the channel is lost another process has become the active consumer and has been given
everything unacknowledged, so the buffer is dropped. A batch already handed to the service then
meets its inbox, or the other process does: the order of effects stays that of the broker.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from faststream.rabbit.message import RabbitMessage
from opentelemetry.trace import SpanKind

from common.broker import metrics
from common.broker.failing import Failing, event_id
from common.broker.pause import Abandoned, Pause
from common.broker.publishing import CONNECTION_ERRORS
from common.broker.stalls import Stalls
from common.broker.subscription import acknowledge, parse
from common.broker.topology import (
    Binding,
    Queue,
    consumer_queue,
    exchange_named,
)
from common.envelope import Envelope
from common.events import Event
from common.tracing import continued

LANE_PREFETCH = 200
"""The same in every lane, replica and version: RabbitMQ puts what a lost consumer returns behind
what was returned before, so a successor that cannot take all of it at once, and is lost as well,
leaves it out of order."""
SINGLE_TRIES = 2
"""A message alone gets a second try before it is parked: a glitch must not cost a fan an answer."""
VERIFY_SECONDS = 2.0

_log = structlog.get_logger("broker")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of a batch."""

    event: Any
    envelope: Envelope

    @contextmanager
    def in_trace(self) -> Iterator[None]:
        """Run the block in the trace this message came with."""
        with continued(self.envelope.traceparent, f"decide {self.envelope.type}"):
            yield


@dataclass(frozen=True, slots=True)
class OrderedSubscription:
    """One event type a service decides in exactly the order the broker accepted it.

    Args:
        event: the event class.
        handle_batch: ``async (list[Delivery])``: decides all of them, in order, or raises and
            has decided none. Must be idempotent (inbox): a batch may come again, in whole or
            in part, also to another process.
        queues: one single-active-consumer queue a lane, ``<service>.<routing key>``.
        max_batch: most messages decided together; at most `LANE_PREFETCH`.
    """

    event: type[Event]
    handle_batch: Callable[[list[Delivery]], Awaitable[None]]
    queues: Sequence[str]
    max_batch: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= LANE_PREFETCH:
            raise ValueError(f"max_batch must be 1 to {LANE_PREFETCH}")

    def declarations(self, service: str) -> list[Queue]:
        """A queue a lane, bound under its name without the service."""
        exchange = exchange_named(self.event.exchange)
        return [
            consumer_queue(
                service,
                queue,
                (Binding(exchange, queue.removeprefix(f"{service}.")),),
                ordered=True,
            )
            for queue in self.queues
        ]


class _Buffer:
    """Deliveries of the present channel, released in the order of their tags."""

    def __init__(self) -> None:
        self._channel: object = None
        self._next_tag = 1
        self._early: dict[int, RabbitMessage] = {}
        self._ready: deque[RabbitMessage] = deque()
        self.filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._early)

    def put(self, message: RabbitMessage) -> None:
        """Add one delivery. Synchronous: an await before this point would let others overtake."""
        channel = message.raw_message.channel
        if channel.is_closed:
            return
        if channel is not self._channel:
            self.drop()
            self._channel = channel
        self._early[message.raw_message.delivery_tag or 0] = message
        while (ready := self._early.pop(self._next_tag, None)) is not None:
            self._ready.append(ready)
            self._next_tag += 1
        if self._ready:
            self.filled.set()

    def take(self, most: int) -> list[RabbitMessage]:
        """Up to ``most`` deliveries in order."""
        taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
        if not self._ready:
            self.filled.clear()
        return taken

    def drop(self) -> None:
        """Forget everything: the broker will deliver it again, perhaps to somebody else."""
        self._channel = None
        self._next_tag = 1
        self._early.clear()
        self._ready.clear()
        self.filled.clear()


class Lane:
    """Decides one lane's messages, batch after batch."""

    def __init__(
        self,
        subscription: OrderedSubscription,
        queue: str,
        failing: Failing,
        stopping: asyncio.Event,
        stalls: Stalls,
    ) -> None:
        self.queue = queue
        self.prefetch = LANE_PREFETCH
        self.active = False
        """Whether this process was given a message on its present channel: then, and as far as it
        can know only then, it is the lane's active consumer."""
        self.in_hand = asyncio.Lock()
        """Held while a batch is decided."""
        self._subscription = subscription
        self._failing = failing
        self._stopping = stopping
        self._stalls = stalls
        self._stalls_seen = 0
        self._pause = Pause(queue, stopping)
        self._buffer = _Buffer()

    async def receive(self, message: RabbitMessage) -> None:
        """Enqueue one delivery; no await may come before the enqueue."""
        self._buffer.put(message)
        self.active = True
        metrics.IN_HAND.labels(self.queue).set(len(self._buffer))

    async def run(self) -> None:
        """Decide batches until the process drains."""
        while not self._stopping.is_set():
            await self._filled_or_stopping()
            async with self.in_hand:
                batch = self._buffer.take(self._subscription.max_batch)
                if not batch or self._stopping.is_set():
                    continue
                try:
                    await self._decide(batch)
                except Abandoned:
                    self.lost()
            metrics.IN_HAND.labels(self.queue).set(len(self._buffer))

    def lost(self) -> None:
        """We are no longer the active consumer, or are about to give the lane up."""
        self._buffer.drop()
        self.active = False

    async def _filled_or_stopping(self) -> None:
        waits = {
            asyncio.ensure_future(self._buffer.filled.wait()),
            asyncio.ensure_future(self._stopping.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _decide(self, batch: list[RabbitMessage]) -> None:
        readable: list[tuple[RabbitMessage, Delivery]] = []
        for message in batch:
            try:
                readable.append((message, Delivery(*parse(message, self._subscription.event))))
            except ValueError as error:
                await self._park(message, error)
        await self._bisect(readable)
        if not readable or readable[-1][0] is not batch[-1]:
            await self._acknowledge(batch[-1])

    async def _bisect(self, part: list[tuple[RabbitMessage, Delivery]]) -> None:
        """Decide all of it; if that fails, each half by itself, down to the culprit."""
        if not part:
            return
        last = part[-1][0]
        tries = SINGLE_TRIES if len(part) == 1 else 1
        deliveries = [delivery for _, delivery in part]
        while tries:
            tries -= 1
            await self._verify(last)
            try:
                await self._attempt(lambda: self._handle(deliveries), last)
            except Abandoned:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, find whose it is
                _log.info(
                    "batch-failed",
                    queue=self.queue,
                    messages=len(part),
                    reason=type(error).__name__,
                    exc_info=error if len(part) == 1 and not tries else None,
                )
                failure = error
            else:
                metrics.BATCH_SIZE.labels(self.queue).observe(len(part))
                metrics.HANDLED.labels(self.queue).inc(len(part))
                await self._acknowledge(last)
                return
        if len(part) == 1:
            await self._park(last, failure)
            await self._acknowledge(last)
            return
        middle = len(part) // 2
        await self._bisect(part[:middle])
        await self._bisect(part[middle:])

    async def _handle(self, deliveries: list[Delivery]) -> None:
        traceparent = deliveries[0].envelope.traceparent
        with continued(traceparent, f"decide batch {self.queue}", SpanKind.CONSUMER):
            await self._subscription.handle_batch(list(deliveries))

    async def _park(self, message: RabbitMessage, error: Exception) -> None:
        _log.debug("lane-culprit", queue=self.queue, message_id=event_id(message))
        await self._attempt(lambda: self._failing.park(message, self.queue, error), message)

    async def _attempt(self, work: Callable[[], Awaitable[None]], message: RabbitMessage) -> None:
        await self._pause.attempt(work, lambda: not message.raw_message.channel.is_closed)

    async def _verify(self, message: RabbitMessage) -> None:
        """Leave the batch to our successor if the channel is gone, also if we slept through it.

        A process that was frozen still holds an open socket and a full buffer when it wakes, while
        the broker has long since given both away: ask it before deciding anything.
        """
        channel = message.raw_message.channel
        if channel.is_closed:
            raise Abandoned
        stalls = self._stalls.count()
        if stalls == self._stalls_seen:
            return
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                await channel.basic_qos(prefetch_count=self.prefetch)
        except CONNECTION_ERRORS as error:
            _log.warning("lane-abandoned-after-stall", queue=self.queue)
            raise Abandoned from error
        self._stalls_seen = stalls

    async def _acknowledge(self, last: RabbitMessage) -> None:
        """Everything up to ``last`` is decided."""
        if not await acknowledge(last, multiple=True):
            raise Abandoned
