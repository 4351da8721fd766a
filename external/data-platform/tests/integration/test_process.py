"""The whole process against the Kafka protocol: collect, die, come back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # ships no types

from common.envelope import Envelope
from common.events import Money, PaymentRecord
from common.events.payment import KAFKA_TOPIC
from common.ids import new_id
from testkit import Infrastructure, eventually

Start = Callable[[], Awaitable["Platform"]]


class Platform:
    """A running data platform."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"

    async def revenue_of(self, concert_id: str) -> dict[str, int] | None:
        async with httpx.AsyncClient(base_url=self._url) as http:
            try:
                answer = await http.get("/revenue", params={"by": "concert"})
            except httpx.TransportError:
                return None
        for row in answer.json()["items"]:
            if row["concert_id"] == concert_id:
                return {name: row[name] for name in ("revenue", "payments", "refunds")}
        return None

    async def until(self, concert_id: str, **figures: int) -> None:
        async def reached() -> bool:
            found = await self.revenue_of(concert_id)
            return found is not None and figures.items() <= found.items()

        await eventually(reached, within_seconds=40)

    async def die(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()


class Topic:
    """Appends to the payment topic, as the relay does."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def append(self, concert_id: str, event_id: str, amount: int) -> None:
        record = PaymentRecord(
            payment_id=new_id(),
            reservation_id=new_id(),
            concert_id=concert_id,
            performance_id=new_id(),
            seat_ids=(new_id(),),
            amount=Money(amount=amount),
            occurred_at=datetime.now(UTC),
            type="payment.succeeded.v1",
        )
        envelope = Envelope(event_id, record.type, "payment", record.payment_id, record.occurred_at)
        await self.append_raw(concert_id, record.model_dump_json().encode(), envelope)

    async def append_raw(self, concert_id: str, value: bytes, envelope: Envelope) -> None:
        headers = [(name, text.encode()) for name, text in envelope.to_kafka().items()]
        await self._producer.send_and_wait(
            KAFKA_TOPIC, value, key=concert_id.encode(), headers=headers
        )


@pytest.fixture
async def topic(infrastructure: Infrastructure) -> AsyncIterator[Topic]:
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{infrastructure.ports.kafka}")
    await producer.start()
    yield Topic(producer)
    await producer.stop()


@pytest.fixture
async def start(
    infrastructure: Infrastructure, tmp_path: Path, unused_tcp_port: int
) -> AsyncIterator[Start]:
    started: list[Platform] = []

    async def begin() -> Platform:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "data_platform",
            env=os.environ
            | {
                "KAFKA_BOOTSTRAP": f"127.0.0.1:{infrastructure.ports.kafka}",
                "KAFKA_GROUP": f"data-platform-{infrastructure.slot}-{os.getpid()}",
                "DATA_DIR": str(tmp_path),
                "HTTP_PORT": str(unused_tcp_port),
            },
        )
        started.append(Platform(process, unused_tcp_port))
        return started[-1]

    yield begin
    for platform in started:
        if platform.process.returncode is None:
            platform.process.terminate()
            await platform.process.wait()


class TestProcess:
    async def test_a_kill_loses_and_doubles_nothing(self, topic: Topic, start: Start) -> None:
        concert_id, events = new_id(), [new_id() for _ in range(6)]
        platform = await start()
        for event_id in [*events[:3], events[0]]:
            await topic.append(concert_id, event_id, 100)
        await platform.until(concert_id, payments=3, revenue=300)
        await platform.die()
        for event_id in events:  # the relay repeats what it is not sure of
            await topic.append(concert_id, event_id, 100)
        platform = await start()
        await platform.until(concert_id, payments=6, revenue=600)

    async def test_an_unreadable_record_harms_no_other(self, topic: Topic, start: Start) -> None:
        concert_id = new_id()
        envelope = Envelope(new_id(), "payment.succeeded.v1", "payment", "x", datetime.now(UTC))
        platform = await start()
        await topic.append_raw(concert_id, b'{"amount": "much"}', envelope)
        await topic.append(concert_id, new_id(), 70)
        await platform.until(concert_id, payments=1, revenue=70)

    async def test_a_missing_setting_is_one_readable_line(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "data_platform",
            env={"PATH": os.environ["PATH"]},
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert errors == b"data-platform: missing or wrong settings: KAFKA_BOOTSTRAP, DATA_DIR\n"
