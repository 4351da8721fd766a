"""Transfers and wallets on their own."""

from typing import Any

import pytest

from payment_service.domain import (
    FUNDING,
    MAX_BALANCE,
    MAX_CHARGE,
    BalanceLimitExceeded,
    EntryKind,
    InsufficientBalance,
    Transfer,
    Wallet,
)


class TestTransfer:
    def test_its_postings_sum_to_zero(self) -> None:
        transfer = Transfer(EntryKind.CHARGE, FUNDING, "wallet:fan", 700)
        assert [(p.account, p.amount) for p in transfer.postings] == [
            (FUNDING, -700),
            ("wallet:fan", 700),
        ]

    @pytest.mark.parametrize(
        ("target", "amount"),
        [("wallet:fan", -1), (FUNDING, 1)],  # backwards; to itself
    )
    def test_refuses_what_would_make_money(self, target: str, amount: int) -> None:
        with pytest.raises(ValueError, match="a transfer moves"):
            Transfer(EntryKind.CHARGE, FUNDING, target, amount)


class TestCharge:
    @pytest.mark.parametrize("amount", [1, MAX_CHARGE])
    def test_fills_the_wallet(self, amount: int) -> None:
        wallet, transfer = Wallet("fan", balance=5, version=3).charge(amount)
        assert wallet == Wallet("fan", balance=5 + amount, version=4)
        assert (transfer.source, transfer.target) == (FUNDING, "wallet:fan")

    @pytest.mark.parametrize("amount", [0, -1, MAX_CHARGE + 1, 2**63, 1.0, 1.5, True, "100", None])
    def test_refuses_anything_but_a_sensible_whole_number(self, amount: Any) -> None:
        with pytest.raises(ValueError, match="whole number"):
            Wallet("fan").charge(amount)

    def test_stops_at_the_limit(self) -> None:
        wallet, _ = Wallet("fan", balance=MAX_BALANCE - 1).charge(1)
        assert wallet.balance == MAX_BALANCE
        with pytest.raises(BalanceLimitExceeded):
            wallet.charge(1)


class TestDebitAndRefund:
    def test_the_last_won_may_go(self) -> None:
        assert Wallet("fan", balance=10).debit(10).balance == 0

    def test_never_below_zero(self) -> None:
        with pytest.raises(InsufficientBalance):
            Wallet("fan", balance=10).debit(11)

    def test_a_refund_is_never_refused(self) -> None:
        assert Wallet("fan", balance=MAX_BALANCE).refund(5).balance == MAX_BALANCE + 5
