"""A running queue-service, concerts to queue for, and fans."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from common.database import Database
from common.envelope import Envelope
from common.events import (
    InventoryChanged,
    PerformanceSaleChanged,
    PerformanceScheduled,
    SaleState,
    ScheduledSeat,
)
from common.events.base import Money
from common.ids import new_id
from local_stack.redis_server import admin as redis_admin
from queue_service.app import create_app
from queue_service.service import Door, Line, Steering
from queue_service.settings import QueueSettings
from testkit.applications import running

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class Fan:
    """Somebody with a token, in one queue."""

    client: httpx.AsyncClient
    headers: dict[str, str]
    user_id: str
    concert_id: str
    token: str | None = None

    @property
    def path(self) -> str:
        return f"/api/v1/queues/{self.concert_id}/ticket"

    async def join(self, **headers: str) -> httpx.Response:
        return self._keep(await self.client.put(self.path, headers=self.headers | headers))

    async def poll(self, **headers: str) -> httpx.Response:
        return self._keep(await self.client.get(self.path, headers=self.headers | headers))

    async def return_with_ticket(self) -> httpx.Response:
        return await self.poll(**{"Queue-Ticket": self.token or ""})

    async def leave(self) -> httpx.Response:
        return await self.client.delete(self.path, headers=self.headers)

    async def state(self) -> str:
        return str((await self.poll()).json()["state"])

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            self.token = answer.json()["token"]
        return answer


@dataclass
class Queue:
    """One concert's queue, and levers on it."""

    service: "Service"
    concert_id: str
    performance_id: str
    version: int = 1
    fans: dict[str, Fan] = field(default_factory=dict)

    def fan(self, name: str | None = None) -> Fan:
        user_id = f"{name or 'fan'}-{new_id()[-12:]}"
        return Fan(self.service.client, self.service.bearer(user_id), user_id, self.concert_id)

    async def policy(self, **fields: Any) -> httpx.Response:
        return await self.service.client.put(
            f"/api/v1/admin/queues/{self.concert_id}",
            json=fields,
            headers=self.service.admin,
        )

    async def look(self) -> dict[str, Any]:
        answer = await self.service.client.get(f"/api/v1/queues/{self.concert_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def sale(self, sale: SaleState, *, performance_id: str | None = None) -> None:
        self.version += 1
        event = PerformanceSaleChanged(
            performance_id=performance_id or self.performance_id,
            concert_id=self.concert_id,
            version=self.version,
            sale=sale,
            previous_sale=SaleState.SCHEDULED,
            sale_opens_at=None,
            occurred_at=NOW,
        )
        await self.service.steering.sale_changed(event, envelope_of(event))

    async def stock(self, version: int, seats_left: int) -> None:
        event = InventoryChanged(
            performance_id=self.performance_id,
            concert_id=self.concert_id,
            version=version,
            seats=(),
            seats_left=seats_left,
            occurred_at=NOW,
        )
        await self.service.steering.inventory_changed(event, envelope_of(event))

    async def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        async with self.service.database.primary() as session:
            return await session.fetch_all(
                f"SELECT {columns} FROM admissions WHERE concert_id = %s ORDER BY sequence",
                (self.concert_id,),
            )


@dataclass
class Service:
    """One process of queue-service, its insides in reach."""

    client: httpx.AsyncClient
    bearer: Callable[..., dict[str, str]]
    settings: QueueSettings
    app: Any

    @property
    def admin(self) -> dict[str, str]:
        return self.bearer("the-administrator", ["admin"])

    @property
    def steering(self) -> Steering:
        return self.app.state.steering

    @property
    def door(self) -> Door:
        return self.app.state.door

    @property
    def line(self) -> Line:
        return self.app.state.line

    @property
    def database(self) -> Database:
        return self.app.state.platform.database

    @property
    def redis(self) -> Any:
        return self.app.state.platform.redis

    @staticmethod
    def scheduled(concert_id: str, performance_id: str, *args: Any) -> PerformanceScheduled:
        return scheduled(concert_id, performance_id, *args)

    async def queue(
        self,
        sale: SaleState = SaleState.OPEN,
        sale_opens_at: datetime | None = None,
        **policy: Any,
    ) -> Queue:
        queue = Queue(self, new_id(), new_id())
        event = scheduled(queue.concert_id, queue.performance_id, sale, sale_opens_at)
        await self.steering.performance_scheduled(event, envelope_of(event))
        if policy:
            assert (await queue.policy(**policy)).status_code == 200
        return queue


def scheduled(
    concert_id: str,
    performance_id: str,
    sale: SaleState = SaleState.OPEN,
    sale_opens_at: datetime | None = None,
    seats_total: int = 100,
) -> PerformanceScheduled:
    seat = ScheduledSeat(
        seat_id=new_id(),
        label="A1",
        category="floor",
        price=Money(amount=1000),
        position=0,
        row="A",
    )
    return PerformanceScheduled(
        performance_id=performance_id,
        concert_id=concert_id,
        version=1,
        part=1,
        parts=1,
        starts_at=NOW,
        sale=sale,
        sale_opens_at=sale_opens_at,
        currency="KRW",
        max_seats_per_fan=4,
        hold_seconds=300,
        seats_total=seats_total,
        seats=(seat,),
    )


def envelope_of(event: Any, message_id: str | None = None) -> Envelope:
    return Envelope(
        id=message_id or new_id(),
        type=event.type,
        source="test",
        subject=event.subject,
        time=NOW,
        traceparent=None,
    )


@pytest.fixture(scope="session")
def lose_keys(infrastructure: Any) -> Callable[[str], None]:
    """Redis loses every key that matches: what a service's own account may not even list."""

    def lose(pattern: str) -> None:
        with redis_admin(infrastructure.ports, infrastructure.stack.credentials) as client:
            for key in client.scan_iter(pattern, count=1000):
                client.unlink(key)

    return lose


StartService = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(scope="session")
def start_service(settings_for: Any, bearer: Any) -> StartService:
    """Another process's worth of queue-service, with settings of its own."""

    @asynccontextmanager
    async def start(role: str = "all", **overrides: Any) -> AsyncIterator[Service]:
        values: dict[str, Any] = {
            "turn_seconds": 0.05,
            "steer_seconds": 0.2,
            "recovery_hold_seconds": 0.0,
            "instance": new_id(),
            # Fans and several services share one event loop here: it is the slow part.
            "redis_timeout_seconds": 5.0,
            "database_timeout_seconds": 5.0,
        }
        settings = settings_for(QueueSettings, **(values | overrides))
        async with running(create_app, settings, role=role) as client:
            app = client._transport.app
            yield Service(client, bearer, settings, app)

    return start


@pytest.fixture(scope="session")
async def service(start_service: StartService) -> AsyncIterator[Service]:
    """The service most tests talk to."""
    async with start_service() as running_service:
        yield running_service


@pytest.fixture
def alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual service takes no turn and rebuilds no room: nobody helps behind our back."""

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(service.door, "attend", nothing)
    monkeypatch.setattr(service.door, "_free", nothing)
    monkeypatch.setattr(service.door, "ask", lambda concert_id: None)
    monkeypatch.setattr(service.steering, "_refresh", nothing)
