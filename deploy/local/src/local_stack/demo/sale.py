"""Runs one sale against a live gateway: set it up, let the fans come, watch until it rests."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx

from common.ids import new_id
from local_stack.demo.client import API, TIMEOUT_SECONDS, FanClient, Lines, Recorder
from local_stack.demo.fan import Fan, Sale

ON_SALE_DEADLINE_SECONDS = 60.0
REST_DEADLINE_SECONDS = 120.0
WATCH_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What the demo is asked to do."""

    fans: int
    seats: int
    seating_plan: dict[str, Any]
    prices: dict[str, int]
    seed: int
    hold_seconds: int = 10
    opens_in_seconds: float = 5.0
    rush_seconds: float = 20.0
    deadline_seconds: float = 900.0

    @property
    def max_active(self) -> int:
        """People inside at once: enough to sell briskly, few enough to make a line."""
        return max(10, min(150, self.seats // 6))


@dataclass
class Figures:
    """The newest figures the watcher has; what the progress display shows."""

    phase: str = "setting up"
    waiting: int = 0
    seats_left: int | None = None
    seats_held: int = 0
    seats_sold: int = 0
    revenue: int = 0
    data_platform_payments: int = 0
    arrived: int = 0
    history: list[tuple[float, int, int, int]] = field(default_factory=list)
    """(seconds since start, waiting, inside, sold)."""


class SaleRun:
    """One sale from its creation to its rest."""

    def __init__(self, gateway: str, data_platform: str, plan: Plan) -> None:
        self._gateway = gateway
        self._data_platform = data_platform
        self.plan = plan
        self.recorder = Recorder()
        self.figures = Figures()
        self.sale = Sale("", "", [])
        self._rng = random.Random(plan.seed)
        self._admin: dict[str, str] = {}
        self._begun = time.monotonic()

    async def run(self) -> None:
        """Everything, in order.

        Raises:
            TimeoutError: the performance did not come on sale, or the stores did not come to rest.
            httpx.HTTPStatusError: the administrator's calls were refused.
        """
        async with httpx.AsyncClient(base_url=self._gateway, timeout=TIMEOUT_SECONDS) as http:
            await self._set_up(http)
            watcher = asyncio.create_task(self._watch(http))
            try:
                self.figures.phase = "fans are coming"
                async with asyncio.timeout(self.plan.deadline_seconds):
                    await self._let_fans_come()
                self.figures.phase = "coming to rest"
                await self._until_rest(http)
                self.figures.phase = "checking every invariant"
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._begun

    async def _set_up(self, http: httpx.AsyncClient) -> None:
        login = await http.post(
            API + "/dev/login", json={"user_id": "demo-admin", "roles": ["admin"]}
        )
        login.raise_for_status()
        self._admin = {"Authorization": f"Bearer {login.json()['access_token']}"}
        opens_at = datetime.now(UTC) + timedelta(seconds=self.plan.opens_in_seconds)
        created = await http.post(
            API + "/admin/concerts", json=self._concert(opens_at), headers=self._admin
        )
        created.raise_for_status()
        body = created.json()
        concert_id = body["concert_id"]
        performance_id = body["performances"][0]["performance_id"]
        policy = {
            "max_active": self.plan.max_active,
            "admit_per_minute": 60 * self.plan.max_active,
            "pass_ttl_seconds": 120,
        }
        await self._until(
            "the queue takes its policy", lambda: self._put_policy(http, concert_id, policy)
        )
        seats = await http.get(f"{API}/performances/{performance_id}/seats")
        seats.raise_for_status()
        self.sale = Sale(concert_id, performance_id, seats.json()["seats"])

    def _concert(self, opens_at: datetime) -> dict[str, Any]:
        return {
            "title": "One Night Only",
            "artist": "The Understudies",
            "venue": "Stagedoor Hall",
            "currency": "KRW",
            "max_seats_per_fan": 4,
            "hold_seconds": self.plan.hold_seconds,
            "seating_plan": self.plan.seating_plan,
            "prices": self.plan.prices,
            "performances": [
                {
                    "starts_at": (opens_at + timedelta(days=30)).isoformat(),
                    "sale_opens_at": opens_at.isoformat(),
                }
            ],
        }

    async def _put_policy(
        self, http: httpx.AsyncClient, concert_id: str, policy: dict[str, int]
    ) -> bool:
        answer = await http.put(
            f"{API}/admin/queues/{concert_id}", json=policy, headers=self._admin
        )
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return False  # the news of the concert is still on its way
        answer.raise_for_status()
        return True

    async def _let_fans_come(self) -> None:
        lines = Lines(self._gateway)
        try:
            async with asyncio.TaskGroup() as crowd:
                crowd.create_task(self._end_when_sold())
                for delay, number in self._arrivals():
                    crowd.create_task(self._arrive(lines, delay, number))
        finally:
            await lines.close()

    def _arrivals(self) -> list[tuple[float, int]]:
        """A rush: most come around the opening, some trickle in later."""
        rush = self.plan.rush_seconds
        return [
            (self._rng.triangular(0, rush, self.plan.opens_in_seconds), number)
            for number in range(self.plan.fans)
        ]

    async def _arrive(self, lines: Lines, delay: float, number: int) -> None:
        rng = random.Random(f"{self.plan.seed}/{number}")
        await asyncio.sleep(delay)
        self.figures.arrived += 1
        client = FanClient(lines, self.recorder, f"fan-{new_id()[-12:]}-{number}", rng)
        await Fan(client, self.sale, rng).live()

    async def _end_when_sold(self) -> None:
        """The doors close when every seat is sold and nobody is about to return one."""
        while self.sale.done < self.plan.fans:
            if self.sale.sold >= len(self.sale.seats) and not self.sale.returns_planned:
                break
            await asyncio.sleep(0.1)
        self.sale.over.set()

    async def _watch(self, http: httpx.AsyncClient) -> None:
        while True:
            try:
                await self._look(http)
            except (httpx.HTTPError, KeyError):
                self.recorder.transport_errors += 1
            await asyncio.sleep(WATCH_EVERY_SECONDS)

    async def _look(self, http: httpx.AsyncClient) -> None:
        figures, sale = self.figures, self.sale
        queue = (await http.get(f"{API}/queues/{sale.concert_id}")).json()
        figures.waiting = queue["waiting"]
        performance = (await http.get(f"{API}/performances/{sale.performance_id}")).json()
        figures.seats_left = performance["seats_left"]
        figures.seats_sold = sale.sold
        figures.seats_held = max(0, len(sale.seats) - performance["seats_left"] - sale.sold)
        collected = await self._collected(http)
        figures.revenue = collected["revenue"]
        figures.data_platform_payments = collected["succeeded"]
        figures.history.append((self.seconds, figures.waiting, sale.inside, figures.seats_sold))

    async def _collected(self, http: httpx.AsyncClient) -> dict[str, int]:
        """What the data platform has of this concert."""
        answer = await http.get(f"{self._data_platform}/revenue", params={"by": "concert"})
        answer.raise_for_status()
        for row in answer.json()["items"]:
            if row["concert_id"] == self.sale.concert_id:
                return {
                    "revenue": row["revenue"],
                    "succeeded": row["payments"],
                    "refunded": row["refunds"],
                }
        return {"revenue": 0, "succeeded": 0, "refunded": 0}

    async def _until_rest(self, http: httpx.AsyncClient) -> None:
        """Holds have ended, every payment is decided, and the data platform has them all."""
        await self._until("the sale comes to rest", lambda: self._at_rest(http))

    async def _at_rest(self, http: httpx.AsyncClient) -> bool:
        answer = await http.get(f"{API}/performances/{self.sale.performance_id}")
        answer.raise_for_status()
        if answer.json()["seats_left"] != len(self.sale.seats) - self.sale.sold:
            return False
        collected = await self._collected(http)
        self.figures.revenue = collected["revenue"]
        self.figures.data_platform_payments = collected["succeeded"]
        return collected["succeeded"] - collected["refunded"] == len(self.sale.confirmed)

    async def _until(self, what: str, check: Callable[[], Any]) -> None:
        deadline = time.monotonic() + max(ON_SALE_DEADLINE_SECONDS, REST_DEADLINE_SECONDS)
        while not await check():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited too long until {what}")
            await asyncio.sleep(0.2)
