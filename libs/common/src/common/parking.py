"""The parking queue of a service: look at what was given up, send it again, or drop it.

Used by ``<service>-service parked list|replay|discard``. Messages are fetched without an
acknowledgement and go back unless they were replayed or discarded, at the latest when the
connection closes. Only one such session at a time sees all of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError
from yarl import URL

from common.broker.failing import (
    DETAIL_HEADER,
    PARKED_AT_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
)
from common.broker.topology import parked_queue, redeliver_exchange
from common.envelope import AMQP_PREFIX, ATTEMPT_HEADER, attempt_of
from common.errors import DependencyUnavailable
from common.settings import CommonSettings

MOST_MESSAGES = 10_000
"""A session looks at no more than this many."""
TIMEOUT_SECONDS = 5.0
_PARKED_ONLY = (QUEUE_HEADER, REASON_HEADER, DETAIL_HEADER, PARKED_AT_HEADER, ATTEMPT_HEADER)


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """One given-up message."""

    id: str
    """CloudEvents id, or the broker's message id when the message has none."""
    type: str
    queue: str
    """The consumer queue that gave it up; empty if nobody can tell any more."""
    reason: str
    """Name of the error, or ``delivery-limit`` if its consumers kept dying."""
    detail: str
    attempt: int
    parked_at: str
    body: bytes
    """May hold personal data: print it only when asked for."""


class ParkedMessageNotReplayable(ValueError):  # noqa: N818 - names the condition
    """Nobody can tell which queue the message came from; discard it or publish it anew."""


class Parking:
    """An open session at the parking queue; see `parking`."""

    def __init__(self, service: str, channel: aio_pika.abc.AbstractChannel) -> None:
        self._service = service
        self._channel = channel

    async def list(self, limit: int = 100) -> list[ParkedMessage]:
        """The first messages, oldest first."""
        found = []

        async def look(message: AbstractIncomingMessage) -> bool:
            found.append(_parked(message))
            return False

        await self._go_through(look, limit)
        return found

    async def replay(self, message_id: str | None = None) -> int:
        """Send one message, or all, to the queues they came from, as if never tried; how many.

        Raises:
            ParkedMessageNotReplayable: nobody can tell where the message came from; it stays,
                and so do those behind it.
            DependencyUnavailable: a confirm is missing; that message stays parked as well.
        """
        exchange = await self._channel.get_exchange(
            redeliver_exchange(self._service).name, ensure=False
        )

        async def send(message: AbstractIncomingMessage) -> bool:
            parked = _parked(message)
            if message_id not in {None, parked.id}:
                return False
            if not parked.queue:
                raise ParkedMessageNotReplayable(parked.id)
            try:
                await exchange.publish(
                    _fresh(message), parked.queue, mandatory=True, timeout=TIMEOUT_SECONDS
                )
            except (AMQPError, TimeoutError) as error:
                raise DependencyUnavailable(f"queue {parked.queue}") from error
            return True

        return await self._go_through(send)

    async def discard(self, message_id: str | None = None) -> int:
        """Delete one message, or all, for ever; how many."""

        async def matches(message: AbstractIncomingMessage) -> bool:
            return message_id in {None, _parked(message).id}

        return await self._go_through(matches)

    async def _go_through(
        self, done: Callable[[AbstractIncomingMessage], Awaitable[bool]], limit: int = MOST_MESSAGES
    ) -> int:
        """Remove every message ``done`` says is done with, put the others back; how many went."""
        queue: AbstractQueue = await self._channel.get_queue(
            parked_queue(self._service).name, ensure=False
        )
        kept: list[AbstractIncomingMessage] = []
        count = 0
        for _ in range(min(limit, MOST_MESSAGES)):
            message = await queue.get(no_ack=False, fail=False, timeout=TIMEOUT_SECONDS)
            if message is None:
                break
            if await done(message):
                await message.ack()
                count += 1
            else:
                kept.append(message)
        for message in kept:
            await message.nack(requeue=True)
        return count


@asynccontextmanager
async def parking(settings: CommonSettings) -> AsyncIterator[Parking]:
    """Open a session; what is neither replayed nor discarded is back in the queue afterwards.

    Raises:
        DependencyUnavailable: the broker is away, or the service never declared its queues.
    """
    address = (
        URL(settings.broker_url)
        .with_user(settings.broker_user)
        .with_password(settings.broker_password.get_secret_value())
        .update_query(name=f"{settings.service_name} parked")
    )
    try:
        connection = await aio_pika.connect(address, timeout=TIMEOUT_SECONDS)
    except (AMQPError, OSError, TimeoutError) as error:
        raise DependencyUnavailable("broker") from error
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            yield Parking(settings.service_name, channel)
        except (AMQPError, OSError) as error:
            raise DependencyUnavailable("broker") from error


def _parked(message: AbstractIncomingMessage) -> ParkedMessage:
    text = _reader(message.headers)
    crashed_in = _crash_queue(message.headers.get("x-death"))
    return ParkedMessage(
        id=text(f"{AMQP_PREFIX}id") or message.message_id or "",
        type=message.type or text(f"{AMQP_PREFIX}type"),
        queue=text(QUEUE_HEADER) or crashed_in,
        reason=text(REASON_HEADER) or ("delivery-limit" if crashed_in else ""),
        detail=text(DETAIL_HEADER),
        attempt=attempt_of(message.headers),
        parked_at=text(PARKED_AT_HEADER),
        body=message.body,
    )


def _crash_queue(deaths: Any) -> str:
    """The queue whose delivery limit the message passed; its rests in the retry queue aside."""
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, dict) and death.get("reason") == "delivery_limit":
            return str(death.get("queue", ""))
    return ""


def _reader(headers: Any) -> Callable[[str], str]:
    def text(name: str) -> str:
        value = headers.get(name)
        return value if isinstance(value, str) else ""

    return text


def _fresh(message: AbstractIncomingMessage) -> aio_pika.Message:
    """The message as it was before its first try; its CloudEvents id stays, for the inbox."""
    return aio_pika.Message(
        message.body,
        headers={
            name: value
            for name, value in message.headers.items()
            if name not in _PARKED_ONLY and not name.startswith("x-")
        },
        content_type=message.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        type=message.type,
        timestamp=message.timestamp,
    )
