"""The payment stream: a Kafka producer that confirms, in order, without duplicates of its own.

``acks=all`` and an idempotent producer: a record is confirmed when every in-sync replica has it,
and the client's own retries cannot write it twice. A record may still come twice after a timeout
here (the relay sends it again), so readers drop repeated CloudEvents ids.

Kafka may be away at the start or at any time: the connection is made when it is needed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # ships no types
from faststream.exceptions import FastStreamException
from faststream.kafka import KafkaBroker

from common.envelope import Envelope
from common.errors import DependencyUnavailable

Confirm = Callable[[], Awaitable[None]]
"""Waits for the confirm of one record, within the deadline it was appended with."""

REQUEST_TIMEOUT_SECONDS = 4.0
"""After this long without a confirm the client gives a record up."""
CLOSE_TIMEOUT_SECONDS = 2.0

_log = structlog.get_logger("stream")
_FAILURES = (KafkaError, FastStreamException, OSError, TimeoutError)


class Stream:
    """Appends records to Kafka topics.

    Args:
        bootstrap: ``host:port``, several separated by commas.
        client_id: names this producer in Kafka's own tools.
    """

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._broker: KafkaBroker | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Nothing to do: `publish` connects, so that Kafka's absence never holds up a start."""

    async def stop(self) -> None:
        """Close the connection; unconfirmed records fail."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await _close(broker)

    async def publish(
        self,
        payload: bytes,
        envelope: Envelope,
        *,
        topic: str,
        key: str,
        deadline_seconds: float = 5.0,
    ) -> None:
        """Append one record and wait for the confirm. Records of one key keep the calls' order.

        Raises:
            DependencyUnavailable: no confirm within the deadline; it may have been appended.
        """
        confirm = await self.append(
            payload, envelope, topic=topic, key=key, deadline_seconds=deadline_seconds
        )
        await confirm()

    async def append(
        self,
        payload: bytes,
        envelope: Envelope,
        *,
        topic: str,
        key: str,
        deadline_seconds: float = 5.0,
    ) -> Confirm:
        """Put one record behind those appended before; returns how to wait for its confirm.

        Raises:
            DependencyUnavailable: not within the deadline. Append nothing behind it: the next
                record may find Kafka back, and would overtake this one.
        """
        deadline = asyncio.get_running_loop().time() + deadline_seconds
        broker: KafkaBroker | None = None
        try:
            # One at a time up to the client's buffer: while it still asks for the topic's
            # partitions, later calls would overtake earlier ones.
            async with asyncio.timeout_at(deadline), self._turn:
                broker = await self._connected()
                confirmed = await broker.publish(
                    payload,
                    topic=topic,
                    key=key.encode(),
                    headers=envelope.to_kafka(),
                    correlation_id=envelope.id,
                    timestamp_ms=int(envelope.time.timestamp() * 1000),
                    no_confirm=True,
                )
        except _FAILURES as error:
            await self._discard(broker, error)
            raise DependencyUnavailable("kafka") from error

        async def confirm() -> None:
            try:
                async with asyncio.timeout_at(deadline):
                    await confirmed
            except _FAILURES as error:
                await self._discard(broker, error)
                raise DependencyUnavailable("kafka") from error

        return confirm

    async def _connected(self) -> KafkaBroker:
        if self._broker is None:
            await self._reach()
            broker = self._new_broker()
            try:
                await broker.connect()
            except BaseException:
                await _close(broker)
                raise
            self._broker = broker
        return self._broker

    async def _reach(self) -> None:
        """See whether anybody is there: FastStream never closes a producer that found nobody.

        Raises:
            OSError: no bootstrap server takes a connection.
        """
        servers = self._bootstrap.split(",")
        for position, server in enumerate(servers, start=1):
            host, _, port = server.strip().rpartition(":")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                if position == len(servers):
                    raise
            else:
                writer.close()
                return

    async def _discard(self, broker: KafkaBroker | None, error: Exception) -> None:
        # An idempotent producer that gave a record up has a gap in its sequence and would fail
        # for ever; a new one starts a sequence of its own.
        if broker is None or self._broker is not broker:
            return
        self._broker = None
        _log.warning("stream-disconnected", reason=type(error).__name__)
        await _close(broker)

    def _new_broker(self) -> KafkaBroker:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        return KafkaBroker(
            self._bootstrap.split(","),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
            apply_types=False,
            logger=None,
        )


async def _close(broker: KafkaBroker) -> None:
    with contextlib.suppress(*_FAILURES):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await broker.stop()
