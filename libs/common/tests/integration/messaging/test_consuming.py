"""Plain subscriptions on the real broker: retry, parking, pause in place, draining."""

import asyncio
from collections import Counter

import aio_pika
from aio_pika.robust_queue import RobustQueue
from prometheus_client import REGISTRY

from common.broker import Subscription
from common.broker.failing import DETAIL_HEADER, QUEUE_HEADER, REASON_HEADER
from common.broker.topology import MAX_ATTEMPTS
from common.errors import DependencyUnavailable, MessageRejected
from common.events import ReservationHeld
from common.parking import parking
from common.tracing import continued, current_trace_id
from testkit.proxy import TcpProxy
from testkit.waiting import eventually

QUEUE = "payment.reservation.held.v1"


class Recorder:
    """A handler that notes what it is given, and fails as told."""

    def __init__(self, failure=None):
        self.seen = []
        self.attempts = []
        self.traces = []
        self.failure = failure or (lambda event, envelope: None)

    async def __call__(self, event, envelope):
        self.attempts.append((event.user_id, envelope.attempt))
        if error := self.failure(event, envelope):
            raise error
        self.traces.append(current_trace_id())
        self.seen.append(event.user_id)


def counted(name, **labels):
    return REGISTRY.get_sample_value(f"stagedoor_{name}_total", labels) or 0


class TestHandling:
    async def test_the_handler_works_in_the_publishers_trace(self, running, held):
        recorder = Recorder()
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            with continued(None):
                trace = current_trace_id()
                await producer.publish(held())
            await eventually(lambda: recorder.seen)
        assert recorder.traces == [trace]
        assert recorder.attempts == [("fan-1", 1)]

    async def test_what_arrives_with_the_answer_to_consume_is_handled_once_each(
        self, running, held, monkeypatch
    ):
        # FastStream drops what arrives before it calls its subscriber running.
        consume = RobustQueue.consume

        async def slow(*args, **kwargs):
            tag = await consume(*args, **kwargs)
            await asyncio.sleep(0.3)
            return tag

        recorder = Recorder()
        fans = {f"fan-{number}" for number in range(20)}
        async with running("reservation") as producer:
            async with running("payment", Subscription(ReservationHeld, Recorder(_away))):
                await asyncio.gather(*(producer.publish(held(user_id=fan)) for fan in fans))
            monkeypatch.setattr(RobustQueue, "consume", slow)
            subscription = Subscription(ReservationHeld, recorder, concurrency=20)
            async with running("payment", subscription):
                await eventually(lambda: len(recorder.seen) >= len(fans))
        assert Counter(recorder.seen) == dict.fromkeys(fans, 1)

    async def test_no_more_than_concurrency_at_once(self, running, held, gate):
        most = inside = 0

        async def slow(event, envelope):
            nonlocal most, inside
            inside += 1
            most = max(most, inside)
            await gate.wait()
            inside -= 1

        async with (
            running("payment", Subscription(ReservationHeld, slow, concurrency=3)),
            running("reservation") as producer,
        ):
            for _ in range(10):
                await producer.publish(held())
            await eventually(lambda: inside == 3)
            gate.set()
            await eventually(lambda: inside == 0)
        assert most == 3


def _away(event, envelope):
    return DependencyUnavailable("database")


class TestOwnError:
    async def test_it_is_tried_five_times_then_parked_and_nobody_else_waits(
        self, running, settings, held, logs, depth
    ):
        recorder = Recorder(lambda event, _: KeyError("x") if event.user_id == "bad" else None)
        parked = counted("messages_parked", queue=QUEUE, reason="KeyError")
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            await producer.publish(held(user_id="bad"))
            for number in range(20):
                await producer.publish(held(user_id=f"good-{number}"))
            await eventually(lambda: len(recorder.seen) == 20)
            assert recorder.attempts.count(("bad", MAX_ATTEMPTS)) == 0, "nobody waited for it"
            await eventually(lambda: depth("payment.parked"), 20)
            assert await depth("payment.retry") == 0
            async with parking(settings("payment")) as session:
                (message,) = await session.list()
        bad = [attempt for fan, attempt in recorder.attempts if fan == "bad"]
        assert bad == [1, 2, 3, 4, 5]
        assert message.queue == QUEUE
        assert message.reason == "KeyError"
        assert message.attempt == MAX_ATTEMPTS
        assert counted("messages_parked", queue=QUEUE, reason="KeyError") == parked + 1
        (line,) = [line for line in logs if line["event"] == "message-parked"]
        assert line["log_level"] == "error"
        assert "bad" not in str(line)

    async def test_it_may_succeed_on_a_later_try(self, running, held, depth):
        recorder = Recorder(lambda _, envelope: KeyError() if envelope.attempt < 3 else None)
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            await producer.publish(held())
            await eventually(lambda: recorder.seen, 10)
            assert await depth("payment.parked") == 0
        assert [attempt for _, attempt in recorder.attempts] == [1, 2, 3]

    async def test_a_rejected_message_is_parked_at_once(self, running, held, depth):
        recorder = Recorder(lambda event, envelope: MessageRejected("never"))
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            await producer.publish(held())
            await eventually(lambda: depth("payment.parked"))
        assert len(recorder.attempts) == 1

    async def test_an_unreadable_message_is_parked_and_its_content_kept_out_of_the_log(
        self, running, settings, admin_url, depth, logs
    ):
        recorder = Recorder()
        async with running("payment", Subscription(ReservationHeld, recorder)):
            async with await aio_pika.connect(admin_url) as connection:
                channel = await connection.channel()
                exchange = await channel.get_exchange("reservation.events")
                for body in (b"\xff\xfe", b'{"user_id": "secret-name"}'):
                    await exchange.publish(aio_pika.Message(body), "reservation.held.v1")
            await eventually(lambda: _at_least(depth, "payment.parked", 2), 20)
        assert recorder.attempts == []
        assert "secret-name" not in str(logs)

    async def test_the_retry_returns_to_this_queue_alone(self, running, held):
        failing = Recorder(lambda _, envelope: KeyError() if envelope.attempt == 1 else None)
        other, sibling = Recorder(), Recorder()
        async with (
            running(
                "payment",
                Subscription(ReservationHeld, failing),
                Subscription(ReservationHeld, sibling, queue="payment.sibling"),
            ),
            running("queue", Subscription(ReservationHeld, other)),
            running("reservation") as producer,
        ):
            await producer.publish(held())
            await eventually(lambda: failing.seen, 10)
            await eventually(lambda: other.seen and sibling.seen, 10)
        assert len(other.seen) == len(sibling.seen) == 1

    async def test_the_parked_copy_says_where_it_came_from_and_why(
        self, running, held, admin_url, depth
    ):
        recorder = Recorder(lambda event, envelope: MessageRejected("no such performance"))
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            await producer.publish(held())
            await eventually(lambda: depth("payment.parked"))
        async with await aio_pika.connect(admin_url) as connection:
            queue = await (await connection.channel()).get_queue("payment.parked")
            message = await queue.get(no_ack=True)
        assert message.headers[QUEUE_HEADER] == QUEUE
        assert message.headers[REASON_HEADER] == "MessageRejected"
        assert message.headers[DETAIL_HEADER] == "no such performance"
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def _at_least(depth, queue, count):
    return await depth(queue) >= count


class TestPauseInPlace:
    async def test_everything_waits_one_probes_and_nothing_is_rejected(self, running, held, depth):
        away = True
        recorder = Recorder(lambda *_: DependencyUnavailable("database") if away else None)
        async with (
            running("payment", Subscription(ReservationHeld, recorder, concurrency=8)),
            running("reservation") as producer,
        ):
            for number in range(30):
                await producer.publish(held(user_id=f"fan-{number}"))
            await eventually(lambda: len(recorder.attempts) >= 4)
            assert len(recorder.attempts) < 30, "one probes, the others wait"
            assert recorder.seen == []
            away = False
            await eventually(lambda: len(recorder.seen) == 30, 15)
            assert await depth("payment.retry") == 0
            assert await depth("payment.parked") == 0
        assert Counter(recorder.seen) == {f"fan-{number}": 1 for number in range(30)}
        assert {attempt for _, attempt in recorder.attempts} == {1}

    async def test_with_one_at_a_time_the_order_is_kept(self, running, held):
        tries = iter([True, False, True, True, False])
        recorder = Recorder(
            lambda *_: DependencyUnavailable("redis") if next(tries, False) else None
        )
        async with (
            running("payment", Subscription(ReservationHeld, recorder, concurrency=1)),
            running("reservation") as producer,
        ):
            for number in range(20):
                await producer.publish(held(user_id=str(number)))
            await eventually(lambda: len(recorder.seen) == 20, 15)
        assert recorder.seen == [str(number) for number in range(20)]

    async def test_the_seconds_are_counted(self, running, held):
        before = counted("consumer_paused_seconds", queue=QUEUE)
        tries = iter([True, True])
        recorder = Recorder(
            lambda *_: DependencyUnavailable("redis") if next(tries, False) else None
        )
        async with (
            running("payment", Subscription(ReservationHeld, recorder)),
            running("reservation") as producer,
        ):
            await producer.publish(held())
            await eventually(lambda: recorder.seen)
        assert counted("consumer_paused_seconds", queue=QUEUE) > before

    async def test_draining_ends_a_pause_and_leaves_the_messages(self, running, held, depth):
        recorder = Recorder(_away)
        async with running("reservation") as producer:
            async with running("payment", Subscription(ReservationHeld, recorder)):
                for _ in range(5):
                    await producer.publish(held())
                await eventually(lambda: recorder.attempts)
            assert await depth(QUEUE) == 5


class TestConnectionLost:
    async def test_the_consumer_comes_back_by_itself(self, infrastructure, running, held):
        recorder = Recorder()
        async with TcpProxy(infrastructure.ports.rabbitmq) as proxy:
            subscription = Subscription(ReservationHeld, recorder)
            async with (
                running("payment", subscription, broker_port=proxy.port),
                running("reservation") as producer,
            ):
                await producer.publish(held(user_id="before"))
                await eventually(lambda: recorder.seen == ["before"])
                await proxy.refuse()
                await producer.publish(held(user_id="meanwhile"))
                await proxy.resume()
                await eventually(lambda: "meanwhile" in recorder.seen, 15)

    async def test_a_message_in_hand_when_the_connection_breaks_comes_again(
        self, infrastructure, running, held, gate
    ):
        calls = []

        async def slow(event, envelope):
            calls.append(event.user_id)
            await gate.wait()

        async with (
            TcpProxy(infrastructure.ports.rabbitmq) as proxy,
            running("payment", Subscription(ReservationHeld, slow), broker_port=proxy.port),
            running("reservation") as producer,
        ):
            await producer.publish(held(user_id="fan"))
            await eventually(lambda: calls == ["fan"])
            await proxy.cut()
            await eventually(lambda: calls == ["fan", "fan"], 15)
            gate.set()


class TestStop:
    async def test_what_is_in_hand_is_finished_and_the_rest_left(self, running, held, depth, gate):
        done = []
        begun = asyncio.Event()

        async def slow(event, envelope):
            begun.set()
            await gate.wait()
            done.append(event.user_id)

        async with running("reservation") as producer:
            async with running(
                "payment", Subscription(ReservationHeld, slow, concurrency=1)
            ) as consumer:
                for number in range(3):
                    await producer.publish(held(user_id=str(number)))
                await begun.wait()
                stopping = asyncio.create_task(consumer.stop_consuming())
                await asyncio.sleep(0)
                gate.set()
                await stopping
            assert done == ["0"]
            assert await depth(QUEUE) == 2

    async def test_a_handler_past_the_drain_deadline_is_given_up(self, running, held, depth):
        begun = asyncio.Event()

        async def stuck(event, envelope):
            begun.set()
            await asyncio.Event().wait()

        async with running("reservation") as producer:
            subscription = Subscription(ReservationHeld, stuck)
            async with running("payment", subscription, drain_seconds=0.3) as consumer:
                await producer.publish(held())
                await begun.wait()
                async with asyncio.timeout(3):
                    await consumer.stop_consuming()
            assert await depth(QUEUE) == 1
