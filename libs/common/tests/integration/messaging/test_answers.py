"""Answers over a real Redis: the process that waits gets its own, or loses only the wait."""

import asyncio
from time import monotonic

import pytest

from common.answers import Answers
from common.ids import new_id
from common.redis import create_redis
from testkit.proxy import TcpProxy
from testkit.waiting import eventually


@pytest.fixture
async def answers(redis, probe_settings):
    answers = Answers(redis, probe_settings.redis_prefix, f"one-{new_id()}")
    await answers.start()
    yield answers
    await answers.stop()


@pytest.fixture
async def other(redis, probe_settings):
    answers = Answers(redis, probe_settings.redis_prefix, f"two-{new_id()}")
    await answers.start()
    yield answers
    await answers.stop()


class TestExpect:
    async def test_an_answer_of_another_process_arrives(self, answers, other):
        async with answers.expect("r-1") as waiting:
            await other.send(answers.channel, "r-1", b'{"state":\n"held"}')
            assert await waiting.result(2) == b'{"state":\n"held"}'

    async def test_each_key_gets_its_own_whatever_the_order(self, answers, other):
        async with answers.expect("a") as first, answers.expect("b") as second:
            await other.send(answers.channel, "b", b"2")
            await other.send(answers.channel, "a", b"1")
            assert await asyncio.gather(first.result(2), second.result(2)) == [b"1", b"2"]

    async def test_all_who_wait_for_one_key_get_it(self, answers, other):
        async with answers.expect("a") as first, answers.expect("a") as second:
            await other.send(answers.channel, "a", b"1")
            assert await asyncio.gather(first.result(2), second.result(2)) == [b"1", b"1"]

    async def test_no_answer_is_none_in_time(self, answers):
        began = monotonic()
        async with answers.expect("a") as waiting:
            assert await waiting.result(0.2) is None
        assert monotonic() - began < 1

    async def test_an_answer_nobody_waits_for_is_dropped(self, answers, other):
        async with answers.expect("a"):
            pass
        async with answers.expect("after") as after:
            await other.send(answers.channel, "a", b"late")
            await other.send(answers.channel, "after", b"")
            assert await after.result(2) == b""
        async with answers.expect("a") as waiting:
            assert await waiting.result(0.1) is None

    async def test_waiting_may_go_on_after_a_timeout(self, answers, other):
        async with answers.expect("a") as waiting:
            assert await waiting.result(0.05) is None
            await other.send(answers.channel, "a", b"1")
            assert await waiting.result(2) == b"1"


class TestRedisLost:
    @pytest.fixture
    async def proxy(self, probe_settings):
        port = int(probe_settings.redis_url.rsplit(":", 1)[1].split("/")[0])
        async with TcpProxy(port) as proxy:
            yield proxy

    @pytest.fixture
    async def proxied(self, probe_settings, proxy):
        update = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"}
        client = create_redis(probe_settings.model_copy(update=update))
        answers = Answers(client, probe_settings.redis_prefix, f"three-{new_id()}")
        await answers.start()
        yield answers
        await answers.stop()
        await client.aclose()

    async def test_it_listens_again_by_itself(self, proxied, other, proxy):
        await proxy.refuse()
        await proxy.resume()

        async def answered():
            async with proxied.expect("a") as waiting:
                await other.send(proxied.channel, "a", b"1")
                return await waiting.result(0.2) == b"1"

        await eventually(answered, 10)

    async def test_sending_without_redis_does_not_fail(self, proxied, other, proxy):
        await proxy.refuse()
        await proxied.send(other.channel, "a", b"1")

    async def test_no_channel_is_handed_out_before_somebody_listens(self, probe_settings, proxy):
        await proxy.refuse()
        update = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"}
        client = create_redis(probe_settings.model_copy(update=update))
        answers = Answers(client, probe_settings.redis_prefix, "four")
        assert answers.channel is None
        starting = asyncio.create_task(answers.start())
        await asyncio.sleep(0.2)
        assert answers.channel is None
        await proxy.resume()
        await eventually(lambda: answers.channel, 10)
        await starting
        await answers.stop()
        await client.aclose()
