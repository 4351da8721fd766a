"""The client's limits, scripts, leases and subscriptions on a real server."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from common.errors import DependencyUnavailable
from common.ids import new_id
from common.redis import Bell, Lease, Redis, Script, Scripts, create_redis, messages
from common.settings import CommonSettings
from testkit import TcpProxy, eventually


@pytest.fixture
async def proxy(probe_settings: CommonSettings) -> AsyncIterator[TcpProxy]:
    port = int(probe_settings.redis_url.rsplit(":", 1)[1].split("/")[0])
    async with TcpProxy(port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(probe_settings: CommonSettings, proxy: TcpProxy) -> AsyncIterator[Redis]:
    update = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0", "redis_timeout_seconds": 0.5}
    client = create_redis(probe_settings.model_copy(update=update))
    await client.ping()
    yield client
    await proxy.cut()
    await client.aclose()


@pytest.fixture
def key(probe_settings: CommonSettings) -> str:
    return f"{probe_settings.redis_prefix}{new_id()}"


class TestClient:
    @pytest.mark.parametrize("how", ["refuse", "drop"])
    @pytest.mark.parametrize("pipelined", [False, True])
    async def test_an_absent_server_is_told_in_time(
        self, proxied: Redis, proxy: TcpProxy, key: str, how: str, pipelined: bool
    ) -> None:
        async def command() -> object:
            if not pipelined:
                return await proxied.get(key)
            pipeline = proxied.pipeline()
            pipeline.get(key)
            return await pipeline.execute()

        await getattr(proxy, how)()
        began = time.monotonic()
        with pytest.raises(DependencyUnavailable) as caught:
            await command()
        assert time.monotonic() - began < 1.5
        assert caught.value.dependency == "redis"
        await proxy.cut()
        await proxy.resume()
        assert await command() in (None, [None])

    async def test_a_lost_connection_is_repaired_unnoticed(
        self, proxied: Redis, proxy: TcpProxy, key: str
    ) -> None:
        await proxied.set(key, "1", ex=60)
        await proxy.cut()
        assert await proxied.get(key) == b"1"

    async def test_waiting_for_a_turn_has_a_deadline(
        self, probe_settings: CommonSettings, proxy: TcpProxy, key: str
    ) -> None:
        update = {
            "redis_url": f"redis://127.0.0.1:{proxy.port}/0",
            "redis_timeout_seconds": 0.5,
            "redis_pool_size": 2,
        }
        client = create_redis(probe_settings.model_copy(update=update))
        await proxy.delay(0.2)  # each way, and the first calls also connect
        began = time.monotonic()
        results = await asyncio.gather(
            *(client.get(key) for _ in range(20)), return_exceptions=True
        )
        assert time.monotonic() - began < 1.5
        assert {type(result) for result in results} <= {DependencyUnavailable, type(None)}
        assert DependencyUnavailable in {type(result) for result in results}
        await proxy.resume()
        assert await client.get(key) is None
        await client.aclose()

    async def test_cancelled_calls_leak_neither_answers_nor_connections(
        self, proxied: Redis, key: str
    ) -> None:
        for number in range(20):
            await proxied.set(f"{key}:{number}", number, ex=60)

        async def ask(number: int) -> None:
            assert await proxied.get(f"{key}:{number}") == str(number).encode()

        chance = random.Random(1)
        for _ in range(30):
            tasks = [asyncio.create_task(ask(number)) for number in range(20)]
            for _ in range(2):  # twice: the second hits the cleaning up
                await asyncio.sleep(chance.uniform(0, 0.002))
                for task in tasks[::2]:
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None for result in results[1::2]), results
        assert len(proxied.connection_pool._in_use_connections) == 0

    async def test_our_own_mistakes_stay_mistakes(self, redis: Redis, key: str) -> None:
        await redis.set(key, "text", ex=60)
        with pytest.raises(ResponseError):
            await redis.lpush(key, "x")

    @pytest.mark.parametrize(
        "answer", ["OOM command not allowed", "MISCONF Redis is", "BUSY Redis"]
    )
    async def test_a_server_that_can_serve_nobody_is_unavailable(
        self, redis: Redis, answer: str
    ) -> None:
        script = Script(redis, "return redis.error_reply(ARGV[1])")
        with pytest.raises(DependencyUnavailable):
            await script(args=[answer])


class TestScripts:
    async def test_a_file_is_a_script(
        self, redis: Redis, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "probe_scripts"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "add.lua").write_text("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        monkeypatch.syspath_prepend(tmp_path)
        scripts = Scripts(redis, "probe_scripts")
        assert list(scripts) == ["add"]
        assert await scripts["add"]([key], [5]) == 5
        assert await scripts["add"]([key], [2]) == 7
        with pytest.raises(KeyError):
            scripts["missing"]

    async def test_a_server_that_forgot_it_is_sent_it_again(self, redis: Redis, key: str) -> None:
        script = Script(redis, f"return '{key}'")
        assert await script() == key.encode()
        await redis.script_flush()
        assert await script() == key.encode()


class TestLease:
    async def test_one_owner_at_a_time(self, redis: Redis, key: str) -> None:
        ours, theirs = Lease(redis, key, 5, "a"), Lease(redis, key, 5, "b")
        assert await ours.try_acquire()
        assert await ours.try_acquire()  # a repeated command must not lock us out
        assert not await theirs.try_acquire()
        assert not await theirs.renew()
        assert not await theirs.release()
        assert await ours.release()
        assert not await ours.release()
        assert await theirs.try_acquire()

    async def test_it_ends_by_itself_unless_renewed(self, redis: Redis, key: str) -> None:
        ours, theirs = Lease(redis, key, 0.3, "a"), Lease(redis, key, 0.3, "b")
        assert await ours.try_acquire()
        for _ in range(4):
            await asyncio.sleep(0.15)
            assert await ours.renew()
            assert not await theirs.try_acquire()
        await eventually(theirs.try_acquire, 1)
        assert not await ours.renew()  # the frozen holder learns it
        assert not await ours.release()
        assert await redis.get(key) == b"b"

    async def test_of_twenty_one_gets_it(self, redis: Redis, key: str) -> None:
        leases = [Lease(redis, key, 5, str(number)) for number in range(20)]
        got = await asyncio.gather(*(lease.try_acquire() for lease in leases))
        assert sum(got) == 1


class TestMessages:
    async def test_they_arrive_again_after_the_connection_was_lost(
        self, proxied: Redis, proxy: TcpProxy, redis: Redis, key: str
    ) -> None:
        received: list[bytes] = []
        subscribed = 0

        def count() -> None:
            nonlocal subscribed
            subscribed += 1

        async def listen() -> None:
            async for message in messages(proxied, key, on_subscribed=count):
                received.append(message)  # noqa: PERF401 - it never ends

        task = asyncio.create_task(listen())
        await eventually(lambda: subscribed == 1)
        await redis.publish(key, "one")
        await eventually(lambda: received == [b"one"])
        await asyncio.sleep(1)  # longer than the client's deadline: silence is no failure
        assert subscribed == 1
        await proxy.refuse()
        await redis.publish(key, "lost")
        await proxy.resume()
        await eventually(lambda: subscribed == 2)
        await redis.publish(key, "two")
        await eventually(lambda: received == [b"one", b"two"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class TestBell:
    async def test_ringing_waits_for_nobody(
        self, proxied: Redis, proxy: TcpProxy, redis: Redis, key: str
    ) -> None:
        bell = Bell(proxied)
        bell.start()
        async with redis.pubsub() as listener:
            await listener.subscribe(key)
            await listener.get_message(timeout=1)
            await proxy.refuse()
            began = time.monotonic()
            for _ in range(1000):
                bell.ring(key)
            assert time.monotonic() - began < 0.1
            await asyncio.sleep(0.6)
            await proxy.resume()
            bell.ring(key)
            message = await listener.get_message(ignore_subscribe_messages=True, timeout=2)
            assert message is not None
        await bell.stop()
