"""Wallets and ledger in SQL."""

import asyncio
from pathlib import Path

import pytest

import payment_service.store.wallets as store
from common.database import CheckViolation, Database, Transaction
from common.errors import UniqueViolation
from common.ids import new_id
from payment_service.domain import (
    CLEARING,
    FUNDING,
    EntryKind,
    InsufficientBalance,
    Transfer,
    Wallet,
    wallet_account,
)


def charge(user_id: str, amount: int) -> Transfer:
    return Transfer(EntryKind.CHARGE, FUNDING, wallet_account(user_id), amount)


def payment(user_id: str, amount: int, payment_id: str | None = None) -> Transfer:
    source = wallet_account(user_id)
    return Transfer(EntryKind.PAYMENT, source, CLEARING, amount, payment_id or new_id())


async def book(database: Database, user_id: str, *transfers: Transfer) -> list[str]:
    async def work(tx: Transaction) -> list[str]:
        _, now = await store.lock(tx, user_id)
        return await store.book(tx, transfers, now)

    return await database.run(work)


async def found(database: Database, user_id: str) -> Wallet:
    async with database.primary() as session:
        return await store.find(session, user_id)


class TestWallet:
    async def test_of_a_stranger_is_empty(self, database: Database) -> None:
        user_id = new_id()
        assert await found(database, user_id) == Wallet(user_id, 0, 0)

    async def test_is_opened_by_locking_it(self, database: Database) -> None:
        user_id = new_id()
        async with database.transaction() as tx:
            wallet, now = await store.lock(tx, user_id)
            assert wallet == Wallet(user_id, 0, 0)
            assert now.tzinfo is not None
            assert (await store.lock(tx, user_id))[0] == wallet

    async def test_user_ids_differ_by_case_and_accents(self, database: Database) -> None:
        base = new_id()
        for name in (f"{base}-e", f"{base}-E", f"{base}-é"):
            assert (await found(database, name)).balance == 0
            await book(database, name, charge(name, 1))
            assert (await found(database, name)).balance == 1

    async def test_locking_makes_a_rival_wait(self, database: Database) -> None:
        user_id = new_id()
        await book(database, user_id, charge(user_id, 10))
        async with database.transaction() as tx:
            await store.lock(tx, user_id)
            rival = asyncio.create_task(book(database, user_id, charge(user_id, 1)))
            done, _ = await asyncio.wait({rival}, timeout=0.2)
            assert not done
        await rival


class TestBook:
    async def test_moves_the_balance_and_writes_two_rows(self, database: Database) -> None:
        user_id = new_id()
        (entry_id,) = await book(database, user_id, charge(user_id, 500))
        assert await found(database, user_id) == Wallet(user_id, 500, 1)
        async with database.primary() as session:
            (entry,) = await store.entries(session, user_id, limit=5)
            rows = await session.fetch_all(
                "SELECT account, amount FROM ledger_entries WHERE transfer_id ="
                " (SELECT transfer_id FROM ledger_entries WHERE entry_id = %s) ORDER BY amount",
                (entry_id,),
            )
        assert (entry.entry_id, entry.kind, entry.amount) == (entry_id, EntryKind.CHARGE, 500)
        assert [(row["account"], row["amount"]) for row in rows] == [
            (FUNDING, -500),
            (wallet_account(user_id), 500),
        ]

    async def test_never_below_zero_whatever_was_read_before(self, database: Database) -> None:
        user_id = new_id()
        await book(database, user_id, charge(user_id, 10))
        with pytest.raises(InsufficientBalance):
            await book(database, user_id, payment(user_id, 11))
        assert (await found(database, user_id)).balance == 10

    async def test_a_step_of_a_payment_is_booked_once(self, database: Database) -> None:
        user_id, payment_id = new_id(), new_id()
        await book(database, user_id, charge(user_id, 100))
        await book(database, user_id, payment(user_id, 10, payment_id))
        with pytest.raises(UniqueViolation) as refused:
            await book(database, user_id, payment(user_id, 10, payment_id))
        assert refused.value.constraint == "ledger_entries_step"
        assert (await found(database, user_id)).balance == 90

    async def test_twenty_at_once_spend_what_is_there_and_no_more(self, database: Database) -> None:
        user_id = new_id()
        await book(database, user_id, charge(user_id, 70))

        async def spend() -> bool:
            try:
                await book(database, user_id, payment(user_id, 10))
            except InsufficientBalance:
                return False
            return True

        results = await asyncio.gather(*(spend() for _ in range(20)))
        assert sum(results) == 7  # 70 / 10
        assert await found(database, user_id) == Wallet(user_id, 0, 8)  # 1 charge + 7

    async def test_twenty_at_once_charge_a_new_wallet(self, database: Database) -> None:
        user_id = new_id()
        await asyncio.gather(
            *(book(database, user_id, charge(user_id, amount)) for amount in range(1, 21))
        )
        assert await found(database, user_id) == Wallet(user_id, 210, 20)  # 20 * 21 / 2


class TestSchema:
    async def test_holds_the_balance_above_zero_by_itself(self, database: Database) -> None:
        user_id = new_id()
        await book(database, user_id, charge(user_id, 5))
        with pytest.raises(CheckViolation):
            await database.run(
                lambda tx: tx.execute(
                    "UPDATE wallets SET balance = balance - 6 WHERE user_id = %s", (user_id,)
                )
            )

    def test_no_statement_changes_or_removes_a_ledger_row(self) -> None:
        folder = Path(store.__file__).parents[1]
        texts = [path.read_text() for path in folder.rglob("*.py")]
        assert any("INSERT INTO ledger_entries" in text for text in texts)
        for text in texts:
            flat = " ".join(text.split()).upper()
            assert "UPDATE LEDGER_ENTRIES" not in flat
            assert "DELETE FROM LEDGER_ENTRIES" not in flat
            assert "REPLACE INTO LEDGER_ENTRIES" not in flat


class TestEntries:
    async def test_newest_first_page_by_page(self, database: Database) -> None:
        user_id = new_id()
        for amount in range(1, 6):
            await book(database, user_id, charge(user_id, amount))
        async with database.primary() as session:
            first = await store.entries(session, user_id, limit=2)
            last = first[-1]
            rest = await store.entries(
                session, user_id, limit=9, after=(last.created_at, last.entry_id)
            )
        assert [entry.amount for entry in first + rest] == [5, 4, 3, 2, 1]

    async def test_entries_of_one_moment_are_neither_lost_nor_repeated(
        self, database: Database
    ) -> None:
        user_id = new_id()
        await book(database, user_id, *(charge(user_id, amount) for amount in (1, 2, 3)))
        seen = []
        after = None
        async with database.primary() as session:
            while page := await store.entries(session, user_id, limit=1, after=after):
                seen.append(page[0].amount)
                after = (page[0].created_at, page[0].entry_id)
        assert sorted(seen) == [1, 2, 3]

    async def test_of_other_fans_are_not_shown(self, database: Database) -> None:
        user_id = new_id()
        await book(database, user_id, charge(user_id, 1))
        async with database.primary() as session:
            assert await store.entries(session, new_id(), limit=9) == []
