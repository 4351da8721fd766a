"""Money: two postings a transfer, and the wallet they end in.

Every movement of money is a `Transfer` of two postings that sum to zero, between the accounts
``wallet:<user>`` and the house's ``funding`` (where charges come from), ``clearing`` (debited,
outcome open) and ``revenue`` (ours). A wallet's balance is the sum of its postings, never below 0.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from payment_service.domain.errors import BalanceLimitExceeded, InsufficientBalance

CURRENCY = "KRW"
MAX_CHARGE = 1_000_000_000
"""Largest single charge, in minor units."""
MAX_BALANCE = 2**53 - 1
"""What a charge may fill a wallet up to: the largest integer every JSON reader keeps exactly.

Only charges are refused above it. A refund never is: money that left a wallet always gets back in.
"""

FUNDING = "funding"
CLEARING = "clearing"
REVENUE = "revenue"


def wallet_account(user_id: str) -> str:
    """The ledger account of a fan's wallet."""
    return f"wallet:{user_id}"


def wallet_owner(account: str) -> str | None:
    """The fan whose wallet this account is, or None for the house's."""
    _, is_wallet, user_id = account.partition("wallet:")
    return user_id if is_wallet else None


class EntryKind(StrEnum):
    """Why money moved."""

    CHARGE = "charge"
    PAYMENT = "payment"
    SETTLEMENT = "settlement"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a transfer; a positive amount is money that arrives at the account."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that moves from one account to another; its postings sum to zero by construction."""

    kind: EntryKind
    source: str
    target: str
    amount: int
    payment_id: str | None = None

    def __post_init__(self) -> None:
        if self.amount < 0 or self.source == self.target:
            raise ValueError("a transfer moves nothing less than 0, between two accounts")

    @property
    def postings(self) -> tuple[Posting, Posting]:
        """What leaves the source and what arrives at the target."""
        return Posting(self.source, -self.amount), Posting(self.target, self.amount)


@dataclass(frozen=True, slots=True)
class Wallet:
    """A fan's money; ``version`` counts its changes."""

    user_id: str
    balance: int = 0
    version: int = 0

    def charge(self, amount: int) -> tuple[Self, Transfer]:
        """Money from outside.

        Raises:
            ValueError: the amount is not a whole number between 1 and `MAX_CHARGE`.
            BalanceLimitExceeded: the wallet would hold more than `MAX_BALANCE`.
        """
        if type(amount) is not int or not 1 <= amount <= MAX_CHARGE:
            raise ValueError(f"a charge is a whole number from 1 to {MAX_CHARGE}")
        if self.balance + amount > MAX_BALANCE:
            raise BalanceLimitExceeded
        transfer = Transfer(EntryKind.CHARGE, FUNDING, wallet_account(self.user_id), amount)
        return self._moved(amount), transfer

    def debit(self, amount: int) -> Self:
        """Money leaves for a payment.

        Raises:
            InsufficientBalance: there is not enough.
        """
        if self.balance < amount:
            raise InsufficientBalance
        return self._moved(-amount)

    def refund(self, amount: int) -> Self:
        """Money of a payment comes back; never refused."""
        return self._moved(amount)

    def _moved(self, amount: int) -> Self:
        return replace(self, balance=self.balance + amount, version=self.version + 1)
