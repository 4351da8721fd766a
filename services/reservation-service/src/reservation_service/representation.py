"""How reservations and refusals look to a client: HTTP bodies, and answers kept in rows."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import Field

from common.errors import Problem
from common.events import Money, Timestamp
from common.web import PREFIX, ResponseModel, problem_response
from reservation_service.domain import RejectionCode, Reservation, ReservationState


class SeatBody(ResponseModel):
    """One reserved seat."""

    seat_id: str
    label: str
    price: Money


class ReservationBody(ResponseModel):
    """A reservation as its owner sees it."""

    reservation_id: str
    performance_id: str
    seats: Annotated[
        tuple[SeatBody, ...], Field(description="Empty while pending, and when rejected.")
    ]
    total: Annotated[Money | None, Field(description="Null while pending.")]
    state: ReservationState
    hold_expires_at: Annotated[Timestamp | None, Field(description="Null if never held.")]
    hold_expires_in_seconds: Annotated[
        int | None, Field(ge=0, description="Seconds left to pay; 0 when the hold is over.")
    ]
    rejected_code: Annotated[
        str | None, Field(description="Problem code of a rejected request, else null.")
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is bytes already."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


_REJECTIONS = {
    RejectionCode.SEAT_UNAVAILABLE: (409, "Some of these seats cannot be had"),
    RejectionCode.LIMIT_EXCEEDED: (409, "That is more seats than one fan may have"),
    RejectionCode.SALE_NOT_OPEN: (409, "This performance is not on sale now"),
    RejectionCode.PASS_INVALID: (403, "This pass is not valid here"),
    RejectionCode.PERFORMANCE_UNKNOWN: (404, "There is no such performance"),
}


def location(reservation_id: str) -> str:
    """Where a reservation can be read."""
    return f"{PREFIX}/reservations/{reservation_id}"


def reservation_body(reservation: Reservation, now: datetime) -> ReservationBody:
    """A decided reservation, with the seconds left at ``now``."""
    return ReservationBody(
        reservation_id=reservation.reservation_id,
        performance_id=reservation.performance_id,
        seats=tuple(
            SeatBody(
                seat_id=seat.seat_id,
                label=seat.label,
                price=Money(amount=seat.price, currency=reservation.currency),
            )
            for seat in reservation.seats
        ),
        total=Money(amount=reservation.total, currency=reservation.currency),
        state=reservation.state,
        hold_expires_at=reservation.hold_expires_at,
        hold_expires_in_seconds=_seconds_left(reservation, now),
        rejected_code=reservation.rejected_code,
    )


def _seconds_left(reservation: Reservation, now: datetime) -> int | None:
    if reservation.hold_expires_at is None:
        return None
    if not reservation.is_live_hold(now):
        return 0
    return int((reservation.hold_expires_at - now).total_seconds())


def pending_body(reservation_id: str, performance_id: str) -> ReservationBody:
    """A request that its lane has not decided yet."""
    return ReservationBody(
        reservation_id=reservation_id,
        performance_id=performance_id,
        seats=(),
        total=None,
        state=ReservationState.PENDING,
        hold_expires_at=None,
        hold_expires_in_seconds=None,
        rejected_code=None,
    )


def rejection(code: RejectionCode, unavailable_seats: tuple[str, ...] = ()) -> Problem:
    """The problem a refused request is answered with."""
    status, title = _REJECTIONS[code]
    if code is RejectionCode.SEAT_UNAVAILABLE:
        return Problem(status, code.value, title, unavailable_seats=list(unavailable_seats))
    return Problem(status, code.value, title)


def held_answer(reservation: Reservation, now: datetime) -> Answer:
    """The first and final answer to a granted request."""
    body = reservation_body(reservation, now).model_dump_json().encode()
    return stored_answer(201, body, reservation.reservation_id)


def rejected_answer(code: RejectionCode, unavailable_seats: tuple[str, ...] = ()) -> Answer:
    """The first and final answer to a refused request."""
    problem = rejection(code, unavailable_seats)
    # Without the trace id: this is also the answer to every repetition, in whatever trace.
    body = json.loads(bytes(problem_response(problem).body))
    body.pop("trace_id", None)
    return Answer(problem.status, json.dumps(body, separators=(",", ":")).encode())


def stored_answer(status: int, body: bytes, reservation_id: str) -> Answer:
    """A final answer again, byte for byte."""
    return Answer(status, body, {"Location": location(reservation_id)} if status == 201 else {})  # noqa: PLR2004 - created


def pending_answer(reservation_id: str, performance_id: str) -> Answer:
    """Not decided in time: where to look, and when."""
    body = pending_body(reservation_id, performance_id).model_dump_json().encode()
    return Answer(202, body, {"Location": location(reservation_id), "Retry-After": "1"})
