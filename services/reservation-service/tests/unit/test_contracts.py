"""Golden events: what the service emits is, byte for byte, what everybody agreed on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.events import (
    REGISTRY,
    CancelCause,
    Event,
    ReservationRequested,
    SaleState,
    SeatState,
)
from reservation_service.consumers import subscriptions
from reservation_service.domain import (
    FreeSeats,
    Held,
    Payment,
    Performance,
    Reservation,
    Seat,
    Snapshot,
    decide_batch,
)
from reservation_service.service.endings import Endings
from reservation_service.service.inventory import Inventory
from reservation_service.service.lanes import LaneWorker, inventory_changes

GOLDEN = Path(__file__).parents[4] / "libs/common/tests/golden"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CONCERT = "0193f5a0-0000-7000-8000-000000000002"
PERFORMANCE = "0193f5a0-0000-7000-8000-000000000003"
SEATS = ("0193f5a0-0000-7000-8000-000000000011", "0193f5a0-0000-7000-8000-000000000012")


def golden(type_: str) -> str:
    """The file's document as an event's compact JSON."""
    document = json.loads((GOLDEN / f"{type_}.json").read_text())
    return json.dumps(document, separators=(",", ":"))


def decided() -> tuple[dict[str, Performance], Held]:
    """The lane's decision of the golden request."""
    performance = Performance(
        performance_id=PERFORMANCE,
        concert_id=CONCERT,
        sale=SaleState.OPEN,
        currency="KRW",
        max_seats_per_fan=4,
        hold_seconds=300,
        seats_left=400,
        inventory_version=0,
        lane_position=0,
    )
    seats = {
        seat_id: Seat(
            seat_id=seat_id,
            performance_id=PERFORMANCE,
            position=position,
            row_key="A",
            label=f"A{position}",
            category="floor",
            price=132_000,
            state=SeatState.AVAILABLE,
            reservation_id=None,
            version=1,
        )
        for position, seat_id in enumerate(SEATS)
    }
    request = ReservationRequested.model_validate_json(golden("reservation.requested.v1"))
    snapshot = Snapshot(
        performances={PERFORMANCE: performance},
        seats=seats,
        free_seats={(PERFORMANCE, "floor"): FreeSeats(SEATS, complete=True)},
        seats_of_fans={},
        ended_passes=frozenset(),
        known={},
    )
    (decision,) = decide_batch(snapshot, [request], NOON)
    assert isinstance(decision, Held)
    return {PERFORMANCE: performance}, decision


def payment(reservation: Reservation) -> Payment:
    return Payment(
        payment_id="0193f5a0-0000-7000-8000-000000000021",
        reservation_id=reservation.reservation_id,
        user_id=reservation.user_id,
        concert_id=reservation.concert_id,
        performance_id=reservation.performance_id,
        amount=reservation.total,
        currency="KRW",
    )


def emitted() -> list[Event]:
    """Every fact of the golden reservation's two lives: bought and cancelled, or expired."""
    performances, decision = decided()
    held = decision.reservation
    confirmed = held.confirm(payment(held), NOON + timedelta(seconds=2))
    assert confirmed is not None
    cancelled = confirmed.reservation.cancel(CancelCause.FAN, NOON + timedelta(seconds=4))
    assert cancelled is not None
    expired = held.expire(NOON + timedelta(minutes=5, milliseconds=250))
    late = NOON + timedelta(minutes=5, milliseconds=500)
    rejected = expired.reservation.refuse_payment(payment(held), "hold-expired", late)
    assert rejected is not None
    return [
        held.held(NOON),
        confirmed.event,
        cancelled.event,
        expired.event,
        rejected.event,
        *inventory_changes(performances, [decision], NOON),
    ]


@pytest.mark.parametrize("event", emitted(), ids=lambda event: event.type)
def test_facts_are_the_golden_ones(event: Event) -> None:
    assert event.model_dump_json() == golden(event.type)


def test_the_golden_request_survives_the_lane() -> None:
    text = golden("reservation.requested.v1")
    assert ReservationRequested.model_validate_json(text).model_dump_json() == text


def test_every_fact_of_the_service_is_pinned() -> None:
    ours = {
        type_
        for type_, event in REGISTRY.items()
        if event.exchange in {"reservation.events", "reservation.lanes"}
    }
    assert {event.type for event in emitted()} | {"reservation.requested.v1"} == ours


HEARD = (
    "admission.ended.v1",
    "payment.authorized.v1",
    "payment.refunded.v1",
    "performance.sale_changed.v1",
    "performance.scheduled.v1",
    "reservation.requested.v1",
)


@pytest.mark.parametrize("type_", HEARD)
def test_what_is_heard_reads_the_golden_events_and_ignores_what_is_new(type_: str) -> None:
    document = json.loads(golden(type_))
    event = REGISTRY[type_].model_validate_json(json.dumps(document | {"added_later": 1}))
    assert json.loads(event.model_dump_json()) == document


def test_exactly_these_events_are_heard() -> None:
    unused: Any = object()
    heard = subscriptions(
        lanes=LaneWorker(database=unused, outbox=unused, claims=unused, answers=unused),
        endings=Endings(database=unused, outbox=unused, claims=unused),
        inventory=Inventory(database=unused),
        lane_batch=100,
    )
    assert sorted(subscription.event.type for subscription in heard) == sorted(HEARD)
