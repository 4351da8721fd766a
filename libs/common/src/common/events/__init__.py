"""The event contracts: one frozen class an event, one module a producing service."""

from common.events.base import Event, Money, SaleState, SeatState, Timestamp
from common.events.concert import PerformanceSaleChanged, PerformanceScheduled, ScheduledSeat
from common.events.payment import (
    PaymentAuthorized,
    PaymentRecord,
    PaymentRefunded,
    PaymentSucceeded,
)
from common.events.queue import AdmissionEndCause, AdmissionEnded
from common.events.reservation import (
    BestAvailable,
    CancelCause,
    InventoryChanged,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationHeld,
    ReservationRejected,
    ReservationRequested,
    SeatChange,
)

REGISTRY: dict[str, type[Event]] = {
    event.type: event
    for event in (
        AdmissionEnded,
        InventoryChanged,
        PaymentAuthorized,
        PaymentRefunded,
        PaymentSucceeded,
        PerformanceSaleChanged,
        PerformanceScheduled,
        ReservationCancelled,
        ReservationConfirmed,
        ReservationExpired,
        ReservationHeld,
        ReservationRejected,
        ReservationRequested,
    )
}
"""Every event by its CloudEvents type."""

__all__ = [
    "REGISTRY",
    "AdmissionEndCause",
    "AdmissionEnded",
    "BestAvailable",
    "CancelCause",
    "Event",
    "InventoryChanged",
    "Money",
    "PaymentAuthorized",
    "PaymentRecord",
    "PaymentRefunded",
    "PaymentSucceeded",
    "PerformanceSaleChanged",
    "PerformanceScheduled",
    "ReservationCancelled",
    "ReservationConfirmed",
    "ReservationExpired",
    "ReservationHeld",
    "ReservationRejected",
    "ReservationRequested",
    "SaleState",
    "ScheduledSeat",
    "SeatChange",
    "SeatState",
    "Timestamp",
]
