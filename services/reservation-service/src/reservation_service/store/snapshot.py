"""What a lane's decision depends on, read under the locks of its transaction."""

from collections.abc import Sequence
from datetime import datetime

from common.database import Transaction
from common.events import ReservationRequested
from reservation_service.domain import FreeSeats, Seat, Snapshot
from reservation_service.store import performances, reservations, seats


async def load(
    tx: Transaction, requests: Sequence[ReservationRequested], free_seats_limit: int
) -> tuple[Snapshot, datetime]:
    """Lock performances, then the seats asked for; read the rest; return the database's time.

    ``free_seats_limit`` bounds the free seats looked at for each best-available wish.
    """
    locked = await performances.lock(tx, {request.performance_id for request in requests})
    # After the locks: a hold's time must not begin while its transaction still waits.
    now = await performances.database_now(tx)
    found = await seats.lock(
        tx, {seat_id for request in requests for seat_id in request.seat_ids or ()}
    )
    free = await _free_seats(tx, requests, free_seats_limit, found)
    snapshot = Snapshot(
        performances=locked,
        seats=found,
        free_seats=free,
        seats_of_fans=await reservations.seats_of_fans(
            tx, {(request.user_id, request.performance_id) for request in requests}
        ),
        ended_passes=await reservations.ended_passes(tx, {request.pass_id for request in requests}),
        known=await reservations.known(
            tx, {(request.user_id, request.idempotency_key) for request in requests}
        ),
    )
    return snapshot, now


async def _free_seats(
    tx: Transaction,
    requests: Sequence[ReservationRequested],
    limit: int,
    found: dict[str, Seat],
) -> dict[tuple[str, str], FreeSeats]:
    free: dict[tuple[str, str], FreeSeats] = {}
    for request in requests:
        if request.best_available is None:
            continue
        place = (request.performance_id, request.best_available.category)
        if place not in free:
            free[place], more = await seats.free(tx, *place, limit)
            found |= {seat.seat_id: seat for seat in more}
    return free
