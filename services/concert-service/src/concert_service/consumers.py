"""Everything concert-service hears."""

from common.broker import Delivery, OrderedSubscription
from common.events import InventoryChanged
from concert_service.service.projecting import CONSUMER, Projector


def subscriptions(projector: Projector) -> list[OrderedSubscription]:
    """One active projector, batches in the order reservation-service committed them."""

    async def project(deliveries: list[Delivery]) -> None:
        await projector.apply([(one.envelope.id, one.event) for one in deliveries])

    return [OrderedSubscription(InventoryChanged, project, queues=[CONSUMER])]
