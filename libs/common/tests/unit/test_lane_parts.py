"""A lane's buffer and its care after a freeze, without a broker."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from aio_pika.exceptions import ChannelInvalidStateError
from hypothesis import given
from hypothesis import strategies as st

from common.broker import OrderedSubscription, stalls
from common.broker.ordered import Lane, _Buffer
from common.broker.stalls import STALL_SECONDS, Stalls
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import REGISTRY, ReservationRequested
from testkit.waiting import eventually


class Channel:
    """What a lane sees of its channel."""

    def __init__(self):
        self.is_closed = False
        self.lost = False
        self.asked = 0

    async def basic_qos(self, *, prefetch_count):
        self.asked += 1
        if self.lost:
            raise ChannelInvalidStateError


def delivery(tag, channel, *, body=b"", headers=None):
    acked = []

    async def ack(*, multiple):
        if channel.is_closed:
            raise ChannelInvalidStateError
        acked.append(multiple)

    raw = SimpleNamespace(channel=channel, delivery_tag=tag, ack=ack, type="")
    return SimpleNamespace(raw_message=raw, body=body, headers=headers or {}, acked=acked)


def tags(messages):
    return [message.raw_message.delivery_tag for message in messages]


class TestBuffer:
    @given(st.permutations(range(1, 30)), st.integers(1, 10))
    def test_whatever_order_the_tasks_ran_in_the_tags_decide(self, order, most):
        buffer, channel, taken = _Buffer(), Channel(), []
        for tag in order:
            buffer.put(delivery(tag, channel))
            if random.random() < 0.3:
                taken += buffer.take(most)
        while part := buffer.take(most):
            taken += part
        assert tags(taken) == list(range(1, 30))

    def test_a_gap_is_waited_for(self):
        buffer, channel = _Buffer(), Channel()
        buffer.put(delivery(2, channel))
        assert not buffer.filled.is_set()
        assert buffer.take(10) == []
        buffer.put(delivery(1, channel))
        assert tags(buffer.take(10)) == [1, 2]

    def test_a_new_channel_replaces_everything(self):
        buffer, old, new = _Buffer(), Channel(), Channel()
        buffer.put(delivery(1, old))
        buffer.put(delivery(2, old))
        old.is_closed = True
        buffer.put(delivery(1, new))
        buffer.put(delivery(3, old))
        assert [message.raw_message.channel for message in buffer.take(10)] == [new]

    def test_dropped_is_empty(self):
        buffer = _Buffer()
        buffer.put(delivery(1, Channel()))
        buffer.drop()
        assert len(buffer) == 0
        assert not buffer.filled.is_set()


class TestStalls:
    def test_a_gap_in_the_clock_counts_once(self, monkeypatch):
        now = 100.0
        monkeypatch.setattr(stalls, "monotonic", lambda: now)
        watch = Stalls()
        now += STALL_SECONDS / 2
        assert watch.count() == 0
        now += STALL_SECONDS * 2
        assert watch.count() == 1
        assert watch.count() == 1


class TestLane:
    @pytest.fixture
    def request_(self, repository):
        type_ = ReservationRequested.type
        text = (repository / f"libs/common/tests/golden/{type_}.json").read_text()
        event = REGISTRY[type_].model_validate_json(text)
        envelope = Envelope(
            id=event.reservation_id,
            type=type_,
            source="reservation",
            subject=event.subject,
            time=event.requested_at,
        )
        return {"body": text.encode(), "headers": envelope.to_amqp()}

    @pytest.fixture
    async def lane(self):
        """``lane(handler)``: a running lane, with its watch and the batches it decided."""
        stopping, tasks = asyncio.Event(), []

        def start(failure=None):
            decided = []

            async def decide(batch):
                if failure is not None and failure():
                    raise failure()
                decided.append(len(batch))

            watch = Stalls()
            subscription = OrderedSubscription(
                ReservationRequested, decide, queues=["reservation.lane.00"]
            )
            lane = Lane(subscription, "reservation.lane.00", None, stopping, watch)
            tasks.append(asyncio.create_task(lane.run()))
            return lane, watch, decided

        yield start
        stopping.set()
        async with asyncio.timeout(2):
            await asyncio.gather(*tasks)

    async def test_after_a_stall_the_broker_is_asked_before_anything_is_decided(
        self, lane, request_
    ):
        lane, watch, decided = lane()
        channel = Channel()
        watch._last -= STALL_SECONDS * 2
        await lane.receive(delivery(1, channel, **request_))
        await eventually(lambda: decided == [1])
        assert channel.asked == 1

    async def test_a_stall_that_cost_the_channel_costs_the_batch(self, lane, request_):
        lane, watch, decided = lane()
        channel = Channel()
        channel.lost = True
        watch._last -= STALL_SECONDS * 2
        message = delivery(1, channel, **request_)
        await lane.receive(message)
        await eventually(lambda: not lane.active)
        assert channel.asked == 1
        assert decided == []
        assert message.acked == []

    async def test_what_came_on_a_channel_that_is_gone_is_not_decided(self, lane, request_):
        lane, _, decided = lane()
        channel = Channel()
        await lane.receive(delivery(1, channel, **request_))
        channel.is_closed = True
        await eventually(lambda: not lane.active)
        assert decided == []

    async def test_without_a_stall_nobody_is_asked(self, lane, request_):
        lane, _, decided = lane()
        channel = Channel()
        message = delivery(1, channel, **request_)
        await lane.receive(message)
        await eventually(lambda: decided == [1])
        assert channel.asked == 0
        assert message.acked == [True]

    async def test_a_channel_lost_during_a_pause_costs_the_batch(self, lane, request_):
        away = True
        lane, _, decided = lane(lambda: DependencyUnavailable("database") if away else None)
        channel = Channel()
        await lane.receive(delivery(1, channel, **request_))
        await eventually(lambda: lane._pause.active)
        channel.is_closed = True
        await eventually(lambda: not lane.active)
        away = False
        await lane.receive(delivery(1, Channel(), **request_))
        await eventually(lambda: decided == [1])
