"""Periodic work."""

from common.database import Database
from common.errors import DependencyUnavailable
from common.jobs import LEASE_SECONDS, Job
from common.redis import Lease
from reservation_service.service.endings import Endings
from reservation_service.store import reservations

CANCEL_SECONDS = 0.5
PURGE_SECONDS = 600.0
ENDED_PASS_DAYS = 30
"""How long an ended pass is remembered: far longer than any pass lives."""


class ExpirySweeper:
    """Looks for ended holds, in one replica at a time while Redis can say which.

    Without Redis every replica sweeps: holds end on time all the same, and the row's condition
    lets each of them end once.
    """

    def __init__(self, endings: Endings, lease: Lease) -> None:
        self._endings = endings
        self._lease = lease

    async def run(self) -> int:
        """One look; returns how many holds were released."""
        try:
            mine = await self._lease.try_acquire()
        except DependencyUnavailable:
            mine = True
        return await self._endings.expire_ended() if mine else 0


def jobs(
    *, endings: Endings, database: Database, sweeper: ExpirySweeper, expiry_interval_seconds: float
) -> list[Job]:
    """What is done every so often."""

    async def purge_passes() -> None:
        await database.run(lambda tx: reservations.purge_ended_passes(tx, ENDED_PASS_DAYS))

    return [
        Job("expire-holds", expiry_interval_seconds, sweeper.run),
        Job("cancel-performances", CANCEL_SECONDS, endings.cancel_performances, lease=True),
        Job("purge-ended-passes", PURGE_SECONDS, purge_passes, lease=True),
    ]


EXPIRY_LEASE = ("expire-holds", LEASE_SECONDS)
"""Name and time to live of the sweeper's lease, in seconds."""
