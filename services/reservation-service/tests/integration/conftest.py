"""What the integration tests share: a running service, its database, and performances to sell."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aio_pika
import httpx
import pytest

from common.broker import LANES_EXCHANGE, lane_key
from common.database import Database
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import (
    Event,
    Money,
    PaymentAuthorized,
    PerformanceScheduled,
    SaleState,
    ScheduledSeat,
)
from common.ids import new_id
from common.outbox import Outbox
from common.redis import Redis, create_redis
from reservation_service.app import create_app
from reservation_service.service.endings import Endings
from reservation_service.service.inventory import Inventory
from reservation_service.service.lanes import lane_of
from reservation_service.settings import ReservationSettings
from reservation_service.store import performances
from reservation_service.store.claims import Claims
from testkit import (
    Bearer,
    Infrastructure,
    Published,
    QueuePass,
    SettingsFor,
    Spy,
    SpyMessage,
    eventually,
    running,
)

STARTS_AT = datetime(2027, 6, 1, 19, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Show:
    """A performance on sale."""

    performance_id: str
    concert_id: str
    seat_ids: tuple[str, ...]


def parts(
    seats: int = 20,
    *,
    seats_a_row: int = 10,
    part_size: int = 2000,
    sale: SaleState = SaleState.OPEN,
    hold_seconds: int = 300,
    max_seats_per_fan: int = 4,
) -> list[PerformanceScheduled]:
    """The events that schedule one performance of ``seats`` seats at 1,000 won."""
    performance_id, concert_id = new_id(), new_id()
    plan = [
        ScheduledSeat(
            seat_id=new_id(),
            label=f"{position // seats_a_row}-{position % seats_a_row}",
            category="floor",
            price=Money(amount=1000),
            position=position,
            row=f"row {position // seats_a_row}",
        )
        for position in range(seats)
    ]
    chunks = [plan[start : start + part_size] for start in range(0, seats, part_size)]
    return [
        PerformanceScheduled(
            performance_id=performance_id,
            concert_id=concert_id,
            version=1,
            part=number,
            parts=len(chunks),
            starts_at=STARTS_AT,
            sale=sale,
            sale_opens_at=None,
            currency="KRW",
            max_seats_per_fan=max_seats_per_fan,
            hold_seconds=hold_seconds,
            seats_total=seats,
            seats=tuple(chunk),
        )
        for number, chunk in enumerate(chunks, start=1)
    ]


def show_of(scheduled: list[PerformanceScheduled]) -> Show:
    """The performance those events schedule."""
    seats = tuple(seat.seat_id for part in scheduled for seat in part.seats)
    return Show(scheduled[0].performance_id, scheduled[0].concert_id, seats)


@dataclass
class Box:
    """The service under test, as its fans, its peers and its operators see it."""

    client: httpx.AsyncClient
    database: Database
    redis: Redis
    claims: Claims
    settings: ReservationSettings
    bearer: Bearer
    queue_pass: QueuePass
    spy: Spy
    """Everything the service publishes."""
    channel: aio_pika.abc.AbstractChannel
    """To say what other services would."""
    passes: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    parts = staticmethod(parts)
    show_of = staticmethod(show_of)

    @staticmethod
    def payment(
        reservation: dict[str, Any], payer: str, show: Show, **changes: Any
    ) -> PaymentAuthorized:
        """The event that a reservation is paid."""
        fields = {
            "payment_id": new_id(),
            "version": 1,
            "reservation_id": reservation["reservation_id"],
            "user_id": payer,
            "concert_id": show.concert_id,
            "performance_id": show.performance_id,
            "amount": reservation["total"],
            "occurred_at": datetime.now(UTC),
        }
        return PaymentAuthorized.model_validate(fields | changes)

    @asynccontextmanager
    async def busy(self, show: Show) -> AsyncIterator[None]:
        """Hold the performance's lock, as a slow transaction would: at most 4 s."""
        async with self.database.transaction() as tx:
            await performances.lock(tx, {show.performance_id})
            yield

    async def show(self, seats: int = 20, **options: Any) -> Show:
        """A performance on sale."""
        scheduled = parts(seats, **options)
        for part in scheduled:
            await Inventory(database=self.database).schedule(part, new_id())
        return show_of(scheduled)

    def fan(self, user_id: str, show: Show) -> dict[str, str]:
        """Headers of a fan who is inside: token and pass, always the same ones."""
        key = (user_id, show.concert_id)
        if key not in self.passes:
            self.passes[key] = self.bearer(user_id) | self.queue_pass(user_id, show.concert_id)
        return self.passes[key]

    async def reserve(
        self,
        user_id: str,
        show: Show,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        client: httpx.AsyncClient | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """``POST /reservations``."""
        sent = {"Idempotency-Key": key or new_id(), "Prefer": "wait=5", **self.fan(user_id, show)}
        return await (client or self.client).post(
            "/api/v1/reservations",
            json={"performance_id": show.performance_id, **body},
            headers=sent | dict(headers or {}),
        )

    async def held(self, user_id: str, show: Show, *seats: int) -> dict[str, Any]:
        """A hold of these seats of the show; its body."""
        body = {"seat_ids": [show.seat_ids[seat] for seat in seats or (0,)]}
        key = new_id()
        response = await self.reserve(user_id, show, body, key=key)
        for _ in range(5):
            if response.status_code not in {202, 503}:
                break
            # A busy machine: a fan repeats the very same request.
            response = await self.reserve(user_id, show, body, key=key)
        assert response.status_code == 201, response.text
        reservation: dict[str, Any] = response.json()
        return reservation

    async def get(self, user_id: str, path: str) -> httpx.Response:
        """``GET /api/v1/reservations<path>``."""
        return await self.client.get(f"/api/v1/reservations{path}", headers=self.bearer(user_id))

    async def state(self, user_id: str, reservation_id: str) -> str:
        """The state its owner sees."""
        return str((await self.get(user_id, f"/{reservation_id}")).json()["state"])

    async def delete(self, user_id: str, reservation_id: str) -> httpx.Response:
        """``DELETE /reservations/{id}``."""
        path = f"/api/v1/reservations/{reservation_id}"
        return await self.client.delete(path, headers=self.bearer(user_id))

    @staticmethod
    async def insist(work: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Do it as a consumer would: again while a dependency is away, or the machine busy."""

        async def done() -> bool:
            try:
                await work(*arguments)
            except DependencyUnavailable:
                return False
            return True

        await eventually(done, 15)

    def endings(self) -> Endings:
        """The use cases after the hold, without a broker between."""
        outbox = Outbox("reservation", lambda _: None)
        return Endings(database=self.database, outbox=outbox, claims=self.claims)

    async def tell(self, event: Event, *, message_id: str | None = None) -> str:
        """Publish an event as its service would; returns the message's id."""
        key = event.type
        if event.exchange == LANES_EXCHANGE:
            key = lane_key(lane_of(event.performance_id))  # type: ignore[attr-defined] # a request
        return await self.tell_raw(
            event.model_dump_json().encode(), event.type, event.exchange, key, message_id
        )

    async def tell_raw(
        self, body: bytes, type_: str, exchange: str, key: str, message_id: str | None = None
    ) -> str:
        """Publish any bytes as an event."""
        message_id = message_id or new_id()
        envelope = Envelope(message_id, type_, "test", "test", datetime.now(UTC))
        message = aio_pika.Message(
            body,
            headers=dict(envelope.to_amqp()),
            message_id=message_id,
            type=type_,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        target = await self.channel.get_exchange(exchange, ensure=False)
        await target.publish(message, key, mandatory=True)
        return message_id

    async def event_of(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The first event of this type with these fields."""

        def matches(message: SpyMessage) -> bool:
            body = message.json()
            return message.routing_key == type_ and all(body[k] == v for k, v in fields.items())

        found: dict[str, Any] = (await self.spy.first(matches)).json()
        return found

    async def rows(self, sql: str, *params: Any) -> list[dict[str, Any]]:
        """What the primary holds."""
        async with self.database.primary() as session:
            return await session.fetch_all(sql, params)

    async def seat_owners(self, show: Show) -> dict[str, list[str]]:
        """Every live reservation of every seat that has one."""
        owners: dict[str, list[str]] = {}
        for row in await self.rows(
            "SELECT s.seat_id, r.reservation_id FROM reservations r"
            " JOIN reservation_seats s USING (reservation_id)"
            " WHERE r.performance_id = %s AND r.state IN ('held', 'confirmed')",
            show.performance_id,
        ):
            owners.setdefault(row["seat_id"], []).append(row["reservation_id"])
        return owners


@pytest.fixture(scope="session")
def settings(settings_for: SettingsFor) -> ReservationSettings:
    """Settings of the service on this process's corner of the servers."""
    return settings_for(ReservationSettings)


@pytest.fixture(scope="session")
async def database(settings: ReservationSettings) -> AsyncIterator[Database]:
    """The service's database, without the service."""
    opened = await Database.connect(settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def redis(settings: ReservationSettings) -> AsyncIterator[Redis]:
    """The service's Redis, without the service."""
    client = create_redis(settings)
    yield client
    await client.aclose()


@pytest.fixture(scope="module")
async def box(
    *,
    settings: ReservationSettings,
    database: Database,
    redis: Redis,
    infrastructure: Infrastructure,
    published: Published,
    bearer: Bearer,
    queue_pass: QueuePass,
) -> AsyncIterator[Box]:
    """The service, running with all its roles; no longer than its tests, since it hears others'."""
    connection = await aio_pika.connect(infrastructure.broker_url)
    async with (
        connection,
        running(create_app, settings) as client,
        published("reservation.events") as spy,
    ):
        yield Box(
            client=client,
            database=database,
            redis=redis,
            claims=Claims(redis, settings.redis_prefix),
            settings=settings,
            bearer=bearer,
            queue_pass=queue_pass,
            spy=spy,
            channel=await connection.channel(),
        )
