"""How outbox rows become messages: what the relays of a process publish with."""

import asyncio
from collections.abc import Awaitable, Callable

from common.broker import Broker
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.relay import OutboxRow, Publish
from common.stream import Stream

log = get_logger(__name__)


def envelope_of(row: OutboxRow) -> Envelope:
    """The CloudEvents attributes a row was stored with."""
    return Envelope(
        id=row.event_id,
        type=row.type,
        source=row.source,
        subject=row.subject,
        time=row.occurred_at,
        traceparent=row.traceparent,
    )


def _pipelined(send: Callable[[OutboxRow], Awaitable[object]]) -> Publish:
    """Send rows in their order without waiting for each confirm before the next is sent."""

    async def confirmed(row: OutboxRow) -> int | None:
        try:
            await send(row)
        except DependencyUnavailable:
            return None  # it stays, and the relay says so once for the whole batch
        return row.id

    async def publish(rows: list[OutboxRow]) -> list[int]:
        outcomes = await asyncio.gather(*map(confirmed, rows), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                # Our own mistake with one row must not hold back the rows around it.
                log.error("relay-row-failed", exc_info=outcome)
        return [outcome for outcome in outcomes if isinstance(outcome, int)]

    return publish


def to_broker(broker: Broker) -> Publish:
    """Publish rows to RabbitMQ."""

    async def send(row: OutboxRow) -> None:
        await broker.send(
            row.payload.encode(),
            envelope_of(row),
            exchange=row.exchange,
            routing_key=row.routing_key,
        )

    return _pipelined(send)


def to_stream(stream: Stream) -> Publish:
    """Append rows to Kafka."""

    async def send(row: OutboxRow) -> None:
        await stream.publish(
            row.payload.encode(),
            envelope_of(row),
            topic=row.exchange,
            key=row.message_key or row.subject,
        )

    return _pipelined(send)
