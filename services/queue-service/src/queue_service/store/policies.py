"""Policies, their audit log, and what is known of the sale, in MySQL."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.database import Session, Transaction
from common.events import PerformanceSaleChanged, PerformanceScheduled, SaleState
from queue_service.domain import Mode, Performance, Policy, QueueUnknown, Sale

BY_DEFAULT = "system"
"""``changed_by`` of the policy a queue begins with."""
_FIELDS = (
    "mode",
    "opens_at",
    "shuffle_at_open",
    "max_active",
    "admit_per_minute",
    "pass_ttl_seconds",
    "place_grace_seconds",
)
_LARGEST_ACTIVE = 10_000

_POLICY = """
SELECT concert_id, version, mode, opens_at, shuffle_at_open, max_active, admit_per_minute,
    pass_ttl_seconds, place_grace_seconds, changed_at, changed_by
FROM policies WHERE concert_id = %s
"""
_PERFORMANCES = """
SELECT performance_id, sale, sale_opens_at, inventory_version, seats_left FROM performances
WHERE concert_id = %s ORDER BY performance_id
"""
_PERFORMANCE = "SELECT version, seats_left FROM performances WHERE performance_id = %s FOR UPDATE"
_ADD_POLICY = """
INSERT INTO policies (concert_id, version, mode, opens_at, shuffle_at_open, max_active,
    admit_per_minute, pass_ttl_seconds, place_grace_seconds, changed_at, changed_by)
VALUES (%s, 1, %s, %s, %s, %s, %s, %s, %s, NOW(6), %s)
ON DUPLICATE KEY UPDATE version = version
"""
_ADD_ROOM = """
INSERT INTO rooms (concert_id, epoch, numbers_to, seed) VALUES (%s, 0, 0, %s)
ON DUPLICATE KEY UPDATE epoch = epoch
"""
_ADD_CHANGE = """
INSERT INTO policy_changes (concert_id, version, changed_at, changed_by, mode, max_active,
    admit_per_minute, old_policy, new_policy)
VALUES (%s, %s, NOW(6), %s, %s, %s, %s, %s, %s)
"""
_CHANGE = """
UPDATE policies SET version = version + 1, mode = %s, opens_at = %s, shuffle_at_open = %s,
    max_active = %s, admit_per_minute = %s, pass_ttl_seconds = %s, place_grace_seconds = %s,
    changed_at = NOW(6), changed_by = %s
WHERE concert_id = %s
"""
_TOUCH = "UPDATE policies SET version = version + 1 WHERE concert_id = %s"
_ADD_PERFORMANCE = """
INSERT INTO performances (performance_id, concert_id, version, sale, sale_opens_at,
    inventory_version, seats_left)
VALUES (%s, %s, %s, %s, %s, 0, %s)
"""
_CHANGE_PERFORMANCE = """
UPDATE performances SET version = %s, sale = %s, sale_opens_at = %s WHERE performance_id = %s
"""
_FIRST_STOCK = """
UPDATE performances SET seats_left = %s WHERE performance_id = %s AND seats_left IS NULL
"""
# The row may come before its performance is announced: then it says nothing but its stock.
_STOCK = """
INSERT INTO performances (performance_id, concert_id, version, sale, sale_opens_at,
    inventory_version, seats_left)
VALUES (%s, %s, 0, 'scheduled', NULL, %s, %s)
ON DUPLICATE KEY UPDATE seats_left = IF(inventory_version < %s, %s, seats_left),
    inventory_version = GREATEST(inventory_version, %s)
"""
# Queues in which anything can still happen.
_ACTIVE = """
SELECT p.concert_id, p.version FROM policies AS p
WHERE EXISTS (SELECT 1 FROM performances AS f WHERE f.concert_id = p.concert_id
        AND f.sale NOT IN ('closed', 'cancelled'))
    OR EXISTS (SELECT 1 FROM admissions AS a WHERE a.concert_id = p.concert_id AND a.live = 1)
ORDER BY p.concert_id LIMIT %s
"""
_FIGURES = """
SELECT p.concert_id, p.mode, p.max_active, p.admit_per_minute,
    (SELECT COUNT(*) FROM admissions AS a WHERE a.concert_id = p.concert_id AND a.live = 1)
        AS inside,
    (SELECT COUNT(*) FROM admissions AS a WHERE a.concert_id = p.concert_id) AS admitted_total,
    (SELECT COUNT(*) FROM admissions AS a WHERE a.concert_id = p.concert_id
        AND a.admitted_at > NOW(6) - INTERVAL 1 MINUTE) AS admitted_last_minute,
    (SELECT COUNT(*) FROM admissions AS a WHERE a.concert_id = p.concert_id
        AND a.end_cause = 'purchased') AS purchased
FROM policies AS p WHERE p.concert_id < %s ORDER BY p.concert_id DESC LIMIT %s
"""
_AFTER_ALL_IDS = "g"
"""Sorts behind every UUID."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue's policy and sale; ``version`` counts every change to either."""

    concert_id: str
    version: int
    policy: Policy
    changed_at: datetime
    changed_by: str
    performances: tuple[Performance, ...]

    @property
    def sale(self) -> Sale:
        """What the performances mean together."""
        return Sale.of(self.performances)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Fields an administrator gives anew, and who it is."""

    fields: Mapping[str, Any]
    changed_by: str


class PolicyStore:
    """Every statement about policies and performances; transactions belong to the caller."""

    async def queue(self, session: Session, concert_id: str) -> Queue:
        """One queue.

        Raises:
            QueueUnknown: no performance of this concert was ever announced.
        """
        row = await session.fetch_one(_POLICY, (concert_id,))
        if row is None:
            raise QueueUnknown(concert_id)
        performances = await session.fetch_all(_PERFORMANCES, (concert_id,))
        return Queue(
            concert_id=concert_id,
            version=row["version"],
            policy=_policy(row),
            changed_at=row["changed_at"],
            changed_by=row["changed_by"],
            performances=tuple(_performance(one) for one in performances),
        )

    async def change(self, tx: Transaction, concert_id: str, change: PolicyChange) -> Queue:
        """Change a policy and write who did; the queue afterwards.

        Raises:
            QueueUnknown
        """
        row = await tx.fetch_one(f"{_POLICY} FOR UPDATE", (concert_id,))
        if row is None:
            raise QueueUnknown(concert_id)
        old = _policy(row)
        new = old.changed(change.fields)
        if new != old:
            values = [_column(new, field) for field in _FIELDS]
            await tx.execute(_CHANGE, (*values, change.changed_by, concert_id))
            await self._log(tx, concert_id, row["version"] + 1, change.changed_by, old=old, new=new)
        return await self.queue(tx, concert_id)

    async def announce(self, tx: Transaction, event: PerformanceScheduled) -> None:
        """A performance exists: its queue comes into being with the first one."""
        await self._learn(tx, event, seats_total=event.seats_total)

    async def change_sale(self, tx: Transaction, event: PerformanceSaleChanged) -> None:
        """A performance's sale changed; it may be announced only later."""
        await self._learn(tx, event, seats_total=None)

    async def save_stock(
        self,
        tx: Transaction,
        concert_id: str,
        performance_id: str,
        version: int,
        seats_left: int,
    ) -> None:
        """Remember seats left, unless a newer figure is known."""
        figures = (version, seats_left, version, seats_left, version)
        await tx.execute(_STOCK, (performance_id, concert_id, *figures))

    async def active(self, session: Session) -> dict[str, int]:
        """Versions of all queues in which anything can still happen."""
        rows = await session.fetch_all(_ACTIVE, (_LARGEST_ACTIVE,))
        return {row["concert_id"]: row["version"] for row in rows}

    async def figures(
        self, session: Session, before: str | None, limit: int
    ) -> Sequence[dict[str, Any]]:
        """Figures of the queues, newest first."""
        return await session.fetch_all(_FIGURES, (before or _AFTER_ALL_IDS, limit))

    async def _learn(
        self,
        tx: Transaction,
        event: PerformanceScheduled | PerformanceSaleChanged,
        *,
        seats_total: int | None,
    ) -> None:
        await self._found(tx, event.concert_id)
        # Serialises everything that steers one queue, so that versions and facts agree.
        await tx.fetch_one(f"{_POLICY} FOR UPDATE", (event.concert_id,))
        known = await tx.fetch_one(_PERFORMANCE, (event.performance_id,))
        sale = (event.version, event.sale.value, event.sale_opens_at)
        changed = 0
        if known is None:
            row = (event.performance_id, event.concert_id, *sale, seats_total)
            changed += await tx.execute(_ADD_PERFORMANCE, row)
        elif event.version > known["version"]:
            changed += await tx.execute(_CHANGE_PERFORMANCE, (*sale, event.performance_id))
        if known is not None and seats_total is not None:
            changed += await tx.execute(_FIRST_STOCK, (seats_total, event.performance_id))
        if changed:
            await tx.execute(_TOUCH, (event.concert_id,))

    async def _found(self, tx: Transaction, concert_id: str) -> None:
        policy = Policy()
        values = [_column(policy, field) for field in _FIELDS]
        if await tx.execute(_ADD_POLICY, (concert_id, *values, BY_DEFAULT)) == 1:
            await self._log(tx, concert_id, 1, BY_DEFAULT, old=None, new=policy)
            await tx.execute(_ADD_ROOM, (concert_id, secrets.token_hex(32)))

    async def _log(
        self,
        tx: Transaction,
        concert_id: str,
        version: int,
        changed_by: str,
        *,
        old: Policy | None,
        new: Policy,
    ) -> None:
        limits = (new.mode.value, new.max_active, new.admit_per_minute)
        before = json.dumps(old.record()) if old else None
        row = (concert_id, version, changed_by, *limits, before, json.dumps(new.record()))
        await tx.execute(_ADD_CHANGE, row)


def _column(policy: Policy, field: str) -> Any:
    value = getattr(policy, field)
    return value.value if isinstance(value, Mode) else value


def _policy(row: Mapping[str, Any]) -> Policy:
    fields = {field: row[field] for field in _FIELDS}
    fields["mode"] = Mode(fields["mode"])
    fields["shuffle_at_open"] = bool(fields["shuffle_at_open"])
    return Policy(**fields)


def _performance(row: Mapping[str, Any]) -> Performance:
    seats_left = row["seats_left"]
    return Performance(
        performance_id=row["performance_id"],
        sale=SaleState(row["sale"]),
        sale_opens_at=row["sale_opens_at"],
        stock=None if seats_left is None else (row["inventory_version"], seats_left),
    )
