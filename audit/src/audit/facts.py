"""Figures of one sale, counted from the stores' rows and from nothing else."""

from dataclasses import dataclass

from audit.snapshot import Snapshot
from common.ids import is_id


@dataclass(frozen=True)
class Facts:
    """What one concert's sale did."""

    seats_sold: int
    double_sold: int
    queue_order_inversions: int
    max_inside: int
    holds_expired: int
    payments_succeeded: int
    payments_refunded: int


async def facts_of(snapshot: Snapshot, concert_id: str) -> Facts:
    """Count one concert's figures.

    Raises:
        ValueError: ``concert_id`` is no id.
    """
    if not is_id(concert_id):
        raise ValueError(f"{concert_id!r} is no concert id")
    admissions = await snapshot.rows(_ADMISSIONS.replace(":concert", f"'{concert_id}'"))

    async def count(sql: str) -> int:
        return int(await snapshot.value(sql.replace(":concert", f"'{concert_id}'")))

    return Facts(
        seats_sold=await count(_SOLD),
        double_sold=await count(_DOUBLE_SOLD),
        queue_order_inversions=inversions([(row["epoch"], row["number"]) for row in admissions]),
        max_inside=most_at_once(
            [(float(row["began"]), float(row["ended"] or "inf")) for row in admissions]
        ),
        holds_expired=await count(_EXPIRED),
        payments_succeeded=await count(_SUCCEEDED),
        payments_refunded=await count(_REFUNDED),
    )


def inversions(admitted: list[tuple[int, int]]) -> int:
    """Admissions, in the order they happened, whose place number is not above the one before."""
    wrong = 0
    highest: dict[int, int] = {}
    for epoch, number in admitted:
        if number <= highest.get(epoch, -1):
            wrong += 1
        highest[epoch] = max(number, highest.get(epoch, -1))
    return wrong


def most_at_once(stays: list[tuple[float, float]]) -> int:
    """The most stays that overlap; a stay that ends as another begins does not overlap it."""
    steps = sorted([(end, -1) for _, end in stays] + [(begin, 1) for begin, _ in stays])
    inside = most = 0
    for _, step in steps:
        inside += step
        most = max(most, inside)
    return most


_ADMISSIONS = """
SELECT epoch, number, UNIX_TIMESTAMP(admitted_at) AS began, UNIX_TIMESTAMP(ended_at) AS ended
FROM {queue}.admissions WHERE concert_id = :concert ORDER BY sequence
"""
_SOLD = """
SELECT COUNT(*) AS n FROM {reservation}.seats s
JOIN {reservation}.performances p ON p.performance_id = s.performance_id
WHERE p.concert_id = :concert AND s.state = 'sold'
"""
_DOUBLE_SOLD = """
SELECT COUNT(*) AS n FROM (
    SELECT rs.seat_id FROM {reservation}.reservation_seats rs
    JOIN {reservation}.reservations r ON r.reservation_id = rs.reservation_id
    WHERE r.concert_id = :concert AND r.state = 'confirmed'
    GROUP BY rs.seat_id HAVING COUNT(*) > 1
) twice
"""
_EXPIRED = """
SELECT COUNT(*) AS n FROM {reservation}.reservations
WHERE concert_id = :concert AND state = 'expired'
"""
_SUCCEEDED = """
SELECT COUNT(*) AS n FROM {payment}.payments
WHERE concert_id = :concert AND settled_at IS NOT NULL
"""
_REFUNDED = """
SELECT COUNT(*) AS n FROM {payment}.payments WHERE concert_id = :concert AND state = 'refunded'
"""
