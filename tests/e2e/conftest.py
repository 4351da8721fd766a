"""The whole stack behind its gateway."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from house import House

from audit import Source, check
from local_stack import Stack
from local_stack.demo.client import Lines
from local_stack.verify import source_of
from testkit import Infrastructure


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One after the other, in one worker: some of them kill what all of them use."""
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture(scope="session")
def stack(infrastructure: Infrastructure) -> Stack:
    """The full local stack on the servers of the other tests; testkit ends it all."""
    infrastructure.stack.up()
    return infrastructure.stack


@pytest_asyncio.fixture(scope="session")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def audit_source(stack: Stack) -> Source:
    return source_of(stack)


@pytest_asyncio.fixture
async def house(stack: Stack, http: httpx.AsyncClient) -> AsyncIterator[House]:
    lines = Lines(stack.url)
    yield House(http, lines)
    await lines.close()


@pytest_asyncio.fixture
async def no_violations(audit_source: Source) -> Callable[[], Awaitable[None]]:
    """Every invariant over the whole live stack, as `make verify` judges it."""

    async def verify() -> None:
        found = await check(audit_source, settle_seconds=10)
        assert not (bad := {name: what for name, what in found.items() if what}), bad

    return verify
