"""From the topic into the warehouse: write durably first, then commit the offsets."""

import asyncio
import contextlib
import logging
import random
from typing import Any

import duckdb
import structlog
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # ships no types
from faststream.exceptions import FastStreamException
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from pydantic import ValidationError

from common.envelope import Envelope, MalformedEnvelope
from common.events import PaymentRecord
from data_platform.settings import DataPlatformSettings
from data_platform.warehouse import Fact, Unreadable, Warehouse

BATCH_MAX_RECORDS = 500
SESSION_TIMEOUT_SECONDS = 6.0
"""How long a killed predecessor keeps its place in the group."""
START_TIMEOUT_SECONDS = 30.0
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0

_log = structlog.get_logger("collector")


async def _as_it_is(message: StreamMessage[Any]) -> StreamMessage[Any]:
    """FastStream's decoder: records are parsed one by one, so that one bad one harms no other."""
    return message


class Collector:
    """Consumes the payment stream as the only member of its group."""

    def __init__(self, settings: DataPlatformSettings, warehouse: Warehouse) -> None:
        self._settings = settings
        self._warehouse = warehouse
        self._broker: KafkaBroker | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background: Kafka may be away."""
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._task = asyncio.create_task(self._connect())

    async def stop(self) -> None:
        """Finish the batch in hand and leave the group."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._close()

    async def _connect(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                self._broker = self._new_broker()
                async with asyncio.timeout(START_TIMEOUT_SECONDS):
                    await self._broker.start()
            except (KafkaError, FastStreamException, OSError) as error:
                _log.warning("kafka-unreachable", reason=type(error).__name__)
                await self._close()
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(LONGEST_DELAY_SECONDS, delay * 2)
            else:
                _log.info("collecting", topic=self._settings.kafka_topic)
                return

    async def _close(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            with contextlib.suppress(KafkaError, FastStreamException, OSError):
                async with asyncio.timeout(START_TIMEOUT_SECONDS):
                    await broker.stop()

    def _new_broker(self) -> KafkaBroker:
        broker = KafkaBroker(
            self._settings.kafka_bootstrap.split(","),
            client_id="data-platform",
            apply_types=False,
            logger=None,
        )
        subscriber = broker.subscriber(
            self._settings.kafka_topic,
            group_id=self._settings.kafka_group,
            batch=True,
            max_records=BATCH_MAX_RECORDS,
            auto_offset_reset="earliest",
            session_timeout_ms=int(SESSION_TIMEOUT_SECONDS * 1000),
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
        )
        subscriber(self._collect)
        return broker

    async def _collect(self, message: KafkaMessage) -> None:
        records = [_read(one) for one in message.raw_message]
        new = await self._keep(records)
        await message.ack()
        _log.debug("collected", records=len(records), new=new)

    async def _keep(self, records: list[Fact | Unreadable]) -> int:
        """Write until it succeeds: the next batch's commit would cover a batch that was skipped."""
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                return await asyncio.to_thread(self._warehouse.add, records)
            except (duckdb.Error, OSError) as error:
                _log.error("warehouse-unwritable", reason=type(error).__name__)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(LONGEST_DELAY_SECONDS, delay * 2)


def _read(raw: Any) -> Fact | Unreadable:
    try:
        envelope = Envelope.from_kafka(raw.headers)
        return Fact(envelope, PaymentRecord.model_validate_json(raw.value))
    except (MalformedEnvelope, ValidationError) as error:
        origin = f"{raw.topic}/{raw.partition}/{raw.offset}"
        _log.error("record-unreadable", origin=origin, reason=type(error).__name__)
        return Unreadable(origin, str(error), raw.value or b"")
