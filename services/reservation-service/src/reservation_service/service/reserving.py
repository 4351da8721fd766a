"""A fan's request for seats, from the claim to the answer."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from common.answers import Answers
from common.broker import Broker, lane_key
from common.clock import Clock
from common.database import Database
from common.errors import DependencyUnavailable, Problem
from common.events import BestAvailable, ReservationRequested, SaleState
from common.idempotency import require_same_body
from common.ids import is_id, new_id
from common.security import Pass, pass_invalid
from reservation_service.domain import RejectionCode
from reservation_service.representation import (
    Answer,
    pending_answer,
    rejected_answer,
    rejection,
    stored_answer,
)
from reservation_service.service.lanes import lane_of
from reservation_service.service.outcomes import Outcome
from reservation_service.service.sales import Sales
from reservation_service.store import reservations
from reservation_service.store.claims import Claim, ClaimOutcome, Claims

LEAST_PUBLISH_SECONDS = 0.7
"""Below what a request may take beyond its wait, so that its claims can still be given back."""
MOST_PUBLISH_SECONDS = 2.0
_FIRST_LOOK_SECONDS = 0.05
_LONGEST_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Wish:
    """Seats a fan asks for: exactly one of ``seat_ids`` and ``best_available``."""

    user_id: str
    key: str
    body_hash: str
    performance_id: str
    seat_ids: tuple[str, ...] | None
    best_available: BestAvailable | None


class Reserving:
    """``POST /reservations``."""

    def __init__(
        self,
        *,
        database: Database,
        broker: Broker,
        claims: Claims,
        answers: Answers,
        sales: Sales,
        clock: Clock,
    ) -> None:
        self._database = database
        self._broker = broker
        self._claims = claims
        self._answers = answers
        self._sales = sales
        self._clock = clock

    async def reserve(self, wish: Wish, admitted: Pass | Problem, wait_seconds: float) -> Answer:
        """Claim, have the lane decide, wait for the outcome.

        Args:
            wish: what is asked for.
            admitted: the caller's pass, or why it has none.
            wait_seconds: how long to wait before answering 202.

        Raises:
            Problem: refused before anything was claimed; not kept, the same key may try again.
            DependencyUnavailable: 503; claims are released, or end by themselves.
        """
        give_up_at = self._clock.monotonic() + wait_seconds
        try:
            pass_ = await self._admit(wish, admitted)
        except Problem:
            # A pass may end and a sale close after an answer was given: it still is the answer.
            remembered = await self._remembered(wish, give_up_at)
            if remembered is None:
                raise
            return remembered
        claim = await self._claims.claim(
            reservation_id=new_id(),
            user_id=wish.user_id,
            key=wish.key,
            body_hash=wish.body_hash,
            performance_id=wish.performance_id,
            seat_ids=wish.seat_ids or (),
        )
        if claim.outcome is not ClaimOutcome.GRANTED:
            resumed = await self._resume(wish, claim, give_up_at)
            if resumed is not None:
                return resumed
        return await self._ask_lane(wish, pass_, claim.reservation_id, give_up_at)

    async def _admit(self, wish: Wish, admitted: Pass | Problem) -> Pass:
        if isinstance(admitted, Problem):
            raise admitted
        performance = await self._sales.find(wish.performance_id)
        if performance is None:
            raise rejection(RejectionCode.PERFORMANCE_UNKNOWN)
        if admitted.concert_id != performance.concert_id or not is_id(admitted.pass_id):
            raise pass_invalid()
        if performance.sale is not SaleState.OPEN:
            raise rejection(RejectionCode.SALE_NOT_OPEN)
        return admitted

    async def _remembered(self, wish: Wish, give_up_at: float) -> Answer | None:
        claim = await self._claims.peek(wish.user_id, wish.key, wish.body_hash)
        if claim is None:
            return await self._from_row(wish)
        return await self._resume(wish, claim, give_up_at)

    async def _resume(self, wish: Wish, claim: Claim, give_up_at: float) -> Answer | None:
        """The answer to a call whose key is known; None when its lane has to be asked (again)."""
        match claim.outcome:
            case ClaimOutcome.REUSED:
                require_same_body("", wish.body_hash)  # the script saw that they differ: raises
            case ClaimOutcome.LOST:
                asked = wish.seat_ids or ()
                lost = tuple(asked[place] for place in claim.lost_places)
                return rejected_answer(RejectionCode.SEAT_UNAVAILABLE, lost)
            case ClaimOutcome.OPEN:
                raise Problem(
                    409,
                    "request-in-progress",
                    "The first call with this Idempotency-Key is still open",
                    retry_after_seconds=1,
                )
            case ClaimOutcome.PENDING:
                return await self._wait_for_row(wish, claim.reservation_id, give_up_at)
        # Decided, or its first call died before it answered.
        return await self._from_row(wish)

    async def _ask_lane(
        self, wish: Wish, pass_: Pass, reservation_id: str, give_up_at: float
    ) -> Answer:
        request = ReservationRequested(
            reservation_id=reservation_id,
            user_id=wish.user_id,
            concert_id=pass_.concert_id,
            performance_id=wish.performance_id,
            pass_id=pass_.pass_id,
            idempotency_key=wish.key,
            body_hash=wish.body_hash,
            seat_ids=wish.seat_ids,
            best_available=wish.best_available,
            reply_to=self._answers.channel,
            requested_at=self._clock.now(),
        )
        async with self._answers.expect(reservation_id) as waiting:
            await self._publish(wish, request, self._left(give_up_at))
            payload = await waiting.result(self._left(give_up_at))
        if payload is not None:
            outcome = Outcome.unpack(payload)
            require_same_body(outcome.body_hash, wish.body_hash)
            return outcome.answer()
        with suppress(DependencyUnavailable):
            # Without it a repeat takes the call over when its 10 s are up: it asks the lane once
            # more, which finds the same outcome.
            await self._claims.defer(wish.user_id, wish.key, reservation_id)
        decided = await self._from_row(wish)
        return decided or pending_answer(reservation_id, wish.performance_id)

    async def _publish(self, wish: Wish, request: ReservationRequested, left: float) -> None:
        try:
            await self._broker.publish(
                request,
                routing_key=lane_key(lane_of(wish.performance_id)),
                deadline_seconds=max(LEAST_PUBLISH_SECONDS, min(MOST_PUBLISH_SECONDS, left)),
            )
        except DependencyUnavailable:
            with suppress(DependencyUnavailable):  # the claims end by themselves
                await self._claims.abandon(
                    wish.user_id, wish.key, request.reservation_id, wish.seat_ids or ()
                )
            raise

    async def _wait_for_row(self, wish: Wish, reservation_id: str, give_up_at: float) -> Answer:
        """The lane answers the first call only; a later one looks for the row."""
        pause = _FIRST_LOOK_SECONDS
        while True:
            decided = await self._from_row(wish)
            if decided is not None:
                return decided
            left = self._left(give_up_at)
            if left <= 0:
                return pending_answer(reservation_id, wish.performance_id)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_LOOK_SECONDS)

    async def _from_row(self, wish: Wish) -> Answer | None:
        async with self._database.primary() as session:
            key = (wish.user_id, wish.key)
            stored = (await reservations.outcomes(session, {key})).get(key)
        if stored is None:
            return None
        require_same_body(stored.body_hash, wish.body_hash)
        return stored_answer(stored.status, stored.body, stored.reservation.reservation_id)

    def _left(self, give_up_at: float) -> float:
        return max(0.0, give_up_at - self._clock.monotonic())
