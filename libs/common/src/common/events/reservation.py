"""Events of reservation-service, and the request its API sends to its own lanes."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.events.base import Event, Id, Money, SeatState, Timestamp, Version

EXCHANGE = "reservation.events"
LANES_EXCHANGE = "reservation.lanes"


class BestAvailable(BaseModel):
    """A wish for adjacent seats; the lane chooses which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    quantity: Annotated[int, Field(ge=1, le=100)]


class ReservationRequested(Event):
    """A fan asked for seats; the lane decides requests in the order the broker accepted them."""

    type: ClassVar[str] = "reservation.requested.v1"
    exchange: ClassVar[str] = LANES_EXCHANGE

    reservation_id: Id
    user_id: str
    concert_id: Id
    performance_id: Id
    pass_id: Id
    idempotency_key: str
    body_hash: str
    """SHA-256 (hex) of the canonical request body; another body with the same key is refused."""
    seat_ids: tuple[Id, ...] | None
    best_available: BestAvailable | None
    reply_to: str | None
    """Redis channel of the process that waits for the answer."""
    requested_at: Timestamp

    @property
    def subject(self) -> str:
        """The reservation."""
        return self.reservation_id


class _ReservationFact(Event):
    exchange: ClassVar[str] = EXCHANGE

    reservation_id: Id
    version: Version
    user_id: str
    concert_id: Id
    performance_id: Id
    occurred_at: Timestamp

    @property
    def subject(self) -> str:
        """The reservation."""
        return self.reservation_id


class ReservationHeld(_ReservationFact):
    """Seats are kept for one fan until ``hold_expires_at``; this may be paid."""

    type: ClassVar[str] = "reservation.held.v1"

    seat_ids: tuple[Id, ...]
    total: Money
    hold_expires_at: Timestamp


class ReservationExpired(_ReservationFact):
    """A hold ran out; its seats are for sale again."""

    type: ClassVar[str] = "reservation.expired.v1"

    seat_ids: tuple[Id, ...]


class CancelCause(StrEnum):
    """Who cancelled."""

    FAN = "fan"
    PERFORMANCE_CANCELLED = "performance_cancelled"


class ReservationCancelled(_ReservationFact):
    """A held or confirmed reservation was cancelled; a confirmed one is to be refunded."""

    type: ClassVar[str] = "reservation.cancelled.v1"

    seat_ids: tuple[Id, ...]
    previous_state: Literal["held", "confirmed"]
    payment_id: Id | None
    cause: CancelCause


class ReservationConfirmed(_ReservationFact):
    """An authorized payment met a live hold: the seats are sold."""

    type: ClassVar[str] = "reservation.confirmed.v1"

    seat_ids: tuple[Id, ...]
    previous_state: Literal["held"]
    payment_id: Id
    pass_id: Id


class ReservationRejected(_ReservationFact):
    """An authorized payment came too late or for nothing: the money goes back at once."""

    type: ClassVar[str] = "reservation.rejected.v1"

    previous_state: Literal[
        "unknown", "held", "confirmed", "expired", "cancelled", "rejected", "refunded"
    ]
    payment_id: Id
    reason: Literal[
        "hold-expired",
        "reservation-cancelled",
        "already-confirmed",
        "reservation-unknown",
        "not-owner",
    ]


class SeatChange(BaseModel):
    """One seat's new state."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seat_id: Id
    state: SeatState
    version: Version


class InventoryChanged(Event):
    """One transaction changed seats of one performance; ``version`` counts them without gaps."""

    type: ClassVar[str] = "inventory.changed.v1"
    exchange: ClassVar[str] = EXCHANGE

    performance_id: Id
    concert_id: Id
    version: Version
    seats: tuple[SeatChange, ...]
    seats_left: Annotated[int, Field(ge=0)]
    occurred_at: Timestamp

    @property
    def subject(self) -> str:
        """The performance."""
        return self.performance_id
