"""Waiting for something to become true: with a deadline, never a sleep of guessed length."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_STEP_SECONDS = 0.02


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], within_seconds: float = 5.0, *, why: str = ""
) -> T: ...
@overload
async def eventually(
    check: Callable[[], T], within_seconds: float = 5.0, *, why: str = ""
) -> T: ...
async def eventually(
    check: Callable[[], Any], within_seconds: float = 5.0, *, why: str = ""
) -> Any:
    """Call ``check`` until it returns something true, and return that.

    A failed assertion inside ``check`` counts as not yet.

    Raises:
        AssertionError: it did not within the time; the last failed assertion, if there was one.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while True:
        failure: AssertionError | None = None
        value = None
        try:
            found = check()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
        except AssertionError as error:
            failure = error
        if loop.time() >= deadline:
            if failure is not None:
                raise failure
            name = why or getattr(check, "__name__", "the check")
            raise AssertionError(f"not within {within_seconds} s: {name} (last: {value!r})")
        await asyncio.sleep(_STEP_SECONDS)
