"""Payments: what may be paid, and one method a transition.

authorized ──confirm──▶ succeeded ──cancel──▶ refunded
└───────────────reject──────────────────────▲
failed: refused before any money moved (too little money, hold over, already paid)
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self, TypedDict, cast

from common.events import (
    CancelCause,
    Money,
    PaymentAuthorized,
    PaymentRecord,
    PaymentRefunded,
    PaymentSucceeded,
)
from payment_service.domain.errors import (
    AlreadyPaid,
    ContradictoryOutcome,
    HoldExpired,
    PaymentInProgress,
)
from payment_service.domain.ledger import (
    CLEARING,
    CURRENCY,
    REVENUE,
    EntryKind,
    Transfer,
    Wallet,
    wallet_account,
)


class PayableState(StrEnum):
    """What reservation-service last said about a reservation, as far as paying goes."""

    HELD = "held"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Payable:
    """A reservation that may be paid while it is held.

    ``amount`` and ``hold_expires_at`` are None when its end was heard of before its beginning.
    """

    reservation_id: str
    version: int
    user_id: str
    concert_id: str
    performance_id: str
    seat_ids: tuple[str, ...]
    state: PayableState
    amount: int | None = None
    hold_expires_at: datetime | None = None

    def price(self, now: datetime) -> int:
        """What it costs, provided that it may still be paid.

        Raises:
            HoldExpired: the hold is over, or was ended.
        """
        if self.state is not PayableState.HELD or self.amount is None:
            raise HoldExpired
        if self.hold_expires_at is None or self.hold_expires_at <= now:
            raise HoldExpired
        return self.amount


class PaymentState(StrEnum):
    """Where a payment stands; the first two are live, the others final."""

    AUTHORIZED = "authorized"
    SUCCEEDED = "succeeded"
    REFUNDED = "refunded"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether it excludes another payment of the same reservation."""
        return self in (PaymentState.AUTHORIZED, PaymentState.SUCCEEDED)


PaymentFact = PaymentAuthorized | PaymentSucceeded | PaymentRefunded


@dataclass(frozen=True, slots=True)
class Change:
    """What one transition did: the payment after it, money moved, facts to tell, in order."""

    payment: "Payment"
    transfers: tuple[Transfer, ...] = ()
    facts: tuple[PaymentFact, ...] = ()

    def then(self, later: "Change | None") -> "Change":
        """Both changes as one."""
        if later is None:
            return self
        return Change(
            later.payment, (*self.transfers, *later.transfers), (*self.facts, *later.facts)
        )


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to pay one reservation. ``version`` counts its states, from 1."""

    payment_id: str
    reservation_id: str
    user_id: str
    concert_id: str
    performance_id: str
    seat_ids: tuple[str, ...]
    amount: int
    state: PaymentState
    version: int
    created_at: datetime
    settled_at: datetime | None = None
    refunded_at: datetime | None = None

    @classmethod
    def authorize(
        cls,
        payment_id: str,
        payable: Payable,
        wallet: Wallet,
        *,
        rival: PaymentState | None,
        now: datetime,
    ) -> Change:
        """Take the money of a held reservation out of its owner's wallet, outcome open.

        Args:
            payment_id: id of the new payment.
            payable: the reservation, owned by the wallet's user.
            wallet: the payer's.
            rival: state of the reservation's live payment, if it has one.
            now: the database's time.

        Raises:
            AlreadyPaid: the rival succeeded.
            PaymentInProgress: the rival's outcome is open.
            HoldExpired: the reservation may no longer be paid.
            InsufficientBalance: the wallet holds too little.
        """
        if rival is PaymentState.SUCCEEDED:
            raise AlreadyPaid
        if rival is PaymentState.AUTHORIZED:
            raise PaymentInProgress
        amount = payable.price(now)
        wallet.debit(amount)
        payment = cls._of(payment_id, payable, PaymentState.AUTHORIZED, amount, now)
        source = wallet_account(wallet.user_id)
        transfer = Transfer(EntryKind.PAYMENT, source, CLEARING, amount, payment_id)
        fact = PaymentAuthorized(**_fact_members(payment, now))
        return Change(payment, (transfer,), (fact,))

    @classmethod
    def refuse(cls, payment_id: str, payable: Payable, *, now: datetime) -> Change:
        """An attempt that ended before any money moved; kept because its answer is final."""
        amount = payable.amount or 0
        return Change(cls._of(payment_id, payable, PaymentState.FAILED, amount, now))

    def confirm(self, *, now: datetime) -> Change | None:
        """The reservation is confirmed: the money is ours. None if that was known before.

        Raises:
            ContradictoryOutcome: the money went back, or was never taken.
        """
        if self.state is PaymentState.AUTHORIZED:
            return self._succeed(now)
        if self.settled_at is None:
            raise ContradictoryOutcome(f"{self.state} payment {self.payment_id} confirmed")
        return None

    def reject(self, reason: str, *, now: datetime) -> Change | None:
        """The reservation refused the payment: the money goes back. None if it is back already.

        Raises:
            ContradictoryOutcome: the reservation was confirmed by this payment, or no money was
                taken for it.
        """
        if self.state is PaymentState.AUTHORIZED:
            return self._refund(CLEARING, reason, now)
        if self.state is PaymentState.REFUNDED:
            return None
        raise ContradictoryOutcome(f"{self.state} payment {self.payment_id} rejected")

    def cancel(self, cause: CancelCause, *, now: datetime) -> Change | None:
        """The confirmed reservation was cancelled: the money goes back. None if it is back.

        The news may overtake the confirmation's; then both are booked, in their order.

        Raises:
            ContradictoryOutcome: no money was taken for it.
        """
        reason = "cancelled-by-fan" if cause is CancelCause.FAN else "performance-cancelled"
        if self.state is PaymentState.AUTHORIZED:
            settled = self._succeed(now)
            return settled.then(settled.payment.cancel(cause, now=now))
        if self.state is PaymentState.SUCCEEDED:
            return self._refund(REVENUE, reason, now)
        if self.state is PaymentState.REFUNDED:
            return None
        raise ContradictoryOutcome(f"{self.state} payment {self.payment_id} cancelled")

    def _succeed(self, now: datetime) -> Change:
        payment = replace(
            self, state=PaymentState.SUCCEEDED, version=self.version + 1, settled_at=now
        )
        transfer = Transfer(EntryKind.SETTLEMENT, CLEARING, REVENUE, self.amount, self.payment_id)
        fact = PaymentSucceeded(**_fact_members(payment, now), seat_ids=self.seat_ids)
        return Change(payment, (transfer,), (fact,))

    def _refund(self, source: str, reason: str, now: datetime) -> Change:
        payment = replace(
            self, state=PaymentState.REFUNDED, version=self.version + 1, refunded_at=now
        )
        target = wallet_account(self.user_id)
        transfer = Transfer(EntryKind.REFUND, source, target, self.amount, self.payment_id)
        fact = PaymentRefunded(
            **_fact_members(payment, now),
            seat_ids=self.seat_ids,
            previous_state=cast("Literal['authorized', 'succeeded']", self.state.value),
            reason=reason,
        )
        return Change(payment, (transfer,), (fact,))

    @classmethod
    def _of(
        cls, payment_id: str, payable: Payable, state: PaymentState, amount: int, now: datetime
    ) -> Self:
        return cls(
            payment_id=payment_id,
            reservation_id=payable.reservation_id,
            user_id=payable.user_id,
            concert_id=payable.concert_id,
            performance_id=payable.performance_id,
            seat_ids=payable.seat_ids,
            amount=amount,
            state=state,
            version=1,
            created_at=now,
        )


class _FactMembers(TypedDict):
    payment_id: str
    version: int
    reservation_id: str
    user_id: str
    concert_id: str
    performance_id: str
    amount: Money
    occurred_at: datetime


def _fact_members(payment: Payment, now: datetime) -> _FactMembers:
    return _FactMembers(
        payment_id=payment.payment_id,
        version=payment.version,
        reservation_id=payment.reservation_id,
        user_id=payment.user_id,
        concert_id=payment.concert_id,
        performance_id=payment.performance_id,
        amount=Money(amount=payment.amount, currency=CURRENCY),
        occurred_at=now,
    )


def stream_record(fact: PaymentFact) -> PaymentRecord | None:
    """What the data platform hears of a fact: successes, and refunds of what succeeded."""
    if isinstance(fact, PaymentAuthorized):
        return None
    if isinstance(fact, PaymentRefunded) and fact.previous_state == "authorized":
        return None
    return PaymentRecord(
        payment_id=fact.payment_id,
        reservation_id=fact.reservation_id,
        concert_id=fact.concert_id,
        performance_id=fact.performance_id,
        seat_ids=fact.seat_ids,
        amount=fact.amount,
        occurred_at=fact.occurred_at,
        type=fact.type,
    )
