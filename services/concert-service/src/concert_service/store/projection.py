"""Our copy of the inventory: seat states, their counts, and the availability they add up to."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.database import Session, Transaction
from common.events import SeatState
from concert_service.domain.availability import bitmap_of_words
from concert_service.domain.projection import Projected, SeatRecord

_ROWS_PER_STATEMENT = 200
"""A CASE compares each row with each branch: small statements keep that far from quadratic."""


@dataclass(frozen=True, slots=True)
class ProjectionRow:
    """How far the projection of one performance is."""

    performance_id: str
    availability_version: int
    inventory_version: int
    seats_total: int


async def lock_projection(tx: Transaction, performance_id: str) -> ProjectionRow | None:
    """Lock the performance's row: who projects it does so alone."""
    row = await tx.fetch_one(
        """
        SELECT performance_id, availability_version, inventory_version, seats_total
        FROM performances WHERE performance_id = %s FOR UPDATE
        """,
        (performance_id,),
    )
    return ProjectionRow(**row) if row else None


async def seat_records(
    tx: Transaction, performance_id: str, seat_ids: Sequence[str]
) -> dict[str, SeatRecord]:
    """The present rows of these seats."""
    if not seat_ids:
        return {}
    rows = await tx.fetch_all(
        """
        SELECT seat_id, position, state, state_version FROM seats
        WHERE performance_id = %s AND seat_id IN %s
        """,
        (performance_id, sorted(seat_ids)),
    )
    return {
        row["seat_id"]: SeatRecord(
            row["seat_id"], row["position"], SeatState(row["state"]), row["state_version"]
        )
        for row in rows
    }


async def write_projection(
    tx: Transaction, row: ProjectionRow, projected: Projected, version: int, heard: int
) -> None:
    """Write the seats that changed, the counts, and the availability's new version."""
    for start in range(0, len(projected.seats), _ROWS_PER_STATEMENT):
        await _write_seats(
            tx, row.performance_id, projected.seats[start : start + _ROWS_PER_STATEMENT]
        )
    await tx.execute(
        """
        UPDATE performances
        SET seats_left = seats_left + %s, seats_held = seats_held + %s,
            seats_sold = seats_sold + %s, availability_version = %s, inventory_version = %s
        WHERE performance_id = %s
        """,
        (
            projected.available_delta,
            projected.held_delta,
            projected.sold_delta,
            version,
            max(heard, row.inventory_version),
            row.performance_id,
        ),
    )


async def _write_seats(tx: Transaction, performance_id: str, seats: Sequence[SeatRecord]) -> None:
    branches = " ".join(["WHEN %s THEN %s"] * len(seats))
    states = [value for seat in seats for value in (seat.seat_id, seat.state.value)]
    versions = [value for seat in seats for value in (seat.seat_id, seat.state_version)]
    await tx.execute(
        f"""
        UPDATE seats
        SET state = CASE seat_id {branches} END, state_version = CASE seat_id {branches} END
        WHERE performance_id = %s AND seat_id IN %s
        """,  # noqa: S608 - only placeholders are repeated
        (*states, *versions, performance_id, [seat.seat_id for seat in seats]),
    )


async def availability(session: Session, performance_id: str) -> tuple[int, bytes] | None:
    """Version and bitmap of what cannot be had.

    One statement, and so one snapshot: two would let a commit fall between version and seats.
    The seats are packed into 64-bit words by the database, 64 times fewer rows to carry.
    """
    rows = await session.fetch_all(
        """
        SELECT 0 AS part, availability_version AS a, seats_total AS b
        FROM performances WHERE performance_id = %s
        UNION ALL
        SELECT 1, position DIV 64 AS word, BIT_OR(CAST(1 AS UNSIGNED) << (63 - position MOD 64))
        FROM seats WHERE performance_id = %s AND state <> 'available' GROUP BY word
        """,
        (performance_id, performance_id),
    )
    totals = [row for row in rows if row["part"] == 0]
    if not totals:
        return None
    words = ((int(row["a"]), int(row["b"])) for row in rows if row["part"] == 1)
    return int(totals[0]["a"]), bitmap_of_words(words, int(totals[0]["b"]))


async def seats_in_order(
    session: Session, performance_id: str, start: int, limit: int
) -> list[tuple[str, str]]:
    """(seat id, category) by position from ``start``."""
    rows = await session.fetch_all(
        """
        SELECT seat_id, category FROM seats
        WHERE performance_id = %s AND position >= %s AND position < %s ORDER BY position
        """,
        (performance_id, start, start + limit),
    )
    return [(row["seat_id"], row["category"]) for row in rows]
