"""The lane's worker: a batch of requests in one transaction, in the broker's order."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Counter

from common.answers import Answers
from common.broker import LANES, Delivery
from common.database import Database, Transaction
from common.errors import UniqueViolation
from common.events import (
    InventoryChanged,
    ReservationRequested,
    SeatChange,
    SeatState,
)
from common.inbox import first_times
from common.outbox import Outbox
from reservation_service.domain import (
    CandidatesExhausted,
    Decision,
    Held,
    Performance,
    Rejected,
    Repeated,
    Reservation,
    ReservationState,
    Snapshot,
    decide_batch,
)
from reservation_service.representation import Answer, held_answer, rejected_answer
from reservation_service.service.outcomes import Outcome
from reservation_service.store import performances, reservations, seats, snapshot
from reservation_service.store.claims import Claims
from reservation_service.store.reservations import DecidedRequest, StoredOutcome

CONSUMER = "reservation.lanes"
"""One inbox for all lanes: a message keeps its id wherever it is delivered."""
FREE_SEATS_LIMITS = (1_000, 8_000, 128_000)
"""Free seats looked at for a best-available wish, tried in turn; the last is beyond any plan."""
_KEY_RACES = 3
"""Tries of a batch against rivals in other lanes that use the same user and key."""

_decisions = Counter("reservation_decisions", "Requests decided by the lanes", ["outcome"])


@dataclass(slots=True)
class Settlement:
    """What is left to do about one request once its transaction is committed."""

    request: ReservationRequested
    outcome: Outcome
    marks: tuple[str, ...]
    """Seats whose marks become holds, or are released."""
    held_until: datetime | None = None
    sold: dict[str, list[str]] = field(default_factory=dict)
    """Seats found sold, by owner: refused in Redis again for a while."""


class LaneWorker:
    """Decides requests, then brings Redis in line and sends the answers."""

    def __init__(
        self, *, database: Database, outbox: Outbox, claims: Claims, answers: Answers
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._claims = claims
        self._answers = answers

    async def decide(self, deliveries: list[Delivery]) -> None:
        """Decide a batch; it is acknowledged when this returns.

        Raises:
            DependencyUnavailable: the batch comes again and meets its inbox: what was committed
                is only settled and answered once more.
        """
        settlements = await self._commit(deliveries)
        # Together: the scripts touch only what is their own request's, in whatever order.
        results = await asyncio.gather(*map(self._settle, settlements), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _commit(self, deliveries: list[Delivery]) -> list[Settlement]:
        for _ in range(_KEY_RACES - 1):
            try:
                return await self._database.run(lambda tx: self._decide(tx, deliveries))
            except UniqueViolation:
                # A rival with the same user and key was faster in another lane: its row is
                # visible now, and the request is a repetition.
                continue
        return await self._database.run(lambda tx: self._decide(tx, deliveries))

    async def _decide(self, tx: Transaction, deliveries: list[Delivery]) -> list[Settlement]:
        new = await first_times(tx, CONSUMER, {delivery.envelope.id for delivery in deliveries})
        fresh: list[ReservationRequested] = []
        earlier: list[ReservationRequested] = []
        for delivery in deliveries:
            # Sent twice in one batch: the first decides, the second is a repetition.
            (fresh if delivery.envelope.id in new else earlier).append(delivery.event)
            new.discard(delivery.envelope.id)
        settlements: list[Settlement] = []
        if fresh:
            known, decisions, now = await _decisions_for(tx, fresh)
            settlements = await self._write(tx, known, decisions, now)
            earlier += [d.request for d in decisions if isinstance(d, Repeated)]
        return settlements + await _settlements_of(tx, earlier)

    async def _write(
        self, tx: Transaction, known: Snapshot, decisions: Sequence[Decision], now: datetime
    ) -> list[Settlement]:
        rows = _rows(known.performances, decisions, now)
        held = [decision for decision in decisions if isinstance(decision, Held)]
        taken = {
            seat.seat_id: decision.reservation.reservation_id
            for decision in held
            for seat in decision.seats
        }
        await seats.hold(tx, taken)
        positions = {seat.seat_id: seat.position for d in held for seat in d.seats}
        await reservations.insert(tx, rows, positions)
        changes = inventory_changes(known.performances, held, now)
        for change in changes:
            await performances.bump(tx, change.performance_id, -len(change.seats))
        last_positions = {
            row.reservation.performance_id: row.lane_position
            for row in rows
            if row.lane_position is not None
        }
        for performance_id, position in sorted(last_positions.items()):
            await performances.set_lane_position(tx, performance_id, position)
        events = [decision.reservation.held(now) for decision in held]
        await self._outbox.add(tx, *events, *changes)
        first = [decision for decision in decisions if not isinstance(decision, Repeated)]
        return [
            _settlement(known, decision, row) for decision, row in zip(first, rows, strict=True)
        ]

    async def _settle(self, settlement: Settlement) -> None:
        request, outcome = settlement.request, settlement.outcome
        await self._claims.settle(
            reservation_id=request.reservation_id,
            user_id=request.user_id,
            key=request.idempotency_key,
            answered_by=outcome.reservation_id,
            body_hash=outcome.body_hash,
            performance_id=request.performance_id,
            seat_ids=settlement.marks,
            held_until=settlement.held_until,
        )
        for owner, sold in settlement.sold.items():
            await self._claims.mark_sold(owner, sold)
        await self._answers.send(request.reply_to, request.reservation_id, outcome.pack())


async def _decisions_for(
    tx: Transaction, requests: list[ReservationRequested]
) -> tuple[Snapshot, list[Decision], datetime]:
    for limit in FREE_SEATS_LIMITS:
        known, now = await snapshot.load(tx, requests, limit)
        try:
            return known, decide_batch(known, requests, now), now
        except CandidatesExhausted:
            continue
    raise CandidatesExhausted("a plan with more seats than a plan can have")


def _rows(
    known: Mapping[str, Performance], decisions: Sequence[Decision], now: datetime
) -> list[DecidedRequest]:
    positions = {key: performance.lane_position for key, performance in known.items()}
    rows: list[DecidedRequest] = []
    for decision in decisions:
        if isinstance(decision, Repeated):
            continue
        performance_id = decision.request.performance_id
        if performance_id in positions:
            positions[performance_id] += 1
        reservation, answer = _outcome(known, decision, now)
        rows.append(
            DecidedRequest(
                request=decision.request,
                reservation=reservation,
                lane_position=positions.get(performance_id),
                created_at=now,
                answer_status=answer.status,
                answer_body=answer.body,
            )
        )
    return rows


def _outcome(
    known: Mapping[str, Performance], decision: Held | Rejected, now: datetime
) -> tuple[Reservation, Answer]:
    if isinstance(decision, Held):
        _decisions.labels("held").inc()
        return decision.reservation, held_answer(decision.reservation, now)
    _decisions.labels(decision.code.value).inc()
    request = decision.request
    performance = known.get(request.performance_id)
    rejected = Reservation(
        reservation_id=request.reservation_id,
        user_id=request.user_id,
        concert_id=request.concert_id,
        performance_id=request.performance_id,
        pass_id=request.pass_id,
        state=ReservationState.REJECTED,
        seats=(),
        total=0,
        currency="KRW" if performance is None else performance.currency,
        hold_expires_at=None,
        rejected_code=decision.code.value,
    )
    return rejected, rejected_answer(decision.code, decision.unavailable_seats)


def inventory_changes(
    known: Mapping[str, Performance], held: Sequence[Held], now: datetime
) -> list[InventoryChanged]:
    """What the holds of one transaction changed, one fact a performance."""
    changed: dict[str, list[SeatChange]] = {}
    for decision in held:
        changed.setdefault(decision.request.performance_id, []).extend(
            SeatChange(seat_id=seat.seat_id, state=SeatState.HELD, version=seat.version + 1)
            for seat in decision.seats
        )
    return [
        InventoryChanged(
            performance_id=performance_id,
            concert_id=known[performance_id].concert_id,
            version=known[performance_id].inventory_version + 1,
            seats=tuple(changes),
            seats_left=known[performance_id].seats_left - len(changes),
            occurred_at=now,
        )
        for performance_id, changes in sorted(changed.items())
    ]


def _settlement(known: Snapshot, decision: Held | Rejected, row: DecidedRequest) -> Settlement:
    request = decision.request
    outcome = Outcome(request.reservation_id, request.body_hash, row.answer_status, row.answer_body)
    if isinstance(decision, Held):
        held = decision.reservation
        return Settlement(request, outcome, held.seat_ids, held.hold_expires_at)
    settlement = Settlement(request, outcome, request.seat_ids or ())
    for seat_id in decision.unavailable_seats:
        seat = known.seats.get(seat_id)
        if seat is not None and seat.state is SeatState.SOLD and seat.reservation_id is not None:
            settlement.sold.setdefault(seat.reservation_id, []).append(seat_id)
    return settlement


async def _settlements_of(
    tx: Transaction, requests: list[ReservationRequested]
) -> list[Settlement]:
    """For requests whose outcome is a row already: delivered again, or asked again."""
    stored = await reservations.outcomes(
        tx, {(request.user_id, request.idempotency_key) for request in requests}
    )
    settlements: list[Settlement] = []
    for request in requests:
        original = stored.get((request.user_id, request.idempotency_key))
        if original is not None:
            _decisions.labels("repeated").inc()
            settlements.append(_repeated(request, original))
    return settlements


def _repeated(request: ReservationRequested, original: StoredOutcome) -> Settlement:
    reservation = original.reservation
    outcome = Outcome(
        reservation.reservation_id, original.body_hash, original.status, original.body
    )
    if reservation.reservation_id != request.reservation_id:
        return Settlement(request, outcome, request.seat_ids or ())
    if reservation.state is ReservationState.HELD:
        return Settlement(request, outcome, reservation.seat_ids, reservation.hold_expires_at)
    if reservation.state is ReservationState.CONFIRMED:
        return Settlement(request, outcome, ())  # its marks say "sold": leave them
    return Settlement(request, outcome, request.seat_ids or reservation.seat_ids)


def lane_of(performance_id: str) -> int:
    """The lane of a performance: stable for ever, or two lanes would decide one performance."""
    # The last 48 bits of a UUIDv7 are random.
    return int(performance_id[-12:], 16) % LANES
