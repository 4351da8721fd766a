"""Admissions in MySQL: written before a pass is handed out, ended before a slot is freed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.database import RetryTransaction, Session, Transaction
from common.errors import UniqueViolation
from common.events import AdmissionEndCause, AdmissionEnded
from queue_service.domain import Debt, Inside, Receipt, Room, Slot

ENDED_VERSION = 2
"""Version of an admission after its end; it has two states."""
_ORPHAN_SECONDS = 60
_ORPHANS = 500
_RECENT_ENDS = 2_000

_EPOCH = "SELECT epoch FROM rooms WHERE concert_id = %s LOCK IN SHARE MODE"
_EPOCH_NOW = "SELECT epoch FROM rooms WHERE concert_id = %s"
_ROOM = """
SELECT concert_id, epoch, numbers_to, seed, opened_at, drawn_base, drawn_count FROM rooms
WHERE concert_id = %s FOR UPDATE
"""
_NEXT_EPOCH = """
UPDATE rooms SET epoch = epoch + 1, numbers_to = numbers_to + %s WHERE concert_id = %s
"""
_RESERVE_NUMBERS = "UPDATE rooms SET numbers_to = numbers_to + %s WHERE concert_id = %s"
_NUMBERS = "SELECT numbers_to FROM rooms WHERE concert_id = %s"
_OPENED = """
UPDATE rooms SET opened_at = NOW(6), drawn_base = %s, drawn_count = %s
WHERE concert_id = %s AND opened_at IS NULL
"""
_LAST_SEQUENCE = "SELECT COALESCE(MAX(sequence), 0) FROM admissions WHERE concert_id = %s"
_INSIDE = """
SELECT pass_id, user_id, number, sequence, queued_at, delivered_at, expires_at,
    TIMESTAMPDIFF(MICROSECOND, admitted_at, NOW(6)) AS age
FROM admissions WHERE concert_id = %s AND live = 1 ORDER BY sequence
"""
_KNOWN = "SELECT pass_id, ended_at FROM admissions WHERE pass_id IN %s"
_LIVE_OF_USERS = """
SELECT pass_id, user_id FROM admissions
WHERE concert_id = %s AND user_id IN %s AND live = 1 ORDER BY pass_id FOR UPDATE
"""
_LIVE = """
SELECT pass_id, user_id FROM admissions
WHERE pass_id IN %s AND concert_id = %s AND live = 1 ORDER BY pass_id FOR UPDATE
"""
_END = """
UPDATE admissions SET ended_at = %s, end_cause = %s WHERE pass_id IN %s AND ended_at IS NULL
"""
_INSERT = """
INSERT INTO admissions (pass_id, concert_id, user_id, number, epoch, sequence, mode, queued_at,
    admitted_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, NOW(6))
"""
# Ends in MySQL whatever Redis says: rows nobody can be inside with any more.
_ORPHANED = """
SELECT pass_id, a.concert_id FROM admissions AS a
JOIN policies AS p ON p.concert_id = a.concert_id
WHERE a.live = 1 AND (a.expires_at < NOW(6) - INTERVAL %s SECOND
    OR (a.expires_at IS NULL AND a.admitted_at < NOW(6) - INTERVAL
        (p.place_grace_seconds + p.pass_ttl_seconds + %s) SECOND))
LIMIT %s
"""
_RECENTLY_ENDED = """
SELECT pass_id, concert_id, end_cause FROM admissions
WHERE ended_at > NOW(6) - INTERVAL %s SECOND ORDER BY ended_at DESC LIMIT %s
"""


class WrongEpoch(Exception):  # noqa: N818 - a verdict
    """The room was rebuilt since this turn: what it handed out is void."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did: receipts for the room, events for the outbox."""

    receipts: list[Receipt]
    events: list[AdmissionEnded]


class AdmissionStore:
    """Every statement about admissions and rooms; transactions belong to the caller."""

    async def write(
        self, tx: Transaction, concert_id: str, epoch: int, slots: Sequence[Slot]
    ) -> Written:
        """Write what a turn handed out.

        Raises:
            WrongEpoch: the room was rebuilt meanwhile; nothing may be written.
        """
        # Fence: a process that froze with a batch in hand must not let anybody in after the
        # room was counted anew. The rebuild holds this row exclusively.
        if await tx.fetch_value(_EPOCH, (concert_id,)) != epoch:
            raise WrongEpoch(concert_id)
        now: datetime = await tx.fetch_value("SELECT NOW(6)")
        written = Written([], [])
        await self._deliver(tx, slots)
        ends = [one for one in slots if one.debt is Debt.END]
        for cause in AdmissionEndCause:
            ids = [one.pass_id for one in ends if one.cause is cause]
            written.events.extend(await self._end(tx, concert_id, ids, cause=cause, now=now))
        written.receipts.extend(Receipt(one.debt, one.pass_id, one.cause) for one in ends)
        written.receipts.extend(
            Receipt(one.debt, one.pass_id) for one in slots if one.debt is Debt.DELIVERY
        )
        new = await self._unknown(
            tx, [one for one in slots if one.debt is Debt.ADMISSION], written.receipts
        )
        if new:
            await self._end_older(tx, concert_id, new, now=now, written=written)
            try:
                await tx.execute_many(_INSERT, [_row(one, concert_id, epoch) for one in new])
            except UniqueViolation as error:
                raise RetryTransaction("another process wrote the same admission") from error
        return written

    async def end(
        self, tx: Transaction, concert_id: str, pass_ids: Sequence[str], cause: AdmissionEndCause
    ) -> list[AdmissionEnded]:
        """End these admissions if they are live; their events."""
        now: datetime = await tx.fetch_value("SELECT NOW(6)")
        return await self._end(tx, concert_id, pass_ids, cause=cause, now=now)

    async def _end(
        self,
        tx: Transaction,
        concert_id: str,
        pass_ids: Sequence[str],
        *,
        cause: AdmissionEndCause,
        now: datetime,
    ) -> list[AdmissionEnded]:
        if not pass_ids:
            return []
        live = await tx.fetch_all(_LIVE, (sorted(pass_ids), concert_id))
        if not live:
            return []
        await tx.execute(_END, (now, cause.value, [row["pass_id"] for row in live]))
        return [_ended(row, concert_id, cause, now) for row in live]

    async def _deliver(self, tx: Transaction, slots: Sequence[Slot]) -> None:
        delivered = [one for one in slots if one.delivered_at is not None]
        if not delivered:
            return
        ids = sorted(one.pass_id for one in delivered)
        delivered_at, first = _case(delivered, lambda one: one.delivered_at)
        expires_at, second = _case(delivered, lambda one: one.expires_at)
        await tx.execute(
            f"UPDATE admissions SET delivered_at = {delivered_at}, expires_at = {expires_at}"  # noqa: S608 - placeholders only
            " WHERE pass_id IN %s AND delivered_at IS NULL",
            [*first, *second, ids],
        )

    async def _unknown(
        self, tx: Transaction, slots: Sequence[Slot], receipts: list[Receipt]
    ) -> list[Slot]:
        """Those that have no row yet; receipts for all."""
        if not slots:
            return []
        rows = await tx.fetch_all(_KNOWN, ([one.pass_id for one in slots],))
        known = {row["pass_id"]: row["ended_at"] for row in rows}
        for one in slots:
            # A ticket that was admitted and ended before is spent, whatever was restored.
            spent = known.get(one.pass_id) is not None
            receipts.append(Receipt(Debt.REFUSED if spent else Debt.ADMISSION, one.pass_id))
        return [one for one in slots if one.pass_id not in known]

    async def _end_older(
        self,
        tx: Transaction,
        concert_id: str,
        slots: Sequence[Slot],
        *,
        now: datetime,
        written: Written,
    ) -> None:
        """Nobody is inside twice: an older admission of the same person is over by a new one."""
        users = sorted({one.user_id for one in slots})
        older = await tx.fetch_all(_LIVE_OF_USERS, (concert_id, users))
        if not older:
            return
        cause = AdmissionEndCause.LEFT
        ids = [row["pass_id"] for row in older]
        await tx.execute(_END, (now, cause.value, ids))
        written.events.extend(_ended(row, concert_id, cause, now) for row in older)
        written.receipts.extend(Receipt(Debt.END, pass_id, cause) for pass_id in ids)

    async def next_epoch(
        self, tx: Transaction, concert_id: str, numbers: int
    ) -> tuple[Room, int, list[Inside]] | None:
        """Begin a new epoch: the room as it was before, its last sequence, who is inside.

        None: no such queue.
        """
        row = await tx.fetch_one(_ROOM, (concert_id,))
        if row is None:
            return None
        await tx.execute(_NEXT_EPOCH, (numbers, concert_id))
        sequence = await tx.fetch_value(_LAST_SEQUENCE, (concert_id,))
        rows = await tx.fetch_all(_INSIDE, (concert_id,))
        inside = [
            Inside(**{k: v for k, v in one.items() if k != "age"}, age_seconds=one["age"] / 1e6)
            for one in rows
        ]
        row["opened"] = row.pop("opened_at") is not None
        return Room(**row), int(sequence), inside

    async def epoch(self, session: Session, concert_id: str) -> int:
        """The epoch in force; 0 before the room was ever built."""
        return int(await session.fetch_value(_EPOCH_NOW, (concert_id,)) or 0)

    async def reserve_numbers(self, tx: Transaction, concert_id: str, numbers: int) -> int:
        """Reserve more arrival numbers; the last of all reserved ones."""
        await tx.execute(_RESERVE_NUMBERS, (numbers, concert_id))
        return int(await tx.fetch_value(_NUMBERS, (concert_id,)))

    async def record_opening(
        self, tx: Transaction, concert_id: str, drawn_base: int | None, drawn_count: int | None
    ) -> None:
        """The room opened, with this range of drawn numbers, if there was a draw."""
        await tx.execute(_OPENED, (drawn_base, drawn_count, concert_id))

    async def orphans(self, session: Session) -> dict[str, list[str]]:
        """Live rows nobody can be inside with any more, by concert."""
        rows = await session.fetch_all(_ORPHANED, (_ORPHAN_SECONDS, _ORPHAN_SECONDS, _ORPHANS))
        return _by_concert(rows, lambda row: row["pass_id"])

    async def recently_ended(self, session: Session, seconds: int) -> dict[str, list[Receipt]]:
        """Receipts of the last ends, by concert."""
        rows = await session.fetch_all(_RECENTLY_ENDED, (seconds, _RECENT_ENDS))
        return _by_concert(
            rows,
            lambda row: Receipt(Debt.END, row["pass_id"], AdmissionEndCause(row["end_cause"])),
        )


def _by_concert(rows: Iterable[dict[str, Any]], value: Callable[[Any], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(row["concert_id"], []).append(value(row))
    return found


def _case(
    slots: Sequence[Slot], moment: Callable[[Slot], datetime | None]
) -> tuple[str, list[Any]]:
    text = "CASE pass_id" + " WHEN %s THEN %s" * len(slots) + " END"
    return text, [value for one in slots for value in (one.pass_id, moment(one))]


def _row(one: Slot, concert_id: str, epoch: int) -> tuple[Any, ...]:
    return (
        one.pass_id,
        concert_id,
        one.user_id,
        one.number,
        epoch,
        one.sequence,
        one.mode,
        one.queued_at,
    )


def _ended(
    row: dict[str, Any], concert_id: str, cause: AdmissionEndCause, now: datetime
) -> AdmissionEnded:
    return AdmissionEnded(
        pass_id=row["pass_id"],
        concert_id=concert_id,
        user_id=row["user_id"],
        version=ENDED_VERSION,
        cause=cause,
        ended_at=now,
    )
