"""Lanes on the real broker: order, batches, culprits, pauses, hand-over between processes."""

import asyncio
import random

import aio_pika
import pytest

from common.broker import OrderedSubscription, lane_queue
from common.errors import DependencyUnavailable
from common.events import ReservationRequested
from common.parking import parking
from testkit.proxy import TcpProxy
from testkit.waiting import eventually


class Decider:
    """A batch handler that notes what it decides, and fails as told before deciding anything."""

    def __init__(self, failure=lambda numbers: None, seconds=0.0):
        self.seconds = seconds
        self.decided = []
        self.batches = []
        self.failure = failure

    async def __call__(self, batch):
        numbers = [int(delivery.event.user_id) for delivery in batch]
        await asyncio.sleep(self.seconds)
        if error := self.failure(numbers):
            raise error
        self.batches.append(numbers)
        self.decided += numbers

    @property
    def effects(self):
        """Without repetitions, as the inbox would have it."""
        return list(dict.fromkeys(self.decided))


def lanes(decider, *numbers, max_batch=100):
    return OrderedSubscription(
        ReservationRequested,
        decider,
        queues=[lane_queue(number) for number in numbers or (0,)],
        max_batch=max_batch,
    )


class TestOrder:
    async def test_a_thousand_stay_in_order_and_come_in_batches(self, running, publish_lane):
        decider = Decider()
        async with running("reservation", lanes(decider)) as broker:
            await publish_lane(broker, range(1000))
            await eventually(lambda: len(decider.decided) >= 1000, 20)
        assert decider.decided == list(range(1000))
        assert max(map(len, decider.batches)) <= 100

    async def test_waiting_requests_are_decided_in_full_batches(self, running, publish_lane):
        async with running("reservation", lanes(Decider(_away))) as broker:
            await publish_lane(broker, range(250))
        decider = Decider(seconds=0.05)
        async with running("reservation", lanes(decider)):
            await eventually(lambda: len(decider.decided) == 250)
        assert decider.decided == list(range(250))
        assert len(decider.batches) <= 6

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_a_thousand_stay_in_order_under_random_failures(
        self, running, publish_lane, seed
    ):
        chance = random.Random(seed)
        poison = set(chance.sample(range(1000), 5))

        def failure(numbers):
            if poison & set(numbers):
                return ValueError("poison")
            roll = chance.random()
            if roll < 0.02:
                return DependencyUnavailable("database")
            return KeyError("glitch") if roll < 0.05 and len(numbers) > 1 else None

        decider = Decider(failure)
        async with running("reservation", lanes(decider)) as broker:
            await publish_lane(broker, range(1000))
            await eventually(lambda: len(decider.decided) >= 995, 40)
        assert decider.decided == [number for number in range(1000) if number not in poison]

    async def test_lanes_do_not_wait_for_each_other(self, running, publish_lane):
        stuck = Decider(_away)
        free = Decider()
        async with running("reservation", lanes(stuck, 0), lanes(free, 1)) as broker:
            await publish_lane(broker, range(5), lane=0)
            await publish_lane(broker, range(5), lane=1)
            await eventually(lambda: len(free.decided) == 5)
        assert stuck.decided == []


def _away(numbers):
    return DependencyUnavailable("database")


class TestCulprit:
    async def test_it_is_parked_and_all_others_are_decided_in_order(
        self, running, settings, publish_lane, depth
    ):
        decider = Decider(lambda numbers: ValueError() if 37 in numbers else None)
        async with running("reservation", lanes(Decider(_away))) as broker:
            await publish_lane(broker, range(100))
        async with running("reservation", lanes(decider)):
            await eventually(lambda: len(decider.decided) == 99, 10)
            await eventually(lambda: depth("reservation.parked"))
            async with parking(settings("reservation")) as session:
                (parked,) = await session.list()
        assert decider.decided == [number for number in range(100) if number != 37]
        assert parked.queue == lane_queue(0)
        assert parked.reason == "ValueError"
        assert await depth(lane_queue(0)) == 0

    async def test_an_unreadable_request_is_parked_and_harms_no_other(
        self, running, publish_lane, admin_url, depth
    ):
        decider = Decider()
        async with running("reservation", lanes(decider)) as broker:
            await publish_lane(broker, range(3))
            async with await aio_pika.connect(admin_url) as connection:
                exchange = await (await connection.channel()).get_exchange("reservation.lanes")
                await exchange.publish(aio_pika.Message(b"{"), "lane.00")
            await publish_lane(broker, range(3, 6))
            await eventually(lambda: depth("reservation.parked"))
            await eventually(lambda: len(decider.decided) == 6)
        assert decider.decided == list(range(6))
        assert await depth(lane_queue(0)) == 0


class TestPause:
    async def test_the_whole_lane_waits_and_nothing_overtakes(self, running, publish_lane, depth):
        away = True
        decider = Decider(lambda _: DependencyUnavailable("database") if away else None)
        async with running("reservation", lanes(decider)) as broker:
            await publish_lane(broker, range(150))
            await asyncio.sleep(0.3)
            assert decider.decided == []
            away = False
            await eventually(lambda: len(decider.decided) == 150, 10)
        assert decider.decided == list(range(150))
        assert await depth("reservation.parked") == 0


class TestConnectionLost:
    async def test_the_lane_goes_on_in_order(self, infrastructure, running, publish_lane):
        decider = Decider(seconds=0.01)
        async with (
            TcpProxy(infrastructure.ports.rabbitmq) as proxy,
            running("reservation") as producer,
            running("reservation", lanes(decider), broker_port=proxy.port),
        ):
            for part in range(10):
                await publish_lane(producer, range(part * 100, part * 100 + 100))
                await asyncio.sleep(0.2)
                await proxy.cut()
            await eventually(lambda: len(decider.effects) == 1000, 30)
        assert decider.effects == list(range(1000))

    async def test_what_was_in_hand_is_not_decided_after_the_loss(
        self, infrastructure, running, publish_lane, gate
    ):
        entered = asyncio.Event()
        batches = []

        async def decide(batch):
            batches.append([int(delivery.event.user_id) for delivery in batch])
            entered.set()
            await gate.wait()

        subscription = OrderedSubscription(
            ReservationRequested, decide, queues=[lane_queue(0)], max_batch=10
        )
        async with (
            TcpProxy(infrastructure.ports.rabbitmq) as proxy,
            running("reservation") as producer,
            running("reservation", subscription, broker_port=proxy.port),
        ):
            await publish_lane(producer, range(1))
            await entered.wait()
            await publish_lane(producer, range(1, 20))
            await proxy.refuse()
            successor = Decider()
            async with running("reservation", lanes(successor, max_batch=10)):
                await eventually(lambda: len(successor.decided) == 20, 15)
                gate.set()
                await asyncio.sleep(0.2)
        assert batches == [[0]]
        assert successor.decided == list(range(20))


class TestHeirs:
    async def test_a_second_loss_leaves_the_order_whatever_the_batch_sizes(
        self, running, publish_lane, gate
    ):
        # RabbitMQ puts what a lost consumer returns behind what was returned before.
        async def stuck(batch):
            await gate.wait()

        def heir(max_batch):
            return OrderedSubscription(
                ReservationRequested, stuck, queues=[lane_queue(0)], max_batch=max_batch
            )

        last = Decider()
        async with (
            running("reservation", heir(100), drain_seconds=0.1) as first,
            running("reservation", heir(5), drain_seconds=0.1) as second,
            running("reservation", lanes(last)) as third,
        ):
            await publish_lane(third, range(150))
            await first.stop_consuming()
            await second.stop_consuming()
            await eventually(lambda: len(last.decided) == 150, 10)
        assert last.decided == list(range(150))

    @pytest.mark.parametrize("max_batch", [0, 201])
    def test_a_batch_beyond_the_prefetch_is_a_mistake(self, max_batch):
        with pytest.raises(ValueError, match="max_batch"):
            lanes(Decider(), max_batch=max_batch)


class TestStop:
    async def test_the_batch_in_hand_is_finished_and_the_rest_goes_to_the_successor_in_order(
        self, running, publish_lane, gate
    ):
        decided = []
        entered = asyncio.Event()

        async def slow(batch):
            entered.set()
            await gate.wait()
            decided.extend(int(delivery.event.user_id) for delivery in batch)

        subscription = OrderedSubscription(
            ReservationRequested, slow, queues=[lane_queue(0)], max_batch=10
        )
        successor = Decider()
        async with (
            running("reservation") as producer,
            running("reservation", subscription) as first,
        ):
            await publish_lane(producer, range(1))
            await entered.wait()
            # More than the first can hold: the successor must not begin with the later ones.
            await publish_lane(producer, range(1, 300))
            async with running("reservation", lanes(successor, max_batch=10)):
                stopping = asyncio.create_task(first.stop_consuming())
                await asyncio.sleep(0.05)
                gate.set()
                await stopping
                await eventually(lambda: len(successor.decided) == 299, 10)
        assert decided == [0]
        assert successor.decided == list(range(1, 300))
