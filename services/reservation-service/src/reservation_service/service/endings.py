"""How holds and reservations end: payment, expiry, cancellation, refund."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from prometheus_client import Counter

from common.database import Database, RetryTransaction, Transaction
from common.errors import DependencyUnavailable
from common.events import (
    CancelCause,
    Event,
    InventoryChanged,
    PaymentAuthorized,
    PaymentRefunded,
    SeatState,
)
from common.inbox import first_time
from common.logging import get_logger
from common.outbox import Outbox
from reservation_service.domain import (
    DomainError,
    Payment,
    PaymentRefused,
    Performance,
    Reservation,
    Transition,
    TransitionRefused,
    refuse_unknown,
)
from reservation_service.store import performances, reservations, seats
from reservation_service.store.claims import Claims

AUTHORIZED = "reservation.payment.authorized.v1"
REFUNDED = "reservation.payment.refunded.v1"
BATCH = 100
"""Reservations ended by one transaction: it holds the lock of their performance."""
SWEEP = 1_000
"""Ended holds looked for at once."""

log = get_logger(__name__)
_ends = Counter("reservation_ends", "Reservations by how they went on from a hold", ["end"])


class ReservationUnknown(DomainError):  # noqa: N818 - names the condition
    """This fan has no such reservation."""


class Endings:
    """Every transition after the hold; each locks the performance first, then its own rows."""

    def __init__(self, *, database: Database, outbox: Outbox, claims: Claims) -> None:
        self._database = database
        self._outbox = outbox
        self._claims = claims

    async def confirm(self, event: PaymentAuthorized, message_id: str) -> None:
        """Turn a live hold into a sale, or send the money back."""
        payment = Payment(
            payment_id=event.payment_id,
            reservation_id=event.reservation_id,
            user_id=event.user_id,
            concert_id=event.concert_id,
            performance_id=event.performance_id,
            amount=event.amount.amount,
            currency=event.amount.currency,
        )
        sold = await self._database.run(lambda tx: self._confirm(tx, payment, message_id))
        if sold is not None:
            _ends.labels("confirmed").inc()
            await self._mark_sold(sold)

    async def _confirm(
        self, tx: Transaction, payment: Payment, message_id: str
    ) -> Reservation | None:
        if not await first_time(tx, AUTHORIZED, message_id):
            return None
        performance, found = await self._lock(tx, payment.reservation_id)
        now = await performances.database_now(tx)
        if found is None or performance is None:
            await self._outbox.add(tx, refuse_unknown(payment, now))
            return None
        try:
            transition = found.confirm(payment, now)
        except PaymentRefused as refused:
            _ends.labels(f"refused-{refused.reason}").inc()
            transition = found.refuse_payment(payment, refused.reason, now)
        if transition is None:
            return None
        await self._apply(tx, performance, [(found, transition)])
        if transition.seats_become is None:
            return None
        await reservations.end_pass(
            tx,
            found.pass_id,
            user_id=found.user_id,
            concert_id=found.concert_id,
            cause="spent",
            ended_at=now,
        )
        return transition.reservation

    async def refund(self, event: PaymentRefunded, message_id: str) -> None:
        """The money of a cancelled sale is back: remember it."""

        async def work(tx: Transaction) -> None:
            if not await first_time(tx, REFUNDED, message_id):
                return
            for found in await reservations.lock(tx, [event.reservation_id]):
                try:
                    refunded = found.refund(event.payment_id)
                except TransitionRefused:
                    # The usual case: a payment that came too late was sent back.
                    continue
                await reservations.save(tx, found, refunded)

        await self._database.run(work)

    async def cancel(self, user_id: str, reservation_id: str) -> Reservation:
        """Cancel a fan's own reservation; again gives the same.

        Raises:
            ReservationUnknown: the fan has no such reservation.
            ReservationEnded: it expired or was rejected.
        """

        async def work(tx: Transaction) -> Reservation:
            performance, found = await self._lock(tx, reservation_id)
            if found is None or found.user_id != user_id:
                raise ReservationUnknown(reservation_id)
            now = await performances.database_now(tx)
            transition = found.cancel(CancelCause.FAN, now)
            if transition is None or performance is None:
                return found
            await self._apply(tx, performance, [(found, transition)])
            _ends.labels("cancelled").inc()
            return transition.reservation

        cancelled = await self._database.run(work)
        # Also when it was cancelled before: that call may have died before it came here.
        await self._release([cancelled])
        return cancelled

    async def expire_ended(self) -> int:
        """Release every hold whose time is over; returns how many there were."""
        async with self._database.primary() as session:
            ended = await reservations.ended_holds(session, SWEEP)

        async def expire_all(performance_id: str) -> int:
            count, ids = 0, ended[performance_id]
            for start in range(0, len(ids), BATCH):
                expired = await self._expire(performance_id, ids[start : start + BATCH])
                count += len(expired)
                _ends.labels("expired").inc(len(expired))
                await self._release(expired)
            return count

        return await _each(ended, expire_all)

    async def _expire(self, performance_id: str, ids: Sequence[str]) -> list[Reservation]:
        async def work(tx: Transaction) -> list[Reservation]:
            performance = (await performances.lock(tx, {performance_id}))[performance_id]
            found = await reservations.lock(tx, ids)
            now = await performances.database_now(tx)
            steps: list[tuple[Reservation, Transition]] = []
            for reservation in found:
                try:
                    steps.append((reservation, reservation.expire(now)))
                except TransitionRefused:
                    continue  # paid, cancelled, or expired by another sweeper meanwhile
            await self._apply(tx, performance, steps)
            return [transition.reservation for _, transition in steps]

        return await self._database.run(work)

    async def cancel_performances(self) -> int:
        """Carry on cancelling what cancelled performances still have; resumes where it was."""
        async with self._database.primary() as session:
            waiting = await performances.cancelling(session, 10)

        async def cancel_all(performance_id: str) -> int:
            count = 0
            while cancelled := await self._cancel_some(performance_id):
                count += len(cancelled)
                _ends.labels("performance-cancelled").inc(len(cancelled))
                await self._release(cancelled)
            return count

        return await _each(waiting, cancel_all)

    async def _cancel_some(self, performance_id: str) -> list[Reservation]:
        async def work(tx: Transaction) -> list[Reservation]:
            performance = (await performances.lock(tx, {performance_id}))[performance_id]
            ids = await reservations.live_of_performance(tx, performance_id, BATCH)
            if not ids:
                await performances.end_cancelling(tx, performance_id)
            now = await performances.database_now(tx)
            steps: list[tuple[Reservation, Transition]] = []
            for found in await reservations.lock(tx, ids):
                transition = found.cancel(CancelCause.PERFORMANCE_CANCELLED, now)
                if transition is not None:
                    steps.append((found, transition))
            await self._apply(tx, performance, steps)
            return [transition.reservation for _, transition in steps]

        return await self._database.run(work)

    async def _lock(
        self, tx: Transaction, reservation_id: str
    ) -> tuple[Performance | None, Reservation | None]:
        performance_id = await reservations.performance_of(tx, reservation_id)
        if performance_id is None:
            return None, None
        locked = await performances.lock(tx, {performance_id})
        found = await reservations.lock(tx, [reservation_id])
        return locked.get(performance_id), found[0]

    async def _apply(
        self,
        tx: Transaction,
        performance: Performance,
        steps: Sequence[tuple[Reservation, Transition]],
    ) -> None:
        """Write transitions of one performance, its inventory and the events."""
        events: list[Event] = []
        changed: list[str] = []
        freed = 0
        for before, step in steps:
            await reservations.save(tx, before, step.reservation)
            events.append(step.event)
            if step.seats_become is SeatState.SOLD:
                await seats.sell(tx, before.reservation_id, before.seat_ids)
                changed += before.seat_ids
            elif step.seats_become is SeatState.AVAILABLE:
                await seats.release(tx, before.reservation_id, before.seat_ids)
                changed += before.seat_ids
                freed += len(before.seat_ids)
        if changed:
            await performances.bump(tx, performance.performance_id, freed)
            events.append(
                InventoryChanged(
                    performance_id=performance.performance_id,
                    concert_id=performance.concert_id,
                    version=performance.inventory_version + 1,
                    seats=await seats.changes(tx, changed),
                    seats_left=performance.seats_left + freed,
                    occurred_at=await performances.database_now(tx),
                )
            )
        await self._outbox.add(tx, *events)

    async def _release(self, ended: Sequence[Reservation]) -> None:
        try:
            for reservation in ended:
                if reservation.seat_ids:
                    await self._claims.release(reservation.reservation_id, reservation.seat_ids)
        except DependencyUnavailable:
            log.warning("marks-not-released", reservations=len(ended))  # they end by themselves

    async def _mark_sold(self, sold: Reservation) -> None:
        try:
            await self._claims.mark_sold(sold.reservation_id, sold.seat_ids)
        except DependencyUnavailable:
            log.warning("sold-seats-not-marked", seats=len(sold.seat_ids))  # the lane says no


async def _each(performance_ids: Iterable[str], end: Callable[[str], Awaitable[int]]) -> int:
    """End reservations of one performance after the other; returns how many there were.

    Raises:
        Exception: the first failure, once the others had their turn: a performance that is locked,
            or whose rows are not as they should be, must not keep the others' holds alive.
    """
    count, failure = 0, None
    for performance_id in performance_ids:
        try:
            count += await end(performance_id)
        except Exception as error:
            if isinstance(error, DependencyUnavailable) and not isinstance(error, RetryTransaction):
                raise  # the others would only wait for the same server
            failure = failure or error
    if failure is not None:
        raise failure
    return count
