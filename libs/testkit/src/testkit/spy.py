"""What arrives on an exchange: a queue of the test's own, bound to everything."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from testkit.waiting import eventually

Published = Callable[..., AbstractAsyncContextManager["Spy"]]
"""Type of the fixture ``published``: ``async with published("payment.events") as spy``."""


@dataclass(frozen=True)
class SpyMessage:
    """One message as it was published."""

    routing_key: str
    message_id: str | None
    headers: dict[str, Any]
    body: bytes
    persistent: bool

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


class Spy:
    """Collects messages in the order in which they arrive."""

    def __init__(self) -> None:
        self.messages: list[SpyMessage] = []

    async def first(
        self, matches: Callable[[SpyMessage], bool], within_seconds: float = 5.0
    ) -> SpyMessage:
        """The first message that matches, past or to come."""

        def found() -> list[SpyMessage]:
            return [message for message in self.messages if matches(message)]

        return (await eventually(found, within_seconds))[0]

    async def collect(self, message: AbstractIncomingMessage) -> None:
        """Take one from the broker."""
        self.messages.append(
            SpyMessage(
                routing_key=message.routing_key or "",
                message_id=message.message_id,
                headers=dict(message.headers),
                body=message.body,
                persistent=message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT,
            )
        )


@asynccontextmanager
async def spying(url: str, exchange: str, routing_key: str) -> AsyncIterator[Spy]:
    """Bind a temporary queue to the exchange and collect what comes."""
    spy = Spy()
    async with asyncio.timeout(5):
        connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(exchange, routing_key)
        await queue.consume(spy.collect, no_ack=True)
        yield spy
