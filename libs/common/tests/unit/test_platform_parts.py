"""Parts start in order, wait for what is not there yet, and stop in reverse whatever happens."""

import asyncio

import pytest
from structlog.testing import capture_logs

from common.errors import DependencyUnavailable
from common.platform import _Part, _Parts


class Stage:
    """Records what was started and stopped."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def part(self, name: str, *, failures: int = 0, error: Exception | None = None) -> _Part:
        left = failures

        async def start() -> None:
            nonlocal left
            if left:
                left -= 1
                raise error or DependencyUnavailable(name)
            self.events.append(f"start {name}")

        async def stop() -> None:
            self.events.append(f"stop {name}")

        return _Part(name, start, stop)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.platform._LONGEST_PAUSE_SECONDS", 0.0)


async def test_in_order_and_in_reverse(stage: Stage) -> None:
    parts = _Parts([stage.part("a"), stage.part("b")])
    await parts.start()
    assert parts.started
    await parts.stop(1)
    assert not parts.started
    assert stage.events == ["start a", "start b", "stop b", "stop a"]


async def test_waits_for_a_dependency(stage: Stage) -> None:
    parts = _Parts([stage.part("a"), stage.part("b", failures=5), stage.part("c")])
    with capture_logs() as logs:
        await parts.start()
    assert parts.started
    assert stage.events == ["start a", "start b", "start c"]
    assert [line["event"] for line in logs].count("start-waits") == 5


async def test_gives_up_in_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.platform.START_ATTEMPTS", 3)
    parts = _Parts([stage.part("a"), stage.part("b", failures=3), stage.part("c")])
    await parts.start()
    assert parts.given_up
    assert not parts.started
    await parts.stop(1)
    # What was begun is ended, also halfway; what was never begun is left alone.
    assert stage.events == ["start a", "stop b", "stop a"]


async def test_a_bug_is_not_retried(stage: Stage) -> None:
    parts = _Parts([stage.part("a", failures=1, error=RuntimeError("bug"))])
    with capture_logs() as logs:
        await parts.start()
    assert parts.given_up
    assert [line["log_level"] for line in logs] == ["error"]


async def test_one_part_that_cannot_stop_does_not_keep_the_others(stage: Stage) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise RuntimeError("bug")

    async def nothing() -> None:
        pass

    parts = _Parts([stage.part("a"), _Part("fails", nothing, fail), _Part("hangs", nothing, hang)])
    await parts.start()
    with capture_logs() as logs:
        await parts.stop(0.05)
    assert stage.events == ["start a", "stop a"]
    assert [line["part"] for line in logs if line["event"] == "stop-failed"] == ["hangs", "fails"]
