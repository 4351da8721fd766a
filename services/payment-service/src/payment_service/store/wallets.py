"""Wallets and the ledger. Ledger rows are inserted; nothing ever changes or removes one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from common.database import Session, Transaction
from common.ids import new_id
from payment_service.domain import (
    EntryKind,
    InsufficientBalance,
    Transfer,
    Wallet,
    wallet_account,
    wallet_owner,
)

_FIND = "SELECT balance, version FROM wallets WHERE user_id = %s"
_LOCK = "SELECT balance, version, NOW(6) AS now FROM wallets WHERE user_id = %s FOR UPDATE"
_OPEN = """
INSERT INTO wallets (user_id, balance, version) VALUES (%s, 0, 0)
ON DUPLICATE KEY UPDATE user_id = user_id
"""
# The condition is the last fence: whatever was read before, no balance goes below zero.
_MOVE = """
UPDATE wallets SET balance = balance + %s, version = version + 1
WHERE user_id = %s AND balance + %s >= 0
"""
_POST = """
INSERT INTO ledger_entries
    (entry_id, transfer_id, account, amount, kind, payment_id, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
_HISTORY = """
SELECT entry_id, kind, amount, payment_id, created_at FROM ledger_entries
WHERE account = %s
ORDER BY created_at DESC, entry_id DESC LIMIT %s
"""
_HISTORY_AFTER = """
SELECT entry_id, kind, amount, payment_id, created_at FROM ledger_entries
WHERE account = %s AND (created_at < %s OR (created_at = %s AND entry_id < %s))
ORDER BY created_at DESC, entry_id DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One posting of a wallet, as its owner sees it; a positive amount came in."""

    entry_id: str
    kind: Literal[EntryKind.CHARGE, EntryKind.PAYMENT, EntryKind.REFUND]
    amount: int
    payment_id: str | None
    created_at: datetime


async def find(session: Session, user_id: str) -> Wallet:
    """The fan's wallet; an empty one if there is none yet."""
    row = await session.fetch_one(_FIND, (user_id,))
    return Wallet(user_id, row["balance"], row["version"]) if row else Wallet(user_id)


async def lock(tx: Transaction, user_id: str) -> tuple[Wallet, datetime]:
    """Open the wallet if need be and lock it until the transaction ends; with the time it is.

    Payments, charges and refunds of one fan are done one after the other by this lock.
    """
    rows = await tx.fetch_all(_LOCK, (user_id,))
    if not rows:
        await tx.execute(_OPEN, (user_id,))
        rows = await tx.fetch_all(_LOCK, (user_id,))
    (row,) = rows
    return Wallet(user_id, row["balance"], row["version"]), row["now"]


async def book(tx: Transaction, transfers: tuple[Transfer, ...], now: datetime) -> list[str]:
    """Move the money and write it down; returns the ids of the wallets' entries, in order.

    Raises:
        InsufficientBalance: a wallet would go below zero. The transaction must be rolled back.
        UniqueViolation: this step of this payment is booked already.
    """
    rows, of_wallets = [], []
    for transfer in transfers:
        transfer_id = new_id()
        for posting in transfer.postings:
            entry_id = new_id()
            user_id = wallet_owner(posting.account)
            if user_id is not None:
                moved = await tx.execute(_MOVE, (posting.amount, user_id, posting.amount))
                if moved != 1:
                    raise InsufficientBalance
                of_wallets.append(entry_id)
            rows.append(
                (
                    entry_id,
                    transfer_id,
                    posting.account,
                    posting.amount,
                    transfer.kind.value,
                    transfer.payment_id,
                    now,
                )
            )
    await tx.execute_many(_POST, rows)
    return of_wallets


async def entries(
    session: Session, user_id: str, *, limit: int, after: tuple[datetime, str] | None = None
) -> list[Entry]:
    """The wallet's newest entries, or those older than ``after`` (moment and id)."""
    account = wallet_account(user_id)
    if after is None:
        rows = await session.fetch_all(_HISTORY, (account, limit))
    else:
        moment, entry_id = after
        rows = await session.fetch_all(_HISTORY_AFTER, (account, moment, moment, entry_id, limit))
    return [Entry(**{**row, "kind": EntryKind(row["kind"])}) for row in rows]
