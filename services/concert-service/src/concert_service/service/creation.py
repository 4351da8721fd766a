"""Creating a concert: from an uploaded plan to performances whose seats can be sold.

A big plan is written in many small transactions, so that neither the replica nor anybody's locks
wait for it. Until the last of them, which makes the performances exist and tells everybody, what
is written belongs to drafts; drafts that never end are cleared by a job.
"""

import asyncio
import gc
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.clock import Clock
from common.database import Database, Transaction
from common.errors import DependencyUnavailable
from common.events import Money, PerformanceScheduled, ScheduledSeat
from common.events.concert import SEATS_PER_PART
from common.ids import new_id
from common.logging import get_logger
from common.outbox import Outbox
from concert_service.domain.plan import (
    PlanError,
    SeatingPlan,
    SeatingPlanInvalid,
    check_prices,
    parse_plan,
)
from concert_service.domain.sale import first_sale_state
from concert_service.domain.seating import PlannedSeat, lay_out
from concert_service.service.catalogue import concerts_name, list_version
from concert_service.service.documents import Documents
from concert_service.service.views import (
    CategoryView,
    PerformanceView,
    categories_json,
    performance_view,
)
from concert_service.store import concerts as store
from concert_service.store.concerts import ConcertRow, PerformanceRow

MAX_SEATS_IN_ALL = 500_000
"""Seats times performances of one request."""
SEATS_PER_TRANSACTION = 5_000
SEATS_PER_STATEMENT = 1_000
"""The driver quotes a statement's rows in one go; more would hold up the event loop."""
DRAFT_SECONDS = 900
"""Far longer than any creation takes; then its draft counts as abandoned."""
DRAFTS_CLEARED_AT_ONCE = 10

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Dates:
    """When a performance is, and when its sale opens by itself (None: by hand)."""

    starts_at: datetime
    sale_opens_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewConcert:
    """What an administrator asks for."""

    title: str
    artist: str
    venue: str
    currency: str
    max_seats_per_fan: int
    hold_seconds: int
    seating_plan: Mapping[str, Any]
    prices: Mapping[str, int]
    performances: Sequence[Dates]


@dataclass(frozen=True, slots=True)
class CreatedConcert:
    """What came of it."""

    concert_id: str
    performances: tuple[PerformanceView, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """One performance on its way."""

    row: PerformanceRow
    seats: tuple[tuple[str, PlannedSeat], ...]


class Creation:
    """The use case, and the clearing of what it left behind when it died."""

    def __init__(
        self, database: Database, outbox: Outbox, documents: Documents, clock: Clock
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._documents = documents
        self._clock = clock
        self._preparing = asyncio.Lock()

    async def create(self, order: NewConcert) -> CreatedConcert:
        """Create the concert with all its performances.

        Raises:
            SeatingPlanInvalid: the plan, the prices or the sheer number of seats.
            DependencyUnavailable: nothing of it exists for anybody.
            OutcomeUnknown: it may exist; the list of concerts tells.
        """
        async with self._preparing:
            plan, seats = await asyncio.to_thread(_prepare, order)
        now = self._clock.now()
        concert = _concert_row(order, plan, seats, now)
        rows = [_performance_row(concert, dates, len(seats), now) for dates in order.performances]
        await self._database.run(
            lambda tx: store.insert_drafts(tx, [row.performance_id for row in rows], now)
        )
        drafts = [Draft(row, tuple((new_id(), seat) for seat in seats)) for row in rows]
        for draft in drafts:
            await self._write_seats(draft)
            await self._write_seat_map(draft, order)
        await self._publish(concert, drafts)
        log.info(
            "concert-created",
            concert_id=concert.concert_id,
            performances=len(rows),
            seats=len(seats),
        )
        return CreatedConcert(concert.concert_id, tuple(map(performance_view, rows)))

    async def clear_abandoned(self) -> int:
        """Remove what creations left that never ended; how many drafts were found."""
        before = self._clock.now() - timedelta(seconds=DRAFT_SECONDS)
        async with self._database.primary() as session:
            abandoned = await store.abandoned_drafts(session, before, DRAFTS_CLEARED_AT_ONCE)
        for performance_id in abandoned:
            await self._clear(performance_id)
        return len(abandoned)

    async def _clear(self, performance_id: str) -> None:
        async def some(tx: Transaction) -> int:
            return await store.delete_draft_seats(tx, performance_id, SEATS_PER_TRANSACTION)

        while await self._database.run(some):
            pass
        await self._database.run(lambda tx: store.delete_draft(tx, performance_id))

    async def _write_seats(self, draft: Draft) -> None:
        for chunk in _chunks(draft.seats, SEATS_PER_TRANSACTION):

            async def write(
                tx: Transaction, chunk: Sequence[tuple[str, PlannedSeat]] = chunk
            ) -> None:
                for part in _chunks(chunk, SEATS_PER_STATEMENT):
                    await store.insert_seats(tx, draft.row.performance_id, part)
                    await asyncio.sleep(0)  # quoting rows is CPU: let others have the loop

            await self._database.run(write)

    async def _write_seat_map(self, draft: Draft, order: NewConcert) -> None:
        performance_id = draft.row.performance_id
        etag, body = await asyncio.to_thread(_seat_map, draft, order)
        await self._database.run(lambda tx: store.insert_seat_map(tx, performance_id, etag, body))

    async def _publish(self, concert: ConcertRow, drafts: Sequence[Draft]) -> None:
        events = await asyncio.to_thread(
            lambda: [event for draft in drafts for event in scheduled(concert, draft)]
        )

        async def work(tx: Transaction) -> None:
            await store.insert_concert(tx, concert)
            await store.publish_drafts(tx, [draft.row for draft in drafts])
            for event in events:
                await self._outbox.add(tx, event)

        try:
            await self._database.run(work)
        except store.DraftGone as error:
            raise DependencyUnavailable("database") from error
        try:
            await self._documents.require(concerts_name(), list_version(concert.concert_id))
        except DependencyUnavailable:  # the list's short life ends soon
            log.warning("catalogue-refresh-lost", concert_id=concert.concert_id)


def scheduled(concert: ConcertRow, draft: Draft) -> Iterator[PerformanceScheduled]:
    """The events that tell of a performance, in parts that a message can carry."""
    row = draft.row
    parts = list(_chunks(draft.seats, SEATS_PER_PART))
    for number, part in enumerate(parts, start=1):
        yield PerformanceScheduled(
            performance_id=row.performance_id,
            concert_id=row.concert_id,
            version=row.version,
            part=number,
            parts=len(parts),
            starts_at=row.starts_at,
            sale=row.sale,
            sale_opens_at=row.sale_opens_at,
            currency=concert.currency,
            max_seats_per_fan=concert.max_seats_per_fan,
            hold_seconds=concert.hold_seconds,
            seats_total=row.seats_total,
            seats=tuple(
                ScheduledSeat(
                    seat_id=seat_id,
                    label=seat.label,
                    category=seat.category,
                    price=Money(amount=seat.price, currency=concert.currency),
                    position=seat.position,
                    row=seat.row,
                )
                for seat_id, seat in part
            ),
        )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector; one caller at a time.

    A big plan is hundreds of thousands of objects that all live: looking for garbage among them
    again and again takes three times as long as making them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare(order: NewConcert) -> tuple[SeatingPlan, tuple[PlannedSeat, ...]]:
    with _collector_paused():
        return _planned(order)


def _planned(order: NewConcert) -> tuple[SeatingPlan, tuple[PlannedSeat, ...]]:
    plan = parse_plan(order.seating_plan)
    errors = check_prices(plan, order.prices)
    if errors:
        raise SeatingPlanInvalid(errors)
    seats = lay_out(plan, order.prices)
    if len(seats) * len(order.performances) > MAX_SEATS_IN_ALL:
        raise SeatingPlanInvalid(
            (
                PlanError(
                    "/performances",
                    f"{len(order.performances)} performances of {len(seats)} seats are more than "
                    f"{MAX_SEATS_IN_ALL} seats in one request",
                ),
            )
        )
    return plan, seats


def _concert_row(
    order: NewConcert, plan: SeatingPlan, seats: Sequence[PlannedSeat], now: datetime
) -> ConcertRow:
    used = Counter(seat.category for seat in seats)
    categories = tuple(
        CategoryView(
            category=category.name,
            color=category.color,
            price=Money(amount=order.prices[category.name], currency=order.currency),
            seats=used[category.name],
        )
        for category in plan.categories
        if category.name in used
    )
    return ConcertRow(
        concert_id=new_id(),
        title=order.title,
        artist=order.artist,
        venue=order.venue,
        currency=order.currency,
        max_seats_per_fan=order.max_seats_per_fan,
        hold_seconds=order.hold_seconds,
        categories=categories_json(categories),
        created_at=now,
    )


def _performance_row(
    concert: ConcertRow, dates: Dates, seats_total: int, now: datetime
) -> PerformanceRow:
    return PerformanceRow(
        performance_id=new_id(),
        concert_id=concert.concert_id,
        starts_at=dates.starts_at,
        sale=first_sale_state(dates.sale_opens_at, now),
        sale_opens_at=dates.sale_opens_at,
        version=1,
        seats_total=seats_total,
        seats_left=seats_total,
    )


def _seat_map(draft: Draft, order: NewConcert) -> tuple[str, bytes]:
    """Entity tag and gzipped body of the answer that never changes (a `SeatMapView`)."""
    seats = b",".join(
        _json(
            [
                {
                    "seat_id": seat_id,
                    "seat_guid": seat.seat_guid,
                    "label": seat.label,
                    "category": seat.category,
                    "price": {"amount": seat.price, "currency": order.currency},
                    "position": seat.position,
                }
                for seat_id, seat in chunk
            ]
        )[1:-1]
        for chunk in _chunks(draft.seats, SEATS_PER_STATEMENT)
    )
    body = b'{"performance_id":"%s","version":1,"seats":[%s],"plan":%s}' % (
        draft.row.performance_id.encode(),
        seats,
        _json(order.seating_plan),
    )
    return hashlib.sha256(body).hexdigest(), gzip.compress(body, compresslevel=6, mtime=0)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
