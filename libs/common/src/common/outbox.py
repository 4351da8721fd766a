"""The outbox: what a transaction has to tell others is stored by that transaction itself.

`Outbox` writes the rows; one active `common.relay.Relay` for each service and destination publishes
them.
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from common.database import Transaction
from common.events import Event
from common.ids import new_id
from common.tracing import current_traceparent

BROKER = "rabbitmq"
STREAM = "kafka"

Wake = Callable[[str], None]
"""Called with a destination after the commit; must return at once."""

_INSERT = """
INSERT INTO outbox (destination, event_id, source, type, exchange, routing_key, subject,
    message_key, traceparent, payload, occurred_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, NOW(6))
"""


def channel(redis_prefix: str, destination: str) -> str:
    """The Redis channel on which the relay of a destination is woken."""
    return f"{redis_prefix}outbox:{destination}"


class Outbox:
    """Adds events to the caller's transaction.

    Args:
        source: CloudEvents ``source``: the service's name.
        wake: wakes the relay after the commit; a relay that is not woken polls.
    """

    def __init__(self, source: str, wake: Wake) -> None:
        self._source = source
        self._wake = wake

    async def add(self, tx: Transaction, *events: Event) -> None:
        """Have the events published on their exchanges once the transaction is committed."""
        rows = [
            self._row(
                BROKER,
                event.type,
                exchange=event.exchange,
                routing_key=event.type,
                subject=event.subject,
                key=None,
                payload=event.model_dump_json(),
            )
            for event in events
        ]
        await self._store(tx, BROKER, rows)

    async def add_stream(
        self,
        tx: Transaction,
        record: BaseModel,
        *,
        type: str,  # noqa: A002 - CloudEvents calls it so
        topic: str,
        key: str,
        subject: str | None = None,
    ) -> None:
        """Have the record appended to a topic of the stream once the transaction is committed.

        Args:
            tx: the transaction that makes the record true.
            record: the message's value.
            type: CloudEvents ``type``.
            topic: the topic.
            key: the message's key: records with the same key stay in order.
            subject: CloudEvents ``subject``; default: the key.
        """
        row = self._row(
            STREAM,
            type,
            exchange=topic,
            routing_key="",
            subject=subject or key,
            key=key,
            payload=record.model_dump_json(),
        )
        await self._store(tx, STREAM, [row])

    def _row(
        self,
        destination: str,
        type_: str,
        *,
        exchange: str,
        routing_key: str,
        subject: str,
        key: str | None,
        payload: str,
    ) -> tuple[Any, ...]:
        return (
            destination,
            new_id(),
            self._source,
            type_,
            exchange,
            routing_key,
            subject,
            key,
            current_traceparent(),
            payload,
        )

    async def _store(self, tx: Transaction, destination: str, rows: list[tuple[Any, ...]]) -> None:
        await tx.execute_many(_INSERT, rows)
        if rows:
            tx.after_commit(lambda: self._wake(destination))
