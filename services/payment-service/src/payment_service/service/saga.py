"""What reservation-service says, and what it does to payments. Each message has its effect once.

reservation.held       → may be paid
reservation.expired    → may no longer be paid
reservation.cancelled  → may no longer be paid; a payment that was confirmed is refunded
reservation.confirmed  → authorized ▶ succeeded: clearing ▶ revenue
reservation.rejected   → authorized ▶ refunded: clearing ▶ wallet
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

from common import inbox
from common.answers import Answers
from common.database import Database, Transaction
from common.envelope import Envelope
from common.errors import MessageRejected
from common.events import (
    Event,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationHeld,
    ReservationRejected,
)
from common.events.payment import KAFKA_TOPIC
from common.outbox import Outbox
from payment_service.answers import outcome_answer, to_message
from payment_service.domain import (
    CURRENCY,
    Change,
    ContradictoryOutcome,
    Payable,
    PayableState,
    Payment,
    stream_record,
)
from payment_service.store import payables, payments, wallets

Decide = Callable[[Payment, datetime], Change | None]


class Saga:
    """Handlers of the reservation events; every one may be called twice, in any order."""

    def __init__(self, *, database: Database, answers: Answers, outbox: Outbox) -> None:
        self._database = database
        self._answers = answers
        self._outbox = outbox

    async def held(self, event: ReservationHeld, envelope: Envelope) -> None:
        """Something may be paid.

        Raises:
            MessageRejected: no wallet can pay this price.
        """
        if event.total.currency != CURRENCY or event.total.amount < 0:
            raise MessageRejected(f"a price of {event.total} cannot be paid")
        news = Payable(
            reservation_id=event.reservation_id,
            version=event.version,
            user_id=event.user_id,
            concert_id=event.concert_id,
            performance_id=event.performance_id,
            seat_ids=event.seat_ids,
            state=PayableState.HELD,
            amount=event.total.amount,
            hold_expires_at=event.hold_expires_at,
        )
        await self._once(event, envelope, lambda tx: payables.record(tx, news))

    async def expired(self, event: ReservationExpired, envelope: Envelope) -> None:
        """It may no longer be paid."""
        news = _ended(event, PayableState.EXPIRED)
        await self._once(event, envelope, lambda tx: payables.record(tx, news))

    async def cancelled(self, event: ReservationCancelled, envelope: Envelope) -> None:
        """It may no longer be paid, and what was paid for it goes back.

        A cancelled hold names no payment: one that is under way is answered by a rejection.
        """
        news = _ended(event, PayableState.CANCELLED)
        payment_id = event.payment_id if event.previous_state == "confirmed" else None

        async def work(tx: Transaction) -> None:
            if payment_id is not None:
                await self._conclude(
                    tx,
                    payment_id,
                    event.reservation_id,
                    lambda payment, now: payment.cancel(event.cause, now=now),
                )
            await payables.record(tx, news)

        await self._once(event, envelope, work)

    async def confirmed(self, event: ReservationConfirmed, envelope: Envelope) -> None:
        """The seats are sold: the money is ours."""
        await self._once(
            event,
            envelope,
            lambda tx: self._conclude(
                tx,
                event.payment_id,
                event.reservation_id,
                lambda payment, now: payment.confirm(now=now),
            ),
        )

    async def rejected(self, event: ReservationRejected, envelope: Envelope) -> None:
        """The seats were not to be had: the money goes back."""
        await self._once(
            event,
            envelope,
            lambda tx: self._conclude(
                tx,
                event.payment_id,
                event.reservation_id,
                lambda payment, now: payment.reject(event.reason, now=now),
            ),
        )

    async def _once(
        self, event: Event, envelope: Envelope, effect: Callable[[Transaction], Awaitable[None]]
    ) -> None:
        """The message's effect and its inbox row, in one transaction."""

        async def work(tx: Transaction) -> None:
            if await inbox.first_time(tx, event.type, envelope.id):
                await effect(tx)

        try:
            await self._database.run(work)
        except ContradictoryOutcome as contradiction:
            raise MessageRejected(str(contradiction)) from contradiction

    async def _conclude(
        self, tx: Transaction, payment_id: str, reservation_id: str, decide: Decide
    ) -> None:
        owner = await payments.owner(tx, payment_id)
        if owner is None:
            raise ContradictoryOutcome(f"payment {payment_id} does not exist")
        # The wallet before the payment, as when paying: one order leaves no room for a deadlock.
        await wallets.lock(tx, owner)
        locked = await payments.lock(tx, payment_id)
        if locked is None or locked[0].payment.reservation_id != reservation_id:
            raise ContradictoryOutcome(f"payment {payment_id} is of another reservation")
        record, now = locked
        change = decide(record.payment, now)
        if change is None:
            return
        answer = outcome_answer(change.payment)
        await payments.transition(tx, record.payment, change.payment, answer)
        await wallets.book(tx, change.transfers, now)
        await self._tell(tx, change)
        if record.answer is None:
            reply_to, message = record.reply_to, to_message(answer)
            tx.after_commit(lambda: self._answers.send(reply_to, payment_id, message))

    async def _tell(self, tx: Transaction, change: Change) -> None:
        await self._outbox.add(tx, *change.facts)
        for fact in change.facts:
            record = stream_record(fact)
            if record is not None:
                await self._outbox.add_stream(
                    tx,
                    record,
                    type=fact.type,
                    topic=KAFKA_TOPIC,
                    key=fact.concert_id,
                    subject=fact.payment_id,
                )


def _ended(event: ReservationExpired | ReservationCancelled, state: PayableState) -> Payable:
    return Payable(
        reservation_id=event.reservation_id,
        version=event.version,
        user_id=event.user_id,
        concert_id=event.concert_id,
        performance_id=event.performance_id,
        seat_ids=event.seat_ids,
        state=state,
    )
