"""Reads, writes and transactions on the real pair."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest

from common.clock import Clock
from common.database import CheckViolation, Database, Session, Transaction
from common.errors import UniqueViolation
from common.ids import new_id
from common.settings import CommonSettings
from testkit import eventually

INSERT = "INSERT INTO account (id, name, balance, changed_at) VALUES (%s, %s, %s, NOW(6))"


async def account(database: Database, balance: int = 0, name: str | None = None) -> str:
    id_ = new_id()
    await database.run(lambda tx: tx.execute(INSERT, (id_, name or id_, balance)))
    return id_


async def balance(database: Database, id_: str) -> int | None:
    async with database.primary() as session:
        value: int | None = await session.fetch_value(
            "SELECT balance FROM account WHERE id = %s", (id_,)
        )
        return value


class TestSessions:
    async def test_every_session_is_set_up_alike(self, database: Database) -> None:
        async with database.primary() as session:
            row = await session.fetch_one(
                "SELECT @@session.time_zone AS zone, @@session.wait_timeout AS patience,"
                " @@session.innodb_lock_wait_timeout AS lock_wait, @@session.sql_mode AS mode"
            )
        assert row is not None
        assert row["zone"] == "+00:00"
        assert row["patience"] == 4
        assert row["lock_wait"] == 1
        assert "STRICT_TRANS_TABLES" in row["mode"]
        assert "ONLY_FULL_GROUP_BY" in row["mode"]

    async def test_a_transaction_sees_what_others_committed_meanwhile(
        self, database: Database
    ) -> None:
        id_ = await account(database, balance=1)
        read = "SELECT balance FROM account WHERE id = %s"
        async with database.transaction() as tx:
            assert await tx.fetch_value(read, (id_,)) == 1
            await database.run(
                lambda other: other.execute("UPDATE account SET balance = 2 WHERE id = %s", (id_,))
            )
            assert await tx.fetch_value(read, (id_,)) == 2  # 1 under REPEATABLE READ

    async def test_two_statements_at_once_are_a_mistake(self, database: Database) -> None:
        async with database.primary() as session:
            slow = asyncio.create_task(session.fetch_value("SELECT SLEEP(0.2)"))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one statement at a time"):
                await session.fetch_value("SELECT 1")
            assert await slow == 0

    async def test_empty_answers(self, database: Database) -> None:
        async with database.primary() as session:
            nothing = ("SELECT balance FROM account WHERE id = %s", (new_id(),))
            assert await session.fetch_all(*nothing) == []
            assert await session.fetch_one(*nothing) is None
            assert await session.fetch_value(*nothing) is None


class Colour(StrEnum):
    RED = "red"


class TestParameters:
    @pytest.mark.parametrize(
        ("value", "back"),
        [
            ("o'clock \\ \" % \n \0 😀", "o'clock \\ \" % \n \0 😀"),
            (2**63 - 1, 2**63 - 1),
            (True, 1),
            (None, None),
            (Colour.RED, "red"),
            (b"bytes", b"bytes"),
        ],
    )
    async def test_a_value_comes_back(
        self, database: Database, value: object, back: object
    ) -> None:
        async with database.primary() as session:
            assert await session.fetch_value("SELECT %s", (value,)) == back

    async def test_moments_are_utc_whatever_their_zone(self, database: Database) -> None:
        noon = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
        id_ = await account(database)
        await database.run(
            lambda tx: tx.execute("UPDATE account SET changed_at = %s WHERE id = %s", (noon, id_))
        )
        async with database.primary() as session:
            sql = "SELECT changed_at FROM account WHERE id = %s AND changed_at IN %s"
            found = await session.fetch_value(sql, (id_, [noon]))
        assert found == noon
        assert found.tzinfo is UTC

    async def test_a_sequence_stands_for_in(self, database: Database) -> None:
        ids = {await account(database) for _ in range(3)}
        async with database.primary() as session:
            rows = await session.fetch_all("SELECT id FROM account WHERE id IN %s", (ids,))
        assert {row["id"] for row in rows} == ids

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (datetime(2026, 1, 1), TypeError),  # noqa: DTZ001 - the mistake under test
            ([], ValueError),
            ({"a": 1}, TypeError),
        ],
    )
    async def test_what_cannot_be_a_parameter(
        self, database: Database, value: object, error: type[Exception]
    ) -> None:
        async with database.primary() as session:
            with pytest.raises(error):
                await session.fetch_value("SELECT %s", (value,))
            assert await session.fetch_value("SELECT 1") == 1

    async def test_a_per_cent_sign_without_parameters(self, database: Database) -> None:
        async with database.primary() as session:
            assert await session.fetch_value("SELECT 'a' LIKE '%a%'") == 1


class TestTransaction:
    async def test_commits_and_returns_what_the_work_returned(self, database: Database) -> None:
        id_ = new_id()

        async def work(tx: Transaction) -> str:
            assert await tx.execute(INSERT, (id_, id_, 7)) == 1
            return "done"

        assert await database.run(work) == "done"
        assert await balance(database, id_) == 7

    async def test_an_error_rolls_everything_back(self, database: Database) -> None:
        id_ = new_id()

        async def work(tx: Transaction) -> None:
            await tx.execute(INSERT, (id_, id_, 7))
            raise LookupError

        with pytest.raises(LookupError):
            await database.run(work)
        assert await balance(database, id_) is None

    async def test_affected_rows_are_changed_rows(self, database: Database) -> None:
        id_ = await account(database, balance=5)
        update = "UPDATE account SET balance = 5 WHERE id = %s"
        assert await database.run(lambda tx: tx.execute(update, (id_,))) == 0

    async def test_a_duplicate_names_its_key(self, database: Database) -> None:
        name = f"a for key 'b' {new_id()}"
        id_ = await account(database, name=name)
        with pytest.raises(UniqueViolation) as by_name:
            await account(database, name=name)
        assert by_name.value.constraint == "account_name"
        with pytest.raises(UniqueViolation) as by_id:
            await database.run(lambda tx: tx.execute(INSERT, (id_, new_id(), 0)))
        assert by_id.value.constraint == "PRIMARY"

    async def test_a_check_names_itself(self, database: Database) -> None:
        with pytest.raises(CheckViolation) as caught:
            await account(database, balance=-1)
        assert caught.value.constraint == "account_balance"

    async def test_a_swallowed_error_still_rolls_back(self, database: Database) -> None:
        taken = await account(database)
        id_ = new_id()

        async def work(tx: Transaction) -> None:
            await tx.execute(INSERT, (id_, id_, 1))
            with pytest.raises(UniqueViolation):
                await tx.execute(INSERT, (taken, new_id(), 1))
            with pytest.raises(UniqueViolation):  # and nothing else can be done in it
                await tx.execute(INSERT, (new_id(), new_id(), 1))

        with pytest.raises(UniqueViolation):
            await database.run(work)
        assert await balance(database, id_) is None

    async def test_many_rows_are_one_statement(self, database: Database) -> None:
        rows = [(new_id(), new_id(), number) for number in range(500)]

        async def work(tx: Transaction) -> tuple[int, int]:
            questions = "SHOW SESSION STATUS LIKE 'Com_insert'"
            before = int((await tx.fetch_all(questions))[0]["Value"])
            inserted = await tx.execute_many(INSERT, rows)
            return inserted, int((await tx.fetch_all(questions))[0]["Value"]) - before

        assert await database.run(work) == (500, 1)

    async def test_very_many_bytes_are_several_statements(self, database: Database) -> None:
        sql = (
            "INSERT INTO idempotency (user_id, path, idempotency_key, body_hash, status, headers,"
            " body, created_at) VALUES (%s, 'p', %s, '', 200, '{}', %s, NOW(6))"
            " ON DUPLICATE KEY UPDATE status = status"
        )
        user = new_id()
        rows = [(user, str(number), "x" * 300_000) for number in range(70)]  # 21 MB
        assert await database.run(lambda tx: tx.execute_many(sql, rows)) == 70
        assert await database.run(lambda tx: tx.execute_many(sql, rows[:2])) == 0

    async def test_no_rows_and_no_values(self, database: Database) -> None:
        async with database.transaction() as tx:
            assert await tx.execute_many(INSERT, []) == 0
            with pytest.raises(ValueError, match="VALUES"):
                await tx.execute_many("UPDATE account SET balance = %s", [(1,)])

    async def test_callbacks_follow_the_commit(self, database: Database) -> None:
        id_, seen = new_id(), []

        async def work(tx: Transaction) -> None:
            async def look() -> None:
                seen.append(await balance(database, id_))

            def fail() -> None:
                raise LookupError

            tx.after_commit(fail)  # must not make the commit look undone
            tx.after_commit(look)
            await tx.execute(INSERT, (id_, id_, 3))
            assert seen == []

        await database.run(work)
        assert seen == [3]

    async def test_no_callback_without_a_commit(self, database: Database) -> None:
        called: list[int] = []

        async def work(tx: Transaction) -> None:
            tx.after_commit(lambda: called.append(1))
            raise LookupError

        with pytest.raises(LookupError):
            await database.run(work)
        assert called == []


class TestReplica:
    async def test_answers_when_its_heartbeat_is_young(self, database: Database) -> None:
        async with database.replica() as session:
            server = await session.fetch_value("SELECT @@server_id")
            assert session.source == "replica"
        assert server == 2
        assert database.replica_lag_seconds is not None
        assert database.replica_lag_seconds < 2

    async def test_the_clock_takes_the_databases_time(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        clock = Clock()
        clock.synchronise(datetime(2000, 1, 1, tzinfo=UTC))
        other = await Database.connect(probe_settings, clock=clock)
        await eventually(lambda: clock.now().year > 2000)
        async with database.primary() as session:
            now = await session.fetch_value("SELECT NOW(6)")
        assert abs((clock.now() - now).total_seconds()) < 0.5
        await other.close()


def test_a_session_only_reads() -> None:
    assert not hasattr(Session, "execute")
