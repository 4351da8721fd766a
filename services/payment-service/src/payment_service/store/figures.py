"""Figures for people who watch: sums that decide nothing."""

from dataclasses import dataclass
from datetime import datetime

from common.database import Session
from payment_service.domain import REVENUE

_REVENUE = """
SELECT FLOOR(UNIX_TIMESTAMP(created_at) / 60) * 60 AS minute,
    SUM(amount) AS amount, SUM(kind = 'settlement') AS sales, SUM(kind = 'refund') AS refunds
FROM ledger_entries
WHERE account = %s AND created_at >= NOW(6) - INTERVAL %s MINUTE
GROUP BY minute ORDER BY minute
"""
_BACKLOG = """
SELECT COUNT(*) AS payments, TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)) AS age
FROM payments WHERE state = 'authorized'
"""
_OVERDUE = """
SELECT payment_id, reservation_id, created_at FROM payments
WHERE state = 'authorized' AND created_at < NOW(6) - INTERVAL %s MICROSECOND
ORDER BY created_at LIMIT %s
"""
_WALLETS = "SELECT COUNT(*) AS wallets, COALESCE(SUM(balance), 0) AS balance FROM wallets"
_NOW = "SELECT NOW(6) AS now"


@dataclass(frozen=True, slots=True)
class RevenueMinute:
    """What one minute earned; negative when refunds outweighed sales."""

    minute: int
    """Its first second, in Unix time."""
    amount: int
    sales: int
    refunds: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Payments whose outcome is open."""

    payments: int
    oldest_age_seconds: float | None


@dataclass(frozen=True, slots=True)
class OverduePayment:
    """A payment that has waited too long for its outcome."""

    payment_id: str
    reservation_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WalletTotals:
    """Every fan's money together."""

    wallets: int
    balance: int


async def revenue(session: Session, *, minutes: int) -> list[RevenueMinute]:
    """Revenue of the last minutes; minutes without any are missing."""
    rows = await session.fetch_all(_REVENUE, (REVENUE, minutes))
    return [RevenueMinute(**{name: int(value) for name, value in row.items()}) for row in rows]


async def backlog(session: Session) -> Backlog:
    """How many outcomes are open, and for how long."""
    (row,) = await session.fetch_all(_BACKLOG)
    age = row["age"]
    return Backlog(row["payments"], None if age is None else max(0, age) / 1_000_000)


async def overdue(
    session: Session, *, older_than_seconds: float, limit: int
) -> list[OverduePayment]:
    """The oldest payments without an outcome."""
    rows = await session.fetch_all(_OVERDUE, (int(older_than_seconds * 1_000_000), limit))
    return [OverduePayment(**row) for row in rows]


async def wallet_totals(session: Session) -> WalletTotals:
    """Every wallet together."""
    (row,) = await session.fetch_all(_WALLETS)
    return WalletTotals(row["wallets"], int(row["balance"]))


async def now(session: Session) -> datetime:
    """The database's time."""
    moment: datetime = await session.fetch_value(_NOW)
    return moment
