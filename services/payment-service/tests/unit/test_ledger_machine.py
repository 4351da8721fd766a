"""Any history of charges, payments and outcomes, duplicated and in any order: no won is lost."""

import os
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from common.events import CancelCause
from payment_service.domain import (
    CLEARING,
    FUNDING,
    REVENUE,
    AlreadyPaid,
    BalanceLimitExceeded,
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
    Transfer,
    Wallet,
    stream_record,
    wallet_account,
)

START = datetime(2026, 11, 21, tzinfo=UTC)
HOLD = timedelta(seconds=20)
USERS = ("ann", "bob", "eve")
REFUSALS = (AlreadyPaid, PaymentInProgress, HoldExpired, InsufficientBalance)


class LedgerMachine(RuleBasedStateMachine):
    """The store's part is played by three dictionaries and a list that only grows."""

    reservations = Bundle("reservations")
    payments = Bundle("payments")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.wallets = {user: Wallet(user) for user in USERS}
        self.payables: dict[str, Payable] = {}
        self.booked: dict[str, Payment] = {}
        self.verdicts: dict[str, str] = {}
        self.entries: list[Transfer] = []
        self.records: list[tuple[str, str]] = []
        self.charged = 0

    # What the reservation side would say: one verdict a payment, and it never takes it back.

    def _book(self, change: Change | None) -> None:
        if change is None:
            return
        payment = change.payment
        for transfer in change.transfers:
            user = payment.user_id
            if transfer.kind is EntryKind.PAYMENT:
                self.wallets[user] = self.wallets[user].debit(transfer.amount)
            elif transfer.kind is EntryKind.REFUND:
                self.wallets[user] = self.wallets[user].refund(transfer.amount)
        self.entries.extend(change.transfers)
        records = [stream_record(fact) for fact in change.facts]
        self.records.extend((record.payment_id, record.type) for record in records if record)
        before = self.booked.get(payment.payment_id)
        assert before is None or payment.version == before.version + len(change.facts)
        self.booked[payment.payment_id] = payment

    @rule(user=st.sampled_from(USERS), amount=st.integers(1, 1_000_000_000))
    def charge(self, user: str, amount: int) -> None:
        try:
            self.wallets[user], transfer = self.wallets[user].charge(amount)
        except BalanceLimitExceeded:
            return
        self.entries.append(transfer)
        self.charged += amount

    @rule(seconds=st.integers(0, 15))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        target=reservations,
        user=st.sampled_from(USERS),
        amount=st.integers(0, 1_500_000_000),
    )
    def hold(self, user: str, amount: int) -> str:
        reservation_id = f"{len(self.payables):036}"
        self.payables[reservation_id] = Payable(
            reservation_id=reservation_id,
            version=1,
            user_id=user,
            concert_id="c" * 36,
            performance_id="p" * 36,
            seat_ids=("s" * 36,),
            state=PayableState.HELD,
            amount=amount,
            hold_expires_at=self.now + HOLD,
        )
        return reservation_id

    @rule(target=payments, reservation_id=reservations)
    def pay(self, reservation_id: str) -> str:
        payable = self.payables[reservation_id]
        rival = next(
            (
                payment.state
                for payment in self.booked.values()
                if payment.reservation_id == reservation_id and payment.state.live
            ),
            None,
        )
        payment_id = f"{len(self.booked):036}"
        wallet = self.wallets[payable.user_id]
        try:
            change = Payment.authorize(payment_id, payable, wallet, rival=rival, now=self.now)
        except REFUSALS:
            change = Payment.refuse(payment_id, payable, now=self.now)
        self._book(change)
        return payment_id

    @rule(payment_id=payments)
    def confirm(self, payment_id: str) -> None:
        payment = self.booked[payment_id]
        if self.verdicts.setdefault(payment_id, "confirmed") == "confirmed":
            self._deliver_confirmation(payment)

    def _deliver_confirmation(self, payment: Payment) -> None:
        try:
            self._book(payment.confirm(now=self.now))
        except ContradictoryOutcome:
            assert payment.state is PaymentState.FAILED

    @rule(payment_id=payments)
    def reject(self, payment_id: str) -> None:
        payment = self.booked[payment_id]
        if self.verdicts.setdefault(payment_id, "rejected") == "rejected":
            try:
                self._book(payment.reject("hold-expired", now=self.now))
            except ContradictoryOutcome:
                assert payment.state is PaymentState.FAILED

    @rule(payment_id=payments)
    def cancel_after_confirmation(self, payment_id: str) -> None:
        """Also before the confirmation's news came, which then arrives late, or twice."""
        payment = self.booked[payment_id]
        if self.verdicts.setdefault(payment_id, "confirmed") == "confirmed":
            try:
                self._book(payment.cancel(CancelCause.FAN, now=self.now))
            except ContradictoryOutcome:
                assert payment.state is PaymentState.FAILED

    @rule(payment_id=payments)
    def lie(self, payment_id: str) -> None:
        """A verdict against what is booked is refused or changes nothing; never booked."""
        payment = self.booked[payment_id]
        if payment.state is PaymentState.AUTHORIZED:
            return
        outcomes = (
            lambda: payment.confirm(now=self.now),
            lambda: payment.reject("not-owner", now=self.now),
        )
        for outcome in outcomes:
            try:
                assert outcome() is None
            except ContradictoryOutcome:
                continue

    @rule(reservation_id=consumes(reservations))
    def expire(self, reservation_id: str) -> None:
        self.now = max(self.now, START) + HOLD

    def _balance(self, account: str) -> int:
        return sum(
            posting.amount
            for transfer in self.entries
            for posting in transfer.postings
            if posting.account == account
        )

    def _total(self, state: PaymentState) -> int:
        return sum(p.amount for p in self.booked.values() if p.state is state)

    @invariant()
    def every_wallet_is_the_sum_of_its_postings(self) -> None:
        for user, wallet in self.wallets.items():
            assert wallet.balance == self._balance(wallet_account(user))
            assert wallet.balance >= 0

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        assert all(sum(p.amount for p in t.postings) == 0 for t in self.entries)
        assert self._balance(FUNDING) == -self.charged
        wallets = sum(wallet.balance for wallet in self.wallets.values())
        assert wallets + self._balance(CLEARING) + self._balance(REVENUE) == self.charged

    @invariant()
    def the_house_holds_what_the_payments_say(self) -> None:
        assert self._balance(CLEARING) == self._total(PaymentState.AUTHORIZED)
        assert self._balance(REVENUE) == self._total(PaymentState.SUCCEEDED)

    @invariant()
    def one_live_payment_a_reservation_and_one_transfer_a_step(self) -> None:
        live = [p.reservation_id for p in self.booked.values() if p.state.live]
        assert len(live) == len(set(live))
        steps = [(t.payment_id, t.kind) for t in self.entries if t.payment_id]
        assert len(steps) == len(set(steps))

    @invariant()
    def the_data_platform_hears_of_successes_and_their_refunds(self) -> None:
        assert len(self.records) == len(set(self.records))
        settled = {p.payment_id for p in self.booked.values() if p.settled_at}
        back = {p.payment_id for p in self.booked.values() if p.settled_at and p.refunded_at}
        assert {i for i, kind in self.records if kind == "payment.succeeded.v1"} == settled
        assert {i for i, kind in self.records if kind == "payment.refunded.v1"} == back


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    # A release asks for 20,000.
    max_examples=int(os.environ.get("STAGEDOOR_HISTORIES", "200")),
    stateful_step_count=50,
    deadline=None,
)
