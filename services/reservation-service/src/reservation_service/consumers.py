"""Everything reservation-service hears."""

from collections.abc import Awaitable, Callable
from typing import Any

from common.broker import LANES, OrderedSubscription, Subscription, lane_queue
from common.envelope import Envelope
from common.events import (
    AdmissionEnded,
    PaymentAuthorized,
    PaymentRefunded,
    PerformanceSaleChanged,
    PerformanceScheduled,
    ReservationRequested,
)
from reservation_service.service.endings import Endings
from reservation_service.service.inventory import Inventory
from reservation_service.service.lanes import LaneWorker


def subscriptions(
    *, lanes: LaneWorker, endings: Endings, inventory: Inventory, lane_batch: int
) -> list[Subscription | OrderedSubscription]:
    """What the service listens to, and which use case answers."""
    return [
        OrderedSubscription(
            ReservationRequested,
            lanes.decide,
            queues=[lane_queue(lane) for lane in range(LANES)],
            max_batch=lane_batch,
        ),
        Subscription(PaymentAuthorized, _once(endings.confirm), concurrency=16),
        Subscription(PaymentRefunded, _once(endings.refund)),
        # A part holds up to 2,000 seats, and parts of one performance wait for each other.
        Subscription(PerformanceScheduled, _once(inventory.schedule), concurrency=2),
        Subscription(PerformanceSaleChanged, _once(inventory.change_sale)),
        Subscription(AdmissionEnded, _once(inventory.end_pass)),
    ]


def _once(
    use_case: Callable[[Any, str], Awaitable[None]],
) -> Callable[[Any, Envelope], Awaitable[None]]:
    """Hand over the event with the id its inbox knows it by."""

    async def handle(event: Any, envelope: Envelope) -> None:
        await use_case(event, envelope.id)

    return handle
