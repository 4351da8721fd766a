"""Periodic work."""

from collections.abc import Sequence

from common import idempotency
from common.database import Database
from common.jobs import Job
from payment_service.service.watch import Watch
from payment_service.settings import PaymentSettings

_PURGE_SECONDS = 60.0


def jobs(settings: PaymentSettings, watch: Watch, database: Database) -> Sequence[Job]:
    """What this process does every so often."""
    return [
        # Every replica measures: a figure that only the lease's holder knew would go stale.
        Job("saga-watch", settings.saga_watch_every_seconds, watch.measure),
        Job("idempotency-purge", _PURGE_SECONDS, lambda: idempotency.purge(database), lease=True),
    ]
