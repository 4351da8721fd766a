"""One reservation: its states, and one method a transition."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from common.events import (
    CancelCause,
    Event,
    Money,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationHeld,
    ReservationRejected,
    SeatState,
)

RefusalReason = Literal[
    "hold-expired", "reservation-cancelled", "already-confirmed", "reservation-unknown", "not-owner"
]


class ReservationState(StrEnum):
    """Where a reservation stands; ``pending`` is a request still in its lane, never a row."""

    PENDING = "pending"
    HELD = "held"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    REFUNDED = "refunded"


LIVE_STATES = (ReservationState.HELD, ReservationState.CONFIRMED)
"""While a reservation is in one of these its seats are its own."""


class DomainError(Exception):
    """A rule of the sale said no."""


class TransitionRefused(DomainError):  # noqa: N818 - names the verdict
    """The reservation is not in a state this transition starts from."""


class ReservationEnded(TransitionRefused):
    """The reservation is over and cannot be cancelled any more."""


class PaymentRefused(DomainError):  # noqa: N818 - names the verdict
    """The money must go back; ``reason`` says why."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason)
        self.reason: RefusalReason = reason


@dataclass(frozen=True, slots=True)
class ReservedSeat:
    """A seat as it was reserved; ``price`` in minor units."""

    seat_id: str
    label: str
    price: int


@dataclass(frozen=True, slots=True)
class Payment:
    """An authorized payment that wants its reservation confirmed; ``amount`` in minor units."""

    payment_id: str
    reservation_id: str
    user_id: str
    concert_id: str
    performance_id: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition did: the new reservation, the fact to tell, what its seats become."""

    reservation: "Reservation"
    event: Event
    seats_become: SeatState | None
    """None: the seats are not touched."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A decided request for seats. ``version`` grows by one with every fact told about it."""

    reservation_id: str
    user_id: str
    concert_id: str
    performance_id: str
    pass_id: str
    state: ReservationState
    seats: tuple[ReservedSeat, ...]
    total: int
    currency: str
    hold_expires_at: datetime | None
    payment_id: str | None = None
    cancel_cause: CancelCause | None = None
    rejected_code: str | None = None
    version: int = 1

    @property
    def seat_ids(self) -> tuple[str, ...]:
        """Ids of its seats, in plan order."""
        return tuple(seat.seat_id for seat in self.seats)

    def is_live_hold(self, now: datetime) -> bool:
        """Whether it is held and its time has not run out at ``now`` (the end itself is out)."""
        return (
            self.state is ReservationState.HELD
            and self.hold_expires_at is not None
            and now < self.hold_expires_at
        )

    def held(self, now: datetime) -> ReservationHeld:
        """The fact of its birth as a hold."""
        if self.state is not ReservationState.HELD or self.hold_expires_at is None:
            raise TransitionRefused(f"a {self.state} reservation holds nothing")
        return ReservationHeld(
            reservation_id=self.reservation_id,
            version=self.version,
            user_id=self.user_id,
            concert_id=self.concert_id,
            performance_id=self.performance_id,
            occurred_at=now,
            seat_ids=self.seat_ids,
            total=Money(amount=self.total, currency=self.currency),
            hold_expires_at=self.hold_expires_at,
        )

    def confirm(self, payment: Payment, now: datetime) -> Transition | None:
        """Held → confirmed: the payer owns a live hold and paid its total.

        Returns:
            None when this very payment has confirmed it before.

        Raises:
            PaymentRefused: in every other case; see `refuse_payment`.
        """
        if self.state is ReservationState.CONFIRMED and self.payment_id == payment.payment_id:
            return None
        self._check_payment(payment, now)
        confirmed = replace(
            self,
            state=ReservationState.CONFIRMED,
            payment_id=payment.payment_id,
            version=self.version + 1,
        )
        event = ReservationConfirmed(
            reservation_id=self.reservation_id,
            version=confirmed.version,
            user_id=self.user_id,
            concert_id=self.concert_id,
            performance_id=self.performance_id,
            occurred_at=now,
            seat_ids=self.seat_ids,
            previous_state="held",
            payment_id=payment.payment_id,
            pass_id=self.pass_id,
        )
        return Transition(confirmed, event, SeatState.SOLD)

    def _check_payment(self, payment: Payment, now: datetime) -> None:
        if payment.user_id != self.user_id:
            raise PaymentRefused("not-owner")
        match self.state:
            case ReservationState.HELD if not self.is_live_hold(now):
                raise PaymentRefused("hold-expired")
            case ReservationState.HELD:
                pass
            case ReservationState.EXPIRED:
                raise PaymentRefused("hold-expired")
            case ReservationState.CONFIRMED:
                raise PaymentRefused("already-confirmed")
            case ReservationState.CANCELLED | ReservationState.REFUNDED:
                raise PaymentRefused("reservation-cancelled")
            case _:
                raise PaymentRefused("reservation-unknown")
        if (payment.amount, payment.currency) != (self.total, self.currency):
            # Nothing of that price is reserved: payment-service misread `reservation.held`.
            raise PaymentRefused("reservation-unknown")

    def refuse_payment(
        self, payment: Payment, reason: RefusalReason, now: datetime
    ) -> Transition | None:
        """Tell payment-service to give the money back; the state stays as it is.

        Returns:
            None when the payment is the one this reservation was (or is) confirmed by: its money
            is settled by the confirmation or the cancellation, not by a refusal.
        """
        if self.payment_id == payment.payment_id:
            return None
        told = replace(self, version=self.version + 1)
        return Transition(told, _refusal(payment, self.state, reason, told.version, now), None)

    def expire(self, now: datetime) -> Transition:
        """Held → expired, at or after the end of the hold."""
        if self.state is not ReservationState.HELD:
            raise TransitionRefused(f"a {self.state} reservation cannot expire")
        if self.is_live_hold(now):
            raise TransitionRefused("the hold has not ended")
        expired = replace(self, state=ReservationState.EXPIRED, version=self.version + 1)
        event = ReservationExpired(
            reservation_id=self.reservation_id,
            version=expired.version,
            user_id=self.user_id,
            concert_id=self.concert_id,
            performance_id=self.performance_id,
            occurred_at=now,
            seat_ids=self.seat_ids,
        )
        return Transition(expired, event, SeatState.AVAILABLE)

    def cancel(self, cause: CancelCause, now: datetime) -> Transition | None:
        """Held or confirmed → cancelled; a confirmed one is refunded by payment-service.

        Returns:
            None when it is cancelled (or refunded) already.

        Raises:
            ReservationEnded: expired or rejected, or a hold whose time is over.
        """
        if self.state in {ReservationState.CANCELLED, ReservationState.REFUNDED}:
            return None
        fan_is_late = cause is CancelCause.FAN and not self.is_live_hold(now)
        if self.state is ReservationState.CONFIRMED:
            previous: Literal["held", "confirmed"] = "confirmed"
        elif self.state is ReservationState.HELD and not fan_is_late:
            previous = "held"
        else:
            raise ReservationEnded(f"the reservation is {self.state}")
        cancelled = replace(
            self,
            state=ReservationState.CANCELLED,
            cancel_cause=cause,
            version=self.version + 1,
        )
        event = ReservationCancelled(
            reservation_id=self.reservation_id,
            version=cancelled.version,
            user_id=self.user_id,
            concert_id=self.concert_id,
            performance_id=self.performance_id,
            occurred_at=now,
            seat_ids=self.seat_ids,
            previous_state=previous,
            payment_id=self.payment_id,
            cause=cause,
        )
        return Transition(cancelled, event, SeatState.AVAILABLE)

    def refund(self, payment_id: str) -> "Reservation":
        """Cancelled → refunded: the money of its own payment is back in the wallet.

        Raises:
            TransitionRefused: it is not cancelled after a confirmation by this payment.
        """
        if self.state is not ReservationState.CANCELLED or self.payment_id != payment_id:
            raise TransitionRefused(f"a {self.state} reservation has nothing to refund")
        return replace(self, state=ReservationState.REFUNDED, version=self.version + 1)


def refuse_unknown(payment: Payment, now: datetime) -> ReservationRejected:
    """A payment for a reservation that does not exist goes back."""
    return _refusal(payment, None, "reservation-unknown", 1, now)


def _refusal(
    payment: Payment,
    state: ReservationState | None,
    reason: RefusalReason,
    version: int,
    now: datetime,
) -> ReservationRejected:
    return ReservationRejected.model_validate(
        {
            "reservation_id": payment.reservation_id,
            "version": version,
            "user_id": payment.user_id,
            "concert_id": payment.concert_id,
            "performance_id": payment.performance_id,
            "occurred_at": now,
            "previous_state": "unknown" if state is None else state.value,
            "payment_id": payment.payment_id,
            "reason": reason,
        }
    )
