"""Answers: the outcome of a request finds the process that waits for it.

Each process listens on a Redis channel of its own, which travels with the request as ``reply_to``;
whoever decides the request publishes the answer there. Redis keeps nothing: an answer to a process
that just lost its connection is gone, and costs the caller the rest of its wait, after which the
database is asked anyway.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import Counter

from common.errors import DependencyUnavailable
from common.redis import Redis, messages

START_WAIT_SECONDS = 2.0

_SEPARATOR = b"\n"

ANSWERS = Counter(
    "stagedoor_answers_total",
    "Answers by outcome: sent, unsent, received, unexpected, missed.",
    ["outcome"],
)


class Waiting:
    """One expected answer."""

    def __init__(self, future: "asyncio.Future[bytes]") -> None:
        self._future = future

    async def result(self, timeout_seconds: float) -> bytes | None:
        """The answer, or None when it did not come in time (then ask the database)."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(self._future)
        except TimeoutError:
            ANSWERS.labels("missed").inc()
            return None


class Answers:
    """This process's channel, and the way to everybody else's.

    Args:
        redis: the client; one of its connections is kept for listening.
        prefix: the service's key prefix, e.g. ``reservation:``.
        instance: unique for each process.
    """

    def __init__(self, redis: Redis, prefix: str, instance: str) -> None:
        self._redis = redis
        self._name = f"{prefix}answers:{instance}"
        self._expected: dict[str, set[asyncio.Future[bytes]]] = {}
        self._subscribed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def channel(self) -> str | None:
        """The ``reply_to`` of this process's requests; None before it listens.

        Never hand out a channel nobody listens on: the answer could overtake the subscription.
        """
        return self._name if self._subscribed.is_set() else None

    async def start(self) -> None:
        """Begin to listen; with Redis away it goes on trying, and `channel` stays None."""
        self._task = asyncio.create_task(self._listen(), name="answers")
        with suppress(TimeoutError):
            async with asyncio.timeout(START_WAIT_SECONDS):
                await self._subscribed.wait()

    async def stop(self) -> None:
        """Stop listening; whoever still waits runs into its timeout."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._subscribed.clear()

    @asynccontextmanager
    async def expect(self, key: str) -> AsyncIterator[Waiting]:
        """Expect an answer under ``key`` (the request's id); enter before sending the request.

        Several may expect the same key: each of them gets the answer.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiters = self._expected.setdefault(key, set())
        waiters.add(future)
        try:
            yield Waiting(future)
        finally:
            waiters.discard(future)
            if not waiters and self._expected.get(key) is waiters:
                del self._expected[key]

    async def send(self, reply_to: str | None, key: str, payload: bytes) -> None:
        """Answer whoever waits for ``key``; never fails, as a lost answer only costs a wait."""
        if reply_to is None:
            return
        try:
            await self._redis.publish(reply_to, key.encode() + _SEPARATOR + payload)
        except DependencyUnavailable:
            ANSWERS.labels("unsent").inc()
        else:
            ANSWERS.labels("sent").inc()

    async def _listen(self) -> None:
        async for message in messages(self._redis, self._name, on_subscribed=self._subscribed.set):
            self._receive(message)

    def _receive(self, message: bytes) -> None:
        key, _, payload = message.partition(_SEPARATOR)
        waiters = self._expected.get(key.decode(errors="replace"), set())
        ANSWERS.labels("received" if waiters else "unexpected").inc()
        for future in waiters:
            if not future.done():
                future.set_result(payload)
