"""PUT /admin/performances/{id}, and the sale that opens by itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.database import Database
from common.events import PerformanceSaleChanged
from common.ids import new_id
from testkit import Spy, eventually


def changes(told: Spy, performance_id: str) -> list[PerformanceSaleChanged]:
    return [
        PerformanceSaleChanged.model_validate_json(message.body)
        for message in told.messages
        if message.routing_key == PerformanceSaleChanged.type
        and performance_id.encode() in message.body
    ]


async def test_every_change_is_answered_shown_and_told(shop: Any, told: Spy) -> None:
    concert = await shop.create(3)
    path = f"/performances/{concert.performance_id}"
    wanted = ["open", "paused", "open", "closed", "open", "cancelled"]
    for sale in wanted:
        response = await shop.put_sale(concert.performance_id, sale)
        assert response.status_code == 200
        assert response.json()["sale"] == sale
        assert (await shop.get(path)).json()["sale"] == sale
        listed = await shop.get(f"/concerts/{concert.concert_id}/performances")
        assert listed.json()["items"][0]["sale"] == sale
    events = await eventually(
        lambda: len(found := changes(told, concert.performance_id)) == len(wanted) and found
    )
    assert [event.sale for event in events] == wanted
    assert [event.version for event in events] == [2, 3, 4, 5, 6, 7]
    assert [event.previous_sale for event in events] == ["scheduled", *wanted[:-1]]
    assert {event.concert_id for event in events} == {concert.concert_id}


async def test_asking_twice_changes_nothing_and_tells_nobody(
    shop: Any, told: Spy, database: Database
) -> None:
    concert = await shop.create(3)
    first = await shop.put_sale(concert.performance_id, "open")
    second = await shop.put_sale(concert.performance_id, "open")
    assert (second.status_code, second.json()) == (200, first.json())
    await shop.put_sale(concert.performance_id, "closed")
    await eventually(lambda: len(changes(told, concert.performance_id)) == 2)
    async with database.primary() as session:
        version = await session.fetch_value(
            "SELECT version FROM performances WHERE performance_id = %s", (concert.performance_id,)
        )
    assert version == 3


@pytest.mark.parametrize("sale", ["open", "paused", "closed"])
async def test_cancelled_is_final(shop: Any, sale: str) -> None:
    concert = await shop.create(3)
    await shop.put_sale(concert.performance_id, "cancelled")
    assert (await shop.put_sale(concert.performance_id, "cancelled")).status_code == 200
    response = await shop.put_sale(concert.performance_id, sale)
    assert (response.status_code, response.json()["code"]) == (409, "performance-cancelled")
    shown = await shop.get(f"/performances/{concert.performance_id}")
    assert shown.json()["sale"] == "cancelled"


async def test_404_for_an_unknown_performance(shop: Any) -> None:
    assert (await shop.put_sale(new_id(), "open")).status_code == 404
    assert (await shop.put_sale("nonsense", "open")).status_code == 404


@pytest.mark.parametrize(
    "body", [{"sale": "scheduled"}, {"sale": "OPEN"}, {"sale": None}, {}, {"sale": "open", "x": 1}]
)
async def test_422_for_anything_else(shop: Any, body: Any) -> None:
    response = await shop.client.put(
        f"/api/v1/admin/performances/{new_id()}", json=body, headers=shop.admin
    )
    assert (response.status_code, response.json()["code"]) == (422, "request-invalid")


async def test_401_and_403(shop: Any, bearer: Any) -> None:
    concert = await shop.create(1)
    url = f"/api/v1/admin/performances/{concert.performance_id}"
    assert (await shop.client.put(url, json={"sale": "open"})).status_code == 401
    fan = await shop.client.put(url, json={"sale": "open"}, headers=bearer("fan"))
    assert fan.status_code == 403
    assert (await shop.get(f"/performances/{concert.performance_id}")).json()["sale"] == "scheduled"


async def test_racing_changes_are_told_one_by_one(shop: Any, told: Spy) -> None:
    concert = await shop.create(3)
    wanted = ["open", "paused", "closed"] * 6
    responses = await asyncio.gather(
        *(shop.put_sale(concert.performance_id, sale) for sale in wanted)
    )
    assert {response.status_code for response in responses} == {200}
    await shop.put_sale(concert.performance_id, "cancelled")

    def over() -> list[PerformanceSaleChanged]:
        found = changes(told, concert.performance_id)
        return found if found and found[-1].sale == "cancelled" else []

    events = await eventually(over)
    assert [event.version for event in events] == list(range(2, 2 + len(events)))
    assert [event.previous_sale for event in events[1:]] == [event.sale for event in events[:-1]]


class TestOpeningByItself:
    @staticmethod
    def soon(seconds: float) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    async def test_when_the_time_has_come(self, shop: Any, told: Spy) -> None:
        dates = [{"starts_at": "2031-05-01T10:00:00Z", "sale_opens_at": self.soon(1.0)}]
        concert = await shop.create(3, performances=dates)
        path = f"/performances/{concert.performance_id}"
        assert (await shop.get(path)).json()["sale"] == "scheduled"
        (event,) = await eventually(lambda: changes(told, concert.performance_id), 6)
        assert event.sale == "open"
        assert event.sale_opens_at is not None
        # Never early, and within a second: the job runs twice a second.
        assert timedelta(0) <= event.occurred_at - event.sale_opens_at < timedelta(seconds=2)
        assert (await shop.get(path)).json()["sale"] == "open"

    async def test_not_when_it_was_paused_before(self, shop: Any, told: Spy, client: Any) -> None:
        dates = [{"starts_at": "2031-05-01T10:00:00Z", "sale_opens_at": self.soon(0.5)}]
        concert = await shop.create(3, performances=dates)
        await shop.put_sale(concert.performance_id, "paused")
        marker = await shop.create(3, performances=dates)  # opens at the same time
        await eventually(lambda: changes(told, marker.performance_id), 6)
        await client._transport.app.state.sales.open_due()
        shown = await shop.get(f"/performances/{concert.performance_id}")
        assert shown.json()["sale"] == "paused"

    async def test_many_processes_open_it_once(
        self, shop: Any, told: Spy, client: Any, database: Database
    ) -> None:
        dates = [{"starts_at": "2031-05-01T10:00:00Z", "sale_opens_at": self.soon(3600)}]
        concert = await shop.create(3, performances=dates)
        await database.run(
            lambda tx: tx.execute(
                "UPDATE performances SET sale_opens_at = %s WHERE performance_id = %s",
                (datetime.now(UTC) - timedelta(seconds=1), concert.performance_id),
            )
        )
        sales = client._transport.app.state.sales
        await asyncio.gather(*(sales.open_due() for _ in range(10)))
        await shop.put_sale(concert.performance_id, "closed")
        events = await eventually(
            lambda: len(found := changes(told, concert.performance_id)) >= 2 and found
        )
        assert [event.sale for event in events] == ["open", "closed"]
