"""One process of a service: everything it owns, started in order and stopped in reverse.

The composition root builds a `Platform`, hands its parts to the use cases, adds subscriptions and
jobs, and asks for the web application. Nothing is connected before the lifespan begins.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, FastAPI

from common import inbox, metrics
from common.answers import Answers
from common.asyncapi import STREAM_TOPICS, describe
from common.broker import Broker, OrderedSubscription, Subscription
from common.clock import Clock
from common.database import Database
from common.errors import DependencyUnavailable
from common.jobs import Job, JobRunner
from common.logging import configure_logging, get_logger
from common.migrations import schema_is_current
from common.outbox import BROKER, STREAM, Outbox, channel
from common.redis import Bell, Lease, create_redis
from common.relay import Relay
from common.relaying import to_broker, to_stream
from common.security import BearerVerifier, KeySet, PassVerifier
from common.settings import CommonSettings
from common.stream import Stream
from common.web.app import create_web_app

Role = Literal["all", "api", "worker"]

__all__ = ["Job", "Platform", "Role"]

START_WAIT_SECONDS = 5.0
"""How long the lifespan waits for the start before it lets liveness be served without it."""
START_ATTEMPTS = 120
"""Tries of one step, at most five seconds apart, before the process calls itself dead."""
_BROKER_WAIT_SECONDS = 3.0
_LONGEST_PAUSE_SECONDS = 5.0
_LEAST_STOP_SECONDS = 0.5
_PURGE_SECONDS = 60.0

log = get_logger(__name__)


class NotMigrated(Exception):  # noqa: N818 - a state of the schema, retried like an outage
    """The schema is older than the code; `migrate` runs as a job of its own."""


@dataclass(frozen=True)
class _Part:
    """One thing the process owns."""

    name: str
    start: Callable[[], Awaitable[object]]
    stop: Callable[[], Awaitable[object]]


async def _nothing() -> None:
    """A part with nothing to stop."""


class Platform:
    """What a service stands on.

    Args:
        settings: of the service.
        role: ``api`` serves routes, ``worker`` consumes, relays and runs jobs, ``all`` does both.
        migrations: import name or folder of the service's migrations; readiness waits until the
            schema has its newest revision.
    """

    def __init__(
        self, settings: CommonSettings, role: Role = "all", *, migrations: str | Path | None = None
    ) -> None:
        self.settings = settings
        self.role = role
        self._migrations = migrations
        self.clock = Clock()
        self.database = Database(settings, clock=self.clock)
        self.redis = create_redis(settings)
        self.answers = Answers(self.redis, settings.redis_prefix, settings.instance)
        self._bell = Bell(self.redis)
        self.outbox = Outbox(settings.service_name, self._wake_relay)
        self._subscriptions: list[Subscription | OrderedSubscription] = []
        self.broker = Broker.from_settings(settings, self.clock)
        self.bearer = BearerVerifier(
            KeySet(settings.identity_jwks_url, self.clock),
            issuer=settings.identity_issuer,
            audience=settings.identity_audience,
            clock=self.clock,
        )
        self.passes = PassVerifier(settings.pass_public_keys_dir, self.clock)
        self._stream = (
            Stream(
                settings.kafka_bootstrap, client_id=f"{settings.service_name} {settings.instance}"
            )
            if settings.kafka_bootstrap and self.works and settings.service_name in STREAM_TOPICS
            else None
        )
        self._jobs = JobRunner(self.clock, self.lease)
        self._relays = self._build_relays() if self.works else []
        self._parts = _Parts(self._build_parts())
        self._drain_began: float | None = None

    # -- what the composition root uses

    def add_subscriptions(
        self, subscriptions: Sequence[Subscription | OrderedSubscription]
    ) -> None:
        """What the service hears; consumed in roles ``all`` and ``worker``."""
        self._subscriptions.extend(subscriptions)
        if self.works:
            self.broker.subscribe(subscriptions)

    def add_job(self, job: Job) -> None:
        """Periodic work; done in roles ``all`` and ``worker``."""
        self._jobs.add(job)

    def lease(self, name: str, ttl_seconds: float) -> Lease:
        """A lease among the service's replicas, held by this process."""
        key = f"{self.settings.redis_prefix}lease:{name}"
        return Lease(self.redis, key, ttl_seconds, self.settings.instance)

    def web_app(
        self,
        *,
        title: str,
        description: str,
        routers: Sequence[APIRouter],
        state: Mapping[str, object] | None = None,
        **options: Any,
    ) -> FastAPI:
        """The application; see `common.web.create_web_app`."""
        return create_web_app(
            self, title=title, description=description, routers=routers, state=state, **options
        )

    # -- what the web application asks (`common.web.app.Host`)

    @property
    def service_name(self) -> str:
        """Names schema, accounts, prefix and documentation: ``queue``, ``concert`` and so on."""
        return self.settings.service_name

    @property
    def documented(self) -> bool:
        """Production shows its surface to nobody."""
        return self.settings.environment != "production"

    @property
    def serves_api(self) -> bool:
        """Whether this role has the service's routes."""
        return self.role != "worker"

    @property
    def works(self) -> bool:
        """Whether this role consumes, relays and runs jobs."""
        return self.role != "api"

    @property
    def is_alive(self) -> bool:
        """False when the start was given up: only a restart helps."""
        return not self._parts.given_up

    @property
    def is_open(self) -> bool:
        """Started, so requests are served; also while draining."""
        return self._parts.started

    @property
    def is_draining(self) -> bool:
        """Whether SIGTERM came."""
        return self._drain_began is not None

    @property
    def is_ready(self) -> bool:
        """Started, migrated, not draining; no dependency is asked."""
        return self.is_open and not self.is_draining

    def state(self) -> Mapping[str, object]:
        """What the dependencies of `common.security` find in ``app.state``."""
        return {"platform": self, "bearer": self.bearer, "passes": self.passes}

    def asyncapi(self) -> dict[str, Any]:
        """The AsyncAPI document of what the service publishes and hears."""
        return describe(self.service_name, (one.event for one in self._subscriptions))

    # -- life

    def drain(self) -> None:
        """Begin to leave: not ready from now on; requests under way and new ones still served."""
        if self._drain_began is None:
            self._drain_began = self.clock.monotonic()
            metrics.ready.set(0)
            log.info("draining")

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Start everything, serve, stop everything in reverse within ``drain_seconds``.

        When a dependency is not there yet the process serves liveness, is not ready, and keeps
        trying: crash loops would only make the outage longer.
        """
        settings = self.settings
        configure_logging(settings.service_name, settings.instance, settings.log_level)
        starting = asyncio.create_task(self._parts.start(), name="start")
        try:
            await asyncio.wait({starting}, timeout=START_WAIT_SECONDS)
            yield
        finally:
            self.drain()
            await _cancelled(starting)
            spent = self.clock.monotonic() - (self._drain_began or 0.0)
            await self._parts.stop(settings.drain_seconds - spent)

    def _build_parts(self) -> list[_Part]:
        parts = [
            _Part("database", self.database.start, self.database.close),
            # Only the schema gates the start: Redis and the broker may be away, and then only
            # the requests that need them are answered 503.
            _Part("schema", self._check_schema, _nothing),
            _Part("issuer-keys", self.bearer.warm_up, _nothing),
            _Part("redis", _nothing, self.redis.aclose),
            _Part("bell", self._start_bell, self._bell.stop),
            _Part("answers", self.answers.start, self.answers.stop),
            _Part("broker", self._start_broker, self.broker.stop),
        ]
        if self.works:
            parts += [
                _Part("relays", self._start_relays, self._stop_relays),
                _Part("jobs", self._start_jobs, self._jobs.stop),
                # Stopped first: what is in hand is finished while everything else still runs.
                _Part("consumers", _nothing, self.broker.stop_consuming),
            ]
        return parts

    async def _check_schema(self) -> None:
        if self._migrations is None:
            return
        if not await schema_is_current(self.database, self._migrations):
            raise NotMigrated("the schema is older than the code: run `migrate`")

    async def _start_bell(self) -> None:
        self._bell.start()

    async def _start_broker(self) -> None:
        await self.broker.start(wait_seconds=_BROKER_WAIT_SECONDS)

    async def _start_jobs(self) -> None:
        self._jobs.add(Job("inbox-purge", _PURGE_SECONDS, self._purge_inbox, lease=True))
        await self._jobs.start()

    async def _purge_inbox(self) -> None:
        await inbox.purge(self.database)

    def _wake_relay(self, destination: str) -> None:
        self._bell.ring(channel(self.settings.redis_prefix, destination))

    def _build_relays(self) -> list[Relay]:
        relays = [Relay(self.settings, BROKER, to_broker(self.broker), redis=self.redis)]
        if self._stream is not None:
            relays.append(Relay(self.settings, STREAM, to_stream(self._stream), redis=self.redis))
        return relays

    async def _start_relays(self) -> None:
        for relay in self._relays:
            await relay.start()

    async def _stop_relays(self) -> None:
        await asyncio.gather(*(relay.stop() for relay in self._relays))
        if self._stream is not None:
            await self._stream.stop()


class _Parts:
    """Starts parts in order, each tried until it succeeds, and stops the started in reverse."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._running: list[_Part] = []
        self.started = False
        self.given_up = False

    async def start(self) -> None:
        """Start everything; sets ``started`` or, after many tries of one part, ``given_up``."""
        for part in self._parts:
            if not await self._start(part):
                self.given_up = True
                return
        self.started = True
        metrics.ready.set(1)
        log.info("started")

    async def _start(self, part: _Part) -> bool:
        self._running.append(part)
        for attempt in range(START_ATTEMPTS):
            try:
                await part.start()
            except (DependencyUnavailable, NotMigrated, OSError, TimeoutError) as error:
                log.warning("start-waits", part=part.name, reason=str(error), attempt=attempt + 1)
            except Exception:
                log.exception("start-failed", part=part.name)
                return False
            else:
                return True
            await asyncio.sleep(min(0.2 * 2 ** min(attempt, 10), _LONGEST_PAUSE_SECONDS))
        log.critical("start-given-up", part=part.name)
        return False

    async def stop(self, seconds: float) -> None:
        """Stop what was started, in reverse, all of it within ``seconds``."""
        self.started = False
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._running:
            part = self._running.pop()
            left = max(end - loop.time(), _LEAST_STOP_SECONDS)
            try:
                async with asyncio.timeout(left):
                    await part.stop()
            except Exception:  # the parts below must still be stopped
                log.exception("stop-failed", part=part.name)
        log.info("stopped")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
