"""The Kafka mock cluster does what the relay and the data platform need of Kafka."""

import asyncio
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from local_stack import Stack, kafka

WAIT_SECONDS = 20.0


async def read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [(await consumer.getone()).value for _ in range(count)]


def consumer_of(stack: Stack, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        kafka.TOPIC,
        bootstrap_servers=kafka.bootstrap(stack.ports),
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def test_the_topic_is_there_with_its_partitions(stack: Stack) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap(stack.ports))
    await producer.start()
    try:
        assert len(await producer.partitions_for(kafka.TOPIC)) == kafka.PARTITIONS
    finally:
        await producer.stop()


async def test_what_is_produced_idempotently_is_read_committed_and_resumed(stack: Stack) -> None:
    group = f"group-{uuid.uuid4()}"
    concert = str(uuid.uuid4()).encode()
    sent = [f"{group}-{number}".encode() for number in range(20)]
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap(stack.ports), acks="all", enable_idempotence=True
    )
    await producer.start()
    try:
        for value in sent:
            await producer.send_and_wait(kafka.TOPIC, value, key=concert)
    finally:
        await producer.stop()

    first = consumer_of(stack, group)
    await first.start()
    try:
        seen = await read(first, 8)
        await first.commit()
    finally:
        await first.stop()

    second = consumer_of(stack, group)
    await second.start()
    try:
        seen += await read(second, 12)
        await second.commit()
    finally:
        await second.stop()
    # One key is one partition: its order is kept, nothing is repeated after the commit.
    assert seen == sent
