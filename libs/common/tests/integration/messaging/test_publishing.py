"""Publishing on the real broker: confirmed, persistent, mandatory, within its deadline."""

import asyncio
from time import monotonic

import pytest

from common.broker import Broker, Subscription, UnroutableMessage
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import ReservationHeld
from common.ids import new_id
from common.tracing import continued, current_traceparent
from testkit.proxy import TcpProxy
from testkit.waiting import eventually


async def nothing(event, envelope):
    del event, envelope


class TestPublish:
    async def test_the_message_is_persistent_and_carries_cloudevents_and_the_trace(
        self, running, spy_on, held
    ):
        async with running("reservation") as broker, spy_on("reservation.events") as spy:
            event = held()
            with continued(None):
                trace = current_traceparent()
                envelope = await broker.publish(event)
            message = await spy.first(lambda message: message.message_id == envelope.id)
        assert message.persistent
        assert message.routing_key == "reservation.held.v1"
        assert message.headers["traceparent"] == trace
        assert Envelope.from_amqp(message.headers) == envelope
        assert envelope.subject == event.reservation_id
        assert envelope.source == "reservation"
        assert ReservationHeld.model_validate_json(message.body) == event

    async def test_a_message_no_queue_takes_raises(self, running, held):
        async with running("reservation") as broker:
            with pytest.raises(UnroutableMessage):
                await broker.publish(held())

    async def test_only_the_unroutable_one_of_many_in_flight_raises(self, running, held):
        async with (
            running("payment", Subscription(ReservationHeld, nothing)),
            running("reservation") as broker,
        ):
            keys = ["reservation.held.v1", "nobody.v1"] * 20
            outcomes = await asyncio.gather(
                *(broker.publish(held(), routing_key=key) for key in keys), return_exceptions=True
            )
        assert [isinstance(outcome, UnroutableMessage) for outcome in outcomes] == [
            key == "nobody.v1" for key in keys
        ]

    async def test_an_exchange_outside_the_design_is_a_mistake_and_harms_no_other_publish(
        self, running, spy_on, held
    ):
        async with running("reservation") as broker, spy_on("reservation.events"):
            with pytest.raises(LookupError):
                await broker.publish(held(), exchange="reservation.typo")
            await broker.publish(held())

    async def test_an_account_cannot_publish_in_another_services_name(self, running, spy_on, held):
        async with running("payment") as broker, spy_on("reservation.events") as spy:
            with pytest.raises(DependencyUnavailable):
                await broker.publish(held())
            async with running("reservation") as rightful:
                envelope = await rightful.publish(held())
            await spy.first(lambda message: message.message_id == envelope.id)
            assert len(spy.messages) == 1


class TestBrokerAway:
    async def test_refused_connections_raise_within_the_deadline_and_heal(
        self, infrastructure, running, spy_on, held
    ):
        async with (
            TcpProxy(infrastructure.ports.rabbitmq) as proxy,
            running("reservation", broker_port=proxy.port) as broker,
            spy_on("reservation.events"),
        ):
            await broker.publish(held())
            await proxy.refuse()
            began = monotonic()
            with pytest.raises(DependencyUnavailable):
                await broker.publish(held(), deadline_seconds=0.5)
            assert monotonic() - began < 1.0
            await proxy.resume()
            await eventually(lambda: _publishes(broker, held()), 10)

    async def test_a_silent_broker_raises_within_the_deadline_and_heals(
        self, infrastructure, running, spy_on, held
    ):
        async with (
            TcpProxy(infrastructure.ports.rabbitmq) as proxy,
            running("reservation", broker_port=proxy.port) as broker,
            spy_on("reservation.events"),
        ):
            await broker.publish(held())
            await proxy.drop()
            began = monotonic()
            with pytest.raises(DependencyUnavailable):
                await broker.publish(held(), deadline_seconds=0.5)
            assert monotonic() - began < 1.0
            await proxy.resume()
            await eventually(lambda: _publishes(broker, held()), 20)

    async def test_a_start_without_the_broker_returns_and_catches_up(
        self, infrastructure, settings, spy_on, held
    ):
        async with TcpProxy(infrastructure.ports.rabbitmq) as proxy:
            await proxy.refuse()
            broker = Broker(settings("reservation", broker_port=proxy.port))
            await broker.start(wait_seconds=0.2)
            assert not broker.ready
            with pytest.raises(DependencyUnavailable):
                await broker.publish(held())
            await proxy.resume()
            async with spy_on("reservation.events"):
                await eventually(lambda: _publishes(broker, held()), 10)
            await broker.stop()


class TestSend:
    async def test_a_ready_made_message_keeps_its_attributes(self, running, spy_on, held):
        event = held()
        envelope = Envelope(
            id=new_id(),
            type=event.type,
            source="reservation",
            subject=event.subject,
            time=event.occurred_at,
            traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
        )
        async with running("reservation") as broker, spy_on("reservation.events") as spy:
            await broker.send(
                event.model_dump_json().encode(),
                envelope,
                exchange=event.exchange,
                routing_key=event.type,
            )
            message = await spy.first(lambda message: message.message_id == envelope.id)
        assert Envelope.from_amqp(message.headers) == envelope


async def _publishes(broker, event):
    try:
        await broker.publish(event)
    except DependencyUnavailable:
        return False
    return True
