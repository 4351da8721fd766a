"""Contention, cancellation, and servers that refuse, vanish or say nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from common.database import Database, RetryTransaction, Transaction
from common.database.connections import Connection, Deadlines, Server, connect
from common.database.pool import Pool
from common.errors import DependencyUnavailable, OutcomeUnknown
from common.ids import new_id
from common.settings import CommonSettings
from testkit import TcpProxy, eventually

INSERT = "INSERT INTO account (id, name, balance) VALUES (%s, %s, %s)"
READ = "SELECT balance FROM account WHERE id = %s"
LOCK = READ + " FOR UPDATE"
ADD = "UPDATE account SET balance = balance + %s WHERE id = %s"


@pytest.fixture
async def primary(probe_settings: CommonSettings) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(probe_settings.database_primary_port) as proxy:
        yield proxy


@pytest.fixture
async def replica(probe_settings: CommonSettings) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(probe_settings.database_replica_port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(
    probe_settings: CommonSettings, primary: TcpProxy, replica: TcpProxy
) -> AsyncIterator[Database]:
    """A database of which both servers can be taken away."""
    update: dict[str, Any] = {
        "database_primary_port": primary.port,
        "database_replica_port": replica.port,
        "database_pool_size": 3,
        "database_timeout_seconds": 1.0,
    }
    database = await Database.connect(probe_settings.model_copy(update=update))
    await eventually(database.replica_is_fresh)
    yield database
    await database.close()


async def account(database: Database, balance: int = 0) -> str:
    id_ = new_id()
    await database.run(lambda tx: tx.execute(INSERT, (id_, id_, balance)))
    return id_


async def balance(database: Database, id_: str) -> int | None:
    async with database.primary() as session:
        value: int | None = await session.fetch_value(READ, (id_,))
        return value


class TestContention:
    async def test_a_deadlock_is_done_again_with_fresh_reads(self, database: Database) -> None:
        first, second = await account(database), await account(database)
        both_hold_one = asyncio.Barrier(2)
        attempts = 0

        async def move(tx: Transaction, source: str, target: str) -> None:
            nonlocal attempts
            attempts += 1
            before = await tx.fetch_value(LOCK, (source,))
            if attempts <= 2:
                await both_hold_one.wait()
            await tx.execute(ADD, (10, target))
            # A read repeated from the first attempt would overwrite what the rival added.
            await tx.execute("UPDATE account SET balance = %s WHERE id = %s", (before + 1, source))

        await asyncio.gather(
            database.run(lambda tx: move(tx, first, second)),
            database.run(lambda tx: move(tx, second, first)),
        )
        assert attempts == 3
        # The loser ran last and read the winner's 10: one account got 10 + 1, the other 1 + 10.
        assert [await balance(database, first), await balance(database, second)] == [11, 11]

    async def test_without_retry_the_loser_is_told(self, database: Database) -> None:
        first, second = await account(database), await account(database)
        both_hold_one = asyncio.Barrier(2)

        async def lock_both(one: str, other: str) -> None:
            async with database.transaction() as tx:
                await tx.fetch_value(LOCK, (one,))
                await both_hold_one.wait()
                await tx.fetch_value(LOCK, (other,))

        results = await asyncio.gather(
            lock_both(first, second), lock_both(second, first), return_exceptions=True
        )
        assert {type(result) for result in results} == {RetryTransaction, type(None)}

    async def test_a_lock_wait_ends_before_the_deadline_and_retries_are_bounded(
        self, database: Database
    ) -> None:
        id_ = await account(database)
        attempts = 0

        async def wait_for_it(tx: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            await tx.execute(ADD, (1, id_))

        async with database.transaction() as holder:
            await holder.fetch_value(LOCK, (id_,))
            began = time.monotonic()
            with pytest.raises(RetryTransaction):  # a DependencyUnavailable: 503 over HTTP
                await database.run(wait_for_it)
            took = time.monotonic() - began
        assert attempts == 2  # a third one would begin after the time for all is over
        assert took < 4.5
        assert await balance(database, id_) == 0

    async def test_twenty_at_once_lose_nothing(self, database: Database) -> None:
        id_ = await account(database)

        async def add_one(tx: Transaction) -> None:
            value = await tx.fetch_value(LOCK, (id_,))
            await tx.execute("UPDATE account SET balance = %s WHERE id = %s", (value + 1, id_))

        await asyncio.gather(*(database.run(add_one) for _ in range(20)))
        assert await balance(database, id_) == 20


class TestPool:
    async def test_waiting_for_a_connection_has_a_deadline(self, proxied: Database) -> None:
        async def hold() -> None:
            async with proxied.primary() as session:
                await session.fetch_value("SELECT SLEEP(0.9)")
                await asyncio.sleep(0.6)

        holders = [asyncio.create_task(hold()) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            async with proxied.primary() as session:
                await session.fetch_value("SELECT 1")
        assert 0.8 < time.monotonic() - began < 4
        await asyncio.gather(*holders)

    @pytest.mark.parametrize("driver_closes", [True, False])
    async def test_cancelled_queries_neither_leak_connections_nor_answers(
        self, proxied: Database, driver_closes: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def connect_to_a_careless_driver(server: Server, limits: Deadlines) -> Connection:
            connection = await connect(server, limits)
            monkeypatch.setattr(connection._raw, "_close_on_cancel", lambda: None)
            return connection

        if not driver_closes:  # it does so only while it reads; the guard is to be ours
            monkeypatch.setattr("common.database.pool.connect", connect_to_a_careless_driver)

        async def ask(number: int) -> None:
            async with proxied.primary() as session:
                sql = "SELECT %s FROM (SELECT SLEEP(%s)) AS nap"
                assert await session.fetch_value(sql, (number, number % 4 / 100)) == number

        for _ in range(5):
            tasks = [asyncio.create_task(ask(number)) for number in range(20)]
            await asyncio.sleep(0.015)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None for result in results[1::2]), results
        # Every slot is free again: as many as the pool has, at once.
        await asyncio.wait_for(asyncio.gather(*(ask(number) for number in range(3))), 1)

    async def test_idle_connections_are_not_used_after_two_seconds(
        self, probe_settings: CommonSettings, primary: TcpProxy
    ) -> None:
        update = {"database_primary_port": primary.port}
        pool = Pool(Server.primary(probe_settings.model_copy(update=update)), 2)
        async with pool.connection() as connection:
            connection.used_at -= 2.1
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        async with pool.connection() as same:
            assert same is connection
        assert primary.accepted == 2
        pool.close()
        with pytest.raises(DependencyUnavailable):
            async with pool.connection():
                pass

    async def test_a_restarted_server_costs_no_request(
        self, proxied: Database, primary: TcpProxy
    ) -> None:
        id_ = await account(proxied)
        before = primary.accepted
        await primary.cut()
        await eventually(lambda: primary.accepted > before)  # the heartbeat's: the reset is here
        assert await balance(proxied, id_) == 0

    async def test_a_frozen_holder_is_disconnected(self, database: Database) -> None:
        """A session that says nothing for 4 s loses its transaction and its locks."""
        id_ = await account(database)
        frozen = database.transaction()
        tx = await frozen.__aenter__()
        await tx.execute(ADD, (1, id_))
        began = time.monotonic()

        async def others_can_write() -> bool:
            try:
                return await database.run(lambda other: other.execute(ADD, (10, id_))) == 1
            except DependencyUnavailable:
                return False

        await eventually(others_can_write, 8)
        assert time.monotonic() - began > 3
        with pytest.raises(OutcomeUnknown):
            await frozen.__aexit__(None, None, None)
        assert await balance(database, id_) == 10


class TestCommit:
    async def test_a_cancelled_commit_still_happens_and_rings(
        self, proxied: Database, primary: TcpProxy
    ) -> None:
        id_ = await account(proxied)
        rung = asyncio.Event()

        async def work(tx: Transaction) -> None:
            tx.after_commit(rung.set)
            await tx.execute(ADD, (1, id_))
            await primary.delay(0.15)  # COMMIT is sent, and answered late

        task = asyncio.create_task(proxied.run(work))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.02)
        task.cancel()  # nor does a second cancellation cut it
        with pytest.raises(asyncio.CancelledError):
            await task
        await primary.resume()
        await asyncio.wait_for(rung.wait(), 1)
        assert await balance(proxied, id_) == 1

    async def test_an_unanswered_commit_has_an_unknown_outcome(
        self, proxied: Database, primary: TcpProxy
    ) -> None:
        id_ = await account(proxied)
        attempts = 0

        async def work(tx: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            await tx.execute(ADD, (1, id_))
            await primary.drop()

        with pytest.raises(OutcomeUnknown):
            await proxied.run(work)
        assert attempts == 1  # never blindly again
        await primary.cut()
        await primary.resume()

    async def test_work_cancelled_before_commit_leaves_nothing(self, database: Database) -> None:
        id_ = await account(database)
        inside = asyncio.Event()

        async def work(tx: Transaction) -> None:
            await tx.execute(ADD, (1, id_))
            inside.set()
            await asyncio.sleep(10)

        task = asyncio.create_task(database.run(work))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.run(lambda tx: tx.execute(ADD, (5, id_))) == 1  # no lock is left
        assert await balance(database, id_) == 5


class TestServerAway:
    @pytest.mark.parametrize("how", ["refuse", "drop"])
    async def test_the_primary(self, proxied: Database, primary: TcpProxy, how: str) -> None:
        id_ = await account(proxied)
        await getattr(primary, how)()

        async def one() -> float:
            began = time.monotonic()
            with pytest.raises(DependencyUnavailable):
                await proxied.run(lambda tx: tx.execute(ADD, (1, id_)))
            return time.monotonic() - began

        waits = await asyncio.gather(*(one() for _ in range(12)))
        assert max(waits) < 3
        await primary.cut()
        await primary.resume()

        async def again() -> bool:
            try:
                return await proxied.run(lambda tx: tx.execute(ADD, (1, id_))) == 1
            except DependencyUnavailable:
                return False

        await eventually(again, 3)

    @pytest.mark.parametrize("how", ["refuse", "drop"])
    async def test_the_replica_falls_back_to_the_primary(
        self, proxied: Database, replica: TcpProxy, how: str
    ) -> None:
        async def read() -> str:
            async with proxied.replica() as session:
                assert await session.fetch_value("SELECT 1") == 1
                return session.source

        assert await read() == "replica"
        await getattr(replica, how)()
        began = time.monotonic()
        assert await read() == "primary"  # also the very first one, under which it vanished
        assert time.monotonic() - began < 4
        await eventually(lambda: proxied.replica_lag_seconds is None)
        began = time.monotonic()
        assert await read() == "primary"
        assert time.monotonic() - began < 1
        await replica.cut()
        await replica.resume()
        await eventually(proxied.replica_is_fresh)
        assert await read() == "replica"

    async def test_a_silent_replica_is_left_before_the_deadline(
        self, probe_settings: CommonSettings, replica: TcpProxy
    ) -> None:
        update = {"database_replica_port": replica.port, "database_timeout_seconds": 10.0}
        database = await Database.connect(probe_settings.model_copy(update=update))
        await eventually(database.replica_is_fresh)

        async def read() -> str:
            async with database.replica() as session:
                await session.fetch_value("SELECT 1")
                return session.source

        await read()
        await replica.drop()
        began = time.monotonic()
        assert await asyncio.gather(*(read() for _ in range(5))) == ["primary"] * 5
        # The heartbeat finds out within 0.25 s and the second it waits for an answer.
        assert time.monotonic() - began < 4
        await replica.cut()
        await database.close()

    async def test_a_slow_statement_is_given_up(self, proxied: Database) -> None:
        began = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            async with proxied.primary() as session:
                await session.fetch_value("SELECT SLEEP(5)")
        assert time.monotonic() - began < 4

    async def test_a_stale_replica_is_not_asked(
        self, database: Database, infrastructure: Any
    ) -> None:
        import pymysql  # noqa: PLC0415

        replica = pymysql.connect(
            host="127.0.0.1",
            port=infrastructure.ports.mariadb_replica,
            user="test-admin",
            password=infrastructure.stack.credentials.test_admin,
            autocommit=True,
        )
        with replica, replica.cursor() as cursor:
            cursor.execute("STOP REPLICA SQL_THREAD")
            try:
                await eventually(lambda: not database.replica_is_fresh(), 6)
                lag = database.replica_lag_seconds
                assert lag is not None
                assert lag > 2
                id_ = await account(database, 42)
                async with database.replica() as session:
                    assert await session.fetch_value(READ, (id_,)) == 42
                    assert session.source == "primary"
            finally:
                cursor.execute("START REPLICA SQL_THREAD")
        await eventually(database.replica_is_fresh, 6)
