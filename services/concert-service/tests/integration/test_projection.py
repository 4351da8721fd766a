"""inventory.changed.v1 becomes availability: in any order, once, and never backwards."""

import json
from typing import Any

import pytest

from common.database import Database
from common.errors import MessageRejected
from common.ids import new_id
from concert_service.service.projecting import Projector
from concert_service.store.cache import Cache
from testkit import eventually


async def shown(shop: Any, concert: Any, version: int) -> dict[str, Any]:
    """The availability once readers see that version."""

    async def reached() -> dict[str, Any] | None:
        body: dict[str, Any] = await shop.availability(concert.performance_id)
        return body if body["version"] >= version else None

    body = await eventually(reached)
    assert body["version"] == version
    return body  # type: ignore[no-any-return] # `eventually` loses the type


async def counts(database: Database, concert: Any) -> dict[str, Any]:
    async with database.primary() as session:
        row = await session.fetch_one(
            """
            SELECT seats_left, seats_held, seats_sold, availability_version, inventory_version
            FROM performances WHERE performance_id = %s
            """,
            (concert.performance_id,),
        )
        assert row is not None
        return row


class TestOverTheBroker:
    async def test_before_the_first_change_everything_is_free(self, shop: Any) -> None:
        concert = await shop.create(30)
        body = await shop.availability(concert.performance_id)
        assert (body["version"], body["seats_left"], body["unavailable"]) == (0, 30, [])
        assert sum(one["seats_left"] for one in body["categories"]) == 30

    async def test_held_sold_and_free_again(
        self, shop: Any, inventory: Any, database: Database
    ) -> None:
        concert = await shop.create(30)
        a, b, c, *_ = await shop.seat_ids(concert.performance_id)
        await inventory.tell(concert, 1, (a, "held", 1), (b, "held", 1))
        body = await shown(shop, concert, 1)
        assert (body["unavailable"], body["seats_left"]) == ([a, b], 28)
        await inventory.tell(concert, 2, (a, "sold", 2))
        await inventory.tell(concert, 3, (b, "available", 2), (c, "held", 1))
        body = await shown(shop, concert, 3)
        assert (body["unavailable"], body["seats_left"]) == ([a, c], 28)
        assert await counts(database, concert) == {
            "seats_left": 28,
            "seats_held": 1,
            "seats_sold": 1,
            "availability_version": 3,
            "inventory_version": 3,
        }
        vip = body["categories"][0]
        assert (vip["category"], vip["seats_left"]) == ("VIP", 8)

        async def listed() -> bool:
            got = await shop.get(f"/performances/{concert.performance_id}")
            return bool(got.json()["seats_left"] == 28)

        await eventually(listed)

    async def test_a_message_delivered_again_has_no_effect(
        self, shop: Any, inventory: Any, database: Database
    ) -> None:
        concert = await shop.create(5)
        a, b, *_ = await shop.seat_ids(concert.performance_id)
        message_id = await inventory.tell(concert, 1, (a, "held", 1))
        # By its id alone: were it looked at, its second seat would be news.
        await inventory.tell(concert, 1, (a, "held", 1), (b, "held", 1), message_id=message_id)
        await inventory.tell(concert, 2, (a, "available", 2))
        await inventory.tell(concert, 1, (a, "held", 1), message_id=message_id)
        await inventory.tell(concert, 3, (a, "sold", 3))
        await shown(shop, concert, 3)
        assert await counts(database, concert) == {
            "seats_left": 4,
            "seats_held": 0,
            "seats_sold": 1,
            "availability_version": 3,
            "inventory_version": 3,
        }

    async def test_late_changes_count_when_they_are_news(
        self, shop: Any, inventory: Any, database: Database
    ) -> None:
        """Version 2 comes after 3, as when it was parked and replayed."""
        concert = await shop.create(5)
        a, b, *_ = await shop.seat_ids(concert.performance_id)
        await inventory.tell(concert, 1, (a, "held", 1))
        await inventory.tell(concert, 3, (a, "available", 3))
        assert (await shown(shop, concert, 3))["unavailable"] == []
        await inventory.tell(concert, 2, (a, "sold", 2), (b, "held", 1))
        # What it says of `a` is old, what it says of `b` is news under a version of its own.
        assert (await shown(shop, concert, 4))["unavailable"] == [b]
        assert (await counts(database, concert))["inventory_version"] == 3
        assert (await shop.availability(concert.performance_id, since=3))["unavailable"] == [b]

    async def test_a_message_about_nothing_we_know_is_parked_alone(
        self, shop: Any, inventory: Any
    ) -> None:
        concert = await shop.create(5)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await inventory.tell(concert, 1, (new_id(), "held", 1))
        await inventory.tell(concert, 2, (a, "held", 1))
        assert (await shown(shop, concert, 2))["unavailable"] == [a]


class TestSince:
    async def test_only_what_changed(self, shop: Any, inventory: Any) -> None:
        concert = await shop.create(20)
        a, b, c, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)  # loaded, so that a history grows
        await inventory.tell(concert, 1, (a, "held", 1), (b, "held", 1))
        await shown(shop, concert, 1)
        await inventory.tell(concert, 2, (a, "available", 2))
        await inventory.tell(concert, 3, (c, "held", 1))
        await shown(shop, concert, 3)
        body = await shop.availability(concert.performance_id, since=1)
        assert body["since"] == 1
        assert (body["unavailable"], body["available"]) == ([c], [a])
        assert body["seats_left"] == 18
        body = await shop.availability(concert.performance_id, since=3)
        assert (body["since"], body["unavailable"], body["available"]) == (3, [], [])
        whole = await shop.availability(concert.performance_id, since=99)
        assert "since" not in whole
        assert whole["unavailable"] == [b, c]

    async def test_another_process_serves_it_too(
        self, shop: Any, inventory: Any, another: Any
    ) -> None:
        """Pollers go round the replicas: the history is shared."""
        concert = await shop.create(20)
        a, b, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        await inventory.tell(concert, 1, (a, "held", 1))
        await shown(shop, concert, 1)
        await inventory.tell(concert, 2, (b, "held", 1))
        await shown(shop, concert, 2)
        other = another()
        body = json.loads(await other.availability.body(concert.performance_id, 1))
        assert (body["since"], body["unavailable"]) == (1, [b])

    @pytest.mark.parametrize("since", ["-1", "x", "1.5", str(2**53 + 1), str(10**30)])
    async def test_422(self, shop: Any, since: str) -> None:
        concert = await shop.create(1)
        response = await shop.get(
            f"/performances/{concert.performance_id}/availability?since={since}"
        )
        assert (response.status_code, response.json()["code"]) == (422, "request-invalid")


class TestTellingRedis:
    """After the commit Redis is told; whatever is lost there, nobody is shown the old for long."""

    async def apply(
        self, projector: Projector, inventory: Any, concert: Any, version: int, *seats: Any
    ) -> tuple[str, Any]:
        message = (new_id(), inventory.event(concert, version, seats))
        await projector.apply([message])
        return message

    async def test_a_lost_write_is_made_up_for_by_the_job(
        self, shop: Any, inventory: Any, projector: Projector, another: Any
    ) -> None:
        concert = await shop.create(4)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        projector._cache.away = True  # type: ignore[attr-defined] # a LostCache
        await self.apply(projector, inventory, concert, 1, (a, "held", 1))
        stale = json.loads(await another().availability.body(concert.performance_id, None))
        assert stale["version"] == 0  # Redis knows no better yet
        await projector.tell_again()
        fresh = json.loads(await another().availability.body(concert.performance_id, None))
        assert (fresh["version"], fresh["unavailable"]) == (1, [a])
        assert projector._untold == {}

    async def test_the_next_write_uncovers_a_lost_one(
        self, shop: Any, inventory: Any, projector: Projector, another: Any
    ) -> None:
        """Applying change 2 on top of version 0 would hide change 1 for ever."""
        concert = await shop.create(4)
        a, b, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        projector._cache.away = True  # type: ignore[attr-defined] # a LostCache
        await self.apply(projector, inventory, concert, 1, (a, "held", 1))
        projector._cache.away = False  # type: ignore[attr-defined] # a LostCache
        await self.apply(projector, inventory, concert, 2, (b, "held", 1))
        got = json.loads(await another().availability.body(concert.performance_id, None))
        assert (got["version"], got["unavailable"]) == (2, [a, b])

    async def test_a_redelivery_uncovers_a_write_lost_with_its_process(
        self, shop: Any, inventory: Any, projector: Projector, another: Any
    ) -> None:
        """Killed between commit and Redis: the batch comes again, and the inbox drops it."""
        concert = await shop.create(4)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        projector._cache.away = True  # type: ignore[attr-defined] # a LostCache
        message = await self.apply(projector, inventory, concert, 1, (a, "held", 1))
        projector._cache.away = False  # type: ignore[attr-defined] # a LostCache
        projector._untold.clear()
        await projector.apply([message])
        got = json.loads(await another().availability.body(concert.performance_id, None))
        assert (got["version"], got["unavailable"]) == (1, [a])

    async def test_a_stale_writer_is_refused(
        self, shop: Any, inventory: Any, projector: Projector, cache: Cache, another: Any
    ) -> None:
        """A projector that froze between commit and Redis wakes after its successor wrote."""
        concert = await shop.create(4)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        frozen: list[tuple[Any, ...]] = []
        advance = projector._cache.advance_availability

        async def freeze(*arguments: Any) -> str:
            frozen.append(arguments)
            return "frozen"

        projector._cache.advance_availability = freeze  # type: ignore[method-assign] # the freeze
        await self.apply(projector, inventory, concert, 1, (a, "held", 1))
        projector._cache.advance_availability = advance  # type: ignore[method-assign] # thawed
        await self.apply(projector, inventory, concert, 2, (a, "available", 2))
        before = json.loads(await another().availability.body(concert.performance_id, None))
        assert (before["version"], before["unavailable"]) == (2, [])
        assert await cache.advance_availability(*frozen[0]) == "older"
        after = json.loads(await another().availability.body(concert.performance_id, None))
        assert (after["version"], after["unavailable"]) == (2, [])

    async def test_a_write_that_arrives_twice_counts_once(
        self, shop: Any, inventory: Any, projector: Projector, cache: Cache
    ) -> None:
        concert = await shop.create(4)
        a, *_ = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        written: list[tuple[Any, ...]] = []
        advance = projector._cache.advance_availability

        async def record(*arguments: Any) -> str:
            written.append(arguments)
            return await advance(*arguments)

        projector._cache.advance_availability = record  # type: ignore[method-assign] # a spy
        await self.apply(projector, inventory, concert, 1, (a, "held", 1))
        assert await cache.advance_availability(*written[0]) == "older"

    async def test_an_unknown_performance_is_refused_and_nothing_of_the_batch_is_done(
        self, shop: Any, inventory: Any, projector: Projector, database: Database
    ) -> None:
        concert = await shop.create(4)
        a, *_ = await shop.seat_ids(concert.performance_id)
        good = (new_id(), inventory.event(concert, 1, [(a, "held", 1)]))
        other = good[1].model_copy(update={"performance_id": new_id()})
        with pytest.raises(MessageRejected):
            await projector.apply([good, (new_id(), other)])
        assert (await counts(database, concert))["availability_version"] == 0
        await projector.apply([good])  # the inbox has not swallowed it
        assert (await counts(database, concert))["seats_left"] == 3

    async def test_a_whole_house_in_one_batch(
        self, shop: Any, inventory: Any, projector: Projector, another: Any
    ) -> None:
        concert = await shop.create(3_000)
        ids = await shop.seat_ids(concert.performance_id)
        await shop.availability(concert.performance_id)
        events = [
            (new_id(), inventory.event(concert, n + 1, [(i, "sold", 1) for i in ids[n::10]]))
            for n in range(10)
        ]
        await projector.apply(events)
        got = json.loads(await another().availability.body(concert.performance_id, 0))
        assert (got["version"], got["since"], got["seats_left"]) == (10, 0, 0)
        assert got["unavailable"] == ids
