"""Figures for administrators, from the replica."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common.database import Session

_PERFORMANCES = """
SELECT performance_id, concert_id, sale, starts_at, seats_total, seats_left, inventory_version
FROM performances WHERE parts > 0 ORDER BY performance_id DESC LIMIT %s
"""
_PERFORMANCES_AFTER = """
SELECT performance_id, concert_id, sale, starts_at, seats_total, seats_left, inventory_version
FROM performances WHERE parts > 0 AND performance_id < %s ORDER BY performance_id DESC LIMIT %s
"""
_SEATS = """
SELECT performance_id, state, COUNT(*) AS figure FROM seats WHERE performance_id IN %s
GROUP BY performance_id, state
"""
_RESERVATIONS = """
SELECT performance_id, state, cancel_cause, COUNT(*) AS figure FROM reservations
WHERE performance_id IN %s GROUP BY performance_id, state, cancel_cause
"""


@dataclass(slots=True)
class PerformanceFigures:
    """How one performance sells."""

    performance_id: str
    concert_id: str
    sale: str
    starts_at: datetime | None
    seats_total: int
    seats_left: int
    inventory_version: int
    seats: dict[str, int] = field(default_factory=dict)
    """By state."""
    reservations: dict[str, int] = field(default_factory=dict)
    """By state; cancelled and refunded ones by cause too, as ``cancelled:fan``."""


async def performance_figures(
    session: Session, before: str | None, limit: int
) -> list[PerformanceFigures]:
    """Figures of performances, the newest first."""
    if before is None:
        rows = await session.fetch_all(_PERFORMANCES, (limit,))
    else:
        rows = await session.fetch_all(_PERFORMANCES_AFTER, (before, limit))
    found = {row["performance_id"]: PerformanceFigures(**row) for row in rows}
    if found:
        for row in await session.fetch_all(_SEATS, (list(found),)):
            found[row["performance_id"]].seats[row["state"]] = row["figure"]
        for row in await session.fetch_all(_RESERVATIONS, (list(found),)):
            figures = found[row["performance_id"]].reservations
            figures[_label(row)] = row["figure"]
    return list(found.values())


def _label(row: dict[str, Any]) -> str:
    return ":".join(part for part in (row["state"], row["cancel_cause"]) if part)
