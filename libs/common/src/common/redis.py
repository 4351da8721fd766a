"""Redis: the client with its limits, scripts from Lua files, leases, and a patient subscriber.

Replies are bytes. redis-py repeats a command whose answer got lost, so whatever is sent here, and
every script above all, must do no harm when it runs twice.
"""

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import resources
from typing import Any

import redis.asyncio as driver
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from common.errors import DependencyUnavailable
from common.metrics import dependency_failures
from common.settings import CommonSettings

_log = structlog.get_logger(__name__)

Argument = str | bytes | int | float

_RETRIES = 2
_SUBSCRIBERS = 16
"""Connections beside those of commands, for those who listen."""
_AWAY = (ClusterDownError, OutOfMemoryError, ReadOnlyError)
_AWAY_PREFIXES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "LOADING ")
"""Answers of a server that is there and yet cannot serve anybody just now."""
_KEEPALIVE = {
    # A dead peer is noticed after about ten seconds even by a subscriber that only listens.
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10_000,
}


@contextmanager
def _as_dependency() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        dependency_failures.labels("redis").inc()
        raise DependencyUnavailable("redis") from error
    except RedisError as error:
        mistake = isinstance(error, ResponseError) and not isinstance(error, _AWAY)
        if mistake and not str(error).startswith(_AWAY_PREFIXES):
            raise  # our own: a wrong command, a script with an error
        dependency_failures.labels("redis").inc()
        raise DependencyUnavailable("redis") from error


class _Limits:
    """One deadline for a call with all its retries, and a bound on calls at the same time.

    The driver's pool can lose the wake-up of a waiter when another one is cancelled. Nobody waits
    in it, because nobody enters it without a slot.
    """

    def __init__(self, calls: int, timeout_seconds: float) -> None:
        self._slots = asyncio.Semaphore(calls)
        self._timeout_seconds = timeout_seconds

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        with _as_dependency():
            async with asyncio.timeout(self._timeout_seconds), self._slots:
                yield


class Pipeline(driver.client.Pipeline):
    """Commands in one round trip, under the same limits and errors as single ones."""

    limits: _Limits

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected.

        Raises:
            DependencyUnavailable: no answer in time; some commands may have run.
        """
        async with self.limits.call():
            return await super().execute(raise_on_error)


class Redis(driver.Redis):
    """The driver's client with limits of ours; made by `create_redis`.

    Raises:
        DependencyUnavailable: no answer in time; the command may have run.
    """

    limits: _Limits

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; every method of the driver comes through here."""
        async with self.limits.call():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands; ``await pipeline.execute()`` sends them."""
        pipeline = Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.limits = self.limits
        return pipeline


def create_redis(settings: CommonSettings) -> Redis:
    """A client; nothing is connected yet. Its owner awaits ``aclose()`` at the end."""
    password = settings.redis_password
    timeout_seconds = settings.redis_timeout_seconds
    pool = driver.BlockingConnectionPool.from_url(
        settings.redis_url,
        username=settings.redis_username,
        password=password.get_secret_value() if password else None,
        max_connections=settings.redis_pool_size + _SUBSCRIBERS,
        timeout=timeout_seconds,
        # No socket_timeout: the driver would keep it by asyncio.wait_for, which on Python 3.11 now
        # and then swallows a cancellation, and with it our own deadline.
        socket_timeout=None,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        socket_keepalive_options=_KEEPALIVE,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), _RETRIES),
        protocol=2,
    )
    client = Redis(connection_pool=pool)
    client.auto_close_connection_pool = True  # nobody shares it
    client.limits = _Limits(settings.redis_pool_size, timeout_seconds)
    return client


class Script:
    """One Lua script, sent by its hash and in full only when the server does not know it."""

    def __init__(self, client: Redis, source: str) -> None:
        self._client = client
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str] = (), args: Sequence[Argument] = ()) -> Any:
        """Run it; the reply as the server gives it (integers, bytes, lists, None).

        Raises:
            DependencyUnavailable: no answer in time; it may have run.
        """
        rest = (len(keys), *keys, *args)
        try:
            return await self._client.execute_command("EVALSHA", self._sha, *rest)
        except NoScriptError:
            return await self._client.execute_command("EVAL", self._source, *rest)


class Scripts:
    """The ``*.lua`` files of a package, e.g. ``queue_service.lua``, by their stems."""

    def __init__(self, client: Redis, package: str) -> None:
        self._scripts = {
            entry.name.removesuffix(".lua"): Script(client, entry.read_text())
            for entry in resources.files(package).iterdir()
            if entry.name.endswith(".lua")
        }

    def __getitem__(self, name: str) -> Script:
        """The script of that name.

        Raises:
            KeyError: the package holds no such file.
        """
        return self._scripts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scripts)


_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class Lease:
    """A lock with an owner and a time to live.

    It keeps work from being done twice at the same time, most of the time. A holder that freezes
    loses it without noticing, so whatever it guards needs a fence of its own in the database.

    Args:
        client: where it lives.
        name: the whole key, with the service's prefix.
        ttl_seconds: how long it lasts without being renewed.
        owner: unique for each holder; taking it again with the same owner renews it.
    """

    def __init__(self, client: Redis, name: str, ttl_seconds: float, owner: str) -> None:
        self.name = name
        self.ttl_seconds = ttl_seconds
        self.owner = owner
        self._take = Script(client, _TAKE)
        self._renew = Script(client, _RENEW)
        self._release = Script(client, _RELEASE)

    async def try_acquire(self) -> bool:
        """Take it if it is free or already ours; never waits."""
        return bool(await self._take([self.name], [self.owner, self._ttl_ms]))

    async def renew(self) -> bool:
        """Begin its time anew, if it is still ours."""
        return bool(await self._renew([self.name], [self.owner, self._ttl_ms]))

    async def release(self) -> bool:
        """Give it back, if it is still ours."""
        return bool(await self._release([self.name], [self.owner]))

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl_seconds * 1000)


async def messages(
    client: Redis, channel: str, *, on_subscribed: Callable[[], None] | None = None
) -> AsyncIterator[bytes]:
    """Every message on a channel, for as long as the caller listens; reconnects by itself.

    What is published while the connection is down is lost: a message may only ever save a wait.

    Args:
        client: whose server to ask.
        channel: its whole name.
        on_subscribed: called after each (re)connection, when messages do arrive.
    """
    while True:
        try:
            async with client.pubsub() as subscriber:
                await subscriber.subscribe(channel)
                async for message in subscriber.listen():
                    if message["type"] == "message":
                        yield message["data"]
                    elif on_subscribed is not None:
                        on_subscribed()
        except (RedisError, OSError, DependencyUnavailable) as error:
            _log.warning("subscription-lost", channel=channel, error=str(error))
        await asyncio.sleep(random.uniform(0.1, 0.5))


class Bell:
    """Tells other processes that there is work, without making anybody wait for Redis.

    `ring` only remembers the channel; a background task publishes, many rings in one.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._rung: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        """End; what was not yet published is forgotten, since listeners poll as well."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def ring(self, channel: str) -> None:
        """Publish on the channel soon."""
        self._rung.add(channel)
        self._wake.set()

    async def _publish(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            channels, self._rung = self._rung, set()
            for channel in channels:
                with suppress(DependencyUnavailable):  # listeners poll as well
                    await self._client.publish(channel, b"")
