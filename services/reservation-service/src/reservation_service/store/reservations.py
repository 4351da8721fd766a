"""Reservations: their rows, their transitions with guards, and the answers kept in them."""

# ruff: noqa: S608 - only constants of this module are put into the text, values never

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.database import RetryTransaction, Session, Transaction
from common.events import CancelCause, ReservationRequested
from reservation_service.domain import (
    KnownReservation,
    Reservation,
    ReservationState,
    ReservedSeat,
)

HOLD_IS_LIVE = "AND state = 'held' AND hold_expires_at > NOW(6) AND user_id = %s AND total = %s"
"""The guard of a confirmation: this fan's hold, live by the database's clock, paid in full."""
HOLD_IS_OVER = "AND state = 'held' AND hold_expires_at <= NOW(6)"
"""The guard of an expiry; the fence behind the sweeper's lease."""

_COLUMNS = """reservation_id, user_id, concert_id, performance_id, pass_id, state, total, currency,
    hold_expires_at, payment_id, cancel_cause, rejected_code, version"""
_INSERT = """
INSERT INTO reservations (reservation_id, user_id, concert_id, performance_id, pass_id, state,
    total, currency, hold_expires_at, payment_id, cancel_cause, rejected_code, version,
    lane_position, requested_at, created_at, changed_at, idempotency_key, body_hash,
    answer_status, answer_body)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_INSERT_SEAT = """
INSERT INTO reservation_seats (reservation_id, seat_id, position, label, price)
VALUES (%s, %s, %s, %s, %s)
"""
_SEATS = """
SELECT reservation_id, seat_id, label, price FROM reservation_seats
WHERE reservation_id IN %s ORDER BY reservation_id, position
"""
_OWN = f"SELECT {_COLUMNS} FROM reservations WHERE reservation_id = %s AND user_id = %s"
_LIST = f"""
SELECT {_COLUMNS} FROM reservations WHERE user_id = %s ORDER BY reservation_id DESC LIMIT %s
"""
_LIST_AFTER = f"""
SELECT {_COLUMNS} FROM reservations WHERE user_id = %s AND reservation_id < %s
ORDER BY reservation_id DESC LIMIT %s
"""
_PERFORMANCE_OF = "SELECT performance_id FROM reservations WHERE reservation_id = %s"
_LOCK = f"""
SELECT {_COLUMNS} FROM reservations WHERE reservation_id IN %s ORDER BY reservation_id FOR UPDATE
"""
_KNOWN = """
SELECT user_id, idempotency_key, reservation_id, body_hash FROM reservations
WHERE (user_id, idempotency_key) IN %s
"""
_ANSWERS = f"""
SELECT {_COLUMNS}, idempotency_key, body_hash, answer_status, answer_body FROM reservations
WHERE (user_id, idempotency_key) IN %s
"""
_SEATS_OF_FANS = """
SELECT r.user_id, r.performance_id, COUNT(*) AS seats
FROM reservations r JOIN reservation_seats s ON s.reservation_id = r.reservation_id
WHERE (r.user_id, r.performance_id) IN %s AND r.state IN ('held', 'confirmed')
GROUP BY r.user_id, r.performance_id
"""
_ENDED_HOLDS = """
SELECT reservation_id, performance_id FROM reservations
WHERE state = 'held' AND hold_expires_at <= NOW(6) ORDER BY hold_expires_at LIMIT %s
"""
_LIVE_OF_PERFORMANCE = """
SELECT reservation_id FROM reservations
WHERE performance_id = %s AND state IN ('held', 'confirmed') ORDER BY reservation_id LIMIT %s
"""
_SAVE = """
UPDATE reservations SET state = %s, payment_id = %s, cancel_cause = %s, version = %s,
    changed_at = NOW(6)
WHERE reservation_id = %s AND version = %s {guard}
"""
_INSERT_ENDED = """
INSERT INTO ended_passes (pass_id, user_id, concert_id, cause, ended_at)
VALUES (%s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE pass_id = pass_id
"""
_PURGE_ENDED = """
DELETE FROM ended_passes WHERE ended_at < NOW(6) - INTERVAL %s DAY ORDER BY ended_at LIMIT 1000
"""
_ENDED_PASSES = "SELECT pass_id FROM ended_passes WHERE pass_id IN %s"


@dataclass(frozen=True, slots=True)
class DecidedRequest:
    """A request with its outcome, as it becomes a row. ``created_at`` is the decision's time."""

    request: ReservationRequested
    reservation: Reservation
    lane_position: int | None
    created_at: datetime
    answer_status: int
    answer_body: bytes


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """A reservation with the first final answer its request got."""

    reservation: Reservation
    body_hash: str
    status: int
    body: bytes


async def insert(
    tx: Transaction, decided: Iterable[DecidedRequest], positions: dict[str, int]
) -> None:
    """Keep decided requests; ``positions`` maps the seats they got to plan positions.

    Raises:
        UniqueViolation: another lane decided the same user and key meanwhile.
    """
    rows = list(decided)
    await tx.execute_many(_INSERT, [_row(row) for row in rows])
    await tx.execute_many(
        _INSERT_SEAT,
        [
            (
                row.reservation.reservation_id,
                seat.seat_id,
                positions[seat.seat_id],
                seat.label,
                seat.price,
            )
            for row in rows
            for seat in row.reservation.seats
        ],
    )


def _row(decided: DecidedRequest) -> tuple[Any, ...]:
    reservation, request = decided.reservation, decided.request
    return (
        reservation.reservation_id,
        reservation.user_id,
        reservation.concert_id,
        reservation.performance_id,
        reservation.pass_id,
        reservation.state.value,
        reservation.total,
        reservation.currency,
        reservation.hold_expires_at,
        None,
        None,
        reservation.rejected_code,
        reservation.version,
        decided.lane_position,
        request.requested_at,
        decided.created_at,
        decided.created_at,
        request.idempotency_key,
        request.body_hash,
        decided.answer_status,
        decided.answer_body.decode(),
    )


async def find_own(session: Session, reservation_id: str, user_id: str) -> Reservation | None:
    """One reservation of this fan; another fan's does not exist."""
    row = await session.fetch_one(_OWN, (reservation_id, user_id))
    found = await _with_seats(session, [row] if row else [])
    return found[0] if found else None


async def list_own(
    session: Session, user_id: str, before: str | None, limit: int
) -> list[Reservation]:
    """Reservations of a fan, the newest first; ``before`` is the last id of the page before."""
    if before is None:
        rows = await session.fetch_all(_LIST, (user_id, limit))
    else:
        rows = await session.fetch_all(_LIST_AFTER, (user_id, before, limit))
    return await _with_seats(session, rows)


async def performance_of(session: Session, reservation_id: str) -> str | None:
    """Whose lock a change of this reservation needs; never changes."""
    performance_id: str | None = await session.fetch_value(_PERFORMANCE_OF, (reservation_id,))
    return performance_id


async def lock(tx: Transaction, reservation_ids: Collection[str]) -> list[Reservation]:
    """Lock reservations, in id order; the caller holds their performances' locks."""
    if not reservation_ids:
        return []
    return await _with_seats(tx, await tx.fetch_all(_LOCK, (sorted(set(reservation_ids)),)))


async def known(
    session: Session, keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], KnownReservation]:
    """Which of these (user, key) pairs were decided before."""
    if not keys:
        return {}
    rows = await session.fetch_all(_KNOWN, (sorted(set(keys)),))
    return {
        (row["user_id"], row["idempotency_key"]): KnownReservation(
            row["reservation_id"], row["body_hash"]
        )
        for row in rows
    }


async def outcomes(
    session: Session, keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], StoredOutcome]:
    """Reservations and first answers by (user, key)."""
    if not keys:
        return {}
    rows = await session.fetch_all(_ANSWERS, (sorted(set(keys)),))
    reservations = {r.reservation_id: r for r in await _with_seats(session, rows)}
    return {
        (row["user_id"], row["idempotency_key"]): StoredOutcome(
            reservations[row["reservation_id"]],
            row["body_hash"],
            row["answer_status"],
            row["answer_body"].encode(),
        )
        for row in rows
    }


async def seats_of_fans(
    session: Session, fans: Collection[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Seats in live reservations, for these (user, performance) pairs."""
    if not fans:
        return {}
    rows = await session.fetch_all(_SEATS_OF_FANS, (sorted(set(fans)),))
    return {(row["user_id"], row["performance_id"]): row["seats"] for row in rows}


async def ended_holds(session: Session, limit: int) -> dict[str, list[str]]:
    """Reservations whose hold has ended, the longest over first, by performance."""
    found: dict[str, list[str]] = {}
    for row in await session.fetch_all(_ENDED_HOLDS, (limit,)):
        found.setdefault(row["performance_id"], []).append(row["reservation_id"])
    return found


async def live_of_performance(session: Session, performance_id: str, limit: int) -> list[str]:
    """Ids of live reservations of a performance."""
    rows = await session.fetch_all(_LIVE_OF_PERFORMANCE, (performance_id, limit))
    return [row["reservation_id"] for row in rows]


async def save(tx: Transaction, before: Reservation, after: Reservation) -> None:
    """Write a transition, if the row is still as the transition found it.

    Raises:
        RetryTransaction: it is not, or the database's clock no longer allows it.
    """
    guard, more = _guard(before, after)
    values = (
        after.state.value,
        after.payment_id,
        None if after.cancel_cause is None else after.cancel_cause.value,
        after.version,
        after.reservation_id,
        before.version,
    )
    if await tx.execute(_SAVE.format(guard=guard), (*values, *more)) != 1:
        raise RetryTransaction("the reservation changed, or its time ran out, meanwhile")


def _guard(before: Reservation, after: Reservation) -> tuple[str, tuple[Any, ...]]:
    if before.state is after.state:
        return "", ()
    if after.state is ReservationState.CONFIRMED:
        return HOLD_IS_LIVE, (before.user_id, before.total)
    if after.state is ReservationState.EXPIRED:
        return HOLD_IS_OVER, ()
    return "AND state = %s", (before.state.value,)


async def end_pass(
    tx: Transaction,
    pass_id: str,
    *,
    user_id: str,
    concert_id: str,
    cause: str,
    ended_at: datetime,
) -> None:
    """From now on no request with this pass is granted."""
    await tx.execute(_INSERT_ENDED, (pass_id, user_id, concert_id, cause, ended_at))


async def purge_ended_passes(tx: Transaction, days: int) -> int:
    """Forget passes that ended longer ago than that; at most one batch."""
    return await tx.execute(_PURGE_ENDED, (days,))


async def ended_passes(session: Session, pass_ids: Collection[str]) -> frozenset[str]:
    """Which of these passes are ended or spent."""
    if not pass_ids:
        return frozenset()
    rows = await session.fetch_all(_ENDED_PASSES, (sorted(set(pass_ids)),))
    return frozenset(row["pass_id"] for row in rows)


async def _with_seats(session: Session, rows: list[dict[str, Any]]) -> list[Reservation]:
    if not rows:
        return []
    seats: dict[str, list[ReservedSeat]] = {row["reservation_id"]: [] for row in rows}
    for seat in await session.fetch_all(_SEATS, (list(seats),)):
        seats[seat["reservation_id"]].append(
            ReservedSeat(seat["seat_id"], seat["label"], seat["price"])
        )
    return [_reservation(row, tuple(seats[row["reservation_id"]])) for row in rows]


def _reservation(row: dict[str, Any], seats: tuple[ReservedSeat, ...]) -> Reservation:
    cause = row["cancel_cause"]
    return Reservation(
        reservation_id=row["reservation_id"],
        user_id=row["user_id"],
        concert_id=row["concert_id"],
        performance_id=row["performance_id"],
        pass_id=row["pass_id"],
        state=ReservationState(row["state"]),
        seats=seats,
        total=row["total"],
        currency=row["currency"],
        hold_expires_at=row["hold_expires_at"],
        payment_id=row["payment_id"],
        cancel_cause=None if cause is None else CancelCause(cause),
        rejected_code=row["rejected_code"],
        version=row["version"],
    )
