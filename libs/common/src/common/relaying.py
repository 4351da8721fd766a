"""How outbox rows become messages: what the relays of a process publish with."""

import asyncio

from common.broker import Broker
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.relay import OutboxRow, Publish

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


def to_broker(broker: Broker) -> Publish:
    """Publish rows to RabbitMQ, confirms pipelined, in the order of the rows."""

    async def send(row: OutboxRow) -> int | None:
        try:
            await broker.send(
                row.payload.encode(),
                envelope_of(row),
                exchange=row.exchange,
                routing_key=row.routing_key,
            )
        except DependencyUnavailable:
            return None  # not confirmed: it stays, and the relay says so once for the batch
        return row.id

    async def publish(rows: list[OutboxRow]) -> list[int]:
        sent = await asyncio.gather(*(send(row) for row in rows), return_exceptions=True)
        for outcome in sent:
            if isinstance(outcome, BaseException):
                log.error("relay-row-refused", exc_info=outcome)
        return [outcome for outcome in sent if isinstance(outcome, int)]

    return publish
