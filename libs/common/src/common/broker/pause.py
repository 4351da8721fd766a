"""Pausing in place: what a consumer does while a dependency is away.

Nothing is rejected or sent round. The first message that meets the failure probes it with capped,
jittered backoff; every other message of the queue waits behind it without calling anything, so a
failing dependency sees one call per queue and pause, not one per message.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog

from common.broker import metrics
from common.errors import DependencyUnavailable

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0

_log = structlog.get_logger("broker")
T = TypeVar("T")


class Abandoned(Exception):  # noqa: N818 - a verdict, not a failure
    """The message is no longer ours to handle: draining, or its channel is gone. Leave it."""


class Pause:
    """The pause of one queue.

    Args:
        queue: names it in logs and metrics.
        stopping: set when the process drains; whoever waits then gives up its message.
    """

    def __init__(self, queue: str, stopping: asyncio.Event) -> None:
        self._queue = queue
        self._stopping = stopping
        self._failures = 0
        self._probe = asyncio.Lock()

    @property
    def active(self) -> bool:
        """Whether the queue is waiting for a dependency now."""
        return self._failures > 0

    async def attempt(
        self, work: Callable[[], Awaitable[T]], still_ours: Callable[[], bool] = lambda: True
    ) -> T:
        """Run ``work`` until no dependency it needs is away; its own errors pass through.

        Raises:
            Abandoned: the process drains, or ``still_ours`` became false, while waiting.
        """
        while True:
            if not self.active:
                try:
                    return await work()
                except DependencyUnavailable as error:
                    self._begin(error)
            async with self._probe:
                if self.active:
                    await self._rest()
                self._check(still_ours)
                try:
                    result = await work()
                except DependencyUnavailable:
                    self._failures += 1
                except Exception:
                    # Its own error: the dependency did answer.
                    self._end()
                    raise
                else:
                    self._end()
                    return result

    def _check(self, still_ours: Callable[[], bool]) -> None:
        if self._stopping.is_set() or not still_ours():
            raise Abandoned

    async def _rest(self) -> None:
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._failures - 1, 10))
        began = monotonic()
        try:
            async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):
                await self._stopping.wait()
        except TimeoutError:
            pass
        finally:
            metrics.PAUSED_SECONDS.labels(self._queue).inc(monotonic() - began)

    def _begin(self, error: DependencyUnavailable) -> None:
        if not self.active:
            _log.warning("consumer-paused", queue=self._queue, dependency=error.dependency)
            self._failures = 1

    def _end(self) -> None:
        if self.active:
            _log.info("consumer-resumed", queue=self._queue, failures=self._failures)
            self._failures = 0
