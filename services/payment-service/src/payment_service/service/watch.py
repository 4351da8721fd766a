"""What people watch: the dashboard's figures, and sagas that wait too long."""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import Gauge

from common.database import Database
from common.logging import get_logger
from payment_service.store import figures
from payment_service.store.figures import Backlog, RevenueMinute, WalletTotals

DASHBOARD_MINUTES = 60
_NAMED_PAYMENTS = 10

authorized_payments = Gauge("stagedoor_payments_authorized", "Payments whose outcome is still open")
authorized_oldest_seconds = Gauge(
    "stagedoor_payments_authorized_oldest_seconds",
    "Age of the oldest payment whose outcome is still open; 0 when there is none",
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """The dashboard's part of payment-service."""

    source: Literal["primary", "replica"]
    staleness_seconds: float
    """How old the figures may be: the replica's lag, or 0 from the primary."""
    revenue: list[RevenueMinute]
    backlog: Backlog
    wallets: WalletTotals


class Watch:
    """Reads only, and decides nothing: an outcome is never invented."""

    def __init__(self, database: Database, *, overdue_seconds: float) -> None:
        self._database = database
        self._overdue_seconds = overdue_seconds

    async def figures(self) -> Figures:
        """The dashboard, from the replica."""
        async with self._database.replica() as session:
            revenue = await figures.revenue(session, minutes=DASHBOARD_MINUTES)
            backlog = await figures.backlog(session)
            totals = await figures.wallet_totals(session)
            source = session.source
        lag = self._database.replica_lag_seconds if source == "replica" else None
        return Figures(source, lag or 0.0, revenue, backlog, totals)

    async def measure(self) -> None:
        """Show how many sagas are open and how old the oldest is; name those that are overdue."""
        async with self._database.primary() as session:
            backlog = await figures.backlog(session)
            authorized_payments.set(backlog.payments)
            authorized_oldest_seconds.set(backlog.oldest_age_seconds or 0)
            if (backlog.oldest_age_seconds or 0) < self._overdue_seconds:
                return
            overdue = await figures.overdue(
                session, older_than_seconds=self._overdue_seconds, limit=_NAMED_PAYMENTS
            )
        log.warning(
            "payments-without-outcome",
            payments=backlog.payments,
            oldest_age_seconds=backlog.oldest_age_seconds,
            oldest=[payment.payment_id for payment in overdue],
        )
