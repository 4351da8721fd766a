"""How reservations end: paid, expired, cancelled, refunded; and the races between those."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from common.errors import DependencyUnavailable
from common.events import PaymentRefunded, PerformanceSaleChanged, SaleState
from common.ids import new_id
from common.redis import Lease
from reservation_service.jobs import ExpirySweeper
from reservation_service.service.endings import Endings
from reservation_service.store import performances
from testkit import eventually


def refund_of(payment: Any, seat_ids: tuple[str, ...]) -> PaymentRefunded:
    fields = payment.model_dump() | {
        "version": 3,
        "seat_ids": seat_ids,
        "previous_state": "succeeded",
        "reason": "reservation-cancelled",
    }
    return PaymentRefunded.model_validate(fields)


async def seat_states(box, show) -> Counter[str]:
    rows = await box.rows("SELECT state FROM seats WHERE performance_id = %s", show.performance_id)
    return Counter(row["state"] for row in rows)


class TestPaying:
    async def test_a_paid_hold_is_confirmed_and_its_seats_sold(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0, 1)
        payment = box.payment(held, "ada", show)
        await box.tell(payment)
        event = await box.event_of(
            "reservation.confirmed.v1", reservation_id=held["reservation_id"]
        )
        assert event["payment_id"] == payment.payment_id
        assert event["seat_ids"] == list(show.seat_ids[:2])
        assert await box.state("ada", held["reservation_id"]) == "confirmed"
        assert (await seat_states(box, show))["sold"] == 2
        changed = await box.event_of(
            "inventory.changed.v1", performance_id=show.performance_id, version=2
        )
        assert {seat["state"] for seat in changed["seats"]} == {"sold"}
        assert changed["seats_left"] == 18

    async def test_its_pass_is_spent(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        await box.endings().confirm(box.payment(held, "ada", show), new_id())
        again = await box.reserve("ada", show, {"seat_ids": [show.seat_ids[1]]})
        assert (again.status_code, again.json()["code"]) == (403, "pass-invalid")

    async def test_a_payment_delivered_twenty_times_has_one_effect(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        payment, message_id = box.payment(held, "ada", show), new_id()
        ids = [message_id] * 10 + [new_id() for _ in range(10)]
        await asyncio.gather(*(box.insist(box.endings().confirm, payment, id_) for id_ in ids))
        version = await box.rows(
            "SELECT version, state FROM reservations WHERE reservation_id = %s",
            held["reservation_id"],
        )
        assert version == [{"version": 2, "state": "confirmed"}]

    async def test_of_twenty_payments_at_once_one_confirms(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        payments = [box.payment(held, "ada", show) for _ in range(20)]
        await asyncio.gather(*(box.insist(box.endings().confirm, p, new_id()) for p in payments))
        confirmed = await box.event_of(
            "reservation.confirmed.v1", reservation_id=held["reservation_id"]
        )
        for payment in payments:
            if payment.payment_id != confirmed["payment_id"]:
                rejected = await box.event_of(
                    "reservation.rejected.v1", payment_id=payment.payment_id
                )
                assert rejected["reason"] == "already-confirmed"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"user_id": "mallory"}, "not-owner"),
            ({"amount": {"amount": 1, "currency": "KRW"}}, "reservation-unknown"),
            ({"reservation_id": new_id()}, "reservation-unknown"),
        ],
    )
    async def test_a_payment_that_does_not_fit_goes_back(
        self, box, changes: dict[str, Any], reason: str
    ) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        payment = box.payment(held, "ada", show, **changes)
        await box.tell(payment)
        rejected = await box.event_of("reservation.rejected.v1", payment_id=payment.payment_id)
        assert rejected["reason"] == reason
        assert await box.state("ada", held["reservation_id"]) == "held"

    async def test_a_payment_after_the_end_goes_back_and_the_seat_is_free(self, box) -> None:
        show = await box.show(hold_seconds=1)
        held = await box.held("ada", show, 0)
        await eventually(lambda: _is(box, held, "expired"))
        payment = box.payment(held, "ada", show)
        await box.tell(payment)
        rejected = await box.event_of("reservation.rejected.v1", payment_id=payment.payment_id)
        assert (rejected["reason"], rejected["previous_state"]) == ("hold-expired", "expired")
        await box.held("bob", show, 0)


async def _is(box, reservation: dict[str, Any], state: str) -> bool:
    return await box.state("ada", reservation["reservation_id"]) == state


class TestExpiring:
    async def test_a_hold_is_released_within_a_second_and_a_rival_can_have_it(self, box) -> None:
        show = await box.show(hold_seconds=1)
        held = await box.held("ada", show, 0)
        began = time.monotonic()

        async def rival_gets_it() -> bool:
            body = {"seat_ids": [show.seat_ids[0]]}
            return (await box.reserve("bob", show, body)).status_code == 201

        await eventually(rival_gets_it, 4)
        took = time.monotonic() - began
        assert 0.9 <= took <= 2.5, took
        assert await box.state("ada", held["reservation_id"]) == "expired"
        expired = await box.event_of(
            "reservation.expired.v1", reservation_id=held["reservation_id"]
        )
        assert expired["seat_ids"] == [show.seat_ids[0]]
        late = await box.delete("ada", held["reservation_id"])
        assert (late.status_code, late.json()["code"]) == (409, "reservation-ended")

    async def test_many_holds_end_none_early_none_late(self, box) -> None:
        show = await box.show(200, hold_seconds=1)
        await asyncio.gather(*(box.held(f"fan {n}", show, n) for n in range(200)))

        async def all_ended() -> bool:
            return (await seat_states(box, show))["available"] == 200

        await eventually(all_ended, 5)
        late = await box.rows(
            "SELECT MIN(TIMESTAMPDIFF(MICROSECOND, hold_expires_at, changed_at)) AS early,"
            " MAX(TIMESTAMPDIFF(MICROSECOND, hold_expires_at, changed_at)) AS late"
            " FROM reservations WHERE performance_id = %s",
            show.performance_id,
        )
        assert late[0]["early"] >= 0
        assert late[0]["late"] <= 2_000_000

    async def test_a_locked_performance_holds_up_no_other(self, box) -> None:
        shows = [await box.show(), await box.show()]
        holds = [await box.held("ada", show, 0) for show in shows]
        blocked, other = holds
        async with box.database.transaction() as tx:
            await performances.lock(tx, {shows[0].performance_id})
            for seconds, held in zip((20, 10), holds, strict=True):
                await box.database.run(lambda end, s=seconds, h=held: end.execute(
                    "UPDATE reservations SET hold_expires_at = NOW(6) - INTERVAL %s SECOND"
                    " WHERE reservation_id = %s",
                    (s, h["reservation_id"]),
                ))  # fmt: skip

            async def other_ended() -> bool:
                await tx.fetch_value("SELECT 1")  # a session idle for 4 s would lose its lock
                return await _is(box, other, "expired")

            # Every look begins with the performance it cannot lock: its hold ended first.
            await eventually(other_ended, 10)
            assert await _is(box, blocked, "held")
        await eventually(lambda: _is(box, blocked, "expired"), 10)

    async def test_twenty_sweepers_at_once_release_a_hold_once(self, box) -> None:
        show = await box.show(hold_seconds=1)
        held = await box.held("ada", show, 0)
        await asyncio.sleep(0.9)

        async def sweep() -> bool:
            await asyncio.gather(*(box.insist(box.endings().expire_ended) for _ in range(20)))
            return await _is(box, held, "expired")

        await eventually(sweep)
        assert await box.rows(
            "SELECT version FROM reservations WHERE reservation_id = %s", held["reservation_id"]
        ) == [{"version": 2}]
        assert await box.rows(
            "SELECT seats_left, inventory_version FROM performances WHERE performance_id = %s",
            show.performance_id,
        ) == [{"seats_left": 20, "inventory_version": 2}]

    async def test_a_frozen_sweeper_holds_nothing_up(self, box) -> None:
        """It froze between its lease and its work: another sweeps, and it wakes up to nothing."""
        key = f"{box.settings.redis_prefix}lease:test-{new_id()}"
        frozen = Lease(box.redis, key, 0.2, "frozen")
        awake = ExpirySweeper(box.endings(), Lease(box.redis, key, 0.2, "awake"))
        assert await frozen.try_acquire()
        assert await awake.run() == 0

        async def sweeps() -> bool:
            await awake.run()
            return await awake._lease.try_acquire()

        await eventually(sweeps)
        assert not await frozen.renew()
        # The frozen one goes on all the same, without its lease: the row's condition is the fence.
        show = await box.show()
        held = await box.held("ada", show, 0)
        assert await box.endings()._expire(show.performance_id, [held["reservation_id"]]) == []
        assert await _is(box, held, "held")

    async def test_holds_end_without_redis(self, box, monkeypatch: pytest.MonkeyPatch) -> None:
        swept = 0

        async def sweep(_: Endings) -> int:
            nonlocal swept
            swept += 1
            return swept

        async def away() -> bool:
            raise DependencyUnavailable("redis")

        lease = Lease(box.redis, "x", 1, "x")
        monkeypatch.setattr(lease, "try_acquire", away)
        monkeypatch.setattr(Endings, "expire_ended", sweep)
        await ExpirySweeper(box.endings(), lease).run()
        assert swept >= 1


async def test_payment_against_expiry_with_a_rival(box) -> None:
    """Around the very end of holds: each is exactly confirmed or refused, none is both."""
    show = await box.show(60, hold_seconds=1)
    holds = await asyncio.gather(*(box.held(f"fan {n}", show, n) for n in range(60)))
    endings = box.endings()
    payments = [box.payment(held, f"fan {n}", show) for n, held in enumerate(holds)]

    async def pay(number: int) -> None:
        end = datetime.fromisoformat(holds[number]["hold_expires_at"])
        offset = (number % 11 - 5) / 100  # -50 ms … +50 ms
        await asyncio.sleep(max(0, (end - datetime.now(UTC)).total_seconds() + offset))
        await asyncio.gather(
            box.insist(endings.confirm, payments[number], new_id()),
            *([box.insist(endings.expire_ended)] if number % 6 == 0 else []),
            box.reserve(f"rival {number}", show, {"seat_ids": [show.seat_ids[number]]}),
        )

    await asyncio.gather(*map(pay, range(60)))
    outcomes: Counter[str] = Counter()
    for held, payment in zip(holds, payments, strict=True):
        message = await box.spy.first(
            lambda m, p=payment.payment_id: m.json().get("payment_id") == p
        )
        (row,) = await box.rows(
            "SELECT state, payment_id FROM reservations WHERE reservation_id = %s",
            held["reservation_id"],
        )
        outcomes[message.routing_key] += 1
        if message.routing_key == "reservation.confirmed.v1":
            assert row == {"state": "confirmed", "payment_id": payment.payment_id}
        else:
            assert message.json()["reason"] == "hold-expired"
            assert row["payment_id"] is None
    assert sum(outcomes.values()) == 60
    owners = await box.seat_owners(show)
    assert all(len(ids) == 1 for ids in owners.values())


class TestCancelling:
    async def test_a_cancelled_hold_is_free_at_once(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        first = await box.delete("ada", held["reservation_id"])
        assert (first.status_code, first.json()["state"]) == (200, "cancelled")
        await box.held("bob", show, 0)
        again = await box.delete("ada", held["reservation_id"])
        assert (again.status_code, again.json()) == (200, first.json())
        event = await box.event_of(
            "reservation.cancelled.v1", reservation_id=held["reservation_id"]
        )
        assert (event["previous_state"], event["cause"]) == ("held", "fan")
        # Bob's seat was not touched by the repetition.
        assert len((await box.seat_owners(show))[show.seat_ids[0]]) == 1

    async def test_a_cancelled_purchase_is_refunded(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        payment = box.payment(held, "ada", show)
        await box.endings().confirm(payment, new_id())
        cancelled = await box.delete("ada", held["reservation_id"])
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        event = await box.event_of(
            "reservation.cancelled.v1", reservation_id=held["reservation_id"]
        )
        assert (event["previous_state"], event["payment_id"]) == (
            "confirmed",
            payment.payment_id,
        )
        await box.tell(refund_of(payment, show.seat_ids[:1]))
        await eventually(lambda: _is(box, held, "refunded"))
        again = await box.delete("ada", held["reservation_id"])
        assert (again.status_code, again.json()["state"]) == (200, "refunded")
        await box.held("bob", show, 0)

    async def test_the_refund_of_a_refused_payment_changes_nothing(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        stranger = box.payment(held, "ada", show)
        await box.endings().refund(refund_of(stranger, show.seat_ids[:1]), new_id())
        assert await _is(box, held, "held")

    async def test_another_fans_reservation_does_not_exist(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        for response in (
            await box.delete("bob", held["reservation_id"]),
            await box.get("bob", f"/{held['reservation_id']}"),
            await box.delete("ada", new_id()),
            await box.get("ada", f"/{new_id()}"),
            await box.get("ada", "/1"),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "not-found")
        assert await _is(box, held, "held")

    async def test_a_rejected_request_cannot_be_cancelled(self, box) -> None:
        show, key = await box.show(max_seats_per_fan=1), new_id()
        await box.reserve("ada", show, {"seat_ids": list(show.seat_ids[:2])}, key=key)
        (row,) = await box.rows(
            "SELECT reservation_id FROM reservations WHERE idempotency_key = %s", key
        )
        shown = (await box.get("ada", f"/{row['reservation_id']}")).json()
        assert (shown["state"], shown["rejected_code"]) == ("rejected", "limit-exceeded")
        late = await box.delete("ada", row["reservation_id"])
        assert (late.status_code, late.json()["code"]) == (409, "reservation-ended")

    async def test_twenty_cancels_and_twenty_payments_at_once(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        payment = box.payment(held, "ada", show)
        answers = await asyncio.gather(
            *(box.delete("ada", held["reservation_id"]) for _ in range(20)),
            *(box.insist(box.endings().confirm, payment, new_id()) for _ in range(20)),
        )
        assert {answer.status_code for answer in answers[:20]} <= {200, 503}
        assert await _is(box, held, "cancelled")
        told = [
            m.routing_key
            for m in box.spy.messages
            if m.json().get("reservation_id") == held["reservation_id"]
        ]
        assert told.count("reservation.cancelled.v1") <= 1
        assert (await seat_states(box, show))["available"] == 20

    async def test_a_cancelled_performance_refunds_everybody(self, box) -> None:
        show = await box.show(250)
        holds = await asyncio.gather(*(box.held(f"fan {n}", show, n) for n in range(130)))
        bought = holds[:20]
        for number, held in enumerate(bought):
            payment = box.payment(held, f"fan {number}", show)
            await box.endings().confirm(payment, new_id())
        await box.tell(
            PerformanceSaleChanged(
                performance_id=show.performance_id,
                concert_id=show.concert_id,
                version=2,
                sale=SaleState.CANCELLED,
                previous_sale=SaleState.OPEN,
                sale_opens_at=None,
                occurred_at=datetime.now(UTC),
            )
        )

        async def done() -> bool:
            rows = await box.rows(
                "SELECT cancelling, seats_left FROM performances WHERE performance_id = %s"
                " AND sale = 'cancelled'",
                show.performance_id,
            )
            return rows == [{"cancelling": 0, "seats_left": 250}]

        await eventually(done, 10)
        assert await box.seat_owners(show) == {}
        assert (await seat_states(box, show))["available"] == 250
        for held in holds:
            event = await box.event_of(
                "reservation.cancelled.v1", reservation_id=held["reservation_id"]
            )
            assert event["cause"] == "performance_cancelled"
            assert (event["payment_id"] is not None) == (held in bought)
        refused = await box.reserve("late", show, {"seat_ids": [show.seat_ids[0]]})
        assert refused.json()["code"] == "sale-not-open"
