"""Paying a reservation: the debit, and the wait for what becomes of it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from common import idempotency
from common.answers import Answers
from common.clock import Clock
from common.database import Database, Transaction
from common.errors import DependencyUnavailable, UniqueViolation
from common.ids import new_id
from common.outbox import Outbox
from common.redis import Redis
from payment_service.answers import from_message, refusal_answer
from payment_service.domain import (
    AlreadyPaid,
    HoldExpired,
    InsufficientBalance,
    Payment,
    PaymentInProgress,
    PaymentUnknown,
    ReservationUnknown,
)
from payment_service.settings import PaymentSettings
from payment_service.store import payables, payments, wallets
from payment_service.store.payments import Answer, Record, Request

PAYMENTS_PATH = "/payments"
FINAL_REFUSALS = (AlreadyPaid, HoldExpired, InsufficientBalance)
"""Refusals that stay true for this request; a payment in progress may still fail."""
_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """The payment of a request; without an answer its outcome is still open."""

    payment: Payment
    answer: Answer | None


class Payments:
    """Use cases of `/payments`."""

    def __init__(
        self,
        settings: PaymentSettings,
        *,
        database: Database,
        redis: Redis,
        answers: Answers,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._redis = redis
        self._answers = answers
        self._outbox = outbox
        self._clock = clock

    async def pay(self, request: Request, *, wait_seconds: float) -> Outcome:
        """Debit the wallet, once for each key, and wait for the reservation's answer.

        Raises:
            ReservationUnknown: nothing is known of such a reservation of this fan (yet).
            PaymentInProgress: another request's payment of the reservation is open.
            Problem: 422 the key was used for another reservation; 409 the first call is open.
            DependencyUnavailable: repeat with the same key.
        """
        until = self._clock.monotonic() + wait_seconds
        record = await self._known(request)
        if record is not None and record.answer is not None:
            return Outcome(record.payment, record.answer)
        async with idempotency.in_flight(
            self._redis, self._settings.redis_prefix, request.user_id, PAYMENTS_PATH,
            request.idempotency_key,
        ):  # fmt: skip
            for _ in range(_ATTEMPTS):
                try:
                    return await self._pay(request, record, until)
                except UniqueViolation:
                    # A rival was faster by a hair; its row is there to be read now.
                    record = await self._known(request)
        raise DependencyUnavailable("database")

    async def get(self, user_id: str, payment_id: str) -> Payment:
        """One own payment as it is now, from the primary.

        Raises:
            PaymentUnknown: no such payment, or another fan's.
        """
        async with self._database.primary() as session:
            payment = await payments.find(session, payment_id, user_id)
        if payment is None:
            raise PaymentUnknown
        return payment

    async def history(
        self, user_id: str, *, limit: int, after: tuple[datetime, str] | None
    ) -> list[Payment]:
        """Own payments, newest first, from the replica."""
        async with self._database.replica() as session:
            return await payments.history(session, user_id, limit=limit, after=after)

    async def _known(self, request: Request) -> Record | None:
        async with self._database.primary() as session:
            record = await payments.by_request(session, request.user_id, request.idempotency_key)
        if record is not None:
            idempotency.require_same_body(record.body_hash, request.body_hash)
        return record

    async def _pay(self, request: Request, record: Record | None, until: float) -> Outcome:
        payment_id = record.payment.payment_id if record else new_id()
        # Expected before the debit commits: the outcome may be faster than we are.
        async with self._answers.expect(payment_id) as waiting:
            if record is None:
                outcome = await self._authorize_when_known(request, payment_id, until)
            else:
                outcome = await self._listen(payment_id)
            if outcome.answer is not None:
                return outcome
            message = await waiting.result(max(0.0, until - self._clock.monotonic()))
        if message is not None:
            return Outcome(outcome.payment, from_message(message))
        async with self._database.primary() as session:
            present = await payments.by_id(session, payment_id)
        return Outcome(present.payment, present.answer) if present else outcome

    async def _authorize_when_known(
        self, request: Request, payment_id: str, until: float
    ) -> Outcome:
        """Authorize as soon as the reservation's news is here, which may be a moment behind."""
        patience = self._clock.monotonic() + self._settings.payable_wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._database.run(lambda tx: self._authorize(tx, request, payment_id))
            except ReservationUnknown:
                left = min(patience, until) - self._clock.monotonic()
                if left <= 0:
                    raise
            await asyncio.sleep(min(pause, left))
            pause *= 2

    async def _authorize(self, tx: Transaction, request: Request, payment_id: str) -> Outcome:
        wallet, now = await wallets.lock(tx, request.user_id)
        payable = await payables.find(tx, request.reservation_id, request.user_id)
        if payable is None:
            raise ReservationUnknown
        rival = await payments.live_state(tx, request.reservation_id)
        try:
            change = Payment.authorize(payment_id, payable, wallet, rival=rival, now=now)
            await wallets.book(tx, change.transfers, now)
        except PaymentInProgress:
            # Is it this very request's, made by a rival call since we looked?
            if await payments.by_request(tx, request.user_id, request.idempotency_key):
                raise UniqueViolation(payments.ONE_PAYMENT_A_REQUEST) from None
            raise
        except FINAL_REFUSALS as refusal:
            refused = Payment.refuse(payment_id, payable, now=now).payment
            answer = refusal_answer(refusal, refused)
            await payments.insert(tx, refused, request, reply_to=None, answer=answer)
            return Outcome(refused, answer)
        reply_to = self._answers.channel
        await payments.insert(tx, change.payment, request, reply_to=reply_to, answer=None)
        await self._outbox.add(tx, *change.facts)
        return Outcome(change.payment, None)

    async def _listen(self, payment_id: str) -> Outcome:
        """Have an open outcome sent here instead of to a process that may no longer wait."""

        async def work(tx: Transaction) -> Record | None:
            if (channel := self._answers.channel) is not None:
                await payments.listen(tx, payment_id, channel)
            return await payments.by_id(tx, payment_id)

        record = await self._database.run(work)
        if record is None:
            raise DependencyUnavailable("database")
        return Outcome(record.payment, record.answer)
