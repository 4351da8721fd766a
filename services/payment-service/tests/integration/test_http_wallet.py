"""The wallet over HTTP: every status of the contract."""

import asyncio
from typing import Any

import httpx
import pytest

from common.database import Database
from common.ids import new_id
from payment_service.domain import (
    FUNDING,
    MAX_BALANCE,
    MAX_CHARGE,
    EntryKind,
    Transfer,
    wallet_account,
)
from payment_service.store import wallets
from testkit import Bearer, eventually


class TestGetWallet:
    async def test_of_a_new_fan_is_empty(self, fans: Any) -> None:
        answer = await (await fans()).get("/wallet")
        assert answer.status_code == 200
        assert answer.json() == {"balance": {"amount": 0, "currency": "KRW"}}

    async def test_shows_an_own_charge_at_once(self, fans: Any) -> None:
        fan = await fans()
        for total in range(100, 1_100, 100):
            await fan.charge(100)
            assert await fan.balance() == total

    async def test_needs_a_token(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        assert (await client.get("/wallet")).status_code == 401
        expired = bearer("fan", exp=1)
        assert (await client.get("/wallet", headers=expired)).status_code == 401

    async def test_no_two_spellings_of_a_user_share_a_wallet(
        self, client: httpx.AsyncClient, bearer: Bearer, fans: Any
    ) -> None:
        fan = await fans(balance=700)
        for name in (fan.user_id + " ", fan.user_id.upper(), " " + fan.user_id):
            answer = await client.get("/wallet", headers=bearer(name))
            assert answer.status_code == 401 or answer.json()["balance"]["amount"] == 0


class TestCharge:
    @pytest.mark.parametrize("amount", [1, MAX_CHARGE])
    async def test_answers_201_with_entry_and_balance(self, fans: Any, amount: int) -> None:
        fan = await fans()
        answer = await fan.charge(amount)
        assert answer.status_code == 201
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"entry_id", "balance"}
        assert answer.json()["balance"] == {"amount": amount, "currency": "KRW"}
        assert await fan.balance() == amount

    @pytest.mark.parametrize(
        "amount",
        [0, -1, -(2**62), MAX_CHARGE + 1, 2**63, 10**30, 1.0, 1.5, 1e3, True, False, "100", None,
         [], {"amount": 5, "currency": "KRW"}],
    )  # fmt: skip
    async def test_refuses_anything_else(self, fans: Any, amount: Any) -> None:
        fan = await fans()
        answer = await fan.charge(amount)
        assert answer.status_code == 422
        assert answer.json()["code"] == "request-invalid"
        assert await fan.balance() == 0

    @pytest.mark.parametrize(
        "body", [{}, {"amount": 5, "user_id": "x"}, {"Amount": 5}, [], 5, "5", None]
    )
    async def test_refuses_other_bodies(self, fans: Any, body: Any) -> None:
        fan = await fans()
        answer = await fan.post("/wallet/charges", body)
        assert answer.status_code in {415, 422}
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        "text", ['{"amount":NaN}', '{"amount":1,"amount":2}', "{", '{"amount":1e400}']
    )
    async def test_refuses_what_readers_of_json_disagree_about(
        self, client: httpx.AsyncClient, bearer: Bearer, text: str
    ) -> None:
        headers = bearer("fan") | {"Idempotency-Key": new_id(), "Content-Type": "application/json"}
        answer = await client.post("/wallet/charges", headers=headers, content=text)
        assert answer.status_code == 422

    async def test_needs_a_key(self, client: httpx.AsyncClient, bearer: Bearer) -> None:
        answer = await client.post("/wallet/charges", headers=bearer("fan"), json={"amount": 5})
        assert answer.status_code == 400
        assert answer.json()["code"] == "idempotency-key-missing"

    async def test_refuses_to_overfill_the_wallet(self, fans: Any, database: Database) -> None:
        fan = await fans()
        transfer = Transfer(
            EntryKind.CHARGE, FUNDING, wallet_account(fan.user_id), MAX_BALANCE - 10
        )

        async def fill(tx: Any) -> None:
            _, now = await wallets.lock(tx, fan.user_id)
            await wallets.book(tx, (transfer,), now)

        await database.run(fill)
        key = new_id()
        answer = await fan.charge(11, key)
        assert answer.status_code == 409
        assert answer.json()["code"] == "balance-limit-exceeded"
        assert await fan.balance() == MAX_BALANCE - 10
        assert (await fan.charge(11, key)).content == answer.content
        assert (await fan.charge(10)).status_code == 201
        assert await fan.balance() == MAX_BALANCE


class TestIdempotency:
    async def test_a_replay_is_byte_for_byte(self, fans: Any) -> None:
        fan = await fans()
        key = new_id()
        first = await fan.charge(500, key)
        await fan.charge(1_000)
        again = await fan.charge(500, key)
        assert (again.status_code, again.content) == (201, first.content)
        assert await fan.balance() == 1_500

    async def test_a_key_for_another_body_is_refused(self, fans: Any) -> None:
        fan = await fans()
        key = new_id()
        await fan.charge(500, key)
        answer = await fan.charge(501, key)
        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency-key-reused"
        assert await fan.balance() == 500

    async def test_a_key_belongs_to_its_fan(self, fans: Any) -> None:
        one, other = await fans(), await fans()
        key = new_id()
        assert (await one.charge(500, key)).status_code == 201
        assert (await other.charge(900, key)).status_code == 201
        assert await other.balance() == 900

    async def test_while_the_first_call_is_open_the_second_hears_so(
        self, fans: Any, database: Database
    ) -> None:
        fan = await fans(balance=1)
        key = new_id()
        async with database.transaction() as tx:
            await wallets.lock(tx, fan.user_id)
            calls = [asyncio.create_task(fan.charge(500, key)) for _ in range(2)]
            done, waiting = await asyncio.wait(
                calls, timeout=0.8, return_when=asyncio.FIRST_COMPLETED
            )
            (refused,) = [call.result() for call in done]
            assert refused.status_code == 409
        assert refused.json()["code"] == "request-in-progress"
        assert refused.headers["retry-after"]
        assert [(await call).status_code for call in waiting] == [201]
        assert await fan.balance() == 501

    @pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 129])
    async def test_a_key_is_visible_ascii(self, fans: Any, key: str) -> None:
        fan = await fans()
        answer = await fan.post("/wallet/charges", {"amount": 5}, key=key.encode())
        assert answer.status_code in {400, 422}
        assert await fan.balance() == 0


class TestEntries:
    async def test_newest_first_with_cursor(self, fans: Any) -> None:
        fan = await fans()
        for amount in range(1, 6):
            await fan.charge(amount)

        async def whole() -> Any:
            answer = await fan.get("/wallet/entries")
            return answer if len(answer.json()["items"]) == 5 else None

        everything = (await eventually(whole)).json()
        assert everything["next_cursor"] is None
        assert [entry["amount"]["amount"] for entry in everything["items"]] == [5, 4, 3, 2, 1]
        assert set(everything["items"][0]) == {
            "entry_id", "kind", "amount", "payment_id", "created_at",
        }  # fmt: skip
        seen, cursor = [], None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = (await fan.get("/wallet/entries", limit=2, **more)).json()
            seen += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == everything["items"]

    @pytest.mark.parametrize(
        "query",
        [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "WzFd"},
         {"cursor": "WzkyMjMzNzIwMzY4NTQ3NzU4MDcsIngiXQ"}, {"cursor": ""}],
    )  # fmt: skip
    async def test_refuses_other_pages(self, fans: Any, query: dict[str, Any]) -> None:
        answer = await (await fans()).get("/wallet/entries", **query)
        assert answer.status_code == 422

    async def test_shows_payments_and_refunds_signed(self, fans: Any, reservations: Any) -> None:
        fan = await fans(balance=50_000)
        hold = await reservations.hold(fan.user_id, 30_000, verdict="reject")
        assert (await fan.pay(hold.reservation_id)).status_code == 410

        async def whole() -> Any:
            items = (await fan.get("/wallet/entries")).json()["items"]
            return items if len(items) == 3 else None

        items = await eventually(whole)
        assert [(one["kind"], one["amount"]["amount"]) for one in items] == [
            ("refund", 30_000),
            ("payment", -30_000),
            ("charge", 50_000),
        ]
        assert items[0]["payment_id"] == items[1]["payment_id"] is not None
        assert sum(one["amount"]["amount"] for one in items) == await fan.balance()
