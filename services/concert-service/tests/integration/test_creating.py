"""POST /admin/concerts: from a plan to seats on sale."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.database import Database
from common.errors import DependencyUnavailable
from common.events import PerformanceScheduled
from common.ids import is_id, new_id
from common.outbox import Outbox
from concert_service.service.creation import Creation, Dates, NewConcert
from testkit import Spy, SpyMessage, eventually

SOON = "2031-05-01T10:00:00Z"


def scheduled_parts(told: Spy, performance_id: str) -> list[PerformanceScheduled]:
    return [
        PerformanceScheduled.model_validate_json(message.body)
        for message in told.messages
        if message.routing_key == PerformanceScheduled.type
        and performance_id.encode() in message.body[:200]
    ]


class TestCreated:
    async def test_answer(self, shop: Any) -> None:
        dates = [
            {"starts_at": "2031-05-02T10:00:00Z", "sale_opens_at": "2031-04-01T00:00:00+09:00"},
            {"starts_at": "2031-05-01T10:00:00Z"},
        ]
        response = await shop.post(shop.order(12, performances=dates))
        assert response.status_code == 201
        body = response.json()
        assert set(body) == {"concert_id", "performances"}
        assert response.headers["location"] == f"/api/v1/concerts/{body['concert_id']}"
        first, second = body["performances"]
        assert is_id(first["performance_id"])
        assert first["performance_id"] != second["performance_id"]
        assert first == {
            "performance_id": first["performance_id"],
            "concert_id": body["concert_id"],
            "starts_at": "2031-05-02T10:00:00.000000Z",
            "sale": "scheduled",
            "sale_opens_at": "2031-03-31T15:00:00.000000Z",
            "seats_total": 12,
            "seats_left": 12,
        }
        assert second["sale_opens_at"] is None

    async def test_each_performance_has_seats_of_its_own(self, shop: Any) -> None:
        concert = await shop.create(5, performances=[{"starts_at": SOON}, {"starts_at": SOON}])
        first, second = [await shop.seat_ids(one) for one in concert.performance_ids]
        assert len(set(first) | set(second)) == 10
        assert all(is_id(seat_id) for seat_id in (*first, *second))

    async def test_a_sale_whose_time_has_come_is_open_at_once(self, shop: Any, told: Spy) -> None:
        dates = [{"starts_at": SOON, "sale_opens_at": "2026-01-01T00:00:00Z"}]
        concert = await shop.create(3, performances=dates)
        (part,) = await eventually(lambda: scheduled_parts(told, concert.performance_id))
        assert part.sale == "open"
        assert (await shop.get(f"/performances/{concert.performance_id}")).json()["sale"] == "open"

    async def test_everybody_is_told_in_parts(self, shop: Any, told: Spy) -> None:
        concert = await shop.create(4_321)
        want = await shop.seats(concert.performance_id)
        parts = await eventually(
            lambda: len(found := scheduled_parts(told, concert.performance_id)) == 3 and found
        )
        assert [(part.part, part.parts, len(part.seats)) for part in parts] == [
            (1, 3, 2000),
            (2, 3, 2000),
            (3, 3, 321),
        ]
        seats = [seat for part in parts for seat in part.seats]
        assert [seat.position for seat in seats] == list(range(4_321))
        assert [seat.seat_id for seat in seats] == [seat["seat_id"] for seat in want]
        assert [seat.price.amount for seat in seats] == [seat["price"]["amount"] for seat in want]
        for part in parts:
            assert part.concert_id == concert.concert_id
            assert (part.version, part.seats_total, part.currency) == (1, 4_321, "KRW")
            assert (part.max_seats_per_fan, part.hold_seconds) == (4, 300)

    async def test_5000_seats_are_on_sale_within_5_seconds(self, shop: Any, told: Spy) -> None:
        body = shop.order(
            5_000, performances=[{"starts_at": SOON, "sale_opens_at": "2026-01-01T00:00:00Z"}]
        )
        began = time.monotonic()
        concert = await shop.post(body)
        assert concert.status_code == 201
        performance_id = concert.json()["performances"][0]["performance_id"]
        await eventually(lambda: len(scheduled_parts(told, performance_id)) == 3)
        assert (await shop.availability(performance_id))["seats_left"] == 5_000
        assert time.monotonic() - began < 5.0

    async def test_a_plan_may_be_megabytes_long(self, shop: Any) -> None:
        body = shop.order(2_000)
        for row in body["seating_plan"]["zones"][0]["rows"]:
            row["seats"] = [seat | {"uuid": new_id()} for seat in row["seats"]]
        content = json.dumps(body, indent=8)
        assert len(content) > 500_000
        response = await shop.client.post(
            "/api/v1/admin/concerts",
            content=content,
            headers=shop.admin | {"Content-Type": "application/json"},
        )
        assert response.status_code == 201


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"currency": "USD"}, "currency-unsupported", None),
    ({"comment": "hi"}, "request-invalid", "#/comment"),
    ({"title": ""}, "request-invalid", "#/title"),
    ({"title": "a\u0007"}, "request-invalid", "#/title"),
    ({"max_seats_per_fan": 0}, "request-invalid", "#/max_seats_per_fan"),
    ({"max_seats_per_fan": "4"}, "request-invalid", "#/max_seats_per_fan"),
    ({"hold_seconds": 3601}, "request-invalid", "#/hold_seconds"),
    ({"hold_seconds": 0}, "request-invalid", "#/hold_seconds"),
    ({"performances": []}, "request-invalid", "#/performances"),
    (
        {"performances": [{"starts_at": "2031-05-01T10:00:00"}]},
        "request-invalid",
        "#/performances/0/starts_at",
    ),
    (
        {"performances": [{"starts_at": SOON, "sale_opens_at": SOON}]},
        "request-invalid",
        "#/performances/0",
    ),
    ({"prices": {"VIP": 1000, "Standard": -1}}, "request-invalid", "#/prices/Standard"),
    ({"prices": {"VIP": 1000, "Standard": 9.5}}, "request-invalid", "#/prices/Standard"),
    ({"seating_plan": []}, "request-invalid", "#/seating_plan"),
    ({"seating_plan": {}}, "seating-plan-invalid", "/seating_plan/name"),
    ({"prices": {"VIP": 1000}}, "seating-plan-invalid", "/prices/Standard"),
    (
        {"prices": {"VIP": 1000, "Standard": 1, "Box": 5}},
        "seating-plan-invalid",
        "/prices/Box",
    ),
]


class TestRefused:
    @pytest.mark.parametrize(("changes", "code", "pointer"), REFUSED)
    async def test_422(
        self, shop: Any, changes: dict[str, Any], code: str, pointer: str | None
    ) -> None:
        response = await shop.post(shop.order(12, **changes))
        assert response.status_code == 422, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["code"] == code
        if pointer is not None:
            assert body["errors"][0]["pointer"] == pointer

    async def test_a_plan_error_names_every_place(self, shop: Any) -> None:
        body = shop.order(30)
        rows = body["seating_plan"]["zones"][0]["rows"]
        rows[2]["seats"][5]["category"] = "Balcony"
        rows[2]["seats"][7]["seat_guid"] = rows[0]["seats"][0]["seat_guid"]
        response = await shop.post(body)
        assert response.status_code == 422
        problem = response.json()
        assert problem["code"] == "seating-plan-invalid"
        assert [error["pointer"] for error in problem["errors"]] == [
            "/seating_plan/zones/0/rows/2/seats/5/category",
            "/seating_plan/zones/0/rows/2/seats/7/seat_guid",
        ]
        assert "Balcony" in problem["errors"][0]["message"]

    async def test_too_many_seats_in_all(self, shop: Any) -> None:
        dates = [{"starts_at": SOON}] * 100
        response = await shop.post(shop.order(5_001, performances=dates))
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/performances"

    async def test_401_and_403(self, shop: Any, bearer: Any) -> None:
        url = "/api/v1/admin/concerts"
        assert (await shop.client.post(url, json=shop.order())).status_code == 401
        fan = await shop.client.post(url, json=shop.order(), headers=bearer("fan"))
        assert (fan.status_code, fan.json()["code"]) == (403, "forbidden")

    async def test_413_and_415(self, shop: Any) -> None:
        url = "/api/v1/admin/concerts"
        headers = shop.admin | {"Content-Type": "application/json"}
        huge = await shop.client.post(url, content=b" " * (41 * 1024 * 1024), headers=headers)
        assert (huge.status_code, huge.json()["code"]) == (413, "body-too-large")
        form = await shop.client.post(url, data={"title": "x"}, headers=shop.admin)
        assert form.status_code == 415

    async def test_only_this_route_takes_large_bodies(self, shop: Any) -> None:
        response = await shop.client.put(
            f"/api/v1/admin/performances/{new_id()}",
            content=b" " * 100_000,
            headers=shop.admin | {"Content-Type": "application/json"},
        )
        assert response.status_code == 413


class TestDrafts:
    """What a creation leaves behind when it dies: nothing anybody can see, and not for long."""

    @staticmethod
    def creation(client: Any, database: Database) -> Creation:
        state = client._transport.app.state
        own: Creation = state.creation
        return Creation(database, own._outbox, own._documents, state.clock)

    @staticmethod
    def order(shop: Any, seats: int) -> NewConcert:
        body = shop.order(seats)
        body["performances"] = [Dates(datetime(2031, 1, 1, tzinfo=UTC), None)]
        return NewConcert(**body)

    async def test_a_failed_creation_is_invisible_and_cleared(
        self, shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        creation = self.creation(shop.client, database)

        async def fail(*_: Any) -> None:
            raise DependencyUnavailable("database")

        monkeypatch.setattr(Outbox, "add", fail)
        with pytest.raises(DependencyUnavailable):
            await creation.create(self.order(shop, 6_000))
        monkeypatch.undo()
        async with database.primary() as session:
            row = await session.fetch_one("SELECT performance_id FROM drafts")
            assert row is not None
            performance_id = row["performance_id"]
        for path in ("", "/seats", "/availability"):
            assert (await shop.get(f"/performances/{performance_id}{path}")).status_code == 404
        assert await self.seats_of(database, performance_id) == 6_000

        assert await creation.clear_abandoned() == 0  # it might still be at work
        await self.age_drafts(database)
        assert await creation.clear_abandoned() == 1
        assert await self.seats_of(database, performance_id) == 0
        async with database.primary() as session:
            assert await session.fetch_value("SELECT COUNT(*) FROM drafts") == 0
            left = "SELECT COUNT(*) FROM seat_maps WHERE performance_id = %s"
            assert await session.fetch_value(left, (performance_id,)) == 0

    async def test_a_creation_slower_than_the_clearing_creates_nothing(
        self, shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The guard: a frozen creation must not publish performances whose seats are gone."""
        creation = self.creation(shop.client, database)
        write_seat_map = creation._write_seat_map

        async def freeze(*arguments: Any) -> None:
            await write_seat_map(*arguments)
            await self.age_drafts(database)
            await creation.clear_abandoned()

        monkeypatch.setattr(creation, "_write_seat_map", freeze)
        with pytest.raises(DependencyUnavailable):
            await creation.create(self.order(shop, 7))
        async with database.primary() as session:
            orphans = "SELECT COUNT(*) FROM performances WHERE seats_total = 7"
            assert await session.fetch_value(orphans) == 0

    async def test_clearing_leaves_a_finished_creation_alone(
        self, shop: Any, database: Database
    ) -> None:
        concert = await shop.create(9)
        await self.age_drafts(database)
        await self.creation(shop.client, database).clear_abandoned()
        assert await self.seats_of(database, concert.performance_id) == 9

    @staticmethod
    async def seats_of(database: Database, performance_id: str) -> int:
        async with database.primary() as session:
            count: int = await session.fetch_value(
                "SELECT COUNT(*) FROM seats WHERE performance_id = %s", (performance_id,)
            )
            return count

    @staticmethod
    async def age_drafts(database: Database) -> None:
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        await database.run(lambda tx: tx.execute("UPDATE drafts SET created_at = %s", (long_ago,)))


async def test_concurrent_creations_do_not_disturb_each_other(shop: Any) -> None:
    concerts = await asyncio.gather(*(shop.create(40) for _ in range(6)))
    assert len({concert.concert_id for concert in concerts}) == 6
    for concert in concerts:
        assert len(await shop.seat_ids(concert.performance_id)) == 40


async def test_messages_are_persistent_and_named(shop: Any, told: Spy) -> None:
    concert = await shop.create(2)

    def mine(message: SpyMessage) -> bool:
        return concert.performance_id.encode() in message.body

    message = await told.first(mine)
    assert message.persistent
    assert message.headers["cloudEvents:type"] == "performance.scheduled.v1"
    assert message.headers["cloudEvents:source"] == "concert"
    assert message.headers["cloudEvents:subject"] == concert.performance_id
