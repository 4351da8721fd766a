"""Outbox rows become messages: in order, each confirmed or kept, none holding back another."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

from structlog.testing import capture_logs

from common.broker import Broker
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.relay import OutboxRow
from common.relaying import to_broker, to_stream
from common.stream import Stream

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def row(number: int, **changes: Any) -> OutboxRow:
    values: dict[str, Any] = {
        "id": number,
        "destination": "rabbitmq",
        "event_id": f"event-{number}",
        "source": "payment",
        "type": "payment.succeeded.v1",
        "exchange": "payment.events",
        "routing_key": "payment.succeeded.v1",
        "subject": "p1",
        "message_key": None,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "occurred_at": NOW,
        "payload": "{}",
    }
    return OutboxRow(**(values | changes))


class Wire:
    """Takes the place of broker and stream; fails the events it is told to."""

    def __init__(self, **errors: Exception) -> None:
        self.sent: list[tuple[bytes, Envelope, dict[str, str]]] = []
        self._errors = {name.replace("_", "-"): error for name, error in errors.items()}

    async def send(self, payload: bytes, envelope: Envelope, **address: str) -> None:
        self.sent.append((payload, envelope, address))
        if error := self._errors.get(envelope.id):
            raise error

    async def append(
        self, payload: bytes, envelope: Envelope, *, deadline_seconds: float, **address: str
    ) -> Callable[[], Awaitable[None]]:
        assert 0 < deadline_seconds < 5
        await self.send(payload, envelope, **address)
        return self._confirm

    async def _confirm(self) -> None:
        """What was appended is confirmed."""


async def test_a_row_keeps_its_identity_and_its_trace() -> None:
    wire = Wire()
    assert await to_broker(cast("Broker", wire))([row(1)]) == [1]
    (payload, envelope, address) = wire.sent[0]
    assert payload == b"{}"
    assert envelope == Envelope(
        id="event-1",
        type="payment.succeeded.v1",
        source="payment",
        subject="p1",
        time=NOW,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert address == {"exchange": "payment.events", "routing_key": "payment.succeeded.v1"}


async def test_rows_go_out_in_order_and_only_the_confirmed_are_named() -> None:
    wire = Wire(event_2=DependencyUnavailable("broker"))
    assert await to_broker(cast("Broker", wire))([row(1), row(2), row(3)]) == [1, 3]
    assert [envelope.id for _, envelope, _ in wire.sent] == ["event-1", "event-2", "event-3"]


async def test_our_own_mistake_with_one_row_holds_back_no_other() -> None:
    wire = Wire(event_1=LookupError("no such exchange"))
    with capture_logs() as logs:
        assert await to_broker(cast("Broker", wire))([row(1), row(2)]) == [2]
    assert [line["event"] for line in logs] == ["relay-row-failed"]


async def test_the_stream_is_keyed() -> None:
    wire = Wire()
    rows = [row(1, exchange="stagedoor.payments.v1", message_key="concert"), row(2, exchange="t")]
    assert await to_stream(cast("Stream", wire))(rows) == [1, 2]
    assert [address for _, _, address in wire.sent] == [
        {"topic": "stagedoor.payments.v1", "key": "concert"},
        {"topic": "t", "key": "p1"},
    ]


async def test_nothing_is_appended_behind_a_row_that_could_not_be() -> None:
    wire = Wire(event_2=DependencyUnavailable("kafka"))
    assert await to_stream(cast("Stream", wire))([row(1), row(2), row(3)]) == [1]
    assert [envelope.id for _, envelope, _ in wire.sent] == ["event-1", "event-2"]


async def test_our_own_mistake_with_one_record_holds_back_no_other() -> None:
    wire = Wire(event_1=TypeError("no text"))
    with capture_logs() as logs:
        assert await to_stream(cast("Stream", wire))([row(1), row(2)]) == [2]
    assert [line["event"] for line in logs] == ["relay-row-failed"]
