"""Everything queue-service hears."""

from collections.abc import Sequence

from common.broker import Subscription
from common.envelope import Envelope
from common.events import (
    AdmissionEndCause,
    InventoryChanged,
    PerformanceSaleChanged,
    PerformanceScheduled,
    ReservationConfirmed,
)
from queue_service.service import Door, Steering


def subscriptions(door: Door, steering: Steering) -> Sequence[Subscription]:
    """What is heard, and what is done about it."""

    async def reservation_confirmed(event: ReservationConfirmed, _: Envelope) -> None:
        # Idempotent by pass_id: an ended row stays as it is, a freed slot stays free.
        await door.end(event.concert_id, [event.pass_id], AdmissionEndCause.PURCHASED)

    return [
        Subscription(PerformanceScheduled, steering.performance_scheduled),
        Subscription(PerformanceSaleChanged, steering.sale_changed),
        Subscription(InventoryChanged, steering.inventory_changed),
        Subscription(ReservationConfirmed, reservation_confirmed, concurrency=32),
    ]
