"""AsyncAPI names everything a service sends and hears."""

from common.asyncapi import describe
from common.events import REGISTRY, PaymentAuthorized, ReservationHeld


def test_what_payment_service_says_and_hears() -> None:
    document = describe("payment", [ReservationHeld])
    assert document["asyncapi"] == "3.0.0"
    operations = document["operations"]
    assert {name for name in operations if name.startswith("send_")} == {
        "send_payment_authorized_v1",
        "send_payment_refunded_v1",
        "send_payment_succeeded_v1",
        "send_stagedoor_payments_v1",
    }
    assert operations["receive_reservation_held_v1"]["action"] == "receive"
    assert {one["address"] for one in document["channels"].values()} == {
        PaymentAuthorized.exchange,
        ReservationHeld.exchange,
        "stagedoor.payments.v1",
    }


def test_every_reference_leads_somewhere() -> None:
    for service in ("queue", "concert", "reservation", "payment"):
        document = describe(service, REGISTRY.values())
        for reference in _references(document):
            place = document
            for part in reference.removeprefix("#/").split("/"):
                place = place[part]


def test_every_event_is_sent_by_exactly_one_service() -> None:
    sent = [
        name
        for service in ("queue", "concert", "reservation", "payment")
        for name in describe(service, [])["components"]["messages"]
    ]
    assert sorted(set(sent)) == sorted(sent)
    assert set(sent) == set(REGISTRY) | {"stagedoor.payments.v1"}


def test_every_message_says_how_it_travels() -> None:
    document = describe("reservation", REGISTRY.values())
    lanes = document["channels"]["reservation_lanes"]
    assert lanes["bindings"]["amqp"]["exchange"]["type"] == "direct"
    messages = document["components"]["messages"]
    assert "lane.00 to lane.15" in messages["reservation.requested.v1"]["description"]
    headers = document["components"]["schemas"]["CloudEventsHeaders"]
    assert "cloudEvents:id" in headers["required"]


def test_the_stream_is_kafkas() -> None:
    document = describe("payment", [])
    record = document["components"]["messages"]["stagedoor.payments.v1"]
    assert record["headers"]["$ref"].endswith("CloudEventsStreamHeaders")
    assert "key" in record["bindings"]["kafka"]
    assert "kafka" in document["channels"]["stagedoor_payments_v1"]["bindings"]


def _references(part: object) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [ref for value in part.values() for ref in _references(value)]
    if isinstance(part, list):
        return [ref for value in part for ref in _references(value)]
    return []
