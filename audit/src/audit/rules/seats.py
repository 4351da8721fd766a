"""Seats, holds and who owns them."""

from typing import ClassVar

from audit.rule import QueryRule


class OneLiveReservationASeat(QueryRule):
    """A seat was sold or held twice: two people will stand before one chair.

    The guarded UPDATE of reservation-service, or the release's owner guard, was passed by.
    """

    invariant: ClassVar[int] = 1
    sql: ClassVar[str] = """
        SELECT rs.seat_id, COUNT(*) AS live_reservations
        FROM {reservation}.reservation_seats rs
        JOIN {reservation}.reservations r ON r.reservation_id = rs.reservation_id
        WHERE r.state IN ('held', 'confirmed')
        GROUP BY rs.seat_id HAVING COUNT(*) > 1
    """


class SeatsMatchReservations(QueryRule):
    """A seat and its reservation tell different stories: a lost release or a half-written batch.

    Every held seat belongs to a held reservation that lists it, every sold one to a confirmed
    one, every free one to nobody, and every seat of a live reservation is its own.
    """

    invariant: ClassVar[int] = 1
    sql: ClassVar[str] = """
        SELECT s.seat_id, s.state, s.reservation_id, r.state AS reservation_state
        FROM {reservation}.seats s
        LEFT JOIN {reservation}.reservation_seats rs
            ON rs.seat_id = s.seat_id AND rs.reservation_id = s.reservation_id
        LEFT JOIN {reservation}.reservations r ON r.reservation_id = rs.reservation_id
        WHERE NOT (
            (s.state = 'available' AND s.reservation_id IS NULL)
            OR (s.state = 'held' AND COALESCE(r.state, '') = 'held')
            OR (s.state = 'sold' AND COALESCE(r.state, '') = 'confirmed')
        )
        UNION ALL
        SELECT rs.seat_id, s.state, s.reservation_id, r.state
        FROM {reservation}.reservations r
        JOIN {reservation}.reservation_seats rs ON rs.reservation_id = r.reservation_id
        LEFT JOIN {reservation}.seats s ON s.seat_id = rs.seat_id
        WHERE r.state IN ('held', 'confirmed')
            AND (s.reservation_id IS NULL OR s.reservation_id <> r.reservation_id)
    """


class SeatsLeftIsCounted(QueryRule):
    """The running count of free seats drifted from the seats: a change was booked without it."""

    invariant: ClassVar[int] = 1
    sql: ClassVar[str] = """
        SELECT p.performance_id, p.seats_left, COALESCE(free.seats, 0) AS free_seats
        FROM {reservation}.performances p
        LEFT JOIN (
            SELECT performance_id, COUNT(*) AS seats FROM {reservation}.seats
            WHERE state = 'available' GROUP BY performance_id
        ) free ON free.performance_id = p.performance_id
        WHERE p.seats_left <> COALESCE(free.seats, 0)
    """


class ConfirmedHasOnePayment(QueryRule):
    """A fan owns seats nobody paid for, or paid for them more than once."""

    invariant: ClassVar[int] = 1
    sql: ClassVar[str] = """
        SELECT r.reservation_id, r.payment_id, COUNT(p.payment_id) AS payments
        FROM {reservation}.reservations r
        LEFT JOIN {payment}.payments p
            ON p.reservation_id = r.reservation_id AND p.state IN ('authorized', 'succeeded')
        WHERE r.state = 'confirmed' AND r.changed_at < {settled}
        GROUP BY r.reservation_id, r.payment_id
        HAVING COUNT(p.payment_id) <> 1
    """


class SucceededHasOneReservation(QueryRule):
    """Money was kept for seats the fan does not have: a refund or a confirmation was lost."""

    invariant: ClassVar[int] = 1
    sql: ClassVar[str] = """
        SELECT p.payment_id, p.reservation_id, r.state AS reservation_state, r.payment_id AS theirs
        FROM {payment}.payments p
        LEFT JOIN {reservation}.reservations r ON r.reservation_id = p.reservation_id
        WHERE p.state = 'succeeded' AND p.settled_at < {settled}
            AND NOT (
                COALESCE(r.payment_id, '') = p.payment_id
                AND (
                    r.state = 'confirmed'
                    OR (r.state = 'cancelled' AND r.changed_at >= {settled})
                )
            )
    """


class HoldsEndInTime(QueryRule):
    """Seats stay locked after their hold's end: the sweeper stands still."""

    invariant: ClassVar[int] = 3
    sql: ClassVar[str] = """
        SELECT reservation_id, hold_expires_at FROM {reservation}.reservations
        WHERE state = 'held' AND hold_expires_at < NOW(6) - INTERVAL 5 SECOND
    """


class ConfirmedInTime(QueryRule):
    """A hold was confirmed after its end, when somebody else might have had the seat already."""

    invariant: ClassVar[int] = 3
    sql: ClassVar[str] = """
        SELECT reservation_id, changed_at, hold_expires_at FROM {reservation}.reservations
        WHERE state = 'confirmed' AND changed_at > hold_expires_at
    """
