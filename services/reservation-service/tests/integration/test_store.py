"""Store functions on the real database; each guard under a race, and without the guard."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from common.database import CheckViolation, RetryTransaction, Transaction
from common.events import CancelCause, PerformanceSaleChanged, SaleState
from common.events.concert import LONGEST_LABEL, LONGEST_NAME
from common.ids import new_id
from reservation_service.domain import ReservationState
from reservation_service.service.inventory import Inventory
from reservation_service.store import performances, reservations, seats
from testkit import eventually


async def race(box, work: Callable[[Transaction, int], Awaitable[Any]]) -> list[int]:
    """Run ``work`` in 20 transactions released at once; the numbers of those that committed."""
    start = asyncio.Event()
    won: list[int] = []

    async def attempt(number: int) -> None:
        await start.wait()
        try:
            async with box.database.transaction() as tx:
                await work(tx, number)
        except (RetryTransaction, CheckViolation):
            return
        won.append(number)

    tasks = [asyncio.create_task(attempt(number)) for number in range(20)]
    start.set()
    await asyncio.gather(*tasks)
    return won


class TestSeatGuards:
    async def test_of_twenty_holds_of_one_seat_one_wins(self, box) -> None:
        show = await box.show()
        owners = [new_id() for _ in range(20)]
        won = await race(box, lambda tx, n: seats.hold(tx, {show.seat_ids[0]: owners[n]}))
        (row,) = await box.rows(
            "SELECT state, reservation_id, version FROM seats WHERE seat_id = %s",
            show.seat_ids[0],
        )
        assert len(won) == 1
        assert row == {"state": "held", "reservation_id": owners[won[0]], "version": 2}

    async def test_without_its_guard_a_seat_is_sold_twenty_times(
        self, box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control: if this race were harmless, the test above would prove nothing."""
        monkeypatch.setattr(seats, "SEAT_IS_FREE", "")
        show = await box.show()
        won = await race(box, lambda tx, _: seats.hold(tx, {show.seat_ids[0]: new_id()}))
        assert len(won) > 1

    async def test_overlapping_sets_in_any_order_are_all_or_nothing(self, box) -> None:
        show = await box.show(10)
        owners = [new_id() for _ in range(20)]

        async def hold(tx: Transaction, number: int) -> None:
            mine = [show.seat_ids[(number + step * 3) % 10] for step in range(3)]
            await seats.hold(tx, dict.fromkeys(mine, owners[number]))

        won = await race(box, hold)
        rows = await box.rows(
            "SELECT reservation_id, COUNT(*) AS n FROM seats WHERE performance_id = %s"
            " AND state = 'held' GROUP BY reservation_id",
            show.performance_id,
        )
        assert {row["reservation_id"] for row in rows} == {owners[number] for number in won}
        assert {row["n"] for row in rows} == {3}

    async def test_only_the_owner_releases_or_sells(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        for change in (seats.release, seats.sell):
            with pytest.raises(RetryTransaction):
                async with box.database.transaction() as tx:
                    await change(tx, new_id(), show.seat_ids[:1])
        assert await box.seat_owners(show) == {show.seat_ids[0]: [held["reservation_id"]]}

    async def test_a_late_release_does_not_free_the_next_owners_seat(
        self, box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        show = await box.show()
        first = await box.held("ada", show, 0)
        await box.delete("ada", first["reservation_id"])
        await box.held("bob", show, 0)

        async def late_release() -> int:
            async with box.database.transaction() as tx:
                await seats.release(tx, first["reservation_id"], show.seat_ids[:1])
            (row,) = await box.rows(
                "SELECT COUNT(*) AS n FROM seats WHERE seat_id = %s AND state = 'available'",
                show.seat_ids[0],
            )
            return int(row["n"])

        with pytest.raises(RetryTransaction):
            await late_release()
        # The control: without the owner guard, bob's seat would be anybody's.
        monkeypatch.setattr(seats, "SEAT_IS_OWN", "AND (reservation_id = %s OR state IN %s)")
        assert await late_release() == 1

    async def test_two_hundred_seats_and_more_in_one_batch(self, box) -> None:
        show = await box.show(450)
        owner = new_id()
        async with box.database.transaction() as tx:
            await seats.hold(tx, dict.fromkeys(show.seat_ids, owner))
        rows = await box.rows(
            "SELECT COUNT(*) AS n FROM seats WHERE reservation_id = %s AND state = 'held'", owner
        )
        assert rows == [{"n": 450}]


class TestReservationGuards:
    async def test_a_confirmation_needs_a_hold_live_by_the_databases_clock(
        self, box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        reservation_id = held["reservation_id"]

        async def confirm() -> None:
            async with box.database.transaction() as tx:
                await tx.execute(
                    "UPDATE reservations SET hold_expires_at = NOW(6) - INTERVAL 1 SECOND"
                    " WHERE reservation_id = %s",
                    (reservation_id,),
                )
                (before,) = await reservations.lock(tx, [reservation_id])
                # A process with a wrong clock, or one that was frozen: it believes in the hold.
                payment = box.payment(held, "ada", show)
                after = replace(
                    before,
                    state=ReservationState.CONFIRMED,
                    payment_id=payment.payment_id,
                    version=before.version + 1,
                )
                await reservations.save(tx, before, after)

        with pytest.raises(RetryTransaction):
            await confirm()
        monkeypatch.setattr(reservations, "HOLD_IS_LIVE", "AND user_id = %s AND total = %s")
        await confirm()  # the control: without the guard the dead hold is sold

    async def test_of_twenty_writers_of_one_version_one_wins(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        async with box.database.primary() as session:
            before = await reservations.find_own(session, held["reservation_id"], "ada")
        step = before.cancel(CancelCause.FAN, datetime.now(UTC))
        # The same state, a higher version: what a refused payment leaves behind.
        told = replace(before, version=before.version + 1)
        won = await race(box, lambda tx, _: reservations.save(tx, before, told))
        assert len(won) == 1
        with pytest.raises(RetryTransaction):
            async with box.database.transaction() as tx:
                await reservations.save(tx, before, step.reservation)

    async def test_the_rows_refuse_what_makes_no_sense(self, box) -> None:
        show = await box.show()
        held = await box.held("ada", show, 0)
        for statement in (
            "UPDATE seats SET state = 'available' WHERE reservation_id = %s",
            "UPDATE seats SET price = -1 WHERE reservation_id = %s",
            "UPDATE reservations SET state = 'confirmed' WHERE reservation_id = %s",
            "UPDATE reservations SET state = 'lost' WHERE reservation_id = %s",
            "UPDATE reservations SET total = -1 WHERE reservation_id = %s",
        ):
            with pytest.raises(CheckViolation):
                async with box.database.transaction() as tx:
                    await tx.execute(statement, (held["reservation_id"],))
        with pytest.raises(CheckViolation):
            async with box.database.transaction() as tx:
                await performances.bump(tx, show.performance_id, -1000)


class TestInventory:
    async def test_parts_in_any_order_and_twice_make_one_plan(self, box) -> None:
        parts = box.parts(9, part_size=2)
        show = box.show_of(parts)
        for part in (*parts[::-1], *parts):
            body = {"seat_ids": [show.seat_ids[0]]}
            known = await box.rows(
                "SELECT parts - parts_received AS missing FROM performances"
                " WHERE performance_id = %s",
                show.performance_id,
            )
            if not known or known[0]["missing"]:
                early = await box.reserve("ada", show, body)
                assert early.json()["code"] == "performance-unknown"
            await box.tell(part)
            await eventually(lambda part=part: _has_part(box, part))
        assert await box.rows(
            "SELECT seats_total, seats_left, parts_received FROM performances"
            " WHERE performance_id = %s",
            show.performance_id,
        ) == [{"seats_total": 9, "seats_left": 9, "parts_received": 5}]
        assert (await box.reserve("ada", show, body)).status_code == 201

    async def test_the_longest_texts_a_plan_can_have(self, box) -> None:
        (part,) = box.parts(2)
        longest = {
            "label": "é" * LONGEST_LABEL,
            "category": "ü" * LONGEST_NAME,
            "row": "ß" * LONGEST_NAME,
        }
        seats = tuple(seat.model_copy(update=longest) for seat in part.seats)
        part = part.model_copy(update={"seats": seats})
        await Inventory(database=box.database).schedule(part, new_id())
        held = await box.held("ada", box.show_of([part]), 0, 1)
        assert {seat["label"] for seat in held["seats"]} == {longest["label"]}

    async def test_parts_at_once(self, box) -> None:
        parts = box.parts(40, part_size=2)
        inventory = Inventory(database=box.database)

        await asyncio.gather(
            *(box.insist(inventory.schedule, part, new_id()) for part in (*parts, *parts))
        )
        (row,) = await box.rows(
            "SELECT seats_left, parts_received FROM performances WHERE performance_id = %s",
            parts[0].performance_id,
        )
        assert row == {"seats_left": 40, "parts_received": 20}

    async def test_a_sale_that_opens_before_its_plan_is_known(self, box) -> None:
        parts = box.parts(2, sale=SaleState.SCHEDULED)
        show = box.show_of(parts)
        inventory = Inventory(database=box.database)
        opened = PerformanceSaleChanged(
            performance_id=show.performance_id,
            concert_id=show.concert_id,
            version=2,
            sale=SaleState.OPEN,
            previous_sale=SaleState.SCHEDULED,
            sale_opens_at=None,
            occurred_at=datetime.now(UTC),
        )
        await inventory.change_sale(opened, new_id())
        body = {"seat_ids": [show.seat_ids[0]]}
        early = await box.reserve("ada", show, body)
        assert early.json()["code"] == "performance-unknown"
        await inventory.schedule(parts[0], new_id())
        assert (await box.reserve("ada", show, body)).status_code == 201

    async def test_ended_passes_are_forgotten_after_their_time(self, box) -> None:
        old, young = new_id(), new_id()
        async with box.database.transaction() as tx:
            for pass_id, year in ((old, 2020), (young, 2030)):
                await reservations.end_pass(
                    tx,
                    pass_id,
                    user_id="ada",
                    concert_id=new_id(),
                    cause="left",
                    ended_at=datetime(year, 1, 1, tzinfo=UTC),
                )
            await reservations.purge_ended_passes(tx, 30)
            assert await reservations.ended_passes(tx, {old, young}) == {young}


async def _has_part(box, part: Any) -> bool:
    return bool(
        await box.rows(
            "SELECT 1 FROM performance_parts WHERE performance_id = %s AND part = %s",
            part.performance_id,
            part.part,
        )
    )
