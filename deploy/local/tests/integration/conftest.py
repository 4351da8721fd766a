"""A stack of these tests' own: they kill it and start it again."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One stack, so one worker.
    for item in items:
        if "deploy/local/tests/integration" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("local-stack"))


@pytest.fixture(scope="session")
def own_stack() -> Iterator[Stack]:
    """The object; whether it is up is the tests' business."""
    # Of this run only: two runs in one clone must not delete each other's data.
    # `make compat` runs the tests of accounts on the servers of another root.
    root = os.environ.get("STAGEDOOR_SERVERS_ROOT")
    stack = Stack(f"test-local-{os.getpid()}", servers_root=Path(root) if root else None)
    yield stack
    stack.remove()


@pytest.fixture
def stack(own_stack: Stack) -> Stack:
    """The stack with its infrastructure up."""
    own_stack.up(infrastructure_only=True)
    return own_stack
