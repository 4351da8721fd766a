"""One loader for many readers; nothing old over anything new; readers without Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from common.clock import Clock
from common.database import Database, Session
from common.ids import new_id
from common.redis import Lease, Redis, create_redis
from concert_service.service import loading
from concert_service.service.availability import AvailabilityReader
from concert_service.settings import ConcertSettings
from concert_service.store.cache import Cache
from testkit import Infrastructure, TcpProxy


class CountingDatabase:
    """Counts reads of the replica and primary, and makes them slow enough to overlap."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statements: list[str] = []
        self.run = database.run

    @property
    def replica_lag_seconds(self) -> float | None:
        return 0.1

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Session]:
        async with self._database.primary() as session:  # the newest, for a test without lag
            session.source = "replica"
            fetch_all = session.fetch_all

            async def counted(sql: str, params: Any = ()) -> Any:
                self.statements.append(sql)
                await asyncio.sleep(0.05)
                return await fetch_all(sql, params)

            session.fetch_all = counted  # type: ignore[method-assign] # counted
            yield session

    @asynccontextmanager
    async def primary(self) -> AsyncIterator[Session]:
        async with self.replica() as session:
            session.source = "primary"
            yield session


def loads(databases: list[CountingDatabase], text: str) -> int:
    return sum(text in sql for database in databases for sql in database.statements)


@pytest.fixture
def processes(database: Database, redis: Redis, settings: ConcertSettings, another: Any) -> Any:
    """``processes(n)``: the reading sides of n processes, and the databases they count on."""

    def build(number: int) -> tuple[list[Any], list[CountingDatabase]]:
        databases = [CountingDatabase(database) for _ in range(number)]
        return [another(one) for one in databases], databases

    return build


class TestOneLoader:
    async def test_50_parallel_misses_of_an_availability_load_once(
        self, shop: Any, processes: Any
    ) -> None:
        concert = await shop.create(6)
        readers, databases = processes(5)
        bodies = await asyncio.gather(
            *(
                reader.availability.body(concert.performance_id, None)
                for reader in readers
                for _ in range(10)
            )
        )
        assert {json.loads(body)["version"] for body in bodies} == {0}
        assert len(bodies) == 50
        assert loads(databases, "BIT_OR") == 1

    async def test_50_parallel_misses_of_a_document_load_once(
        self, shop: Any, processes: Any
    ) -> None:
        concert = await shop.create(6)
        readers, databases = processes(5)
        bodies = await asyncio.gather(
            *(reader.catalogue.concert(concert.concert_id) for reader in readers for _ in range(10))
        )
        assert len(set(bodies)) == 1
        assert loads(databases, "FROM concerts") == 1

    async def test_a_loader_whose_turn_comes_late_looks_once_more(
        self, redis: Redis, settings: ConcertSettings
    ) -> None:
        """Another one has loaded between this one's miss and its lock."""
        answers = [None, b"loaded meanwhile"]

        async def cached() -> bytes | None:
            return answers.pop(0)

        async def load(shared: bool) -> bytes | None:
            raise AssertionError("there was nothing left to load")

        loader = loading.OneLoader(redis, Clock())
        name = f"{settings.redis_prefix}load:{new_id()}"
        assert await loader.get(name, cached, load) == b"loaded meanwhile"

    async def test_a_reader_that_hangs_up_does_not_end_the_load(
        self, shop: Any, processes: Any
    ) -> None:
        concert = await shop.create(6)
        (reader,), databases = processes(1)
        first = asyncio.create_task(reader.availability.body(concert.performance_id, None))
        second = asyncio.create_task(reader.availability.body(concert.performance_id, None))
        await asyncio.sleep(0.02)
        first.cancel()
        assert json.loads(await second)["seats_left"] == 6
        assert loads(databases, "BIT_OR") == 1

    async def test_a_frozen_loader_is_not_waited_for(
        self,
        shop: Any,
        processes: Any,
        redis: Redis,
        cache: Cache,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(loading, "PATIENCE_SECONDS", 0.2)
        concert = await shop.create(6)
        name = cache.lock_name(f"availability:{concert.performance_id}")
        frozen = Lease(redis, name, 3.0, "somebody who froze")
        assert await frozen.try_acquire()
        (reader,), _ = processes(1)
        body = await asyncio.wait_for(reader.availability.body(concert.performance_id, None), 2)
        assert json.loads(body)["seats_left"] == 6
        # Its lock is its own: whoever did not wait for it must not have released it.
        assert await frozen.renew()
        await frozen.release()


class TestFence:
    """A loader's version must be at least what Redis knows of."""

    async def test_a_lagging_replica_is_overruled(
        self, shop: Any, inventory: Any, stale: Any, another: Any, projector: Any
    ) -> None:
        """The entry is gone, the replica shows the past, the projection has moved on."""
        concert = await shop.create(6)
        a, *_ = await shop.seat_ids(concert.performance_id)
        async with stale(concert) as process:
            event = inventory.event(concert, 1, [(a, "held", 1)])
            await projector.apply([(new_id(), event)])  # nothing in Redis: leaves its requirement
            body = json.loads(await process.availability.body(concert.performance_id, None))
            assert (body["version"], body["unavailable"]) == (1, [a])
            assert process.database.stale_reads > 0
        kept = json.loads(await another().availability.body(concert.performance_id, None))
        assert kept["version"] == 1

    async def test_a_loader_that_wakes_late_does_not_overwrite(
        self, shop: Any, inventory: Any, cache: Cache, another: Any, projector: Any
    ) -> None:
        concert = await shop.create(6)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        await projector.apply([(new_id(), inventory.event(concert, 1, [(a, "held", 1)]))])
        assert await cache.store_availability(concert.performance_id, 0, bytes(1)) == 1
        got = json.loads(await another().availability.body(concert.performance_id, None))
        assert (got["version"], got["unavailable"]) == (1, [a])

    async def test_a_document_loaded_late_does_not_overwrite(self, shop: Any, cache: Cache) -> None:
        concert = await shop.create(6)
        name = f"performance:{concert.performance_id}"
        await shop.put_sale(concert.performance_id, "open")
        assert await cache.store_document(name, 1, b"old", 5) == 2
        assert await cache.document(name) is None
        assert await cache.store_document(name, 2, b"new", 5) == -1
        assert await cache.document(name) == (2, b"new")
        assert await cache.store_document(name, 1, b"old", 5) == 2
        assert await cache.document(name) == (2, b"new")

    async def test_who_knows_better_than_redis_says_so(
        self, shop: Any, inventory: Any, cache: Cache, projector: Any, stale: Any
    ) -> None:
        """Redis lost everything and was refilled from a replica that lags."""
        concert = await shop.create(6)
        a, *_ = await shop.seat_ids(concert.performance_id)
        async with stale(concert) as process:
            await shop.availability(concert.performance_id)
            await projector.apply([(new_id(), inventory.event(concert, 1, [(a, "held", 1)]))])
            first = await process.availability.body(concert.performance_id, None)
            assert json.loads(first)["version"] == 1
            await cache._redis.unlink(*cache._keys(concert.performance_id))
            assert await cache.store_availability(concert.performance_id, 0, bytes(1)) == -1
            process.availability._held.get(concert.performance_id).fresh_until = 0.0
            again = await process.availability.body(concert.performance_id, None)
            assert (json.loads(again)["version"], json.loads(again)["unavailable"]) == (1, [a])
        found = await cache.availability(concert.performance_id, -1)
        assert found.version == 1  # type: ignore[union-attr] # it is there


class TestWithoutRedis:
    """Readers need no Redis: it is asked again after a rest, and the replica answers meanwhile."""

    @pytest.mark.parametrize("fault", ["refuse", "drop"])
    async def test_readers_are_answered_within_the_deadline(
        self,
        shop: Any,
        database: Database,
        settings: ConcertSettings,
        infrastructure: Infrastructure,
        fault: str,
    ) -> None:
        concert = await shop.create(6)
        async with TcpProxy(infrastructure.ports.redis) as proxy:
            url = settings.redis_url.replace(str(infrastructure.ports.redis), str(proxy.port))
            client = create_redis(settings.model_copy(update={"redis_url": url}))
            clock = Clock()
            loader = loading.OneLoader(client, clock)
            cache = Cache(client, settings.redis_prefix)
            reader = AvailabilityReader(database, cache, loader, clock)
            await getattr(proxy, fault)()
            began = clock.monotonic()
            body = await reader.body(concert.performance_id, None)
            assert json.loads(body or b"{}")["seats_left"] == 6
            assert clock.monotonic() - began < 2.9
            # While Redis rests nobody waits for it.
            for _ in range(3):
                reader._held.get(concert.performance_id).fresh_until = 0.0  # type: ignore[union-attr] # it is there
                began = clock.monotonic()
                assert await reader.body(concert.performance_id, None)
                assert clock.monotonic() - began < 0.5
            await client.aclose()


class TestFreshness:
    async def test_as_of_is_never_older_than_two_seconds(self, shop: Any) -> None:
        concert = await shop.create(6)
        clock = Clock()
        for _ in range(40):
            body = await shop.availability(concert.performance_id)
            age = clock.now().timestamp() - _moment(body["as_of"])
            assert -0.2 < age < 1.0  # one more second is the client's: max-age=1
            await asyncio.sleep(0.02)

    async def test_a_rush_costs_redis_little(
        self, shop: Any, another: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        concert = await shop.create(6)
        reader = another().availability
        asked = 0
        read = reader._cache.availability

        async def counted(*arguments: Any) -> Any:
            nonlocal asked
            asked += 1
            return await read(*arguments)

        monkeypatch.setattr(reader._cache, "availability", counted)
        clock = Clock()
        began = clock.monotonic()
        for _ in range(20):  # bursts at one instant, and one after the other
            rush = (reader.body(concert.performance_id, None) for _ in range(100))
            await asyncio.gather(*rush)
        elapsed = clock.monotonic() - began
        assert asked <= 3 + elapsed / 0.4


def _moment(text: str) -> float:

    return datetime.fromisoformat(text).timestamp()
