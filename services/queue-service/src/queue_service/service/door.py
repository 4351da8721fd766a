"""The door: who may enter enters, and what the room owes to MySQL is written.

Any process may take a turn at any time; there is no leader. A turn is: claim (turn.lua), write
(one transaction), settle (settle.lua). Crash points and what repairs each:

* after the claim: the slots count as taken, the debts are claimed again after the lease;
* after the commit: the debts are claimed again, and the rows say they are written or ended
  already; an admission's owner waits for the lease, a freed slot likewise;
* Redis lost the claim (restart): turns are refused until the room was held against MySQL, where
  the admission either is a live row, and inside, or is not, and its owner still waits in line;
* a process frozen between claim and write: its transaction is refused when the room was rebuilt
  meanwhile (epoch); else the rows are there already and nothing happens twice.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from common.database import Database, Transaction
from common.events import AdmissionEndCause, AdmissionEnded
from common.logging import get_logger
from common.outbox import Outbox
from queue_service.domain import Debt, Receipt, Turn
from queue_service.service.metrics import admissions_ended, people_inside, people_waiting
from queue_service.service.recovery import Recovery
from queue_service.store import AdmissionStore, RoomStore, WrongEpoch

_LONGEST_VISIT = 100
"""Turns in a row; each admits and settles up to 500, the rest is for the next tick."""
_RECENT_SECONDS = 30

log = get_logger(__name__)


@dataclass(slots=True)
class _Visit:
    """Turns of one room by this process, one after the other."""

    task: asyncio.Task[None] | None = None
    asked: bool = False
    """Somebody wants a turn that begins from now on."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    """Told when such a turn is over."""


class Door:
    """Takes turns; callers at the same time share them."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        rooms: RoomStore,
        admissions: AdmissionStore,
        recovery: Recovery,
        lease_seconds: float,
        numbers_reserved: int,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._rooms = rooms
        self._admissions = admissions
        self._recovery = recovery
        self._lease_seconds = lease_seconds
        self._numbers_reserved = numbers_reserved
        self._visits: dict[str, _Visit] = {}
        self._opened: set[str] = set()
        self.versions: dict[str, int] = {}
        """Version each room was last seen with."""

    async def attend(self, concert_id: str) -> None:
        """Wait for a turn that begins after this call; turns go on while they find work.

        Raises:
            DependencyUnavailable: what was claimed is claimed again later, by anybody.
        """
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._visits.setdefault(concert_id, _Visit()).waiting.append(told)
        self.ask(concert_id)
        await told

    def ask(self, concert_id: str) -> None:
        """Have a turn taken soon, without waiting for it."""
        visit = self._visits.setdefault(concert_id, _Visit())
        visit.asked = True
        if visit.task is None:
            visit.task = asyncio.create_task(self._serve(concert_id, visit))

    async def _serve(self, concert_id: str, visit: _Visit) -> None:
        turns = 0
        while visit.asked and turns < _LONGEST_VISIT:
            turns += 1
            visit.asked = False
            waiting, visit.waiting = visit.waiting, []
            error: Exception | None = None
            try:
                visit.asked = await self._turn(concert_id) or visit.asked
            except Exception as raised:  # noqa: BLE001 - told to those who wait; the next tick tries again
                error = raised
            _tell(waiting, error)
            if error is not None and not waiting:
                log.info("turn-failed", concert_id=concert_id, reason=repr(error))
        del self._visits[concert_id]
        if visit.waiting:
            # Asked for in the very last turn of a long visit.
            self._visits[concert_id] = _Visit(waiting=visit.waiting)
            self.ask(concert_id)

    async def _turn(self, concert_id: str) -> bool:
        """One turn; whether another one would find something to do at once."""
        turn = await self._recovery.in_room(
            concert_id, lambda: self._rooms.turn(concert_id, self._lease_seconds)
        )
        self.versions[concert_id] = turn.version
        people_waiting.labels(concert_id).set(turn.waiting)
        people_inside.labels(concert_id).set(turn.inside)
        if turn.short_of_numbers or turn.numbers_left < self._numbers_reserved // 2:
            await self._recovery.reserve_numbers(concert_id)
        await self._record_opening(concert_id, turn)
        if not turn.slots:
            return turn.more or turn.short_of_numbers
        try:
            receipts = await self._write(concert_id, turn)
        except WrongEpoch:
            await self._recovery.rebuild(concert_id)
            return False
        return await self._rooms.settle(concert_id, receipts) or turn.more

    async def _write(self, concert_id: str, turn: Turn) -> list[Receipt]:
        async def work(tx: Transaction) -> tuple[list[Receipt], list[AdmissionEnded]]:
            written = await self._admissions.write(tx, concert_id, turn.epoch, turn.slots)
            await self._outbox.add(tx, *written.events)
            return written.receipts, written.events

        receipts, events = await self._database.run(work)
        _count(events)
        return receipts

    async def _record_opening(self, concert_id: str, turn: Turn) -> None:
        if not turn.opened or concert_id in self._opened:
            return
        await self._database.run(
            lambda tx: self._admissions.record_opening(
                tx, concert_id, turn.drawn_base, turn.drawn_count
            )
        )
        self._opened.add(concert_id)

    async def end(self, concert_id: str, pass_ids: Iterable[str], cause: AdmissionEndCause) -> None:
        """End admissions by what happened elsewhere, free their slots, let the next ones in.

        Repeating it repairs a crash after the commit: the rows say nothing, the slots are freed.
        """
        ids = list(pass_ids)

        async def work(tx: Transaction) -> list[AdmissionEnded]:
            events = await self._admissions.end(tx, concert_id, ids, cause)
            await self._outbox.add(tx, *events)
            return events

        _count(await self._database.run(work))
        await self._free(concert_id, [Receipt(Debt.END, pass_id, cause) for pass_id in ids])

    async def _free(self, concert_id: str, receipts: list[Receipt]) -> None:
        somebody_can_enter = await self._recovery.in_room(
            concert_id, lambda: self._rooms.settle(concert_id, receipts)
        )
        if somebody_can_enter:
            # Who left or bought need not wait for the next one to enter.
            self.ask(concert_id)

    async def free_recently_ended(self) -> None:
        """Repair: slots whose end is in MySQL but whose freeing was lost with a process."""
        async with self._database.primary() as session:
            ended = await self._admissions.recently_ended(session, _RECENT_SECONDS)
        for concert_id, receipts in ended.items():
            await self._free(concert_id, receipts)

    async def end_orphans(self) -> None:
        """Repair: live rows that no room knows and nobody can be inside with any more."""
        async with self._database.primary() as session:
            orphans = await self._admissions.orphans(session)
        for concert_id, pass_ids in orphans.items():
            log.warning("orphans-ended", concert_id=concert_id, count=len(pass_ids))
            await self.end(concert_id, pass_ids, AdmissionEndCause.EXPIRED)


def _tell(waiting: Iterable[asyncio.Future[None]], error: Exception | None) -> None:
    for told in waiting:
        if told.done():
            continue  # its caller went away
        if error is None:
            told.set_result(None)
        else:
            told.set_exception(error)


def _count(events: Iterable[AdmissionEnded]) -> None:
    for event in events:
        admissions_ended.labels(event.cause.value).inc()
