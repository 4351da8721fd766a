"""Periodic work. What a run may touch is decided by the conditions in its SQL, not by the lease."""

from common.platform import Job
from concert_service.service.creation import Creation
from concert_service.service.projecting import Projector
from concert_service.service.sales import Sales


def jobs(sales: Sales, projector: Projector, creation: Creation) -> list[Job]:
    """Every job of the service."""
    return [
        Job("open-due-sales", 0.5, sales.open_due, lease=True),
        # Each process makes up for its own lost writes: no lease.
        Job("tell-availability-again", 0.5, projector.tell_again),
        Job("clear-abandoned-drafts", 60.0, creation.clear_abandoned, lease=True),
    ]
