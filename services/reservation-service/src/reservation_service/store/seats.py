"""Seats: the guarded updates that make one owner a seat, and the reads behind a decision."""

# ruff: noqa: S608 - only constants of this module are put into the text, values never

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from common.database import RetryTransaction, Session, Transaction
from common.events import SeatChange, SeatState
from reservation_service.domain import FreeSeats, Seat

SEATS_PER_UPDATE = 200
"""Seats changed by one statement: its CASE is searched once a row."""

SEAT_IS_FREE = "AND state = 'available'"
"""The guard against selling a seat twice: the last word, whatever Redis or a reader believed."""
SEAT_IS_OWN = "AND reservation_id = %s AND state IN %s"
"""The guard of every release and sale: only the owner's, whoever came meanwhile."""

_COLUMNS = """seat_id, performance_id, position, row_key, label, category, price, state,
    reservation_id, version"""
_LOCK = f"SELECT {_COLUMNS} FROM seats WHERE seat_id IN %s ORDER BY seat_id FOR UPDATE"
_FREE = f"""
SELECT {_COLUMNS} FROM seats
WHERE performance_id = %s AND state = 'available' AND category = %s ORDER BY position LIMIT %s
"""
_CHANGES = "SELECT seat_id, state, version FROM seats WHERE seat_id IN %s ORDER BY seat_id"


async def lock(tx: Transaction, seat_ids: Collection[str]) -> dict[str, Seat]:
    """Lock these seats, in id order; unknown ids are left out."""
    if not seat_ids:
        return {}
    rows = await tx.fetch_all(_LOCK, (sorted(set(seat_ids)),))
    return {row["seat_id"]: _seat(row) for row in rows}


async def free(
    session: Session, performance_id: str, category: str, limit: int
) -> tuple[FreeSeats, list[Seat]]:
    """The first free seats of a category in plan order.

    Not locked one by one: the caller's lock on the performance keeps them as they are.
    """
    rows = await session.fetch_all(_FREE, (performance_id, category, limit + 1))
    seats = [_seat(row) for row in rows[:limit]]
    return FreeSeats(tuple(seat.seat_id for seat in seats), complete=len(rows) <= limit), seats


def _seat(row: dict[str, Any]) -> Seat:
    return Seat(
        seat_id=row["seat_id"],
        performance_id=row["performance_id"],
        position=row["position"],
        row_key=row["row_key"],
        label=row["label"],
        category=row["category"],
        price=row["price"],
        state=SeatState(row["state"]),
        reservation_id=row["reservation_id"],
        version=row["version"],
    )


async def hold(tx: Transaction, owners: Mapping[str, str]) -> None:
    """Give free seats to reservations: ``owners`` maps seat id to reservation id.

    Raises:
        RetryTransaction: one of them is not free; nothing of the transaction may stand.
    """
    for part in _parts(sorted(owners.items()), SEATS_PER_UPDATE):
        cases = " ".join("WHEN %s THEN %s" for _ in part)
        update = f"""
            UPDATE seats SET reservation_id = CASE seat_id {cases} END, state = 'held',
                version = version + 1
            WHERE seat_id IN %s {SEAT_IS_FREE}
        """
        pairs = [value for pair in part for value in pair]
        changed = await tx.execute(update, (*pairs, [seat_id for seat_id, _ in part]))
        if changed != len(part):
            raise RetryTransaction("a seat that was read as free is not")


async def sell(tx: Transaction, reservation_id: str, seat_ids: Collection[str]) -> None:
    """Held → sold, for their owner only.

    Raises:
        RetryTransaction: one of them is not this reservation's hold.
    """
    update = f"""
        UPDATE seats SET state = 'sold', version = version + 1 WHERE seat_id IN %s {SEAT_IS_OWN}
    """
    own = (sorted(seat_ids), reservation_id, [SeatState.HELD.value])
    if await tx.execute(update, own) != len(seat_ids):
        raise RetryTransaction("a seat is not held by the reservation that is paid")


async def release(tx: Transaction, reservation_id: str, seat_ids: Collection[str]) -> None:
    """Held or sold → available, for their owner only.

    Raises:
        RetryTransaction: one of them is somebody else's.
    """
    update = f"""
        UPDATE seats SET state = 'available', reservation_id = NULL, version = version + 1
        WHERE seat_id IN %s {SEAT_IS_OWN}
    """
    states = [SeatState.HELD.value, SeatState.SOLD.value]
    if await tx.execute(update, (sorted(seat_ids), reservation_id, states)) != len(seat_ids):
        raise RetryTransaction("a seat to release is not this reservation's")


async def changes(tx: Transaction, seat_ids: Collection[str]) -> tuple[SeatChange, ...]:
    """State and version of seats as this transaction leaves them, for ``inventory.changed``."""
    rows = await tx.fetch_all(_CHANGES, (sorted(seat_ids),))
    return tuple(SeatChange.model_validate(row) for row in rows)


def _parts(items: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
