"""concert-service on real servers, and a stand-in for the inventory's owner."""

import importlib.util
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from common.broker import Broker
from common.clock import Clock
from common.database import Database, Session
from common.database.connections import Connection, Server, connect
from common.errors import DependencyUnavailable
from common.events import InventoryChanged, SeatChange, SeatState
from common.ids import new_id
from common.redis import Redis, create_redis
from concert_service.app import create_app
from concert_service.service.availability import AvailabilityReader
from concert_service.service.catalogue import Catalogue
from concert_service.service.documents import Documents
from concert_service.service.loading import OneLoader
from concert_service.service.projecting import Projector
from concert_service.service.recent import Recent
from concert_service.settings import ConcertSettings
from concert_service.store.cache import Cache
from testkit import Bearer, Infrastructure, Published, SettingsFor, Spy, eventually, running


@pytest.fixture(scope="session")
def generate(repository: Path) -> ModuleType:
    """The plan generator of `examples/`."""
    spec = importlib.util.spec_from_file_location("generate", repository / "examples/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def settings(settings_for: SettingsFor) -> ConcertSettings:
    return settings_for(ConcertSettings)


@pytest.fixture(scope="session")
def admin(bearer: Bearer) -> dict[str, str]:
    return bearer("root", ["admin"])


@pytest_asyncio.fixture(scope="session")
async def told(settings: ConcertSettings, published: Published) -> AsyncIterator[Spy]:
    """Everything concert-service publishes; without a queue the relay could publish nothing."""
    async with published("concert.events") as spy:
        yield spy


@pytest_asyncio.fixture(scope="session")
async def client(settings: ConcertSettings, told: Spy) -> AsyncIterator[httpx.AsyncClient]:
    """One process of the service in role ``all``."""
    async with running(create_app, settings) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def database(settings: ConcertSettings) -> AsyncIterator[Database]:
    """A database client beside the service's own."""
    database = await Database.connect(settings)
    yield database
    await database.close()


@pytest_asyncio.fixture(scope="session")
async def redis(settings: ConcertSettings) -> AsyncIterator[Redis]:
    client = create_redis(settings)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def cache(redis: Redis, settings: ConcertSettings) -> Cache:
    return Cache(redis, settings.redis_prefix)


@dataclass(frozen=True)
class Concert:
    """A concert that was created over HTTP."""

    concert_id: str
    performance_ids: list[str]

    @property
    def performance_id(self) -> str:
        return self.performance_ids[0]


class Shop:
    """The administrator and the visitors."""

    def __init__(
        self, client: httpx.AsyncClient, admin: dict[str, str], generate: ModuleType
    ) -> None:
        self.client = client
        self.admin = admin
        self._generate = generate

    def order(self, seats: int = 12, **changes: Any) -> dict[str, Any]:
        """A body for ``POST /admin/concerts``."""
        plan = self._generate.seating_plan(seats)
        return {
            "title": "An evening",
            "artist": "The Band",
            "venue": "The Hall",
            "currency": "KRW",
            "max_seats_per_fan": 4,
            "hold_seconds": 300,
            "seating_plan": plan,
            "prices": self._generate.prices(plan),
            "performances": [{"starts_at": "2031-05-01T10:00:00Z", "sale_opens_at": None}],
            **changes,
        }

    async def post(self, body: Any) -> httpx.Response:
        return await self.client.post("/api/v1/admin/concerts", json=body, headers=self.admin)

    async def create(self, seats: int = 12, **changes: Any) -> Concert:
        response = await self.post(self.order(seats, **changes))
        assert response.status_code == 201, response.text
        body = response.json()
        return Concert(body["concert_id"], [one["performance_id"] for one in body["performances"]])

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", headers=headers)

    async def seats(self, performance_id: str) -> list[dict[str, Any]]:
        response = await self.get(f"/performances/{performance_id}/seats")
        assert response.status_code == 200
        seats: list[dict[str, Any]] = response.json()["seats"]
        return seats

    async def seat_ids(self, performance_id: str) -> list[str]:
        return [seat["seat_id"] for seat in await self.seats(performance_id)]

    async def availability(self, performance_id: str, since: int | None = None) -> dict[str, Any]:
        query = "" if since is None else f"?since={since}"
        response = await self.get(f"/performances/{performance_id}/availability{query}")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def put_sale(self, performance_id: str, sale: str) -> httpx.Response:
        return await self.client.put(
            f"/api/v1/admin/performances/{performance_id}",
            json={"sale": sale},
            headers=self.admin,
        )


@pytest.fixture(scope="session")
def shop(client: httpx.AsyncClient, admin: dict[str, str], generate: ModuleType) -> Shop:
    return Shop(client, admin, generate)


class StaleDatabase:
    """A database whose replica shows the past: what it held when the block began.

    It is the real replica, read in one snapshot that stays open.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self.stale_reads = 0
        self.replica_lag_seconds = 0.1
        self.run = database.run
        self.primary = database.primary

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Session]:
        self.stale_reads += 1
        yield Session(self._connection, "replica")


class ForgetfulDocuments(Documents):
    """Documents whose process memory can be emptied."""

    def forget(self) -> None:
        self._recent = Recent(1_000_000)


@dataclass(frozen=True)
class Parts:
    """The reading side of one more process."""

    database: Any
    documents: ForgetfulDocuments
    catalogue: Catalogue
    availability: AvailabilityReader


def parts(database: Any, redis: Redis, settings: ConcertSettings) -> Parts:
    clock = Clock()
    cache = Cache(redis, settings.redis_prefix)
    loader = OneLoader(redis, clock)
    documents = ForgetfulDocuments(database, cache, loader, clock)
    return Parts(
        database,
        documents,
        Catalogue(database, documents),
        AvailabilityReader(database, cache, loader, clock),
    )


@pytest.fixture(scope="session")
def stale(database: Database, redis: Redis, settings: ConcertSettings) -> Any:
    """``async with stale(concert) as parts``: a process whose replica stops at this moment.

    The snapshot is taken once the replica has the concert, if one is given.
    """

    @asynccontextmanager
    async def begin(concert: Concert | None = None) -> AsyncIterator[Parts]:
        connection = await connect(Server.replica(settings))
        try:

            async def arrived() -> bool:
                if concert is None:
                    return True
                found = await connection.execute(
                    "SELECT performance_id FROM performances WHERE performance_id = %s",
                    (concert.performance_id,),
                )
                return bool(found.rows)

            await eventually(arrived)
            await connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            yield parts(StaleDatabase(database, connection), redis, settings)
        finally:
            connection.close()

    return begin


@pytest.fixture(scope="session")
def another(database: Database, redis: Redis, settings: ConcertSettings) -> Any:
    """``another()``: the reading side of one more process."""
    return lambda other=database: parts(other, redis, settings)


class LostCache(Cache):
    """A Redis that can be away for the projection's writes."""

    away = False

    async def advance_availability(self, *arguments: Any) -> str:
        if self.away:
            raise DependencyUnavailable("redis")
        return await super().advance_availability(*arguments)


@pytest.fixture
def projector(
    client: Any, database: Database, redis: Redis, settings: ConcertSettings
) -> Projector:
    """One more projector, as of a process that takes over; called by hand."""
    clock = client._transport.app.state.clock
    return Projector(database, LostCache(redis, settings.redis_prefix), clock)


class Inventory:
    """Tells what reservation-service would tell."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def event(
        self,
        concert: Concert,
        version: int,
        seats: Sequence[tuple[str, str, int]],
        seats_left: int = 0,
    ) -> InventoryChanged:
        return InventoryChanged(
            performance_id=concert.performance_id,
            concert_id=concert.concert_id,
            version=version,
            seats=tuple(
                SeatChange(seat_id=seat_id, state=SeatState(state), version=seat_version)
                for seat_id, state, seat_version in seats
            ),
            seats_left=seats_left,
            occurred_at=Clock().now(),
        )

    async def tell(
        self,
        concert: Concert,
        version: int,
        *seats: tuple[str, str, int],
        message_id: str | None = None,
    ) -> str:
        """Publish one change; returns the message's id."""
        message_id = message_id or new_id()
        await self._broker.publish(
            self.event(concert, version, seats), event_id=message_id, deadline_seconds=5.0
        )
        return message_id


@pytest_asyncio.fixture(scope="session")
async def inventory(
    settings: ConcertSettings, infrastructure: Infrastructure, client: httpx.AsyncClient
) -> AsyncIterator[Inventory]:
    del client  # its queue must be declared, or what is told here would go nowhere
    other = settings.model_copy(
        update={
            "instance": "inventory-of-tests",
            "broker_user": "reservation",
            "broker_password": SecretStr(infrastructure.stack.credentials.broker["reservation"]),
        }
    )
    broker = _ReservationBroker(other)
    await broker.start()
    yield Inventory(broker)
    await broker.stop()


class _ReservationBroker(Broker):
    """Publishes under reservation-service's account and name, as the real one does."""

    def __init__(self, settings: ConcertSettings) -> None:
        super().__init__(settings)
        self._service = "reservation"
