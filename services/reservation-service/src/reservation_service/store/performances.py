"""Performances and their inventory as concert-service schedules them."""

# ruff: noqa: S608 - only constants of this module are put into the text, values never

from datetime import datetime
from typing import Any

from common.database import Session, Transaction
from common.events import PerformanceSaleChanged, PerformanceScheduled, SaleState
from reservation_service.domain import Performance

_COLUMNS = """performance_id, concert_id, sale, currency, max_seats_per_fan, hold_seconds,
    seats_left, inventory_version, lane_position, parts, parts_received"""

_ENSURE = """
INSERT INTO performances (performance_id, concert_id, sale, sale_version, currency,
    max_seats_per_fan, hold_seconds, parts, parts_received, seats_total, seats_left,
    inventory_version, lane_position, cancelling, created_at)
VALUES (%s, %s, 'scheduled', 0, 'KRW', 1, 1, 0, 0, 0, 0, 0, 0, 0, NOW(6))
ON DUPLICATE KEY UPDATE performance_id = performance_id
"""
_LOCK = f"""
SELECT {_COLUMNS} FROM performances WHERE performance_id IN %s ORDER BY performance_id FOR UPDATE
"""
_FIND = f"SELECT {_COLUMNS} FROM performances WHERE performance_id = %s"
_INSERT_PART = """
INSERT INTO performance_parts (performance_id, part, received_at) VALUES (%s, %s, NOW(6))
ON DUPLICATE KEY UPDATE part = part
"""
_INSERT_SEAT = """
INSERT INTO seats (seat_id, performance_id, position, row_key, label, category, price, state,
    reservation_id, version)
VALUES (%s, %s, %s, %s, %s, %s, %s, 'available', NULL, 1)
"""
_ADD_PART = """
UPDATE performances SET starts_at = %s, currency = %s, max_seats_per_fan = %s, hold_seconds = %s,
    parts = %s, parts_received = parts_received + 1, seats_total = %s, seats_left = seats_left + %s
WHERE performance_id = %s
"""
# An older version changes nothing; the same one was set by the part or event before it.
_SET_SALE = """
UPDATE performances SET sale = %s, sale_version = %s, sale_opens_at = %s
WHERE performance_id = %s AND sale_version < %s
"""
_BEGIN_CANCELLING = """
UPDATE performances SET cancelling = 1 WHERE performance_id = %s AND sale = 'cancelled'
"""
_CANCELLING = """
SELECT performance_id FROM performances WHERE cancelling = 1 ORDER BY performance_id LIMIT %s
"""
_END_CANCELLING = "UPDATE performances SET cancelling = 0 WHERE performance_id = %s"
# `seats_left` is kept by hand so that an event can carry it without counting 100,000 rows.
_BUMP = """
UPDATE performances SET seats_left = seats_left + %s, inventory_version = inventory_version + 1
WHERE performance_id = %s
"""
_LANE_POSITION = "UPDATE performances SET lane_position = %s WHERE performance_id = %s"


async def database_now(session: Session) -> datetime:
    """The clock that decides about holds."""
    now: datetime = await session.fetch_value("SELECT NOW(6)")
    return now


async def find(session: Session, performance_id: str) -> Performance | None:
    """A performance without a lock, or None when nothing is known of it."""
    row = await session.fetch_one(_FIND, (performance_id,))
    return _performance(row) if row else None


async def lock(tx: Transaction, performance_ids: set[str]) -> dict[str, Performance]:
    """Lock these performances, in id order, for the rest of the transaction.

    Whoever changes seats takes this lock first: it makes the transactions of one performance one
    after the other, so that versions have no gaps and two of them never wait crosswise.
    """
    if not performance_ids:
        return {}
    rows = await tx.fetch_all(_LOCK, (sorted(performance_ids),))
    return {row["performance_id"]: _performance(row) for row in rows}


def _performance(row: dict[str, Any]) -> Performance:
    return Performance(
        performance_id=row["performance_id"],
        concert_id=row["concert_id"],
        sale=SaleState(row["sale"]),
        currency=row["currency"],
        max_seats_per_fan=row["max_seats_per_fan"],
        hold_seconds=row["hold_seconds"],
        seats_left=row["seats_left"],
        inventory_version=row["inventory_version"],
        lane_position=row["lane_position"],
        complete=row["parts"] > 0 and row["parts"] == row["parts_received"],
    )


async def add_part(tx: Transaction, part: PerformanceScheduled) -> bool:
    """Put one part of a plan on the inventory; False when it is there already."""
    await tx.execute(_ENSURE, (part.performance_id, part.concert_id))
    await lock(tx, {part.performance_id})
    if await tx.execute(_INSERT_PART, (part.performance_id, part.part)) != 1:
        return False
    await tx.execute_many(
        _INSERT_SEAT,
        [
            (
                seat.seat_id,
                part.performance_id,
                seat.position,
                seat.row,
                seat.label,
                seat.category,
                seat.price.amount,
            )
            for seat in part.seats
        ],
    )
    await tx.execute(
        _ADD_PART,
        (
            part.starts_at,
            part.currency,
            part.max_seats_per_fan,
            part.hold_seconds,
            part.parts,
            part.seats_total,
            len(part.seats),
            part.performance_id,
        ),
    )
    await _set_sale(tx, part)
    return True


async def change_sale(tx: Transaction, change: PerformanceSaleChanged) -> bool:
    """Open, pause, close or cancel a sale; False when a newer change is known already.

    The change may come before the plan: the row then waits for its parts.
    """
    await tx.execute(_ENSURE, (change.performance_id, change.concert_id))
    await lock(tx, {change.performance_id})
    return await _set_sale(tx, change)


async def _set_sale(tx: Transaction, event: PerformanceScheduled | PerformanceSaleChanged) -> bool:
    values = (event.sale.value, event.version, event.sale_opens_at)
    changed = await tx.execute(_SET_SALE, (*values, event.performance_id, event.version))
    if changed and event.sale is SaleState.CANCELLED:
        await tx.execute(_BEGIN_CANCELLING, (event.performance_id,))
    return changed == 1


async def cancelling(session: Session, limit: int) -> list[str]:
    """Cancelled performances that may still have live reservations."""
    rows = await session.fetch_all(_CANCELLING, (limit,))
    return [row["performance_id"] for row in rows]


async def end_cancelling(tx: Transaction, performance_id: str) -> None:
    """Nothing of this performance lives any more."""
    await tx.execute(_END_CANCELLING, (performance_id,))


async def bump(tx: Transaction, performance_id: str, seats_left_change: int) -> None:
    """Count one change of the inventory; the caller holds the performance's lock."""
    await tx.execute(_BUMP, (seats_left_change, performance_id))


async def set_lane_position(tx: Transaction, performance_id: str, position: int) -> None:
    """Remember how many requests of the performance were decided."""
    await tx.execute(_LANE_POSITION, (position, performance_id))
