"""Periodic work goes on whatever happens to one run of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
from structlog.testing import capture_logs

from common.clock import Clock
from common.errors import DependencyUnavailable
from common.jobs import Job, JobRunner
from common.redis import Lease
from testkit import eventually


class FakeLease:
    """A lease in this process: who asks first keeps it."""

    def __init__(self) -> None:
        self.free = True
        self.released = False
        self.ttl_seconds = 0.0

    def __call__(self, name: str, ttl_seconds: float) -> Lease:
        assert name == "sweep"
        self.ttl_seconds = ttl_seconds
        return cast("Lease", self)

    async def try_acquire(self) -> bool:
        return self.free

    async def release(self) -> bool:
        self.released = True
        return True


class Runs:
    """Counts runs and fails them as told."""

    def __init__(self, *errors: Exception | None) -> None:
        self.count = 0
        self._errors = list(errors)

    async def __call__(self) -> None:
        self.count += 1
        if self._errors and (error := self._errors.pop(0)):
            raise error


Start = Callable[..., Awaitable[JobRunner]]


@pytest.fixture
def lease() -> FakeLease:
    return FakeLease()


@pytest.fixture
async def start(lease: FakeLease) -> AsyncIterator[Start]:
    runners: list[JobRunner] = []

    async def run(*jobs: Job) -> JobRunner:
        runner = JobRunner(Clock(), lease)
        for job in jobs:
            runner.add(job)
        runners.append(runner)
        await runner.start()
        return runner

    yield run
    for runner in runners:
        await runner.stop()


async def test_runs_again_and_again(start: Start) -> None:
    runs = Runs()
    await start(Job("sweep", 0.01, runs))
    await eventually(lambda: runs.count >= 3)


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (RuntimeError("bug"), "job-failed", "error"),
        (DependencyUnavailable("database"), "job-missed", "warning"),
        (TimeoutError(), "job-missed", "warning"),
    ],
)
async def test_a_failed_run_is_told_and_followed_by_another(
    start: Start, error: Exception, event: str, level: str
) -> None:
    runs = Runs(error)
    with capture_logs() as logs:
        await start(Job("sweep", 0.01, runs))
        await eventually(lambda: runs.count >= 2)
    assert [(line["event"], line["log_level"]) for line in logs] == [(event, level)]
    assert logs[0]["job"] == "sweep"


async def test_a_run_that_hangs_is_cut_off(start: Start) -> None:
    runs = 0

    async def hang() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    await start(Job("sweep", 0.01, hang, deadline_seconds=0.02))
    await eventually(lambda: runs >= 2)


async def test_without_the_lease_nothing_runs(start: Start, lease: FakeLease) -> None:
    lease.free = False
    leased, unleased = Runs(), Runs()
    await start(Job("sweep", 0.01, leased, lease=True), Job("other", 0.01, unleased))
    await eventually(lambda: unleased.count >= 3)
    assert leased.count == 0
    lease.free = True
    await eventually(lambda: leased.count >= 1)


async def test_the_lease_outlives_the_pause_and_is_given_back(
    start: Start, lease: FakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.jobs.random.uniform", min)
    runs = Runs()
    runner = await start(Job("sweep", 60, runs, lease=True))
    await eventually(lambda: runs.count == 1)
    assert lease.ttl_seconds > 66  # sixty seconds and the jitter
    assert not lease.released
    await runner.stop()
    assert lease.released


async def test_stop_cancels_the_run_under_way(start: Start) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    runner = await start(Job("sweep", 0.01, long))
    await began.wait()
    await runner.stop()
    assert cancelled.is_set()


def test_names_are_unique(lease: FakeLease) -> None:
    runner = JobRunner(Clock(), lease)
    runner.add(Job("sweep", 1, Runs()))
    with pytest.raises(ValueError, match="sweep"):
        runner.add(Job("sweep", 1, Runs()))
