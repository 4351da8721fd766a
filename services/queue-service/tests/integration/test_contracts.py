"""Events from both ends: golden files, and the real broker."""

import json
from datetime import UTC, datetime

import aio_pika
import pytest

from common.envelope import Envelope
from common.events import AdmissionEndCause, AdmissionEnded, SaleState
from common.ids import new_id
from queue_service.consumers import subscriptions
from testkit.waiting import eventually

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def golden(repository, type_):
    return json.loads((repository / "libs/common/tests/golden" / f"{type_}.json").read_text())


def heard(service):
    return {one.event.type: one for one in subscriptions(service.door, service.steering)}


async def deliver(service, type_, document):
    """As the broker would, with a field that a later producer may have added."""
    one = heard(service)[type_]
    event = one.event.model_validate_json(json.dumps(document | {"added_later": 1}))
    await one.handler(event, Envelope(new_id(), type_, "test", event.subject, NOW))


async def test_what_ends_an_admission_says_the_golden_event(service, repository, published):
    document = golden(repository, "admission.ended.v1")
    queue = await service.queue()
    fan = queue.fan()
    pass_id = (await fan.join()).json()["ticket_id"]
    async with published("queue.events") as spy:
        await service.door.end(queue.concert_id, [pass_id], AdmissionEndCause.PURCHASED)
        message = await spy.first(lambda one: one.json()["pass_id"] == pass_id)
    assert message.routing_key == "admission.ended.v1"
    emitted = message.json()
    assert emitted.keys() == document.keys()
    own = {"pass_id": pass_id, "concert_id": queue.concert_id, "user_id": fan.user_id}
    assert emitted == document | own | {"ended_at": emitted["ended_at"]}
    assert AdmissionEnded.model_validate(document).model_dump(mode="json") == document


@pytest.mark.parametrize(
    "type_",
    [
        "performance.scheduled.v1",
        "performance.sale_changed.v1",
        "inventory.changed.v1",
        "reservation.confirmed.v1",
    ],
)
async def test_golden_events_are_accepted(service, repository, type_):
    document = golden(repository, type_)
    event = heard(service)[type_].event.model_validate(document)
    assert event.model_dump(mode="json") == document


def test_the_four_events_and_no_others_are_heard(service):
    assert sorted(heard(service)) == [
        "inventory.changed.v1",
        "performance.sale_changed.v1",
        "performance.scheduled.v1",
        "reservation.confirmed.v1",
    ]


async def test_a_confirmed_reservation_ends_the_admission(service, repository):
    queue = await service.queue()
    fan = queue.fan()
    pass_id = (await fan.join()).json()["ticket_id"]
    own = {"concert_id": queue.concert_id, "pass_id": pass_id, "user_id": fan.user_id}
    document = golden(repository, "reservation.confirmed.v1") | own
    for _ in range(2):
        await deliver(service, "reservation.confirmed.v1", document)
    assert await fan.state() == "done"
    [row] = await queue.rows()
    assert row["end_cause"] == "purchased"


async def test_a_confirmed_reservation_of_a_pass_we_never_gave_changes_nothing(service, repository):
    queue = await service.queue()
    document = golden(repository, "reservation.confirmed.v1") | {"concert_id": queue.concert_id}
    await deliver(service, "reservation.confirmed.v1", document)
    assert await queue.rows() == []


async def test_sale_changes_may_come_before_the_announcement_and_twice(service):
    concert_id, performance_id = new_id(), new_id()
    announced = service.scheduled(concert_id, performance_id, SaleState.SCHEDULED)
    changed = {
        "performance_id": performance_id,
        "concert_id": concert_id,
        "version": 2,
        "sale": "open",
        "previous_sale": "scheduled",
        "sale_opens_at": None,
        "occurred_at": "2026-11-21T12:00:00Z",
    }
    for _ in range(2):
        await deliver(service, "performance.sale_changed.v1", changed)
        await deliver(service, "performance.scheduled.v1", json.loads(announced.model_dump_json()))
    answer = await service.client.get(f"/api/v1/queues/{concert_id}")
    assert (answer.json()["state"], answer.json()["seats_left"]) == ("open", 100)


async def test_stock_may_come_before_the_announcement(service):
    concert_id, performance_id = new_id(), new_id()
    stock = {
        "performance_id": performance_id,
        "concert_id": concert_id,
        "version": 4,
        "seats": [],
        "seats_left": 9,
        "occurred_at": "2026-11-21T12:00:00Z",
    }
    await deliver(service, "inventory.changed.v1", stock)
    await service.steering.save_stock()
    announced = service.scheduled(concert_id, performance_id)
    await deliver(service, "performance.scheduled.v1", json.loads(announced.model_dump_json()))
    answer = await service.client.get(f"/api/v1/queues/{concert_id}")
    assert answer.json()["seats_left"] == 9


async def test_over_the_real_broker_a_queue_comes_into_being(service, infrastructure):
    concert_id = new_id()
    event = service.scheduled(concert_id, new_id())
    envelope = Envelope(new_id(), event.type, "concert", event.subject, NOW)
    connection = await aio_pika.connect(infrastructure.broker_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("concert.events")
        message = aio_pika.Message(
            event.model_dump_json().encode(),
            headers=envelope.to_amqp(),
            message_id=envelope.id,
            content_type="application/json",
        )
        for _ in range(2):
            await exchange.publish(message, event.type, timeout=5)

    async def exists():
        return (await service.client.get(f"/api/v1/queues/{concert_id}")).status_code == 200

    await eventually(exists, 10)
