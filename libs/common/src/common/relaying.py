"""How outbox rows become messages: what the relays of a process publish with."""

import asyncio
from collections.abc import Awaitable, Callable

from common.broker import Broker
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.relay import OutboxRow, Publish
from common.stream import Stream

STREAM_SECONDS = 4.5
"""Longest time for one batch on the stream: less than the relay gives it, or what was confirmed by
then would not be known."""

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


Confirm = Callable[[], Awaitable[object]]


async def _confirmed(pending: list[tuple[OutboxRow, Confirm]]) -> list[int]:
    """Ids of the rows whose confirm comes; all of them are waited for together."""

    async def one(row: OutboxRow, confirm: Confirm) -> int | None:
        try:
            await confirm()
        except DependencyUnavailable:
            return None  # it stays, and the relay says so once for the whole batch
        return row.id

    outcomes = await asyncio.gather(*(one(*each) for each in pending), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            # Our own mistake with one row must not hold back the rows around it.
            log.error("relay-row-failed", exc_info=outcome)
    return [outcome for outcome in outcomes if isinstance(outcome, int)]


def to_broker(broker: Broker) -> Publish:
    """Publish rows to RabbitMQ, without waiting for one confirm before the next is sent.

    A row that fails is overtaken by those behind it: versions decide, not arrival.
    """

    def send(row: OutboxRow) -> Confirm:
        return lambda: broker.send(
            row.payload.encode(),
            envelope_of(row),
            exchange=row.exchange,
            routing_key=row.routing_key,
        )

    async def publish(rows: list[OutboxRow]) -> list[int]:
        return await _confirmed([(row, send(row)) for row in rows])

    return publish


def to_stream(stream: Stream) -> Publish:
    """Append rows to Kafka; none overtakes one that could not be appended.

    The stream's readers know no versions: to them a refund follows its payment.
    """

    async def publish(rows: list[OutboxRow]) -> list[int]:
        end = asyncio.get_running_loop().time() + STREAM_SECONDS
        pending: list[tuple[OutboxRow, Confirm]] = []
        for row in rows:
            left = end - asyncio.get_running_loop().time()
            try:
                confirm = await stream.append(
                    row.payload.encode(),
                    envelope_of(row),
                    topic=row.exchange,
                    key=row.message_key or row.subject,
                    deadline_seconds=left,
                )
            except DependencyUnavailable:
                break
            except Exception:
                log.exception("relay-row-failed")  # our own mistake, as above
                continue
            pending.append((row, confirm))
        return await _confirmed(pending)

    return publish
