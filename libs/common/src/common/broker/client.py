"""The broker as a service sees it: publish with a confirm, consume under our rules."""

import asyncio
import contextlib
import random
from collections.abc import Iterable

import structlog

from common.broker.consuming import Consumer
from common.broker.failing import Failing
from common.broker.ordered import OrderedSubscription
from common.broker.publishing import CONNECTION_ERRORS, Publisher
from common.broker.subscription import Subscription
from common.broker.topology import (
    RETRY_SECONDS,
    Queue,
    members_queue,
    own_exchanges,
    parked_queue,
    retry_queue,
)
from common.clock import Clock
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import REGISTRY, Event
from common.ids import new_id
from common.settings import CommonSettings
from common.tracing import current_traceparent

START_WAIT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0

_log = structlog.get_logger("broker")


class Broker:
    """One process's two connections, to publish and to consume; both restore themselves.

    Args:
        settings: address, account, names and the drain time.
        clock: stamps what is published directly; default: a clock of its own.
        retry_seconds: rest of a failed message between two tries.
    """

    def __init__(
        self,
        settings: CommonSettings,
        clock: Clock | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._settings = settings
        self._service = settings.service_name
        self._clock = clock or Clock()
        self._retry_seconds = retry_seconds
        self._subscriptions: list[Subscription | OrderedSubscription] = []
        self._publisher: Publisher | None = None
        self._consumer: Consumer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ready = False

    @classmethod
    def from_settings(cls, settings: CommonSettings, clock: Clock) -> "Broker":
        """The broker of a service's process."""
        return cls(settings, clock)

    @property
    def ready(self) -> bool:
        """Whether everything was declared and subscribed since the start."""
        return self._ready

    def subscribe(self, subscriptions: Iterable[Subscription | OrderedSubscription]) -> None:
        """Say what to hear, before `start`."""
        if self._starting is not None:
            raise RuntimeError("subscribe before start")
        self._subscriptions.extend(subscriptions)

    async def start(self, *, wait_seconds: float = START_WAIT_SECONDS) -> None:
        """Connect, declare and subscribe; while the broker is away, go on trying behind.

        Until it succeeds publishing raises DependencyUnavailable, and a service goes on serving
        what needs no broker.

        Args:
            wait_seconds: how long to wait for the success before returning without it.
        """
        self._starting = asyncio.create_task(self._start(), name="broker-start")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await asyncio.shield(self._starting)

    async def _start(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._start_publishing()
                await self._start_consuming()
            except CONNECTION_ERRORS as error:
                _log.warning("broker-start-failed", reason=type(error).__name__, detail=str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                self._ready = True
                return

    async def _start_publishing(self) -> None:
        if self._publisher is not None:
            return
        publisher = Publisher(
            self._settings.broker_url,
            user=self._settings.broker_user,
            password=self._settings.broker_password.get_secret_value(),
            name=f"{self._service} {self._settings.instance} publish",
        )
        try:
            await publisher.start()
            await publisher.declare(
                own_exchanges(self._service),
                (
                    retry_queue(self._service, self._retry_seconds),
                    parked_queue(self._service),
                    *self._queues(),
                ),
            )
        except BaseException:
            await publisher.stop()
            raise
        self._publisher = publisher

    async def _start_consuming(self) -> None:
        if not self._subscriptions:
            return
        consumer = Consumer(
            self._subscriptions,
            service=self._service,
            failing=Failing(self._service, self._publishing(), self._clock),
            url=self._settings.broker_url,
            user=self._settings.broker_user,
            password=self._settings.broker_password.get_secret_value(),
            name=f"{self._service} {self._settings.instance} consume",
            drain_seconds=self._settings.drain_seconds,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def stop_consuming(self) -> None:
        """Drain: take no more messages, finish those in hand. Publishing still works."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def stop(self) -> None:
        """Drain, then close both connections."""
        await self.stop_consuming()
        self._ready = False
        if self._publisher is not None:
            publisher, self._publisher = self._publisher, None
            await publisher.stop()

    async def publish(
        self,
        event: Event,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        event_id: str | None = None,
        deadline_seconds: float = 1.0,
    ) -> Envelope:
        """Publish an event in the current trace; returns its envelope once it is confirmed.

        Raises:
            UnroutableMessage: no queue takes it.
            DependencyUnavailable: no confirm within the deadline; it may have been published.
        """
        envelope = Envelope(
            id=event_id or new_id(),
            type=event.type,
            source=self._service,
            subject=event.subject,
            time=self._clock.now(),
            traceparent=current_traceparent(),
        )
        await self.send(
            event.model_dump_json().encode(),
            envelope,
            exchange=exchange or event.exchange,
            routing_key=routing_key or event.type,
            deadline_seconds=deadline_seconds,
        )
        return envelope

    async def send(
        self,
        payload: bytes,
        envelope: Envelope,
        *,
        exchange: str,
        routing_key: str,
        deadline_seconds: float = 1.0,
    ) -> None:
        """Publish a ready-made message, as the relay does with an outbox row.

        Raises:
            UnroutableMessage: no queue takes it.
            DependencyUnavailable: no confirm within the deadline; it may have been published.
        """
        event = REGISTRY.get(envelope.type)
        await self._publishing().send(
            payload,
            envelope.to_amqp(),
            exchange=exchange,
            routing_key=routing_key,
            message_id=envelope.id,
            message_type=envelope.type,
            time=envelope.time,
            deadline_seconds=deadline_seconds,
            mandatory=event is None or event.must_be_heard,
        )

    def _publishing(self) -> Publisher:
        if self._publisher is None:
            raise DependencyUnavailable("broker")
        return self._publisher

    def _queues(self) -> list[Queue]:
        queues: list[Queue] = []
        for subscription in self._subscriptions:
            queues += subscription.declarations(self._service)
            if isinstance(subscription, OrderedSubscription):
                queues.append(members_queue(self._service))
        return queues
