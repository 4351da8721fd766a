"""Paying as a use case: races on one reservation, one wallet, one key."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from common.errors import Problem
from common.ids import new_id
from payment_service.domain import PaymentInProgress, PaymentState, ReservationUnknown
from testkit import eventually


async def attempts(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are not marked as open in Redis, as while it is away."""

    @asynccontextmanager
    async def in_flight(*_: object) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr("common.idempotency.in_flight", in_flight)


class TestOneReservation:
    async def test_eight_payments_at_once_charge_once(self, scene: Any) -> None:
        fan = await scene.fan(balance=1_000_000)
        hold = await scene.hold(fan, 30_000)
        results = await attempts(*(scene.pay(hold) for _ in range(8)))
        refused = [one for one in results if isinstance(one, PaymentInProgress)]
        assert len(refused) == 7
        assert await scene.balance(fan) == 970_000  # 1,000,000 - 30,000
        await scene.assert_books_balance(fan)

    async def test_eight_payments_at_once_of_a_confirmed_one_charge_nothing(
        self, scene: Any
    ) -> None:
        fan = await scene.fan(balance=1_000_000)
        hold = await scene.hold(fan, 30_000)
        paid = await scene.pay(hold)
        await scene.deliver(hold.confirmed(paid.payment.payment_id))
        results = await attempts(*(scene.pay(hold) for _ in range(8)))
        assert [json.loads(one.answer.body)["code"] for one in results] == ["already-paid"] * 8
        assert await scene.balance(fan) == 970_000

    async def test_another_fans_reservation_is_unknown(self, scene: Any) -> None:
        owner, thief = await scene.fan(balance=50_000), await scene.fan(balance=50_000)
        hold = await scene.hold(owner)
        with pytest.raises(ReservationUnknown):
            await scene.pay(replace(hold, user_id=thief))
        assert await scene.balance(thief) == 50_000
        assert await scene.balance(owner) == 50_000

    async def test_a_fresh_reservation_is_waited_for(self, scene: Any) -> None:
        fan = await scene.fan(balance=50_000)
        known = await scene.hold(fan)
        fresh = replace(known, reservation_id=new_id())
        paying = asyncio.create_task(scene.pay(fresh, wait=0.3))
        done, _ = await asyncio.wait({paying}, timeout=0.05)
        assert not done
        await scene.deliver(fresh.held())
        assert (await paying).payment.state is PaymentState.AUTHORIZED

    async def test_the_answer_does_not_come_before_the_debit_is_committed(self, scene: Any) -> None:
        fan = await scene.fan(balance=30_000)
        hold = await scene.hold(fan, 30_000)
        outcome = await scene.pay(hold)
        stored = await scene.payments.get(fan, outcome.payment.payment_id)
        assert stored == outcome.payment


class TestOneWallet:
    async def test_twenty_reservations_at_once_spend_what_is_there(self, scene: Any) -> None:
        fan = await scene.fan(balance=70_000)
        holds = [await scene.hold(fan, 10_000) for _ in range(20)]
        outcomes = await asyncio.gather(*(scene.pay(hold) for hold in holds))
        authorized = [one for one in outcomes if one.payment.state is PaymentState.AUTHORIZED]
        refused = [one for one in outcomes if one.answer and one.answer.status == 402]
        assert (len(authorized), len(refused)) == (7, 13)  # 70,000 / 10,000
        assert await scene.balance(fan) == 0
        await scene.assert_books_balance(fan)

    async def test_charges_and_payments_at_once_lose_nothing(self, scene: Any) -> None:
        fan = await scene.fan(balance=100_000)
        holds = [await scene.hold(fan, 10_000) for _ in range(10)]
        await asyncio.gather(
            *(scene.charge(fan, 1_000) for _ in range(10)), *(scene.pay(hold) for hold in holds)
        )
        assert await scene.balance(fan) == 10_000  # 100,000 + 10 x 1,000 - 10 x 10,000
        await scene.assert_books_balance(fan)

    async def test_a_free_reservation_needs_no_wallet(self, scene: Any) -> None:
        fan = await scene.fan()
        outcome = await scene.pay(await scene.hold(fan, 0))
        assert outcome.payment.state is PaymentState.AUTHORIZED
        assert await scene.balance(fan) == 0


class TestOneKey:
    async def test_five_at_once_charge_once(self, scene: Any) -> None:
        """Whoever is not first hears that the first is open, or joins its payment."""
        fan = await scene.fan(balance=100_000)
        hold = await scene.hold(fan, 30_000)
        key = new_id()
        results = await attempts(*(scene.pay(hold, key) for _ in range(5)))
        made = {one.payment.payment_id for one in results if not isinstance(one, Exception)}
        assert len(made) == 1
        problems = [one for one in results if isinstance(one, Exception)]
        assert all(isinstance(one, Problem) for one in problems)
        assert {one.code for one in problems} <= {"request-in-progress"}
        assert await scene.balance(fan) == 70_000

    async def test_the_unique_key_holds_without_the_mark_in_redis(
        self, scene: Any, unmarked: None
    ) -> None:
        fan = await scene.fan(balance=100_000)
        hold = await scene.hold(fan, 30_000)
        key = new_id()
        results = await asyncio.gather(*(scene.pay(hold, key) for _ in range(8)))
        assert len({one.payment.payment_id for one in results}) == 1
        assert await scene.balance(fan) == 70_000

    async def test_a_refusal_is_a_failed_payment_in_the_history(self, scene: Any) -> None:
        fan = await scene.fan(balance=10)
        hold = await scene.hold(fan, 30_000)
        outcome = await scene.pay(hold)
        (payment,) = await eventually(
            lambda: scene.payments.history(fan, limit=10, after=None)  # from the replica
        )
        assert payment.payment_id == outcome.payment.payment_id
        assert (payment.state, payment.amount) == (PaymentState.FAILED, 30_000)
        assert await scene.steps(payment.payment_id) == []
        assert await scene.told(payment.payment_id) == []

    async def test_a_payment_in_progress_is_not_a_final_answer(self, scene: Any) -> None:
        fan = await scene.fan(balance=100_000)
        hold = await scene.hold(fan, 30_000)
        first = (await scene.pay(hold)).payment.payment_id
        key = new_id()
        with pytest.raises(PaymentInProgress):
            await scene.pay(hold, key)
        await scene.deliver(hold.rejected(first))
        assert (await scene.pay(hold, key)).payment.state is PaymentState.AUTHORIZED


class TestCharge:
    async def test_eight_at_once_with_one_key_charge_once(self, scene: Any) -> None:
        fan = await scene.fan()
        key = new_id()
        results = await attempts(
            *(scene.wallets.charge(fan, key, "a" * 64, 5_000) for _ in range(8))
        )
        answers = {one.body for one in results if not isinstance(one, Exception)}
        assert len(answers) == 1
        assert await scene.balance(fan) == 5_000

    async def test_the_primary_key_holds_without_the_mark_in_redis(
        self, scene: Any, unmarked: None
    ) -> None:
        fan = await scene.fan()
        key = new_id()
        results = await asyncio.gather(
            *(scene.wallets.charge(fan, key, "a" * 64, 5_000) for _ in range(8))
        )
        assert len({one.body for one in results}) == 1
        assert await scene.balance(fan) == 5_000
        await scene.assert_books_balance(fan)
