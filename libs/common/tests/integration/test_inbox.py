"""A message has its effect once, however many workers get it at the same time."""

import asyncio

from common import inbox
from common.database import Database, Transaction
from common.ids import new_id

INSERT = "INSERT INTO account (id, name, balance) VALUES (%s, %s, 0)"
READ = "SELECT balance FROM account WHERE id = %s"
ADD = "UPDATE account SET balance = balance + %s WHERE id = %s"


async def account(database: Database) -> str:
    id_ = new_id()
    await database.run(lambda tx: tx.execute(INSERT, (id_, id_)))
    return id_


async def balance(database: Database, id_: str) -> int:
    async with database.primary() as session:
        return int(await session.fetch_value(READ, (id_,)))


class TestOneMessage:
    async def test_twenty_deliveries_at_once_have_one_effect(self, database: Database) -> None:
        id_, message = await account(database), new_id()

        async def handle(tx: Transaction) -> bool:
            if not await inbox.first_time(tx, "probe", message):
                return False
            await tx.execute(ADD, (1, id_))
            return True

        results = await asyncio.gather(*(database.run(handle) for _ in range(20)))
        assert sorted(results) == [False] * 19 + [True]
        assert await balance(database, id_) == 1

    async def test_a_failed_handler_has_not_seen_it(self, database: Database) -> None:
        message = new_id()

        async def fail(tx: Transaction) -> None:
            assert await inbox.first_time(tx, "probe", message)
            raise LookupError

        for _ in range(2):
            try:
                await database.run(fail)
            except LookupError:
                continue
        assert await database.run(lambda tx: inbox.first_time(tx, "probe", message))

    async def test_each_consumer_has_its_own_view(self, database: Database) -> None:
        message = new_id()
        assert await database.run(lambda tx: inbox.first_time(tx, "one", message))
        assert await database.run(lambda tx: inbox.first_time(tx, "other", message))


class TestBatch:
    async def test_repeats_and_known_ones_are_left_out(self, database: Database) -> None:
        known, new, other = new_id(), new_id(), new_id()
        await database.run(lambda tx: inbox.first_time(tx, "probe", known))
        batch = [known, new, new, other]
        first = await database.run(lambda tx: inbox.first_times(tx, "probe", batch))
        assert first == {new, other}
        assert await database.run(lambda tx: inbox.first_times(tx, "probe", batch)) == set()
        assert await database.run(lambda tx: inbox.first_times(tx, "probe", [])) == set()

    async def test_overlapping_batches_at_once_have_one_effect_a_message(
        self, database: Database
    ) -> None:
        id_, messages = await account(database), [new_id() for _ in range(30)]

        async def handle(tx: Transaction, batch: list[str]) -> int:
            first = await inbox.first_times(tx, "probe", batch)
            await asyncio.sleep(0.001)
            await tx.execute(ADD, (len(first), id_))
            return len(first)

        batches = [messages[start : start + 20] for start in range(0, 11, 2)] * 2
        batches = [batch[::-1] if number % 2 else batch for number, batch in enumerate(batches)]
        counts = await asyncio.gather(
            *(
                database.run(lambda tx, batch=batch: handle(tx, batch), attempts=10)
                for batch in batches
            )
        )
        assert sum(counts) == 30
        assert await balance(database, id_) == 30


async def test_purging_forgets_only_what_is_old(database: Database) -> None:
    old, young = new_id(), new_id()
    for message in (old, young):
        await database.run(lambda tx, message=message: inbox.first_time(tx, "purge", message))
    age = "UPDATE inbox SET received_at = NOW(6) - INTERVAL 100 SECOND WHERE message_id = %s"
    await database.run(lambda tx: tx.execute(age, (old,)))
    assert await inbox.purge(database, kept_seconds=50) == 1
    assert await database.run(lambda tx: inbox.first_time(tx, "purge", old))
    assert not await database.run(lambda tx: inbox.first_time(tx, "purge", young))
