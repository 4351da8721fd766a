"""The use cases on real servers, the whole service over HTTP, and a reservation side to talk to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import aio_pika
import httpx
import pytest

from common.answers import Answers
from common.clock import Clock
from common.database import Database
from common.envelope import Envelope
from common.events import (
    CancelCause,
    Event,
    Money,
    PaymentAuthorized,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationHeld,
    ReservationRejected,
)
from common.ids import new_id
from common.outbox import Outbox
from common.redis import Redis, create_redis
from payment_service.app import create_app
from payment_service.service.payments import Outcome, Payments
from payment_service.service.saga import Saga
from payment_service.service.wallets import Wallets
from payment_service.settings import PaymentSettings
from payment_service.store import payables
from payment_service.store.payments import Request
from testkit import Bearer, Infrastructure, Published, SettingsFor, Spy, eventually, running

Verdict = Literal["confirm", "reject"]


@dataclass(frozen=True)
class Hold:
    """A held reservation, and every event that may follow."""

    user_id: str
    amount: int
    reservation_id: str
    concert_id: str
    performance_id: str
    seat_ids: tuple[str, ...]
    expires_at: datetime

    def _members(self, version: int) -> dict[str, Any]:
        return {
            "reservation_id": self.reservation_id,
            "version": version,
            "user_id": self.user_id,
            "concert_id": self.concert_id,
            "performance_id": self.performance_id,
            "occurred_at": datetime.now(UTC),
        }

    def held(self, version: int = 1, currency: str = "KRW") -> ReservationHeld:
        return ReservationHeld(
            **self._members(version),
            seat_ids=self.seat_ids,
            total=Money(amount=self.amount, currency=currency),
            hold_expires_at=self.expires_at,
        )

    def expired(self, version: int = 2) -> ReservationExpired:
        return ReservationExpired(**self._members(version), seat_ids=self.seat_ids)

    def confirmed(self, payment_id: str, version: int = 2) -> ReservationConfirmed:
        return ReservationConfirmed(
            **self._members(version),
            seat_ids=self.seat_ids,
            previous_state="held",
            payment_id=payment_id,
            pass_id=new_id(),
        )

    def rejected(self, payment_id: str, version: int = 2) -> ReservationRejected:
        return ReservationRejected(
            **self._members(version),
            previous_state="expired",
            payment_id=payment_id,
            reason="hold-expired",
        )

    def cancelled(
        self,
        payment_id: str | None = None,
        version: int = 3,
        cause: CancelCause = CancelCause.FAN,
    ) -> ReservationCancelled:
        return ReservationCancelled(
            **self._members(version),
            seat_ids=self.seat_ids,
            previous_state="held" if payment_id is None else "confirmed",
            payment_id=payment_id,
            cause=cause,
        )


def new_fan() -> str:
    return f"fan-{new_id()}"


def new_hold(
    user_id: str, amount: int = 30_000, seconds: float = 300, concert_id: str | None = None
) -> Hold:
    return Hold(
        user_id=user_id,
        amount=amount,
        reservation_id=new_id(),
        concert_id=concert_id or new_id(),
        performance_id=new_id(),
        seat_ids=(new_id(), new_id()),
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
    )


def envelope_of(event: Event) -> Envelope:
    return Envelope(
        id=new_id(),
        type=event.type,
        source="reservation",
        subject=event.subject,
        time=datetime.now(UTC),
    )


@pytest.fixture(scope="session")
def settings(settings_for: SettingsFor) -> PaymentSettings:
    return settings_for(PaymentSettings)


@pytest.fixture(scope="session")
async def database(settings: PaymentSettings) -> AsyncIterator[Database]:
    database = await Database.connect(settings)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def redis(settings: PaymentSettings) -> AsyncIterator[Redis]:
    client = create_redis(settings)
    yield client
    await client.aclose()


class Scene:
    """The use cases, without HTTP, broker and relays; what they do is read from the tables."""

    def __init__(
        self, settings: PaymentSettings, database: Database, redis: Redis, instance: str
    ) -> None:
        self.database = database
        self.answers = Answers(redis, settings.redis_prefix, instance)
        self.outbox = Outbox("payment", lambda _: None)
        self.wallets = Wallets(database, redis, settings.redis_prefix)
        self.payments = Payments(
            settings,
            database=database,
            redis=redis,
            answers=self.answers,
            outbox=self.outbox,
            clock=Clock(),
        )
        self.saga = Saga(database=database, answers=self.answers, outbox=self.outbox)

    async def fan(self, balance: int = 0) -> str:
        user_id = new_fan()
        if balance:
            await self.charge(user_id, balance)
        return user_id

    async def charge(self, user_id: str, amount: int) -> None:
        answer = await self.wallets.charge(user_id, new_id(), "0" * 64, amount)
        assert answer.status == 201

    async def hold(self, user_id: str, amount: int = 30_000, seconds: float = 300) -> Hold:
        hold = new_hold(user_id, amount, seconds)
        await self.deliver(hold.held())
        return hold

    async def deliver(self, event: Event, envelope: Envelope | None = None) -> None:
        handler = getattr(self.saga, event.type.split(".")[1])
        await handler(event, envelope or envelope_of(event))

    async def pay(
        self, hold: Hold, key: str | None = None, *, user_id: str | None = None, wait: float = 0
    ) -> Outcome:
        request = Request(
            user_id=user_id or hold.user_id,
            reservation_id=hold.reservation_id,
            idempotency_key=key or new_id(),
            body_hash=hold.reservation_id.replace("-", "").ljust(64, "0"),
        )
        return await self.payments.pay(request, wait_seconds=wait)

    async def balance(self, user_id: str) -> int:
        return await self.wallets.balance(user_id)

    async def rows(self, sql: str, *params: object) -> list[dict[str, Any]]:
        async with self.database.primary() as session:
            return await session.fetch_all(sql, params)

    async def steps(self, payment_id: str) -> list[tuple[str, str, int]]:
        """What the ledger says of a payment: kind, account, amount."""
        rows = await self.rows(
            "SELECT kind, account, amount FROM ledger_entries WHERE payment_id = %s"
            " ORDER BY entry_id",
            payment_id,
        )
        return [(row["kind"], row["account"], row["amount"]) for row in rows]

    async def told(self, subject: str) -> list[tuple[str, str]]:
        """What the outbox holds about a payment: destination and type, in order."""
        rows = await self.rows(
            "SELECT destination, type FROM outbox WHERE subject = %s ORDER BY id", subject
        )
        return [(row["destination"], row["type"]) for row in rows]

    async def assert_books_balance(self, user_id: str) -> None:
        (row,) = await self.rows(
            "SELECT balance, (SELECT COALESCE(SUM(amount), 0) FROM ledger_entries"
            " WHERE account = CONCAT('wallet:', user_id)) AS ledger"
            " FROM wallets WHERE user_id = %s",
            user_id,
        )
        assert row["balance"] == row["ledger"]
        assert row["balance"] >= 0


@pytest.fixture(scope="session")
async def scene(
    settings: PaymentSettings, database: Database, redis: Redis
) -> AsyncIterator[Scene]:
    scene = Scene(settings, database, redis, "scene")
    await scene.answers.start()
    yield scene
    await scene.answers.stop()


@pytest.fixture(scope="session")
async def replica_scene(
    settings: PaymentSettings, database: Database, redis: Redis
) -> AsyncIterator[Scene]:
    """Another replica of the service on the same servers."""
    scene = Scene(settings, database, redis, "replica-scene")
    await scene.answers.start()
    yield scene
    await scene.answers.stop()


class Reservations:
    """Stands for reservation-service: publishes its events, and answers payments as told."""

    def __init__(
        self, channel: aio_pika.abc.AbstractChannel, events: Spy, database: Database
    ) -> None:
        self._channel = channel
        self._database = database
        self._events = events
        self._verdicts: dict[str, tuple[Hold, Verdict]] = {}
        self._answered = 0

    async def publish(self, event: Event, message_id: str | None = None) -> None:
        envelope = envelope_of(event)
        if message_id is not None:
            envelope = Envelope(**{**_members(envelope), "id": message_id})
        exchange = await self._channel.get_exchange(event.exchange, ensure=False)
        await exchange.publish(
            aio_pika.Message(
                event.model_dump_json().encode(),
                headers=envelope.to_amqp(),
                content_type="application/json",
                message_id=envelope.id,
            ),
            routing_key=event.type,
        )

    async def hold(
        self,
        user_id: str,
        amount: int = 30_000,
        seconds: float = 300,
        verdict: Verdict | None = None,
        concert_id: str | None = None,
    ) -> Hold:
        hold = new_hold(user_id, amount, seconds, concert_id)
        if verdict is not None:
            self._verdicts[hold.reservation_id] = (hold, verdict)
        await self.publish(hold.held())
        await eventually(lambda: self._is_known(hold), 10)
        return hold

    async def _is_known(self, hold: Hold) -> bool:
        async with self._database.primary() as session:
            return bool(await payables.find(session, hold.reservation_id, hold.user_id))

    async def answer_payments(self) -> None:
        """Confirm or reject what was authorized, as each hold was told, until cancelled."""
        while True:
            for message in self._events.messages[self._answered :]:
                self._answered += 1
                if message.routing_key == PaymentAuthorized.type:
                    await self._answer(message.json())
            await asyncio.sleep(0.01)

    async def _answer(self, payment: dict[str, Any]) -> None:
        if payment["reservation_id"] not in self._verdicts:
            return
        hold, verdict = self._verdicts[payment["reservation_id"]]
        event = hold.confirmed if verdict == "confirm" else hold.rejected
        await self.publish(event(payment["payment_id"]))


def _members(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "type": envelope.type,
        "source": envelope.source,
        "subject": envelope.subject,
        "time": envelope.time,
    }


@pytest.fixture(scope="module")
async def events(published: Published, settings: PaymentSettings) -> AsyncIterator[Spy]:
    """Everything the service publishes. Without a queue the relay would keep its rows."""
    async with published("payment.events") as spy:
        yield spy


@pytest.fixture(scope="module")
async def client(settings: PaymentSettings, events: Spy) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service in this process."""
    async with running(create_app, settings) as client:
        client.base_url = httpx.URL("http://service/api/v1")
        yield client


@pytest.fixture(scope="module")
async def reservations(
    infrastructure: Infrastructure, client: httpx.AsyncClient, events: Spy, database: Database
) -> AsyncIterator[Reservations]:
    connection = await aio_pika.connect(infrastructure.broker_url)
    async with connection:
        reservations = Reservations(await connection.channel(), events, database)
        answering = asyncio.create_task(reservations.answer_payments())
        yield reservations
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering


class Fan:
    """One fan's calls."""

    def __init__(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        self.user_id = new_fan()
        self._client = client
        self._headers = bearer(self.user_id)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self._client.get(path, headers=self._headers, params=params)

    async def post(
        self, path: str, body: Any, *, key: str | bytes | None = None, wait: float | None = None
    ) -> httpx.Response:
        headers: dict[str, str | bytes] = {**self._headers}
        headers["Idempotency-Key"] = new_id() if key is None else key
        if wait is not None:
            headers["Prefer"] = f"wait={wait:.0f}"
        return await self._client.post(path, headers=headers, json=body)  # type: ignore[arg-type]

    async def charge(self, amount: int, key: str | None = None) -> httpx.Response:
        return await self.post("/wallet/charges", {"amount": amount}, key=key)

    async def pay(
        self, reservation_id: str, *, key: str | None = None, wait: float = 5
    ) -> httpx.Response:
        return await self.post("/payments", {"reservation_id": reservation_id}, key=key, wait=wait)

    async def balance(self) -> int:
        answer = await self.get("/wallet")
        assert answer.status_code == 200
        amount: int = answer.json()["balance"]["amount"]
        return amount


class Fans:
    """Makes fans, with money if wanted."""

    def __init__(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        self._client = client
        self._bearer = bearer

    async def __call__(self, balance: int = 0) -> Fan:
        fan = Fan(self._client, self._bearer)
        if balance:
            assert (await fan.charge(balance)).status_code == 201
        return fan


@pytest.fixture(scope="module")
def fans(client: httpx.AsyncClient, bearer: Bearer) -> Fans:
    return Fans(client, bearer)
