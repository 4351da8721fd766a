"""First come, first served; and never more inside than may be."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from audit.rule import QueryRule, Rule
from audit.snapshot import Snapshot


class DecidedInBrokerOrder(QueryRule):
    """A request was decided before one of the same performance that was made well before it.

    Requests made within five seconds of each other may reach the broker in either order; the
    positions themselves are unique by constraint.
    """

    invariant: ClassVar[int] = 4
    sql: ClassVar[str] = """
        SELECT reservation_id, performance_id, lane_position, requested_at, newest_before FROM (
            SELECT reservation_id, performance_id, lane_position, requested_at,
                MAX(requested_at) OVER (
                    PARTITION BY performance_id ORDER BY lane_position
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS newest_before
            FROM {reservation}.reservations WHERE lane_position IS NOT NULL
        ) decided
        WHERE newest_before > requested_at + INTERVAL 5 SECOND
    """


class AdmittedInOrder(Rule):
    """Somebody was let in before a person with a lower number who was there to be let in."""

    invariant: ClassVar[int] = 4

    async def findings(self, snapshot: Snapshot) -> AsyncIterator[str]:
        """Every admission whose number is not above the one before it."""
        highest: dict[tuple[str, int], int] = {}
        for row in await snapshot.rows(_ADMISSIONS):
            line = (row["concert_id"], row["epoch"])
            if row["number"] <= highest.get(line, -1):
                yield f"pass_id={row['pass_id']}, number={row['number']} after {highest[line]}"
            highest[line] = max(row["number"], highest.get(line, -1))


class AtMostMaxActiveInside(Rule):
    """More people were inside than the policy of that moment allowed."""

    invariant: ClassVar[int] = 4

    async def findings(self, snapshot: Snapshot) -> AsyncIterator[str]:
        """Every admission that found the room full."""
        limits: dict[str, list[dict[str, Any]]] = {}
        for row in await snapshot.rows(_LIMITS):
            limits.setdefault(row["concert_id"], []).append(row)
        stays: dict[str, list[dict[str, Any]]] = {}
        for row in await snapshot.rows(_ADMISSIONS):
            stays.setdefault(row["concert_id"], []).append(row)
        for concert_id, rows in stays.items():
            for finding in overfull(rows, limits.get(concert_id, [])):
                yield f"concert_id={concert_id}, {finding}"


def overfull(stays: list[dict[str, Any]], limits: list[dict[str, Any]]) -> list[str]:
    """Admissions that happened when the room was full already.

    Args:
        stays: rows with ``began`` and ``ended`` (None: still inside), seconds.
        limits: rows with ``since`` (seconds) and ``max_active`` (None: no limit), ascending.
    """
    steps = sorted(
        [(row["ended"], 0, None) for row in stays if row["ended"] is not None]
        + [(row["began"], 1, row) for row in stays],
        key=lambda step: (step[0], step[1]),
    )
    found: list[str] = []
    inside = 0
    for moment, entering, row in steps:
        inside += 1 if entering else -1
        allowed = _allowed(limits, moment)
        if row is not None and allowed is not None and inside > allowed:
            found.append(f"pass_id={row['pass_id']}, inside={inside}, max_active={allowed}")
    return found


def _allowed(limits: list[dict[str, Any]], moment: Any) -> int | None:
    """The highest limit in force within the second before: a change takes up to 1 s to arrive."""
    in_force: list[int | None] = []
    for row in limits:
        if row["since"] > moment:
            break
        if row["since"] < moment - 1:
            in_force = []
        in_force.append(row["max_active"])
    if not in_force or None in in_force:
        return None
    return max(limit for limit in in_force if limit is not None)


_ADMISSIONS = """
SELECT pass_id, concert_id, number, epoch, sequence,
    UNIX_TIMESTAMP(admitted_at) AS began, UNIX_TIMESTAMP(ended_at) AS ended
FROM {queue}.admissions ORDER BY concert_id, sequence
"""
_LIMITS = """
SELECT concert_id, UNIX_TIMESTAMP(changed_at) AS since,
    CASE WHEN mode = 'passthrough' THEN NULL ELSE max_active END AS max_active
FROM {queue}.policy_changes ORDER BY concert_id, changed_at
"""
