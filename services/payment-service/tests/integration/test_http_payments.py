"""Payments over HTTP, the saga over the broker: every status of the contract."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from common.ids import new_id
from testkit import Bearer, Spy, eventually

PAYMENT_MEMBERS = {"payment_id", "reservation_id", "amount", "state", "created_at"}


async def present(fan: Any, payment_id: str) -> str:
    answer = await fan.get(f"/payments/{payment_id}")
    assert answer.status_code == 200
    state: str = answer.json()["state"]
    return state


async def settled(fan: Any, payment_id: str, state: str) -> None:
    async def check() -> bool:
        return await present(fan, payment_id) == state

    await eventually(check)


class TestSucceeded:
    async def test_201_when_the_reservation_is_confirmed(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        answer = await fan.pay(hold.reservation_id)
        assert answer.status_code == 201
        body = answer.json()
        assert set(body) == PAYMENT_MEMBERS
        assert body["state"] == "succeeded"
        assert body["reservation_id"] == hold.reservation_id
        assert body["amount"] == {"amount": 30_000, "currency": "KRW"}
        assert answer.headers["location"] == f"/api/v1/payments/{body['payment_id']}"
        assert await fan.balance() == 20_000

    async def test_is_told_to_everybody(self, fans: Any, reservations: Any, events: Spy) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        payment_id = (await fan.pay(hold.reservation_id)).json()["payment_id"]
        message = await events.first(
            lambda one: (
                one.routing_key == "payment.succeeded.v1" and one.json()["payment_id"] == payment_id
            )
        )
        assert message.persistent
        assert message.headers["cloudEvents:type"] == "payment.succeeded.v1"
        assert message.headers["cloudEvents:source"] == "payment"
        assert message.headers["cloudEvents:subject"] == payment_id
        assert message.json()["seat_ids"] == list(hold.seat_ids)
        order = [
            one.routing_key for one in events.messages if one.json()["payment_id"] == payment_id
        ]
        assert order == ["payment.authorized.v1", "payment.succeeded.v1"]

    async def test_the_trace_goes_on(self, fans: Any, reservations: Any, events: Spy) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        payment_id = (await fan.pay(hold.reservation_id)).json()["payment_id"]
        message = await events.first(lambda one: one.json()["payment_id"] == payment_id)
        assert message.headers["traceparent"].startswith("00-")


class TestPending:
    async def test_202_with_a_location_to_follow(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        answer = await fan.pay(hold.reservation_id, wait=1)
        assert answer.status_code == 202
        assert set(answer.json()) == PAYMENT_MEMBERS
        assert answer.json()["state"] == "authorized"
        assert await fan.balance() == 20_000
        path = answer.headers["location"].removeprefix("/api/v1")
        assert (await fan.get(path)).json() == answer.json()
        await reservations.publish(hold.confirmed(answer.json()["payment_id"]))
        await settled(fan, answer.json()["payment_id"], "succeeded")


class TestRefused:
    async def test_402_when_the_wallet_holds_too_little(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=29_999)
        hold = await reservations.hold(fan.user_id, 30_000)
        key = new_id()
        answer = await eventually_answered(fan, hold.reservation_id, key)
        assert answer.status_code == 402
        assert answer.json()["code"] == "insufficient-balance"
        assert answer.headers["content-type"] == "application/problem+json"
        assert await fan.balance() == 29_999
        # Final: more money does not change what this request was answered.
        await fan.charge(1)
        again = await fan.pay(hold.reservation_id, key=key)
        assert (again.status_code, again.content) == (402, answer.content)
        assert await present(fan, answer.json()["payment_id"]) == "failed"

    async def test_404_when_there_is_no_such_reservation(self, fans: Any) -> None:
        answer = await (await fans(balance=5)).pay(new_id())
        assert answer.status_code == 404
        assert answer.json()["code"] == "reservation-unknown"
        assert answer.headers["retry-after"] == "1"

    async def test_404_when_it_is_another_fans(self, fans: Any, reservations: Any) -> None:
        owner, thief = await fans(), await fans(balance=50_000)
        hold = await reservations.hold(owner.user_id, 30_000)
        answer = await thief.pay(hold.reservation_id)
        unknown = await thief.pay(new_id())
        assert answer.status_code == 404
        assert answer.headers["retry-after"] == "1"
        same = {"trace_id"} ^ set(answer.json())
        assert all(answer.json()[name] == unknown.json()[name] for name in same)
        assert await thief.balance() == 50_000

    async def test_404_is_not_final(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        later = replace(hold, reservation_id=new_id())
        key = new_id()
        assert (await fan.pay(later.reservation_id, key=key, wait=0)).status_code == 404
        await reservations.publish(later.held())
        answer = await eventually_answered(fan, later.reservation_id, key)
        assert answer.status_code == 202

    async def test_410_when_the_hold_is_over(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, seconds=-3_600)
        answer = await eventually_answered(fan, hold.reservation_id, new_id())
        assert answer.status_code == 410
        assert answer.json()["code"] == "hold-expired"
        assert await fan.balance() == 50_000

    @pytest.mark.parametrize("end", ["expired", "cancelled"])
    async def test_410_when_the_hold_was_ended(
        self, fans: Any, reservations: Any, end: str
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="reject")
        await reservations.publish(getattr(hold, end)(version=2))

        async def ended() -> bool:
            return (await fan.pay(hold.reservation_id)).status_code == 410

        await eventually(ended)
        assert await fan.balance() == 50_000

    async def test_410_when_the_reservation_rejects_and_the_money_is_back(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="reject")
        key = new_id()
        answer = await fan.pay(hold.reservation_id, key=key)
        assert answer.status_code == 410
        assert await fan.balance() == 50_000
        again = await fan.pay(hold.reservation_id, key=key)
        assert (again.status_code, again.content) == (410, answer.content)
        assert await present(fan, answer.json()["payment_id"]) == "refunded"

    async def test_409_when_it_is_paid_already(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=90_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        assert (await fan.pay(hold.reservation_id)).status_code == 201
        answer = await fan.pay(hold.reservation_id)
        assert answer.status_code == 409
        assert answer.json()["code"] == "already-paid"
        assert await fan.balance() == 60_000

    async def test_409_while_another_payment_is_open(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=90_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        assert (await fan.pay(hold.reservation_id, wait=1)).status_code == 202
        answer = await fan.pay(hold.reservation_id)
        assert answer.status_code == 409
        assert answer.json()["code"] == "payment-in-progress"
        assert await fan.balance() == 60_000

    @pytest.mark.parametrize(
        "body",
        [{}, {"reservation_id": None}, {"reservation_id": 5}, {"reservation_id": "x"}, [],
         {"reservation_id": "*" * 36, "amount": 1}],
    )  # fmt: skip
    async def test_422_for_other_bodies(self, fans: Any, body: Any) -> None:
        answer = await (await fans()).post("/payments", body)
        assert answer.status_code == 422
        assert answer.json()["code"] == "request-invalid"

    @pytest.mark.parametrize(
        "reservation_id",
        [
            "*" * 36,
            "%" * 36,
            "' OR 1=1 -- ".ljust(36),
            "\u00e9" * 36,
            new_id() + "\n",
            new_id() + " ",
        ],
        # The workers of a run must collect the same names.
        ids=["stars", "percents", "sql", "not-ascii", "line-end", "blank"],
    )
    async def test_422_for_what_is_no_id(self, fans: Any, reservation_id: str) -> None:
        answer = await (await fans()).pay(reservation_id, wait=0)
        assert answer.status_code == 422

    @pytest.mark.parametrize(
        "reservation_id",
        [str(uuid4()), new_id().upper(), str(UUID(int=0))],
        ids=["version-4", "upper-case", "nil"],
    )
    async def test_404_for_ids_nobody_gave(self, fans: Any, reservation_id: str) -> None:
        answer = await (await fans()).pay(reservation_id, wait=0)
        assert answer.json()["code"] == "reservation-unknown"

    async def test_400_without_a_key(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        body = {"reservation_id": new_id()}
        answer = await client.post("/payments", headers=bearer("fan"), json=body)
        assert answer.status_code == 400
        assert answer.json()["code"] == "idempotency-key-missing"

    async def test_401_without_a_token(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/payments", json={"reservation_id": new_id()})
        assert answer.status_code == 401


async def eventually_answered(fan: Any, reservation_id: str, key: str) -> httpx.Response:
    """The first answer to this key that is not "not yet known"."""

    async def check() -> httpx.Response | None:
        answer: httpx.Response = await fan.pay(reservation_id, key=key, wait=1)
        return answer if answer.status_code != 404 else None

    return await eventually(check)


class TestIdempotency:
    async def test_a_replay_is_byte_for_byte_whatever_came_after(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        key = new_id()
        first = await fan.pay(hold.reservation_id, key=key)
        assert first.status_code == 201
        again = await fan.pay(hold.reservation_id, key=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["location"] == first.headers["location"]
        await reservations.publish(hold.cancelled(first.json()["payment_id"]))
        await settled(fan, first.json()["payment_id"], "refunded")
        last = await fan.pay(hold.reservation_id, key=key)
        assert (last.status_code, last.content) == (201, first.content)
        assert await fan.balance() == 50_000

    async def test_a_key_for_another_reservation_is_refused(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=90_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        other = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        key = new_id()
        assert (await fan.pay(hold.reservation_id, key=key)).status_code == 201
        answer = await fan.pay(other.reservation_id, key=key)
        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency-key-reused"
        assert await fan.balance() == 60_000

    async def test_while_the_first_call_is_open_the_second_hears_so(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        key = new_id()
        first = asyncio.create_task(fan.pay(hold.reservation_id, key=key, wait=8))

        async def debited() -> bool:
            return await fan.balance() == 20_000

        await eventually(debited)
        second = await fan.pay(hold.reservation_id, key=key)
        assert second.status_code == 409
        assert second.json()["code"] == "request-in-progress"
        (payment,) = await eventually(lambda: _payments(fan, 1))
        await reservations.publish(hold.confirmed(payment["payment_id"]))
        answer = await first
        assert answer.status_code == 201
        assert (await fan.pay(hold.reservation_id, key=key)).content == answer.content

    async def test_202_is_not_stored_a_repeat_waits_again_and_gets_the_end(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        key = new_id()
        pending = await fan.pay(hold.reservation_id, key=key, wait=1)
        assert pending.status_code == 202
        payment_id = pending.json()["payment_id"]
        assert (await fan.pay(hold.reservation_id, key=key, wait=0)).status_code == 202
        repeat = asyncio.create_task(fan.pay(hold.reservation_id, key=key, wait=8))
        done, _ = await asyncio.wait({repeat}, timeout=0.3)
        assert not done
        await reservations.publish(hold.confirmed(payment_id))
        answer = await asyncio.wait_for(repeat, 3)
        assert answer.status_code == 201
        assert answer.json() == pending.json() | {"state": "succeeded"}
        assert await fan.balance() == 20_000

    async def test_five_repeats_at_once_charge_once(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=90_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        key = new_id()
        answers = await asyncio.gather(*(fan.pay(hold.reservation_id, key=key) for _ in range(5)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        good = {answer.content for answer in answers if answer.status_code == 201}
        assert len(good) == 1
        assert await fan.balance() == 60_000

    async def test_eight_payments_of_one_reservation_charge_once(
        self, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=900_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        answers = await asyncio.gather(*(fan.pay(hold.reservation_id) for _ in range(8)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [201] + [409] * 7
        assert await fan.balance() == 870_000


async def _payments(fan: Any, count: int) -> list[dict[str, Any]] | None:
    items: list[dict[str, Any]] = (await fan.get("/payments")).json()["items"]
    return items if len(items) == count else None


class TestReading:
    async def test_another_fans_payment_is_unknown(self, fans: Any, reservations: Any) -> None:
        owner, other = await fans(balance=50_000), await fans()
        hold = await reservations.hold(owner.user_id, 30_000, verdict="confirm")
        payment_id = (await owner.pay(hold.reservation_id)).json()["payment_id"]
        answer = await other.get(f"/payments/{payment_id}")
        assert answer.status_code == 404
        assert answer.json()["code"] == "payment-unknown"
        assert await present(owner, payment_id) == "succeeded"

    @pytest.mark.parametrize("payment_id", ["x", "*", "00000000-0000-0000-0000-000000000000"])
    async def test_what_is_no_id_names_nothing(self, fans: Any, payment_id: str) -> None:
        answer = await (await fans()).get(f"/payments/{payment_id}")
        assert answer.status_code == 404

    async def test_the_list_is_newest_first_with_cursor(self, fans: Any, reservations: Any) -> None:
        fan, other = await fans(balance=90_000), await fans()
        made = []
        for _ in range(3):
            hold = await reservations.hold(fan.user_id, 1_000, verdict="confirm")
            made.append((await fan.pay(hold.reservation_id)).json()["payment_id"])
        items = await eventually(lambda: _payments(fan, 3))
        assert [item["payment_id"] for item in items] == made[::-1]
        first = (await fan.get("/payments", limit=2)).json()
        rest = (await fan.get("/payments", limit=2, cursor=first["next_cursor"])).json()
        assert first["items"] + rest["items"] == items
        assert rest["next_cursor"] is None
        assert (await other.get("/payments")).json() == {"items": [], "next_cursor": None}


class TestBroker:
    async def test_repeated_and_reordered_events_have_one_effect(
        self, fans: Any, reservations: Any, events: Spy
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        payment_id = (await fan.pay(hold.reservation_id, wait=1)).json()["payment_id"]
        message_id = new_id()
        for _ in range(3):
            await reservations.publish(hold.cancelled(payment_id), message_id)
            await reservations.publish(hold.cancelled(payment_id))
            await reservations.publish(hold.confirmed(payment_id))
            await reservations.publish(hold.held())
        await settled(fan, payment_id, "refunded")
        await events.first(
            lambda one: (
                one.routing_key == "payment.refunded.v1" and one.json()["payment_id"] == payment_id
            )
        )
        order = [
            one.routing_key for one in events.messages if one.json()["payment_id"] == payment_id
        ]
        assert order == ["payment.authorized.v1", "payment.succeeded.v1", "payment.refunded.v1"]
        assert await fan.balance() == 50_000


class TestDashboard:
    async def test_shows_revenue_backlog_and_wallets(
        self, client: httpx.AsyncClient, bearer: Bearer, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="confirm")
        assert (await fan.pay(hold.reservation_id)).status_code == 201
        headers = bearer("root", roles=["admin"])

        async def shown() -> Any:
            answer = await client.get("/admin/dashboard/payments", headers=headers)
            assert answer.status_code == 200
            body = answer.json()
            return body if body["revenue_per_minute"] else None

        body = await eventually(shown)
        assert set(body) == {
            "source", "staleness_seconds", "revenue_per_minute", "saga_backlog", "wallets",
        }  # fmt: skip
        assert 0 <= body["staleness_seconds"] <= 2
        assert body["wallets"]["wallets"] >= 1
        assert body["saga_backlog"]["payments"] >= 0
        assert body["revenue_per_minute"][-1]["minute"].endswith(":00.000000Z")

    @pytest.mark.parametrize("roles", [[], ["fan"], ["administrator"]])
    async def test_is_for_administrators(
        self, client: httpx.AsyncClient, bearer: Bearer, roles: list[str]
    ) -> None:
        answer = await client.get("/admin/dashboard/payments", headers=bearer("fan", roles=roles))
        assert answer.status_code == 403

    async def test_the_age_of_open_sagas_is_a_metric(
        self, client: httpx.AsyncClient, fans: Any, reservations: Any
    ) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000)
        assert (await fan.pay(hold.reservation_id, wait=1)).status_code == 202

        async def measured() -> bool:
            text = (await client.get("http://service/metrics")).text
            values = dict(
                line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")
            )
            age = float(values["stagedoor_payments_authorized_oldest_seconds"])
            return age > 0 and float(values["stagedoor_payments_authorized"]) >= 1

        await eventually(measured)
