"""Concerts and their performances as rows: written once, then only their sale changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.database import Session, Transaction
from common.events import SaleState
from concert_service.domain.sale import Performance
from concert_service.domain.seating import PlannedSeat

_PERFORMANCE_COLUMNS = """
    performance_id, concert_id, starts_at, sale, sale_opens_at, version, seats_total, seats_left
"""


@dataclass(frozen=True, slots=True)
class ConcertRow:
    """What never changes about a concert."""

    concert_id: str
    title: str
    artist: str
    venue: str
    currency: str
    max_seats_per_fan: int
    hold_seconds: int
    categories: str
    """JSON: ``[{"category", "color", "price", "seats"}]`` in plan order; read whole or not."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """A performance as the catalogue shows it."""

    performance_id: str
    concert_id: str
    starts_at: datetime
    sale: SaleState
    sale_opens_at: datetime | None
    version: int
    seats_total: int
    seats_left: int


async def insert_drafts(
    tx: Transaction, performance_ids: Sequence[str], created_at: datetime
) -> None:
    """Remember performances whose seats are about to be written, so that none is ever orphaned."""
    await tx.execute_many(
        "INSERT INTO drafts (performance_id, created_at) VALUES (%s, %s)",
        [(performance_id, created_at) for performance_id in performance_ids],
    )


async def insert_seats(
    tx: Transaction, performance_id: str, seats: Sequence[tuple[str, PlannedSeat]]
) -> None:
    """Write (seat id, seat) pairs, all of them for sale."""
    await tx.execute_many(
        """
        INSERT INTO seats (performance_id, seat_id, position, seat_guid, label, category, price,
                           row_name, state, state_version)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'available', 0)
        """,
        [
            (
                performance_id,
                seat_id,
                seat.position,
                seat.seat_guid,
                seat.label,
                seat.category,
                seat.price,
                seat.row,
            )
            for seat_id, seat in seats
        ],
    )


async def insert_seat_map(tx: Transaction, performance_id: str, etag: str, body: bytes) -> None:
    """Keep the answer of ``/performances/{id}/seats`` as it will be sent, gzipped."""
    await tx.execute(
        "INSERT INTO seat_maps (performance_id, etag, body) VALUES (%s, %s, %s)",
        (performance_id, etag, body),
    )


async def insert_concert(tx: Transaction, concert: ConcertRow) -> None:
    """Write the concert."""
    await tx.execute(
        """
        INSERT INTO concerts (concert_id, title, artist, venue, currency, max_seats_per_fan,
                              hold_seconds, categories, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            concert.concert_id,
            concert.title,
            concert.artist,
            concert.venue,
            concert.currency,
            concert.max_seats_per_fan,
            concert.hold_seconds,
            concert.categories,
            concert.created_at,
        ),
    )


async def publish_drafts(tx: Transaction, performances: Sequence[PerformanceRow]) -> None:
    """Turn drafts into performances: from this commit on they exist.

    A draft that the clean-up took meanwhile has lost its seats; its performance must not appear.

    Raises:
        DraftGone: at least one draft is not there any more.
    """
    ids = [performance.performance_id for performance in performances]
    deleted = await tx.execute("DELETE FROM drafts WHERE performance_id IN %s", (ids,))
    if deleted != len(ids):
        raise DraftGone
    await tx.execute_many(
        """
        INSERT INTO performances (performance_id, concert_id, starts_at, sale, sale_opens_at,
                                  version, seats_total, seats_left)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [
            (
                one.performance_id,
                one.concert_id,
                one.starts_at,
                one.sale.value,
                one.sale_opens_at,
                one.version,
                one.seats_total,
                one.seats_left,
            )
            for one in performances
        ],
    )


class DraftGone(Exception):  # noqa: N818 - names the condition
    """The creation took so long that the clean-up removed what it had written."""


async def abandoned_drafts(session: Session, before: datetime, limit: int) -> list[str]:
    """Performances whose creation began before then and did not end."""
    rows = await session.fetch_all(
        "SELECT performance_id FROM drafts WHERE created_at < %s ORDER BY created_at LIMIT %s",
        (before, limit),
    )
    return [row["performance_id"] for row in rows]


async def delete_draft_seats(tx: Transaction, performance_id: str, limit: int) -> int:
    """Remove some seats of an abandoned draft; 0 means none are left.

    The draft's row is locked first: a creation that is just ending either is done, and the
    performance stays whole, or waits and finds its draft gone.
    """
    draft = await tx.fetch_value(
        "SELECT performance_id FROM drafts WHERE performance_id = %s FOR UPDATE",
        (performance_id,),
    )
    if draft is None:
        return 0
    return await tx.execute(
        "DELETE FROM seats WHERE performance_id = %s LIMIT %s", (performance_id, limit)
    )


async def delete_draft(tx: Transaction, performance_id: str) -> None:
    """Forget an abandoned draft whose seats are gone."""
    if await tx.execute("DELETE FROM drafts WHERE performance_id = %s", (performance_id,)):
        await tx.execute("DELETE FROM seat_maps WHERE performance_id = %s", (performance_id,))


async def lock_performance(tx: Transaction, performance_id: str) -> Performance | None:
    """The performance, locked against every other change of its sale until the commit."""
    row = await tx.fetch_one(
        """
        SELECT performance_id, concert_id, sale, sale_opens_at, version
        FROM performances WHERE performance_id = %s FOR UPDATE
        """,
        (performance_id,),
    )
    return Performance(**{**row, "sale": SaleState(row["sale"])}) if row else None


async def update_sale(tx: Transaction, performance: Performance) -> None:
    """Write a sale's new state, guarded by the version it grew from."""
    changed = await tx.execute(
        """
        UPDATE performances SET sale = %s, version = %s
        WHERE performance_id = %s AND version = %s
        """,
        (
            performance.sale.value,
            performance.version,
            performance.performance_id,
            performance.version - 1,
        ),
    )
    if changed != 1:
        raise AssertionError(f"performance {performance.performance_id} changed under its lock")


async def due_performances(session: Session, limit: int) -> list[str]:
    """Scheduled performances whose opening time has come, by the database's clock."""
    rows = await session.fetch_all(
        """
        SELECT performance_id FROM performances
        WHERE sale = 'scheduled' AND sale_opens_at <= NOW(6)
        ORDER BY sale_opens_at LIMIT %s
        """,
        (limit,),
    )
    return [row["performance_id"] for row in rows]


async def concert_page(session: Session, before: str | None, limit: int) -> list[ConcertRow]:
    """Concerts, newest first, after the one with id ``before``."""
    rows = await session.fetch_all(
        """
        SELECT concert_id, title, artist, venue, currency, max_seats_per_fan, hold_seconds,
               categories, created_at
        FROM concerts WHERE concert_id < %s ORDER BY concert_id DESC LIMIT %s
        """,
        (before or "~", limit),  # '~' sorts after every id
    )
    return [ConcertRow(**row) for row in rows]


async def concert(session: Session, concert_id: str) -> ConcertRow | None:
    """One concert."""
    row = await session.fetch_one(
        """
        SELECT concert_id, title, artist, venue, currency, max_seats_per_fan, hold_seconds,
               categories, created_at
        FROM concerts WHERE concert_id = %s
        """,
        (concert_id,),
    )
    return ConcertRow(**row) if row else None


async def performances_of(session: Session, concert_id: str) -> list[PerformanceRow]:
    """A concert's performances by date; their number is bounded when they are created."""
    rows = await session.fetch_all(
        f"""
        SELECT {_PERFORMANCE_COLUMNS} FROM performances
        WHERE concert_id = %s ORDER BY starts_at, performance_id
        """,  # noqa: S608 - a constant
        (concert_id,),
    )
    return [_performance(row) for row in rows]


async def performance(session: Session, performance_id: str) -> PerformanceRow | None:
    """One performance."""
    row = await session.fetch_one(
        f"SELECT {_PERFORMANCE_COLUMNS} FROM performances WHERE performance_id = %s",  # noqa: S608 - a constant
        (performance_id,),
    )
    return _performance(row) if row else None


async def seat_map(session: Session, performance_id: str) -> tuple[str, bytes] | None:
    """Entity tag and gzipped body of ``/performances/{id}/seats``; drafts have none to show."""
    row = await session.fetch_one(
        """
        SELECT m.etag, m.body FROM seat_maps AS m
        JOIN performances AS p ON p.performance_id = m.performance_id
        WHERE m.performance_id = %s
        """,
        (performance_id,),
    )
    return (row["etag"], row["body"]) if row else None


async def sale_progress(session: Session, before: str | None, limit: int) -> list[dict[str, Any]]:
    """What the dashboard shows of each performance, newest first."""
    return await session.fetch_all(
        """
        SELECT p.performance_id, p.concert_id, c.title, p.starts_at, p.sale, p.sale_opens_at,
               p.seats_total, p.seats_left, p.seats_held, p.seats_sold, p.availability_version
        FROM performances AS p JOIN concerts AS c ON c.concert_id = p.concert_id
        WHERE p.performance_id < %s ORDER BY p.performance_id DESC LIMIT %s
        """,
        (before or "~", limit),
    )


def _performance(row: dict[str, Any]) -> PerformanceRow:
    return PerformanceRow(**{**row, "sale": SaleState(row["sale"])})
