"""A vhost of its own for each test: queues keep their production names."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
import structlog

from common.broker import Broker, OrderedSubscription, Subscription
from common.events import Money, ReservationHeld, ReservationRequested
from common.ids import new_id
from common.settings import CommonSettings
from testkit.infrastructure import Infrastructure
from testkit.spy import Published, spying

Running = Callable[..., AbstractAsyncContextManager[Broker]]
MakeSettings = Callable[..., CommonSettings]


@pytest.fixture
def vhost(infrastructure: Infrastructure) -> Any:
    name = f"messaging-{time.time_ns():x}"
    infrastructure.stack.add_vhost(name)
    yield name
    infrastructure.stack.remove_vhost(name)


@pytest.fixture
def admin_url(infrastructure: Infrastructure, vhost: str) -> str:
    return infrastructure.broker_url.rsplit("/", 1)[0] + f"/{vhost}"


@pytest.fixture
def settings(infrastructure: Infrastructure, vhost: str) -> MakeSettings:
    """``settings("payment", broker_port=…)``: with the service's real, restricted account."""

    def make(service: str, *, broker_port: int | None = None, **overrides: Any) -> CommonSettings:
        settings_class = type(
            "Settings", (CommonSettings,), {"service_name": service, "__module__": __name__}
        )
        port = broker_port or infrastructure.ports.rabbitmq
        values: dict[str, Any] = {
            "instance": f"{service}-{new_id()}",
            "database_primary_host": "unused",
            "database_replica_host": "unused",
            "database_password": "unused",
            "redis_url": "redis://unused",
            "broker_url": f"amqp://127.0.0.1:{port}/{vhost}",
            "broker_password": infrastructure.stack.credentials.broker[service],
            "identity_issuer": "unused",
            "identity_jwks_url": "unused",
            "pass_public_keys_dir": "unused",
            "drain_seconds": 3.0,
        }
        return settings_class(**(values | overrides))

    return make


@pytest.fixture
def running(settings: MakeSettings) -> Running:
    """``async with running("payment", *subscriptions) as broker``."""

    @asynccontextmanager
    async def run(
        service: str,
        *subscriptions: Subscription | OrderedSubscription,
        retry_seconds: float = 0.2,
        **overrides: Any,
    ) -> AsyncIterator[Broker]:
        broker = Broker(settings(service, **overrides), retry_seconds=retry_seconds)
        broker.subscribe(subscriptions)
        await broker.start()
        try:
            assert broker.ready
            yield broker
        finally:
            await broker.stop()

    return run


@pytest.fixture
def spy_on(admin_url: str) -> Published:
    return lambda exchange, routing_key="#": spying(admin_url, exchange, routing_key)


@pytest.fixture
def depth(admin_url: str) -> Callable[[str], Any]:
    """``await depth("payment.parked")``: messages ready in a queue."""

    async def count(queue: str) -> int:
        async with await aio_pika.connect(admin_url) as connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    return count


@pytest.fixture
def held() -> Callable[..., ReservationHeld]:
    def make(**changes: Any) -> ReservationHeld:
        now = datetime.now(UTC)
        values: dict[str, Any] = {
            "reservation_id": new_id(),
            "version": 1,
            "user_id": "fan-1",
            "concert_id": new_id(),
            "performance_id": new_id(),
            "occurred_at": now,
            "seat_ids": (new_id(),),
            "total": Money(amount=1000),
            "hold_expires_at": now,
        }
        return ReservationHeld(**(values | changes))

    return make


@pytest.fixture
def requested() -> Callable[..., ReservationRequested]:
    """A lane's request; its number travels as ``user_id``."""

    def make(number: int) -> ReservationRequested:
        return ReservationRequested(
            reservation_id=new_id(),
            user_id=str(number),
            concert_id=new_id(),
            performance_id=new_id(),
            pass_id=new_id(),
            idempotency_key="key",
            body_hash="0" * 64,
            seat_ids=(new_id(),),
            best_available=None,
            reply_to=None,
            requested_at=datetime.now(UTC),
        )

    return make


@pytest.fixture
def publish_lane(
    requested: Callable[[int], ReservationRequested],
) -> Callable[..., Any]:
    """``await publish_lane(broker, range(100), lane=3)``: pipelined, as the relay does it."""

    async def publish(broker: Broker, numbers: Any, *, lane: int = 0) -> None:
        for start in range(0, len(numbers), 100):
            await asyncio.gather(
                *(
                    broker.publish(
                        requested(number), routing_key=f"lane.{lane:02d}", deadline_seconds=10
                    )
                    for number in numbers[start : start + 100]
                )
            )

    return publish


@pytest.fixture(autouse=True)
def logs() -> Any:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def gate() -> asyncio.Event:
    return asyncio.Event()
