"""The stream against the Kafka protocol: confirmed, keyed, and patient with Kafka's absence."""

import asyncio
import socket
import sys
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaConsumer

from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.ids import new_id
from common.relay import OutboxRow
from common.relaying import to_stream
from common.stream import Stream
from testkit.waiting import eventually

TOPIC = "stagedoor.payments.v1"


class Kafka:
    """A mock cluster of the test's own, so that it can be killed."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "local_stack.kafka_mock",
            "--port",
            str(self.port),
            "--topic",
            f"{TOPIC}:6",
            stderr=asyncio.subprocess.DEVNULL,
        )
        await eventually(self._listens, 15)

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def _listens(self):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest.fixture
async def kafka():
    kafka = Kafka()
    await kafka.start()
    yield kafka
    if kafka.process.returncode is None:
        await kafka.kill()


@pytest.fixture
async def stream(kafka):
    stream = Stream(kafka.address, client_id="payment")
    yield stream
    await stream.stop()


def envelope():
    return Envelope(
        id=new_id(),
        type="payment.succeeded.v1",
        source="payment",
        subject=new_id(),
        time=datetime.now(UTC),
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
    )


async def records(kafka, enough):
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=kafka.address,
        group_id=f"test-{new_id()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    found = []
    try:
        async with asyncio.timeout(20):
            while not enough(found):
                for part in (await consumer.getmany(timeout_ms=200)).values():
                    found += part
    finally:
        await consumer.stop()
    return found


async def test_a_record_carries_its_key_and_cloudevents(kafka, stream):
    sent = envelope()
    await stream.publish(b'{"amount":1}', sent, topic=TOPIC, key="concert-1")
    (record,) = await records(kafka, len)
    assert record.key == b"concert-1"
    assert record.value == b'{"amount":1}'
    assert Envelope.from_kafka(record.headers) == sent


async def test_records_of_one_key_keep_their_order_when_pipelined(kafka, stream):
    await asyncio.gather(
        *(
            stream.publish(str(number).encode(), envelope(), topic=TOPIC, key="concert-1")
            for number in range(300)
        )
    )
    found = await records(kafka, lambda found: len(found) == 300)
    assert [int(record.value) for record in found] == list(range(300))
    assert len({record.partition for record in found}) == 1


async def test_kafka_away_is_told_in_time_and_it_connects_when_it_is_back(kafka, stream):
    await stream.publish(b"1", envelope(), topic=TOPIC, key="k")
    await kafka.kill()
    with pytest.raises(DependencyUnavailable):
        async with asyncio.timeout(6):
            await stream.publish(b"2", envelope(), topic=TOPIC, key="k", deadline_seconds=1)
    await kafka.start()

    async def published():
        try:
            await stream.publish(b"3", envelope(), topic=TOPIC, key="k", deadline_seconds=5)
        except DependencyUnavailable:
            return False
        return True

    await eventually(published, 20)
    await records(kafka, lambda found: b"3" in [record.value for record in found])


async def test_starting_and_stopping_need_no_kafka():
    stream = Stream("127.0.0.1:1", client_id="payment")
    await stream.start()
    with pytest.raises(DependencyUnavailable):
        await stream.publish(b"1", envelope(), topic=TOPIC, key="k", deadline_seconds=1)
    await stream.stop()


def outbox_rows(count):
    return [
        OutboxRow(
            id=number,
            destination="kafka",
            event_id=new_id(),
            source="payment",
            type="payment.succeeded.v1",
            exchange=TOPIC,
            routing_key="",
            subject=new_id(),
            message_key="concert-1",
            traceparent=None,
            occurred_at=datetime.now(UTC),
            payload=str(number),
        )
        for number in range(count)
    ]


async def test_what_the_relay_sends_never_overtakes_a_record_that_failed(
    kafka, stream, monkeypatch
):
    """Kafka that comes back in the middle of a batch must not get its end before its beginning."""
    publish, rows = to_stream(stream), outbox_rows(5)
    reach, tries = stream._reach, 0

    async def reach_the_second_time():
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionRefusedError
        await reach()

    monkeypatch.setattr(stream, "_reach", reach_the_second_time)
    left = rows
    while left:
        confirmed = await publish(left)
        left = [row for row in left if row.id not in confirmed]
    found = await records(kafka, lambda found: len(found) == 5)
    assert [int(record.value) for record in found] == list(range(5))
