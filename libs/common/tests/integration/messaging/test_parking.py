"""The parking queue: look, send again, drop."""

import aio_pika
import pytest

from common.broker import Subscription
from common.errors import DependencyUnavailable, MessageRejected
from common.events import ReservationHeld
from common.parking import ParkedMessageNotReplayable, parking
from testkit.waiting import eventually

QUEUE = "payment.reservation.held.v1"


@pytest.fixture
def parked(running, held, depth):
    """Have these fans' messages parked; a list of their event ids."""

    async def park(*fans):
        async def never(event, envelope):
            raise MessageRejected(f"{event.user_id} never")

        async with (
            running("payment", Subscription(ReservationHeld, never, concurrency=1)),
            running("reservation") as producer,
        ):
            ids = [(await producer.publish(held(user_id=fan))).id for fan in fans]

            async def all_there():
                return await depth("payment.parked") == len(fans)

            await eventually(all_there, 10)
            return ids

    return park


async def test_looking_changes_nothing(parked, settings, depth):
    ids = await parked("a", "b")
    for _ in range(2):
        async with parking(settings("payment")) as session:
            messages = await session.list()
        assert [message.id for message in messages] == ids
        assert [message.detail for message in messages] == ["a never", "b never"]
        assert {message.queue for message in messages} == {QUEUE}

        async def back():
            return await depth("payment.parked") == 2

        await eventually(back)


async def test_no_more_than_the_limit(parked, settings):
    await parked("a", "b", "c")
    async with parking(settings("payment")) as session:
        assert len(await session.list(limit=2)) == 2


async def test_replaying_one_sends_it_to_its_queue_as_if_never_tried(
    parked, settings, running, depth
):
    first, second = await parked("a", "b")
    seen = []

    async def handler(event, envelope):
        seen.append((envelope.id, envelope.attempt, event.user_id))

    async with parking(settings("payment")) as session:
        assert await session.replay(second) == 1
    async with running("payment", Subscription(ReservationHeld, handler)):
        await eventually(lambda: seen)
    assert seen == [(second, 1, "b")]
    async with parking(settings("payment")) as session:
        assert [message.id for message in await session.list()] == [first]


async def test_replaying_all_keeps_their_order(parked, settings, running):
    await parked(*"abcdef")
    seen = []

    async def handler(event, envelope):
        seen.append(event.user_id)

    async with parking(settings("payment")) as session:
        assert await session.replay() == 6
    async with running("payment", Subscription(ReservationHeld, handler, concurrency=1)):
        await eventually(lambda: len(seen) == 6)
    assert seen == list("abcdef")


async def test_discarding_deletes_for_ever(parked, settings, depth):
    first, second = await parked("a", "b")
    async with parking(settings("payment")) as session:
        assert await session.discard(first) == 1
        assert await session.discard("unknown") == 0
    async with parking(settings("payment")) as session:
        assert [message.id for message in await session.list()] == [second]
    async with parking(settings("payment")) as session:
        assert await session.discard() == 1
    assert await depth("payment.parked") == 0


async def test_a_message_of_unknown_origin_stays(parked, settings, admin_url, depth):
    await parked()
    async with await aio_pika.connect(admin_url) as connection:
        exchange = await (await connection.channel()).get_exchange("payment.parked")
        await exchange.publish(aio_pika.Message(b"{}"), "")
    async with parking(settings("payment")) as session:
        with pytest.raises(ParkedMessageNotReplayable):
            await session.replay()

    async def back():
        return await depth("payment.parked") == 1

    await eventually(back)


async def test_a_message_that_kept_killing_its_consumers_says_so(
    running, settings, held, admin_url, depth
):
    async def nothing(event, envelope):
        """Its queue is only declared."""

    async with (
        running("payment", Subscription(ReservationHeld, nothing)) as consumer,
        running("reservation") as producer,
    ):
        await consumer.stop_consuming()
        sent = await producer.publish(held())
        async with await aio_pika.connect(admin_url) as connection:
            queue = await (await connection.channel()).get_queue(QUEUE)
            # Counts like a consumer that died with the message in hand; a nack does not count
            # from RabbitMQ 4.3 on.
            for _ in range(1001):
                message = await queue.get(timeout=5)
                await message.reject(requeue=True)
            await eventually(lambda: depth("payment.parked"), 10)
        async with parking(settings("payment")) as session:
            (message,) = await session.list()
            assert (message.id, message.queue, message.reason) == (
                sent.id,
                QUEUE,
                "delivery-limit",
            )
            assert await session.replay() == 1
        await eventually(lambda: depth(QUEUE))


async def test_without_a_broker_it_says_so(settings):
    with pytest.raises(DependencyUnavailable):
        async with parking(settings("payment", broker_port=1)):
            pass
