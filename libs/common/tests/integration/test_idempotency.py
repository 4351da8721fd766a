"""A repeated call gets the first answer, another body is refused, an open call is told."""

import asyncio

import pytest

from common import idempotency
from common.database import Database
from common.errors import Problem, UniqueViolation
from common.idempotency import StoredAnswer
from common.ids import new_id
from common.redis import Redis, create_redis
from common.settings import CommonSettings
from testkit import TcpProxy

PATH = "/wallet/charges"


class TestStoredAnswer:
    async def test_it_comes_back_byte_for_byte(self, database: Database) -> None:
        user, key = f"fan 😀 {new_id()}", "k" * 128
        body = '{"entry_id":"é😀","balance":  1}'.encode()
        answer = StoredAnswer(201, body, "0" * 64, {"Location": "/x"})
        await database.run(lambda tx: idempotency.store(tx, user, PATH, key, answer))
        async with database.primary() as session:
            assert await idempotency.find(session, user, PATH, key) == answer
            assert await idempotency.find(session, user, PATH, key.upper()) is None
            assert await idempotency.find(session, user, "/payments", key) is None
            assert await idempotency.find(session, new_id(), PATH, key) is None

    async def test_a_rival_can_not_answer_again(self, database: Database) -> None:
        user = new_id()
        answer = StoredAnswer(201, b"{}", "0" * 64)
        await database.run(lambda tx: idempotency.store(tx, user, PATH, "k", answer))
        with pytest.raises(UniqueViolation):
            await database.run(lambda tx: idempotency.store(tx, user, PATH, "k", answer))

    @pytest.mark.parametrize("status", [202, 503])
    async def test_only_final_answers_are_kept(self, database: Database, status: int) -> None:
        answer = StoredAnswer(status, b"{}", "0" * 64)
        with pytest.raises(ValueError, match="no final answer"):
            await database.run(lambda tx: idempotency.store(tx, "u", PATH, "k", answer))

    async def test_purging_forgets_only_what_is_old(self, database: Database) -> None:
        old, young = new_id(), new_id()
        answer = StoredAnswer(201, b"{}", "0" * 64)
        for user in (old, young):
            await database.run(lambda tx, user=user: idempotency.store(tx, user, PATH, "k", answer))
        age = "UPDATE idempotency SET created_at = NOW(6) - INTERVAL 100 SECOND WHERE user_id = %s"
        await database.run(lambda tx: tx.execute(age, (old,)))
        assert await idempotency.purge(database, kept_seconds=50) >= 1
        async with database.primary() as session:
            assert await idempotency.find(session, old, PATH, "k") is None
            assert await idempotency.find(session, young, PATH, "k") == answer


class TestInFlight:
    async def test_a_second_call_is_told_while_the_first_is_open(self, redis: Redis) -> None:
        user = new_id()
        arguments = (redis, "probe_flight:", user, PATH, "k")
        async with idempotency.in_flight(*arguments):
            with pytest.raises(Problem) as caught:
                async with idempotency.in_flight(*arguments):
                    pass
            assert (caught.value.status, caught.value.code) == (409, "request-in-progress")
            async with idempotency.in_flight(*arguments[:-1], "another key"):
                pass
        async with idempotency.in_flight(*arguments):
            pass

    async def test_of_twenty_one_is_let_in(self, redis: Redis) -> None:
        user, inside = new_id(), 0

        async def call() -> None:
            nonlocal inside
            async with idempotency.in_flight(redis, "probe_flight:", user, PATH, "k"):
                inside += 1
                await asyncio.sleep(0.2)

        results = await asyncio.gather(*(call() for _ in range(20)), return_exceptions=True)
        assert inside == 1
        assert sum(isinstance(result, Problem) for result in results) == 19

    async def test_without_redis_the_table_is_the_only_fence(
        self, probe_settings: CommonSettings, infrastructure: object
    ) -> None:
        port = int(probe_settings.redis_url.rsplit(":", 1)[1].split("/")[0])
        async with TcpProxy(port) as proxy:
            await proxy.refuse()
            update = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"}
            client = create_redis(probe_settings.model_copy(update=update))
            ran = False
            async with idempotency.in_flight(client, "probe_flight:", "u", PATH, "k"):
                ran = True
            assert ran
            await client.aclose()
