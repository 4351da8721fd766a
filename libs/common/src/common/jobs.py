"""Periodic work: each job in its own task, never two runs of it at once in a process."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from common.clock import Clock
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.metrics import job_runs, job_seconds
from common.redis import Lease
from common.tracing import continued

LEASE_SECONDS = 5.0
_JITTER = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Job:
    """Something a service does every so often.

    Args:
        name: for logs, metrics and the lease.
        every_seconds: pause between two runs, give or take a tenth, so that replicas spread.
        run: one run; it must be short and may be repeated by another process at any instant.
        lease: whether one replica at a time should do it. The lease only spares work: what
            protects the data is the condition in the job's SQL, since a holder may freeze.
        deadline_seconds: a run that takes longer is cancelled and counted as failed.
    """

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]
    lease: bool = False
    deadline_seconds: float = 10.0


class JobRunner:
    """Runs jobs until stopped. A failing job is logged, counted and tried again at its time.

    Args:
        clock: measures the runs.
        lease: makes the lease of a name and a time to live in seconds.
    """

    def __init__(self, clock: Clock, lease: Callable[[str, float], Lease]) -> None:
        self._clock = clock
        self._lease = lease
        self._jobs: list[Job] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, job: Job) -> None:
        """Add a job; before `start`."""
        if any(known.name == job.name for known in self._jobs):
            raise ValueError(f"two jobs are called {job.name}")
        self._jobs.append(job)

    async def start(self) -> None:
        """Begin; each job's first run is within one interval."""
        self._tasks = [asyncio.create_task(self._keep(job), name=job.name) for job in self._jobs]

    async def stop(self) -> None:
        """Cancel the runs under way: a transaction is committed or rolled back, nothing between."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def _keep(self, job: Job) -> None:
        # It outlives the pause, so that the same replica keeps a slow job instead of each doing it.
        ttl_seconds = max(LEASE_SECONDS, 1.5 * job.every_seconds)
        lease = self._lease(job.name, ttl_seconds) if job.lease else None
        failures = 0
        await asyncio.sleep(random.uniform(0, min(job.every_seconds, 1.0)))
        try:
            while True:
                good = await self._once(job, lease)
                failures = 0 if good else failures + 1
                await asyncio.sleep(_pause(job, failures))
        finally:
            if lease is not None:
                # The process is stopping: the lease would run out by itself.
                with suppress(DependencyUnavailable, TimeoutError):
                    async with asyncio.timeout(1.0):
                        await lease.release()

    async def _once(self, job: Job, lease: Lease | None) -> bool:
        began = self._clock.monotonic()
        with continued(None, job.name):
            try:
                async with asyncio.timeout(job.deadline_seconds):
                    if lease is not None and not await lease.try_acquire():
                        return True
                    await job.run()
            except DependencyUnavailable as error:
                return _failed(job, "unavailable", error)
            except TimeoutError as error:
                return _failed(job, "late", error)
            except Exception as error:  # noqa: BLE001 - one bad run must not end the job for ever
                return _failed(job, "failed", error)
        job_runs.labels(job.name, "done").inc()
        job_seconds.labels(job.name).observe(self._clock.monotonic() - began)
        return True


def _pause(job: Job, failures: int) -> float:
    spread = random.uniform(1 - _JITTER, 1 + _JITTER)
    if not failures:
        return job.every_seconds * spread
    # A fast job must not hammer what is down.
    slow = min(job.every_seconds * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
    return float(max(job.every_seconds, slow) * spread)


def _failed(job: Job, outcome: str, error: Exception) -> bool:
    job_runs.labels(job.name, outcome).inc()
    if outcome == "failed":
        log.error("job-failed", job=job.name, exc_info=error)
    else:
        log.warning("job-missed", job=job.name, outcome=outcome, error=str(error))
    return False
