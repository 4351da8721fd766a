"""Everything payment-service listens to."""

from collections.abc import Sequence

from common.broker import Subscription
from common.events import (
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationHeld,
    ReservationRejected,
)
from payment_service.service.saga import Saga


def subscriptions(saga: Saga) -> Sequence[Subscription]:
    """One queue an event; order between them is decided by versions and states, not arrival."""
    return [
        Subscription(ReservationHeld, saga.held),
        Subscription(ReservationExpired, saga.expired),
        Subscription(ReservationCancelled, saga.cancelled),
        Subscription(ReservationConfirmed, saga.confirmed),
        Subscription(ReservationRejected, saga.rejected),
    ]
