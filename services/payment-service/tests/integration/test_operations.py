"""What people and machines around the service rely on: overdue sagas, parking, the replica."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import httpx
import pytest
from structlog.testing import capture_logs

from common.database import Database
from common.ids import new_id
from payment_service.app import create_app
from payment_service.domain import PaymentState
from payment_service.service.watch import Watch, authorized_oldest_seconds
from payment_service.settings import PaymentSettings
from testkit import Bearer, Infrastructure, TcpProxy, eventually, running


class TestWatch:
    async def test_names_what_waits_too_long_and_invents_no_outcome(
        self, scene: Any, database: Database
    ) -> None:
        fan = await scene.fan(balance=30_000)
        hold = await scene.hold(fan)
        payment_id = (await scene.pay(hold)).payment.payment_id
        await database.run(
            lambda tx: tx.execute(
                "UPDATE payments SET created_at = NOW(6) - INTERVAL 30 DAY WHERE payment_id = %s",
                (payment_id,),
            )
        )
        with capture_logs() as logs:
            await Watch(database, overdue_seconds=5).measure()
        (warning,) = [log for log in logs if log["event"] == "payments-without-outcome"]
        assert warning["oldest"][0] == payment_id
        assert authorized_oldest_seconds._value.get() > 2_000_000  # 30 days have 2,592,000 s
        found = await scene.payments.get(fan, payment_id)
        assert found.state is PaymentState.AUTHORIZED
        await scene.deliver(hold.rejected(payment_id))

    async def test_is_silent_while_nothing_is_overdue(self, database: Database) -> None:
        with capture_logs() as logs:
            await Watch(database, overdue_seconds=10**9).measure()
        assert logs == []


class TestReplica:
    async def test_decisions_and_own_reads_never_ask_it(
        self, scene: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise AssertionError("the replica was asked")

        monkeypatch.setattr(scene.database, "replica", refuse)
        fan = await scene.fan(balance=50_000)
        hold = await scene.hold(fan)
        payment = (await scene.pay(hold)).payment
        await scene.deliver(hold.confirmed(payment.payment_id))
        assert await scene.balance(fan) == 20_000
        found = await scene.payments.get(fan, payment.payment_id)
        assert found.state is PaymentState.SUCCEEDED

    async def test_lists_and_figures_ask_it(
        self, scene: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise AssertionError("the primary was asked")

        fan = await scene.fan(balance=50_000)
        await eventually(scene.database.replica_is_fresh)
        monkeypatch.setattr(scene.database, "primary", refuse)

        async def replicated() -> bool:
            return len(await scene.wallets.entries(fan, limit=9, after=None)) == 1

        await eventually(replicated)
        assert await scene.payments.history(fan, limit=9, after=None) == []
        figures = await Watch(scene.database, overdue_seconds=5).figures()
        assert figures.source == "replica"
        assert 0 <= figures.staleness_seconds <= 2


class TestParking:
    async def test_a_contradiction_is_parked_and_blocks_nothing(
        self, infrastructure: Infrastructure, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=90_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        payment_id = (await fan.pay(hold.reservation_id)).json()["payment_id"]
        message_id = new_id()
        await reservations.publish(hold.rejected(payment_id), message_id)
        other = await reservations.hold(fan.user_id, 30_000, verdict="reject")
        assert (await fan.pay(other.reservation_id)).status_code == 410
        connection = await aio_pika.connect(infrastructure.broker_url)
        async with connection:
            channel = await connection.channel()
            parked = await channel.get_queue("payment.parked", ensure=False)

            async def arrived() -> Any:
                return await parked.get(fail=False)

            message = await eventually(arrived)
            await message.ack()
        assert message.headers["cloudEvents:id"] == message_id
        assert json.loads(message.body)["payment_id"] == payment_id
        assert await fan.balance() == 60_000


@pytest.fixture
async def lonely(
    infrastructure: Infrastructure, settings: PaymentSettings, fans: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A second replica that cannot reach Redis, beside the first one that can."""
    async with TcpProxy(infrastructure.ports.redis) as proxy:
        await proxy.refuse()
        changes = {"redis_url": f"redis://127.0.0.1:{proxy.port}/0", "instance": "lonely"}
        async with running(create_app, settings.model_copy(update=changes), role="api") as client:
            yield client


class TestRedisAway:
    async def test_money_moves_as_ever_only_the_wait_is_longer(
        self, lonely: httpx.AsyncClient, bearer: Bearer, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        headers = bearer(fan.user_id) | {"Idempotency-Key": new_id(), "Prefer": "wait=2"}
        body = {"reservation_id": hold.reservation_id}

        async def pay() -> httpx.Response | None:
            answer = await lonely.post("/api/v1/payments", headers=headers, json=body)
            return answer if answer.status_code == 201 else None

        answer = await eventually(pay, 8)
        again = await lonely.post("/api/v1/payments", headers=headers, json=body)
        assert again.content == answer.content
        assert await fan.balance() == 20_000
