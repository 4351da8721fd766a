"""The people of the end-to-end tests, and what they do through the gateway."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from common.ids import new_id
from local_stack.demo.client import API, Answer, FanClient, Lines, Recorder
from local_stack.demo.plan import seating_plan
from testkit import eventually

ADMITTED_WITHIN_SECONDS = 20.0


@dataclass
class Admitted:
    """A signed-in fan with a pass."""

    client: FanClient
    pass_token: str


@dataclass
class OpenSale:
    """One concert with one performance, and its fans."""

    house: "House"
    concert_id: str
    performance_id: str
    seats: list[dict[str, Any]]

    @property
    def seat_ids(self) -> list[str]:
        return [seat["seat_id"] for seat in self.seats]

    async def fan(self, name: str = "fan") -> Admitted:
        """Somebody new who lined up and got in."""
        client = await self.house.person(name)
        answer = await client.join(self.concert_id)
        async with asyncio.timeout(ADMITTED_WITHIN_SECONDS):
            while answer.body["state"] != "admitted" or not answer.body["pass"]:
                await asyncio.sleep(0.1)
                answer = await client.poll(self.concert_id, answer.body["token"])
        return Admitted(client, answer.body["pass"]["token"])

    async def hold(self, fan: Admitted, seats: int | list[str] = 1) -> dict[str, Any]:
        """A live hold of ``seats`` (a number from the front, or ids)."""
        seat_ids = self.seat_ids[:seats] if isinstance(seats, int) else seats
        answer = await fan.client.reserve(fan.pass_token, self.wish(seat_ids), twice=False)
        assert answer.status == 201, answer.body
        return answer.body

    def wish(self, seat_ids: list[str]) -> dict[str, Any]:
        return {"performance_id": self.performance_id, "seat_ids": seat_ids}

    async def availability(self) -> dict[str, Any]:
        answer = await self.house.http.get(f"{API}/performances/{self.performance_id}/availability")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def until_available(self, seat_id: str, within_seconds: float = 5) -> None:
        async def seen() -> bool:
            return seat_id not in (await self.availability())["unavailable"]

        await eventually(seen, within_seconds=within_seconds)


@dataclass
class House:
    """The administrator's and the fans' way in."""

    http: httpx.AsyncClient
    lines: Lines
    recorder: Recorder = field(default_factory=Recorder)

    async def person(self, name: str) -> FanClient:
        client = FanClient(
            self.lines, self.recorder, f"{name}-{new_id()[-12:]}", random.Random(name)
        )
        await client.sign_in()
        return client

    async def admin(self) -> dict[str, str]:
        answer = await self.http.post(
            f"{API}/dev/login", json={"user_id": "test-admin", "roles": ["admin"]}
        )
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def open_sale(self, *, seats: int, hold_seconds: int = 60, **policy: Any) -> OpenSale:
        """A concert that is on sale now, with its queue open."""
        headers = await self.admin()
        plan, prices = seating_plan(seats)
        created = await self.http.post(
            f"{API}/admin/concerts",
            headers=headers,
            json={
                "title": "A Test",
                "artist": "The Understudies",
                "venue": "Stagedoor Hall",
                "currency": "KRW",
                "max_seats_per_fan": 4,
                "hold_seconds": hold_seconds,
                "seating_plan": plan,
                "prices": prices,
                "performances": [
                    {
                        "starts_at": (datetime.now(UTC) + timedelta(days=9)).isoformat(),
                        "sale_opens_at": None,
                    }
                ],
            },
        )
        assert created.status_code == 201, created.text
        concert_id = created.json()["concert_id"]
        performance_id = created.json()["performances"][0]["performance_id"]
        opened = await self.http.put(
            f"{API}/admin/performances/{performance_id}", headers=headers, json={"sale": "open"}
        )
        assert opened.status_code == 200, opened.text

        async def policy_taken() -> bool:
            answer = await self.http.put(
                f"{API}/admin/queues/{concert_id}",
                headers=headers,
                json={"max_active": 500, "admit_per_minute": 60_000, **policy},
            )
            return answer.status_code == 200

        await eventually(policy_taken, within_seconds=15)

        async def queue_open() -> bool:
            answer = await self.http.get(f"{API}/queues/{concert_id}")
            return bool(answer.status_code == 200 and answer.json()["state"] == "open")

        await eventually(queue_open, within_seconds=15)
        listed = await self.http.get(f"{API}/performances/{performance_id}/seats")
        assert listed.status_code == 200, listed.text
        sale = OpenSale(self, concert_id, performance_id, listed.json()["seats"])
        await sale_reached_reservation(self, sale)
        return sale


async def sale_reached_reservation(house: House, sale: OpenSale) -> None:
    """Wait until reservation-service has the inventory too: probe with a hold, then cancel it."""
    probe = await sale.fan("probe")

    async def held() -> bool:
        answer = await probe.client.reserve(
            probe.pass_token, sale.wish(sale.seat_ids[-1:]), twice=False
        )
        if answer.status != 201:
            assert answer.code in {"performance-unknown", "sale-not-open"}, answer.body
            return False
        await probe.client.cancel(answer.body["reservation_id"])
        return True

    await eventually(held, within_seconds=15)
    await probe.client.leave(sale.concert_id)


def succeeded(answer: Answer) -> bool:
    return answer.status in (200, 201) and answer.body["state"] == "succeeded"
