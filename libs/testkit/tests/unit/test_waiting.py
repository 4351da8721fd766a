"""Waiting ends as soon as it can and no later than it may."""

import asyncio
import time

import pytest

from testkit import eventually


async def test_it_returns_what_it_waited_for() -> None:
    values = iter([None, [], "found"])
    assert await eventually(lambda: next(values)) == "found"


async def test_a_check_may_be_asynchronous() -> None:
    calls = 0

    async def third_time() -> int | None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return calls if calls == 3 else None

    assert await eventually(third_time) == 3


async def test_it_gives_up_in_time_and_says_why() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"the moon.*last: 0"):
        await eventually(lambda: 0, 0.1, why="the moon")
    assert 0.1 <= time.monotonic() - began < 0.5


async def test_the_last_failed_assertion_is_raised() -> None:
    def check() -> bool:
        assert [1] == [2], "not equal"
        return True

    with pytest.raises(AssertionError, match="not equal"):
        await eventually(check, 0.05)


async def test_other_errors_are_not_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 / 0)
