"""The saga's handlers: each event once, twice, in any order; money, states, outbox, answers."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from common.envelope import Envelope
from common.errors import MessageRejected
from common.events import CancelCause, Event
from common.events.payment import KAFKA_TOPIC
from common.ids import new_id
from payment_service.domain import PaymentState
from testkit import eventually

AUTHORIZED = [("rabbitmq", "payment.authorized.v1")]
SUCCEEDED = [
    *AUTHORIZED,
    ("rabbitmq", "payment.succeeded.v1"),
    ("kafka", "payment.succeeded.v1"),
]
CANCELLED = [
    *SUCCEEDED,
    ("rabbitmq", "payment.refunded.v1"),
    ("kafka", "payment.refunded.v1"),
]


async def paid(scene: Any, amount: int = 30_000) -> tuple[Any, str]:
    """A hold with its authorized payment; the fan had exactly that much."""
    fan = await scene.fan(balance=amount)
    hold = await scene.hold(fan, amount)
    outcome = await scene.pay(hold)
    assert outcome.answer is None
    return hold, outcome.payment.payment_id


async def state(scene: Any, hold: Any, payment_id: str) -> PaymentState:
    return (await scene.payments.get(hold.user_id, payment_id)).state


class TestConfirmed:
    async def test_makes_the_money_ours_and_tells_broker_and_stream(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.confirmed(payment_id))
        assert await state(scene, hold, payment_id) is PaymentState.SUCCEEDED
        assert await scene.balance(hold.user_id) == 0
        assert await scene.steps(payment_id) == [
            ("payment", f"wallet:{hold.user_id}", -30_000),
            ("payment", "clearing", 30_000),
            ("settlement", "clearing", -30_000),
            ("settlement", "revenue", 30_000),
        ]
        assert await _broker_then_stream(scene, payment_id) == _sorted(SUCCEEDED)

    async def test_the_stream_is_keyed_by_the_concert(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.confirmed(payment_id))
        (row,) = await scene.rows(
            "SELECT exchange, message_key, payload FROM outbox"
            " WHERE destination = 'kafka' AND subject = %s",
            payment_id,
        )
        record = json.loads(row["payload"])
        assert (row["exchange"], row["message_key"]) == (KAFKA_TOPIC, hold.concert_id)
        assert record["seat_ids"] == list(hold.seat_ids)
        assert record["amount"] == {"amount": 30_000, "currency": "KRW"}
        assert set(record) == {
            "payment_id", "reservation_id", "concert_id", "performance_id", "seat_ids", "amount",
            "occurred_at", "type",
        }  # fmt: skip


class TestRejected:
    async def test_gives_the_money_back_and_tells_the_broker_only(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        assert await scene.balance(hold.user_id) == 0
        await scene.deliver(hold.rejected(payment_id))
        assert await state(scene, hold, payment_id) is PaymentState.REFUNDED
        assert await scene.balance(hold.user_id) == 30_000
        assert (await scene.steps(payment_id))[2:] == [
            ("refund", "clearing", -30_000),
            ("refund", f"wallet:{hold.user_id}", 30_000),
        ]
        assert await scene.told(payment_id) == [*AUTHORIZED, ("rabbitmq", "payment.refunded.v1")]

    async def test_another_payment_may_follow(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.rejected(payment_id))
        again = await scene.pay(hold)
        assert again.payment.state is PaymentState.AUTHORIZED


class TestCancelled:
    async def test_after_the_confirmation_gives_the_money_back(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.confirmed(payment_id))
        await scene.deliver(hold.cancelled(payment_id))
        assert await state(scene, hold, payment_id) is PaymentState.REFUNDED
        assert await scene.balance(hold.user_id) == 30_000
        assert (await scene.steps(payment_id))[4:] == [
            ("refund", "revenue", -30_000),
            ("refund", f"wallet:{hold.user_id}", 30_000),
        ]
        assert await _broker_then_stream(scene, payment_id) == _sorted(CANCELLED)

    @pytest.mark.parametrize("late_confirmation", [False, True])
    async def test_before_the_confirmation_books_both_at_once(
        self, scene: Any, late_confirmation: bool
    ) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.cancelled(payment_id, cause=CancelCause.PERFORMANCE_CANCELLED))
        if late_confirmation:
            await scene.deliver(hold.confirmed(payment_id))
        payment = await scene.payments.get(hold.user_id, payment_id)
        assert payment.state is PaymentState.REFUNDED
        assert payment.settled_at is not None
        assert payment.version == 3
        assert await scene.balance(hold.user_id) == 30_000
        assert [kind for kind, _, _ in await scene.steps(payment_id)] == [
            "payment", "payment", "settlement", "settlement", "refund", "refund",
        ]  # fmt: skip
        assert await _broker_then_stream(scene, payment_id) == _sorted(CANCELLED)

    async def test_of_a_hold_only_ends_what_may_be_paid(self, scene: Any) -> None:
        fan = await scene.fan(balance=50_000)
        hold = await scene.hold(fan)
        await scene.deliver(hold.cancelled(version=2))
        outcome = await scene.pay(hold)
        assert outcome.answer is not None
        assert outcome.answer.status == 410
        assert await scene.balance(fan) == 50_000

    async def test_of_a_hold_leaves_an_open_payment_to_its_rejection(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.cancelled(version=2))
        assert await state(scene, hold, payment_id) is PaymentState.AUTHORIZED
        await scene.deliver(hold.rejected(payment_id))
        assert await scene.balance(hold.user_id) == 30_000

    async def test_what_was_cancelled_cannot_be_paid_again(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.confirmed(payment_id))
        await scene.deliver(hold.cancelled(payment_id))
        outcome = await scene.pay(hold)
        assert outcome.answer is not None
        assert outcome.answer.status == 410


class TestPayables:
    @pytest.mark.parametrize("end", ["expired", "cancelled"])
    async def test_an_end_that_comes_first_wins(self, scene: Any, end: str) -> None:
        fan = await scene.fan(balance=50_000)
        hold = await scene.hold(fan)
        other = type(hold)(**{**hold.__dict__, "reservation_id": new_id()})
        await scene.deliver(getattr(other, end)(version=2))
        await scene.deliver(other.held())
        outcome = await scene.pay(other)
        assert outcome.answer is not None
        assert outcome.answer.status == 410
        assert await scene.balance(fan) == 50_000

    @pytest.mark.parametrize(("amount", "currency"), [(100, "USD"), (-1, "KRW")])
    async def test_a_price_no_wallet_can_pay_is_parked(
        self, scene: Any, amount: int, currency: str
    ) -> None:
        hold = await scene.hold(await scene.fan(), 5)
        strange = type(hold)(**{**hold.__dict__, "amount": amount})
        with pytest.raises(MessageRejected):
            await scene.deliver(strange.held(currency=currency))


class TestOnce:
    @pytest.mark.parametrize("outcome", ["confirmed", "rejected", "cancelled"])
    async def test_the_same_message_five_times_at_once(self, scene: Any, outcome: str) -> None:
        hold, payment_id = await paid(scene)
        event: Event = getattr(hold, outcome)(payment_id)
        envelope = _envelope(event)
        await asyncio.gather(*(scene.deliver(event, envelope) for _ in range(5)))
        await self._assert_once(scene, hold, payment_id)

    @pytest.mark.parametrize("outcome", ["confirmed", "rejected", "cancelled"])
    async def test_the_same_fact_in_five_messages_at_once(self, scene: Any, outcome: str) -> None:
        hold, payment_id = await paid(scene)
        event: Event = getattr(hold, outcome)(payment_id)
        await asyncio.gather(*(scene.deliver(event) for _ in range(5)))
        await self._assert_once(scene, hold, payment_id)

    async def _assert_once(self, scene: Any, hold: Any, payment_id: str) -> None:
        steps = [kind for kind, _, _ in await scene.steps(payment_id)]
        assert all(steps.count(kind) == 2 for kind in set(steps))
        told = await scene.told(payment_id)
        assert len(told) == len(set(told))
        await scene.assert_books_balance(hold.user_id)

    async def test_the_inbox_alone_keeps_a_message_from_a_second_effect(self, scene: Any) -> None:
        """The same message again must not even be looked at: here it would be refused."""
        hold, payment_id = await paid(scene)
        confirmed = hold.confirmed(payment_id)
        envelope = _envelope(confirmed)
        await scene.deliver(confirmed, envelope)
        elsewhere = confirmed.model_copy(update={"payment_id": new_id()})
        await scene.deliver(elsewhere, envelope)
        with pytest.raises(MessageRejected):
            await scene.deliver(elsewhere)

    async def test_every_order_of_a_whole_life_with_repeats(self, scene: Any) -> None:
        """Held came first, as it must for a payment to exist; the rest comes as it likes."""
        for order in permutations(range(4)):
            hold, payment_id = await paid(scene)
            events: list[Callable[[], Event]] = [
                hold.held,
                lambda hold=hold, id_=payment_id: hold.confirmed(id_),  # type: ignore[misc]
                lambda hold=hold, id_=payment_id: hold.cancelled(id_),  # type: ignore[misc]
                lambda hold=hold, id_=payment_id: hold.confirmed(id_),  # type: ignore[misc]
            ]
            for position in order:
                await scene.deliver(events[position]())
            payment = await scene.payments.get(hold.user_id, payment_id)
            assert payment.state is PaymentState.REFUNDED, order
            assert await scene.balance(hold.user_id) == 30_000, order
            assert await _broker_then_stream(scene, payment_id) == _sorted(CANCELLED), order


class TestContradictions:
    """They change nothing and go to the parking queue, where a person sees them."""

    async def test_a_confirmed_payment_rejected(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.confirmed(payment_id))
        with pytest.raises(MessageRejected):
            await scene.deliver(hold.rejected(payment_id))
        assert await state(scene, hold, payment_id) is PaymentState.SUCCEEDED

    async def test_a_refunded_payment_confirmed(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        await scene.deliver(hold.rejected(payment_id))
        with pytest.raises(MessageRejected):
            await scene.deliver(hold.confirmed(payment_id))
        assert await scene.balance(hold.user_id) == 30_000

    async def test_a_payment_nobody_made(self, scene: Any) -> None:
        hold, _ = await paid(scene)
        with pytest.raises(MessageRejected):
            await scene.deliver(hold.confirmed(new_id()))

    async def test_a_payment_of_another_reservation(self, scene: Any) -> None:
        hold, payment_id = await paid(scene)
        other, _ = await paid(scene)
        with pytest.raises(MessageRejected):
            await scene.deliver(other.rejected(payment_id))
        assert await state(scene, hold, payment_id) is PaymentState.AUTHORIZED

    async def test_what_is_refused_leaves_no_inbox_row_behind(self, scene: Any) -> None:
        hold, _ = await paid(scene)
        event = hold.confirmed(new_id())
        envelope = _envelope(event)
        for _ in range(2):
            with pytest.raises(MessageRejected):
                await scene.deliver(event, envelope)


class TestConcurrency:
    async def test_a_refund_and_payments_of_one_wallet_do_not_deadlock(self, scene: Any) -> None:
        fan = await scene.fan(balance=200_000)
        holds = [await scene.hold(fan, 10_000) for _ in range(10)]
        open_payments = [(hold, (await scene.pay(hold)).payment.payment_id) for hold in holds]
        fresh = [await scene.hold(fan, 10_000) for _ in range(10)]
        await asyncio.gather(
            *(scene.deliver(hold.rejected(payment_id)) for hold, payment_id in open_payments),
            *(scene.pay(hold) for hold in fresh),
        )
        assert await scene.balance(fan) == 100_000  # 200,000 - 20 x 10,000 + 10 x 10,000
        await scene.assert_books_balance(fan)

    async def test_paying_again_races_with_the_refund_of_the_first(self, scene: Any) -> None:
        for _ in range(5):
            fan = await scene.fan(balance=30_000)
            hold = await scene.hold(fan)
            first = (await scene.pay(hold)).payment.payment_id
            results = await asyncio.gather(
                scene.deliver(hold.rejected(first)), scene.pay(hold), return_exceptions=True
            )
            assert results[0] is None
            live = await scene.rows(
                "SELECT payment_id FROM payments WHERE live_reservation_id = %s",
                hold.reservation_id,
            )
            assert await scene.balance(fan) == 30_000 - 30_000 * len(live)


class TestTheWaiter:
    async def test_hears_the_outcome_and_keeps_its_bytes(self, scene: Any) -> None:
        fan = await scene.fan(balance=30_000)
        hold = await scene.hold(fan)
        key = new_id()
        paying = asyncio.create_task(scene.pay(hold, key, wait=5))
        payment_id = await _authorized(scene, hold)
        await scene.deliver(hold.confirmed(payment_id))
        outcome = await asyncio.wait_for(paying, 2)
        assert outcome.answer is not None
        assert outcome.answer.status == 201
        assert json.loads(outcome.answer.body)["state"] == "succeeded"
        again = await scene.pay(hold, key)
        assert again.answer == outcome.answer

    async def test_hears_it_also_when_a_repeat_waits_at_another_replica(
        self, scene: Any, replica_scene: Any
    ) -> None:
        fan = await scene.fan(balance=30_000)
        hold = await scene.hold(fan)
        key = new_id()
        payment_id = (await scene.pay(hold, key)).payment.payment_id
        repeat = asyncio.create_task(replica_scene.pay(hold, key, wait=30))

        async def listening() -> bool:
            (row,) = await scene.rows(
                "SELECT reply_to FROM payments WHERE payment_id = %s", payment_id
            )
            return bool(row["reply_to"] == replica_scene.answers.channel)

        await eventually(listening)
        await scene.deliver(hold.confirmed(payment_id))
        outcome = await asyncio.wait_for(repeat, 10)
        assert outcome.answer is not None
        assert outcome.answer.status == 201

    async def test_finds_the_outcome_in_the_row_when_the_message_is_lost(self, scene: Any) -> None:
        fan = await scene.fan(balance=30_000)
        hold = await scene.hold(fan)
        paying = asyncio.create_task(scene.pay(hold, wait=1))
        payment_id = await _authorized(scene, hold)
        await scene.database.run(
            lambda tx: tx.execute(
                "UPDATE payments SET reply_to = 'nowhere' WHERE payment_id = %s", (payment_id,)
            )
        )
        await scene.deliver(hold.rejected(payment_id))
        outcome = await asyncio.wait_for(paying, 3)
        assert outcome.answer is not None
        assert outcome.answer.status == 410


async def _authorized(scene: Any, hold: Any) -> str:
    async def find() -> str | None:
        rows = await scene.rows(
            "SELECT payment_id FROM payments WHERE live_reservation_id = %s", hold.reservation_id
        )
        return rows[0]["payment_id"] if rows else None

    return await eventually(find)


async def _broker_then_stream(scene: Any, payment_id: str) -> list[tuple[str, str]]:
    return _sorted(await scene.told(payment_id))


def _sorted(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each destination has its own order; between the two there is none."""
    return sorted(told, key=lambda row: row[0] == "kafka")


def _envelope(event: Event) -> Any:
    return Envelope(
        id=new_id(),
        type=event.type,
        source="reservation",
        subject=event.subject,
        time=datetime.now(UTC),
    )
