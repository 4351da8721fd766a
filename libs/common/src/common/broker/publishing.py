"""Publishing: persistent, mandatory, confirmed, within a deadline, on a connection of its own.

Its own connection, because RabbitMQ throttles a connection that publishes too fast by no longer
reading from it, and a consumer on the same one could then not acknowledge.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import cast

import structlog
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)
from faststream.rabbit.schemas.queue import QuorumQueueArgs
from yarl import URL

from common.broker import metrics
from common.broker.topology import Exchange, Queue, exchange_named
from common.envelope import CONTENT_TYPE
from common.errors import DependencyUnavailable

HEARTBEAT_SECONDS = 5
"""A frozen peer is given up after two of these."""
CONNECT_TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 0.5
DECLARE_TIMEOUT_SECONDS = 10.0

CONNECTION_ERRORS = (AMQPError, ConnectionError, OSError, RuntimeError, TimeoutError)
"""What aio-pika raises when the broker is away; RuntimeError is its 'channel is not open'."""

_log = structlog.get_logger("broker")


class UnroutableMessage(DependencyUnavailable):
    """The broker confirmed that no queue takes this message: its consumer never started.

    Nothing was published. A kind of unavailability, because the cure is the consumer's first
    start and until then the message must be kept.
    """

    def __init__(self, exchange: str, routing_key: str) -> None:
        super().__init__(f"queue for {routing_key} on {exchange}")


def faststream_broker(
    url: str, *, user: str, password: str, name: str, channel: Channel, graceful_seconds: float
) -> RabbitBroker:
    """A FastStream broker with our heartbeat, deadlines and silence; not yet connected."""
    address = (
        URL(url)
        .with_user(user)
        .with_password(password)
        .update_query(heartbeat=HEARTBEAT_SECONDS, name=name)
    )
    logging.getLogger("aio_pika").setLevel(logging.ERROR)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    return RabbitBroker(
        str(address),
        timeout=CONNECT_TIMEOUT_SECONDS,
        reconnect_interval=RECONNECT_SECONDS,
        default_channel=channel,
        graceful_timeout=graceful_seconds,
        apply_types=False,
        app_id=None,
        logger=None,
    )


class Publisher:
    """One confirmed channel on one connection; confirms pipeline, so publish concurrently."""

    def __init__(self, url: str, *, user: str, password: str, name: str) -> None:
        channel = Channel(publisher_confirms=True, on_return_raises=True)
        self._broker = faststream_broker(
            url, user=user, password=password, name=name, channel=channel, graceful_seconds=1.0
        )
        self._exchanges: dict[str, RabbitExchange] = {}

    async def start(self) -> None:
        """Connect.

        Raises:
            AMQPError, OSError: the broker is away or refuses the account.
        """
        await self._broker.connect()

    async def stop(self) -> None:
        """Close the connection; unconfirmed publishes fail."""
        await self._broker.stop()

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        """Declare and bind; repeated by itself whenever the connection is restored.

        Raises:
            AMQPError: the broker is away, or something exists with other arguments.
        """
        async with asyncio.timeout(DECLARE_TIMEOUT_SECONDS):
            for exchange in exchanges:
                await self._exchange(exchange)
            for queue in queues:
                declared = await self._broker.declare_queue(
                    RabbitQueue(
                        queue.name,
                        queue_type=QueueType.QUORUM,
                        durable=True,
                        arguments=cast("QuorumQueueArgs", dict(queue.arguments)),
                    )
                )
                for binding in queue.bindings:
                    # By name: another service's exchange is not ours to declare.
                    await declared.bind(binding.exchange.name, binding.routing_key)

    async def _exchange(self, exchange: Exchange) -> RabbitExchange:
        known = self._exchanges.get(exchange.name)
        if known is None:
            known = RabbitExchange(exchange.name, type=ExchangeType(exchange.kind), durable=True)
            await self._broker.declare_exchange(known)
            self._exchanges[exchange.name] = known
        return known

    async def send(
        self,
        payload: bytes,
        headers: dict[str, str | int],
        *,
        exchange: str,
        routing_key: str,
        message_id: str,
        message_type: str,
        time: datetime,
        deadline_seconds: float,
        mandatory: bool = True,
    ) -> None:
        """Publish one message and wait until the broker has it on disk in a queue.

        Without ``mandatory`` a message no queue takes is confirmed, and gone.

        Raises:
            UnroutableMessage: no queue takes it.
            DependencyUnavailable: no confirm within the deadline; it may have been published.
            LookupError: no such exchange is part of the design.
        """
        declaration = exchange_named(exchange)
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._broker.publish(
                    payload,
                    exchange=await self._exchange(declaration),
                    routing_key=routing_key,
                    mandatory=mandatory,
                    persist=True,
                    headers=dict(headers),
                    content_type=CONTENT_TYPE,
                    # aio-pika matches a returned message to its publish by this id alone.
                    message_id=message_id,
                    correlation_id=message_id,
                    message_type=message_type,
                    timestamp=time,
                )
        except PublishError as error:
            metrics.PUBLISHED.labels(exchange, "unroutable").inc()
            raise UnroutableMessage(exchange, routing_key) from error
        except DeliveryError as error:
            metrics.PUBLISHED.labels(exchange, "refused").inc()
            raise DependencyUnavailable("broker") from error
        except TimeoutError as error:
            metrics.PUBLISHED.labels(exchange, "timeout").inc()
            raise DependencyUnavailable("broker") from error
        except CONNECTION_ERRORS as error:
            metrics.PUBLISHED.labels(exchange, "disconnected").inc()
            raise DependencyUnavailable("broker") from error
        except asyncio.CancelledError:
            # aio-pika cancels its own futures when a connection breaks; only a cancellation
            # that was asked of this task may pass as one.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            metrics.PUBLISHED.labels(exchange, "disconnected").inc()
            raise DependencyUnavailable("broker") from None
        metrics.PUBLISHED.labels(exchange, "confirmed").inc()
