"""Every transition of a payment, and every one that must not happen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.events import CancelCause, PaymentAuthorized, PaymentRefunded, PaymentSucceeded
from common.ids import new_id
from payment_service.domain import (
    CLEARING,
    REVENUE,
    AlreadyPaid,
    Change,
    ContradictoryOutcome,
    EntryKind,
    HoldExpired,
    InsufficientBalance,
    Payable,
    PayableState,
    Payment,
    PaymentInProgress,
    PaymentState,
    Wallet,
    stream_record,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=3)
AMOUNT = 132_000


def payable(**changes: object) -> Payable:
    held = Payable(
        reservation_id=new_id(),
        version=1,
        user_id="fan",
        concert_id=new_id(),
        performance_id=new_id(),
        seat_ids=(new_id(), new_id()),
        state=PayableState.HELD,
        amount=AMOUNT,
        hold_expires_at=NOW + timedelta(microseconds=1),
    )
    return replace(held, **changes)  # type: ignore[arg-type]


def authorize(
    balance: int = AMOUNT, rival: PaymentState | None = None, **changes: object
) -> Change:
    return Payment.authorize(
        new_id(), payable(**changes), Wallet("fan", balance), rival=rival, now=NOW
    )


def authorized() -> Payment:
    return authorize().payment


def succeeded() -> Payment:
    change = authorized().confirm(now=LATER)
    assert change is not None
    return change.payment


def refunded() -> Payment:
    change = authorized().reject("hold-expired", now=LATER)
    assert change is not None
    return change.payment


def failed() -> Payment:
    return Payment.refuse(new_id(), payable(), now=NOW).payment


class TestAuthorize:
    def test_takes_the_money_out_of_the_wallet_and_says_so(self) -> None:
        change = authorize()
        assert change.payment.state is PaymentState.AUTHORIZED
        assert change.payment.version == 1
        assert change.payment.amount == AMOUNT
        (transfer,) = change.transfers
        assert (transfer.kind, transfer.source, transfer.target, transfer.amount) == (
            EntryKind.PAYMENT,
            "wallet:fan",
            CLEARING,
            AMOUNT,
        )
        assert transfer.payment_id == change.payment.payment_id
        (fact,) = change.facts
        assert isinstance(fact, PaymentAuthorized)
        assert fact.amount.amount == AMOUNT
        assert fact.subject == change.payment.payment_id

    @pytest.mark.parametrize("balance", [0, 1, AMOUNT - 1])
    def test_refuses_more_than_the_wallet_holds(self, balance: int) -> None:
        with pytest.raises(InsufficientBalance):
            authorize(balance=balance)

    @pytest.mark.parametrize(
        "changes",
        [
            {"hold_expires_at": NOW},  # over at its very moment
            {"hold_expires_at": NOW - timedelta(hours=1)},
            {"state": PayableState.EXPIRED},
            {"state": PayableState.CANCELLED},
            {"state": PayableState.EXPIRED, "amount": None, "hold_expires_at": None},
        ],
    )
    def test_refuses_what_may_no_longer_be_paid(self, changes: dict[str, object]) -> None:
        with pytest.raises(HoldExpired):
            authorize(**changes)

    @pytest.mark.parametrize(
        ("rival", "error"),
        [(PaymentState.SUCCEEDED, AlreadyPaid), (PaymentState.AUTHORIZED, PaymentInProgress)],
    )
    def test_refuses_beside_a_live_payment_even_when_the_hold_is_over(
        self, rival: PaymentState, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            authorize(rival=rival, state=PayableState.EXPIRED)

    def test_free_seats_need_no_money(self) -> None:
        assert authorize(balance=0, amount=0).payment.state is PaymentState.AUTHORIZED

    def test_a_refusal_moves_nothing_and_tells_nobody(self) -> None:
        change = Payment.refuse(new_id(), payable(), now=NOW)
        assert change.payment.state is PaymentState.FAILED
        assert not change.payment.state.live
        assert change.transfers == ()
        assert change.facts == ()


class TestConfirm:
    def test_makes_the_money_ours(self) -> None:
        payment = authorized()
        change = payment.confirm(now=LATER)
        assert change is not None
        assert change.payment.state is PaymentState.SUCCEEDED
        assert change.payment.settled_at == LATER
        assert change.payment.version == 2
        (transfer,) = change.transfers
        assert (transfer.kind, transfer.source, transfer.target) == (
            EntryKind.SETTLEMENT,
            CLEARING,
            REVENUE,
        )
        (fact,) = change.facts
        assert isinstance(fact, PaymentSucceeded)
        assert fact.seat_ids == payment.seat_ids

    def test_again_changes_nothing(self) -> None:
        assert succeeded().confirm(now=LATER) is None

    def test_after_the_refund_of_a_settled_payment_changes_nothing(self) -> None:
        change = authorized().cancel(CancelCause.FAN, now=LATER)
        assert change is not None
        assert change.payment.confirm(now=LATER) is None

    @pytest.mark.parametrize("payment", [refunded(), failed()])
    def test_is_a_contradiction_when_the_money_is_not_here(self, payment: Payment) -> None:
        with pytest.raises(ContradictoryOutcome):
            payment.confirm(now=LATER)


class TestReject:
    def test_gives_the_money_back(self) -> None:
        change = authorized().reject("hold-expired", now=LATER)
        assert change is not None
        assert change.payment.state is PaymentState.REFUNDED
        assert change.payment.refunded_at == LATER
        assert change.payment.settled_at is None
        (transfer,) = change.transfers
        assert (transfer.kind, transfer.source, transfer.target, transfer.amount) == (
            EntryKind.REFUND,
            CLEARING,
            "wallet:fan",
            AMOUNT,
        )
        (fact,) = change.facts
        assert isinstance(fact, PaymentRefunded)
        assert (fact.previous_state, fact.reason) == ("authorized", "hold-expired")

    def test_again_changes_nothing(self) -> None:
        assert refunded().reject("hold-expired", now=LATER) is None

    @pytest.mark.parametrize("payment", [succeeded(), failed()])
    def test_is_a_contradiction_when_there_is_nothing_open(self, payment: Payment) -> None:
        with pytest.raises(ContradictoryOutcome):
            payment.reject("hold-expired", now=LATER)


class TestCancel:
    @pytest.mark.parametrize(
        ("cause", "reason"),
        [
            (CancelCause.FAN, "cancelled-by-fan"),
            (CancelCause.PERFORMANCE_CANCELLED, "performance-cancelled"),
        ],
    )
    def test_refunds_what_was_ours(self, cause: CancelCause, reason: str) -> None:
        change = succeeded().cancel(cause, now=LATER)
        assert change is not None
        assert change.payment.state is PaymentState.REFUNDED
        (transfer,) = change.transfers
        assert (transfer.source, transfer.target) == (REVENUE, "wallet:fan")
        (fact,) = change.facts
        assert isinstance(fact, PaymentRefunded)
        assert (fact.previous_state, fact.reason) == ("succeeded", reason)

    def test_that_overtook_the_confirmation_books_both_in_order(self) -> None:
        change = authorized().cancel(CancelCause.FAN, now=LATER)
        assert change is not None
        assert change.payment.state is PaymentState.REFUNDED
        assert change.payment.version == 3
        assert change.payment.settled_at == LATER
        assert [transfer.kind for transfer in change.transfers] == ["settlement", "refund"]
        assert [fact.type for fact in change.facts] == [
            "payment.succeeded.v1",
            "payment.refunded.v1",
        ]
        assert [fact.version for fact in change.facts] == [2, 3]

    def test_again_changes_nothing(self) -> None:
        change = succeeded().cancel(CancelCause.FAN, now=LATER)
        assert change is not None
        assert change.payment.cancel(CancelCause.FAN, now=LATER) is None

    def test_is_a_contradiction_when_no_money_was_taken(self) -> None:
        with pytest.raises(ContradictoryOutcome):
            failed().cancel(CancelCause.FAN, now=LATER)


class TestStreamRecord:
    def test_nothing_of_an_authorization(self) -> None:
        (fact,) = authorize().facts
        assert stream_record(fact) is None

    def test_nothing_of_a_refund_that_never_succeeded(self) -> None:
        change = authorized().reject("hold-expired", now=LATER)
        assert change is not None
        assert stream_record(change.facts[0]) is None

    def test_a_success_and_its_refund(self) -> None:
        change = authorized().cancel(CancelCause.FAN, now=LATER)
        assert change is not None
        records = [stream_record(fact) for fact in change.facts]
        assert [record.type for record in records if record] == [
            "payment.succeeded.v1",
            "payment.refunded.v1",
        ]
        assert all(record and record.seat_ids == change.payment.seat_ids for record in records)
