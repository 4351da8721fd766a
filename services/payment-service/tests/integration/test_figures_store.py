"""Figures: compared before and after, since the tables are never empty."""

import asyncio
from datetime import UTC, datetime, timedelta

import payment_service.store.wallets as wallet_store
from common.database import Database, Transaction
from common.ids import new_id
from payment_service.domain import CLEARING, FUNDING, REVENUE, EntryKind, Transfer, wallet_account
from payment_service.store import figures


async def book(database: Database, user_id: str, *transfers: Transfer) -> None:
    async def work(tx: Transaction) -> None:
        _, now = await wallet_store.lock(tx, user_id)
        await wallet_store.book(tx, transfers, now)

    await database.run(work)


async def test_revenue_counts_sales_and_refunds_of_each_minute(database: Database) -> None:
    async with database.primary() as session:
        before = await figures.revenue(session, minutes=60)
    user_id, kept, returned = new_id(), new_id(), new_id()
    await book(
        database,
        user_id,
        Transfer(EntryKind.SETTLEMENT, CLEARING, REVENUE, 700, kept),
        Transfer(EntryKind.SETTLEMENT, CLEARING, REVENUE, 500, returned),
        Transfer(EntryKind.REFUND, REVENUE, wallet_account(user_id), 500, returned),
    )
    async with database.primary() as session:
        after = await figures.revenue(session, minutes=60)

    def total(minutes: list[figures.RevenueMinute], name: str) -> int:
        return sum(getattr(one, name) for one in minutes)

    assert total(after, "amount") - total(before, "amount") == 700
    assert total(after, "sales") - total(before, "sales") == 2
    assert total(after, "refunds") - total(before, "refunds") == 1
    newest = datetime.fromtimestamp(after[-1].minute, UTC)
    assert newest.second == 0
    assert datetime.now(UTC) - newest < timedelta(minutes=2)


async def test_wallet_totals_are_every_wallets_sum(database: Database) -> None:
    async with database.primary() as session:
        before = await figures.wallet_totals(session)
    user_id = new_id()
    charge = Transfer(EntryKind.CHARGE, FUNDING, wallet_account(user_id), 1_234)
    await book(database, user_id, charge)
    async with database.primary() as session:
        after = await figures.wallet_totals(session)
    assert (after.wallets, after.balance) == (before.wallets + 1, before.balance + 1_234)


async def test_backlog_and_overdue_name_what_has_no_outcome(database: Database) -> None:
    async with database.primary() as session:
        before = await figures.backlog(session)
    payment_id, reservation_id = new_id(), new_id()
    await database.run(
        lambda tx: tx.execute(
            "INSERT INTO payments (payment_id, reservation_id, user_id, concert_id,"
            " performance_id, seat_ids, amount, state, live_reservation_id, version,"
            " idempotency_key, body_hash, created_at) VALUES"
            " (%s, %s, 'fan', %s, %s, '[]', 5, 'authorized', %s, 1, %s, %s,"
            " NOW(6) - INTERVAL 1 DAY)",
            (payment_id, reservation_id, *[reservation_id] * 3, payment_id, "a" * 64),
        )
    )
    try:
        async with database.primary() as session:
            backlog = await figures.backlog(session)
            overdue = await figures.overdue(session, older_than_seconds=5, limit=10)
            recent = await figures.overdue(session, older_than_seconds=100_000, limit=10)
        assert backlog.payments == before.payments + 1
        assert backlog.oldest_age_seconds is not None
        assert backlog.oldest_age_seconds > 86_000  # a day has 86,400 seconds
        assert overdue[0].payment_id == payment_id
        assert payment_id not in {one.payment_id for one in recent}
    finally:
        await database.run(
            lambda tx: tx.execute("DELETE FROM payments WHERE payment_id = %s", (payment_id,))
        )


async def test_now_is_the_databases_time(database: Database) -> None:
    async with database.primary() as session:
        first = await figures.now(session)
        await asyncio.sleep(0)
        assert await figures.now(session) >= first
