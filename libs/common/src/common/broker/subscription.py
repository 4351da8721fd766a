"""Plain subscriptions: up to ``concurrency`` messages at once, no order among them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from faststream.rabbit.message import RabbitMessage
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from common.broker import metrics
from common.broker.failing import Failing, event_id
from common.broker.pause import Abandoned, Pause
from common.broker.publishing import CONNECTION_ERRORS
from common.broker.topology import Binding, Queue, consumer_queue, exchange_named
from common.envelope import Envelope, MalformedEnvelope
from common.events import Event
from common.tracing import continued

_log = structlog.get_logger("broker")


class MalformedEvent(ValueError):  # noqa: N818 - names what was met
    """A message's data breaks the contract of its type."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One event type a service hears.

    Args:
        event: the event class; its exchange and type say what the queue is bound to.
        handler: ``async (event, envelope)``. Must be idempotent (inbox). Raise
            DependencyUnavailable to pause in place, MessageRejected to park at once; any other
            error costs the message one of its tries.
        queue: default ``<service>.<event type>``.
        concurrency: messages handled at once, and the prefetch.
    """

    event: type[Event]
    handler: Callable[[Any, Envelope], Awaitable[None]]
    queue: str | None = None
    concurrency: int = 8

    def queue_name(self, service: str) -> str:
        """The queue's name in a service."""
        return self.queue or f"{service}.{self.event.type}"

    def declarations(self, service: str) -> list[Queue]:
        """The queue with its bindings."""
        binding = Binding(exchange_named(self.event.exchange), self.event.type)
        return [consumer_queue(service, self.queue_name(service), (binding,), ordered=False)]


def parse(message: RabbitMessage, event: type[Event]) -> tuple[Event, Envelope]:
    """Read one delivery.

    Raises:
        ValueError: malformed attributes, another type, or data that breaks the contract.
    """
    envelope = Envelope.from_amqp(message.headers)
    if envelope.type != event.type:
        raise MalformedEnvelope(f"expected {event.type}, got another type")
    try:
        return event.model_validate_json(message.body), envelope
    except ValidationError as error:
        # pydantic quotes the offending values, which may be personal: keep only the places.
        places = [".".join(map(str, fault["loc"])) for fault in error.errors()]
        raise MalformedEvent(f"{event.type}: {', '.join(places) or 'not JSON'}") from None


async def acknowledge(message: RabbitMessage, *, multiple: bool = False) -> bool:
    """Acknowledge; False when the channel is gone and the broker will deliver again."""
    try:
        await message.raw_message.ack(multiple=multiple)
    except CONNECTION_ERRORS:
        return False
    return True


class Listener:
    """Runs one `Subscription` under our acknowledgement rules."""

    def __init__(
        self, subscription: Subscription, service: str, failing: Failing, stopping: asyncio.Event
    ) -> None:
        self.queue = subscription.queue_name(service)
        self.prefetch = subscription.concurrency
        self._event = subscription.event
        self._handler = subscription.handler
        self._failing = failing
        self._stopping = stopping
        self._pause = Pause(self.queue, stopping)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def receive(self, message: RabbitMessage) -> None:
        """Handle one delivery to its end: acknowledged, sent round, parked, or left unacked."""
        if self._stopping.is_set():
            return
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(Abandoned):
            await self._handle(message)

    async def _handle(self, message: RabbitMessage) -> None:
        def still_ours() -> bool:
            return not message.raw_message.channel.is_closed

        try:
            event, envelope = parse(message, self._event)
            with continued(envelope.traceparent, f"handle {envelope.type}", SpanKind.CONSUMER):
                await self._pause.attempt(lambda: self._handler(event, envelope), still_ours)
        except Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this message's own
            await self._fail(message, error, still_ours)
            return
        if await acknowledge(message):
            metrics.HANDLED.labels(self.queue).inc()

    async def _fail(
        self, message: RabbitMessage, error: Exception, still_ours: Callable[[], bool]
    ) -> None:
        _log.info(
            "message-failed",
            queue=self.queue,
            message_id=event_id(message),
            exc_info=error,
        )
        await self._pause.attempt(
            lambda: self._failing.retry_or_park(message, self.queue, error), still_ours
        )
        await acknowledge(message)

    async def cancel(self) -> None:
        """Give up what is still running; its messages stay unacknowledged."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
