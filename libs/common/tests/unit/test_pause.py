"""Pausing in place, without a broker."""

import asyncio

import pytest

from common.broker.pause import Abandoned, Pause
from common.errors import DependencyUnavailable, OutcomeUnknown
from testkit.waiting import eventually


@pytest.fixture
async def stopping():
    return asyncio.Event()


@pytest.fixture
async def pause(stopping):
    return Pause("test.queue", stopping)


def failing(times, error=None):
    error = error or DependencyUnavailable("database")
    calls = []

    async def work():
        calls.append(None)
        if len(calls) <= times:
            raise error
        return len(calls)

    return work, calls


async def test_work_that_succeeds_is_done_once(pause):
    work, calls = failing(0)
    assert await pause.attempt(work) == 1
    assert len(calls) == 1
    assert not pause.active


@pytest.mark.parametrize("error", [DependencyUnavailable("redis"), OutcomeUnknown("database")])
async def test_it_is_repeated_until_the_dependency_is_back(pause, error):
    work, _ = failing(3, error)
    assert await pause.attempt(work) == 4
    assert not pause.active


async def test_its_own_error_passes_and_is_not_repeated(pause):
    work, calls = failing(9, ValueError("its own"))
    with pytest.raises(ValueError, match="its own"):
        await pause.attempt(work)
    assert len(calls) == 1


async def test_its_own_error_ends_the_pause(pause):
    outcomes = iter([DependencyUnavailable("database"), ValueError("its own")])

    async def work():
        raise next(outcomes)

    with pytest.raises(ValueError, match="its own"):
        await pause.attempt(work)
    assert not pause.active


async def test_while_it_pauses_one_calls_at_a_time(pause):
    back = asyncio.Event()
    inside = calls = most = 0

    async def work():
        nonlocal inside, calls, most
        calls += 1
        inside += 1
        most = max(most, inside if calls > 10 else 0)
        await asyncio.sleep(0.01)
        inside -= 1
        if not back.is_set():
            raise DependencyUnavailable("database")

    tasks = [asyncio.create_task(pause.attempt(work)) for _ in range(10)]
    await eventually(lambda: calls >= 13)
    assert most == 1
    back.set()
    await asyncio.gather(*tasks)


async def test_draining_abandons_whoever_waits(pause, stopping):
    work, calls = failing(10**9)
    tasks = [asyncio.create_task(pause.attempt(work)) for _ in range(3)]
    await eventually(lambda: calls)
    stopping.set()
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Abandoned] * 3


async def test_a_message_that_is_no_longer_ours_is_abandoned(pause):
    ours = True
    work, calls = failing(10**9)
    task = asyncio.create_task(pause.attempt(work, lambda: ours))
    await eventually(lambda: calls)
    ours = False
    with pytest.raises(Abandoned):
        await task
