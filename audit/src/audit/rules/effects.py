"""One request, one effect; and nothing that happened stays untold."""

from typing import ClassVar

from audit.rule import QueryRule


class OneReservationARequest(QueryRule):
    """One request made two reservations: the idempotency key did not hold."""

    invariant: ClassVar[int] = 5
    sql: ClassVar[str] = """
        SELECT user_id, COUNT(*) AS reservations FROM {reservation}.reservations
        GROUP BY user_id, idempotency_key HAVING COUNT(*) > 1
    """


class OnePaymentARequest(QueryRule):
    """One request made two payments, or one reservation has two live ones."""

    invariant: ClassVar[int] = 5
    sql: ClassVar[str] = """
        SELECT user_id, COUNT(*) AS payments FROM {payment}.payments
        GROUP BY user_id, idempotency_key HAVING COUNT(*) > 1
        UNION ALL
        SELECT reservation_id, COUNT(*) FROM {payment}.payments
        WHERE state IN ('authorized', 'succeeded')
        GROUP BY reservation_id HAVING COUNT(*) > 1
    """


class NothingWaitsInAnOutbox(QueryRule):
    """An event never left its service: a relay stands still and others do not hear the truth."""

    invariant: ClassVar[int] = 6
    sql: ClassVar[str] = """
        SELECT 'queue' AS service, destination, event_id, type, occurred_at
        FROM {queue}.outbox WHERE occurred_at < {settled}
        UNION ALL
        SELECT 'concert' AS service, destination, event_id, type, occurred_at
        FROM {concert}.outbox WHERE occurred_at < {settled}
        UNION ALL
        SELECT 'reservation' AS service, destination, event_id, type, occurred_at
        FROM {reservation}.outbox WHERE occurred_at < {settled}
        UNION ALL
        SELECT 'payment' AS service, destination, event_id, type, occurred_at
        FROM {payment}.outbox WHERE occurred_at < {settled}
    """


class AvailabilityNeverAhead(QueryRule):
    """The catalogue knows a seat version the inventory never had: a projection invents."""

    invariant: ClassVar[int] = 7
    sql: ClassVar[str] = """
        SELECT c.seat_id, c.state_version AS shown, s.version AS truth
        FROM {concert}.seats c
        JOIN {reservation}.seats s ON s.seat_id = c.seat_id
        WHERE c.state_version > s.version
    """


class AvailabilityAgrees(QueryRule):
    """Long after the last change fans are still shown another state than the seat has."""

    invariant: ClassVar[int] = 7
    sql: ClassVar[str] = """
        SELECT c.seat_id, c.state AS shown, s.state AS truth
        FROM {concert}.seats c
        JOIN {reservation}.seats s ON s.seat_id = c.seat_id
        WHERE c.state <> s.state AND NOT EXISTS (
            SELECT 1 FROM {reservation}.reservations r
            WHERE r.performance_id = s.performance_id AND r.changed_at >= {settled}
        )
    """
