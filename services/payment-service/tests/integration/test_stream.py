"""What the data platform hears: the service's relay appends to the topic, keyed by concert."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from common.envelope import Envelope
from common.events import PaymentRecord
from common.events.payment import KAFKA_TOPIC
from payment_service.settings import PaymentSettings
from testkit import eventually


class Topic:
    """The records of the topic."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.seen: list[Any] = []

    async def of(self, payment_id: str) -> list[Any]:
        """Records of one payment so far, in order."""
        batches = await self._consumer.getmany(timeout_ms=50)
        for records in batches.values():
            self.seen += records
        return [one for one in self.seen if json.loads(one.value)["payment_id"] == payment_id]


@pytest.fixture(scope="module")
async def topic(settings: PaymentSettings) -> AsyncIterator[Topic]:
    consumer = AIOKafkaConsumer(
        KAFKA_TOPIC,
        bootstrap_servers=settings.kafka_bootstrap,
        auto_offset_reset="earliest",  # without a group: every partition, from its beginning
    )
    await consumer.start()
    try:
        yield Topic(consumer)
    finally:
        await consumer.stop()


class TestStream:
    async def test_a_success_and_its_refund_in_order(
        self, topic: Topic, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        payment_id = (await fan.pay(hold.reservation_id)).json()["payment_id"]
        await reservations.publish(hold.cancelled(payment_id))

        async def both() -> list[Any] | None:
            found = await topic.of(payment_id)
            return found if len(found) == 2 else None

        first, second = await eventually(both, 10)
        assert [one.key for one in (first, second)] == [hold.concert_id.encode()] * 2
        assert first.partition == second.partition
        records = [PaymentRecord.model_validate_json(one.value) for one in (first, second)]
        assert [one.type for one in records] == ["payment.succeeded.v1", "payment.refunded.v1"]
        assert records[0].seat_ids == hold.seat_ids
        assert records[0].amount.amount == 30_000
        envelopes = [Envelope.from_kafka(one.headers) for one in (first, second)]
        assert [one.subject for one in envelopes] == [payment_id] * 2
        assert len({one.id for one in envelopes}) == 2

    async def test_nothing_of_a_payment_that_never_succeeded(
        self, topic: Topic, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=90_000)
        rejected = await reservations.hold(fan.user_id, 30_000, verdict="reject")
        answer = await fan.pay(rejected.reservation_id)
        assert answer.status_code == 410
        # A later success of the same concert comes after it in the same partition.
        hold = await reservations.hold(
            fan.user_id, 30_000, verdict="confirm", concert_id=rejected.concert_id
        )
        later = (await fan.pay(hold.reservation_id)).json()["payment_id"]
        await eventually(lambda: topic.of(later), 10)
        assert await topic.of(answer.json()["payment_id"]) == []
