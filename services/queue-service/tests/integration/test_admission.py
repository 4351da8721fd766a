"""Admission by several processes at once, and across every crash point."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from common.errors import DependencyUnavailable
from common.events import AdmissionEndCause
from common.ids import new_id
from queue_service.store import WrongEpoch
from testkit.waiting import eventually


def most_inside(rows):
    """The most people inside at once, by the rows alone."""
    moves = [(row["admitted_at"], 1) for row in rows]
    moves += [(row["ended_at"], -1) for row in rows if row["ended_at"] is not None]
    inside = worst = 0
    for _, move in sorted(moves):
        inside += move
        worst = max(worst, inside)
    return worst


def inversions(rows):
    numbers = [row["number"] for row in rows]
    return sum(first > second for first, second in pairwise(numbers))


async def test_four_processes_admit_in_order_and_never_too_many(service, start_service):
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(start_service()) for _ in range(3)]
        queue = await service.queue(max_active=5)
        clients = [service.client, *(one.client for one in others)]
        fans = [queue.fan() for _ in range(40)]
        for number, fan in enumerate(fans):
            fan.client = clients[number % 4]

        async def visit(fan):
            await fan.join()
            async with asyncio.timeout(40):
                # As patient as a fan: the point is not to starve the one event loop.
                while not await admitted(fan):  # noqa: ASYNC110 - the fan asks, nobody tells
                    await asyncio.sleep(0.2)
            assert (await fan.leave()).status_code == 204

        await asyncio.gather(*map(visit, fans))
        rows = await queue.rows()
    assert {row["user_id"] for row in rows} == {fan.user_id for fan in fans}
    assert len(rows) == 40
    assert inversions(rows) == 0
    assert most_inside(rows) == 5
    assert {row["end_cause"] for row in rows} == {"left"}


async def admitted(fan):
    return await fan.state() == "admitted"


async def test_20_turns_at_once_admit_exactly_max_active(service, start_service):
    queue = await service.queue(mode="paused", max_active=7)
    for _ in range(20):
        await queue.fan().join()
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(start_service()) for _ in range(3)]
        await queue.policy(mode="open")
        doors = [service.door, *(one.door for one in others)]
        await asyncio.gather(*(doors[n % 4].attend(queue.concert_id) for n in range(20)))
    assert len(await queue.rows()) == 7


async def test_the_next_one_enters_within_300_ms_after_a_purchase(service):
    queue = await service.queue(max_active=1)
    buyer, next_one = queue.fan(), queue.fan()
    pass_id = (await buyer.join()).json()["ticket_id"]
    await next_one.join()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await service.door.end(queue.concert_id, [pass_id], AdmissionEndCause.PURCHASED)
    await eventually(lambda: admitted(next_one), 3)
    assert loop.time() - began < 0.3
    assert await buyer.state() == "done"
    assert (await buyer.join()).json()["number"] == 3


async def test_ending_twice_is_ending_once(service, published):
    queue = await service.queue()
    ticket = (await queue.fan().join()).json()
    async with published("queue.events", "admission.ended.v1") as spy:
        for _ in range(3):
            await service.door.end(
                queue.concert_id, [ticket["ticket_id"]], AdmissionEndCause.PURCHASED
            )

        def about_it(message):
            return message.json()["pass_id"] == ticket["ticket_id"]

        await spy.first(about_it)
        await spy.first(lambda message: not about_it(message) or True)
        assert sum(map(about_it, spy.messages)) == 1


# Crash points: a process stops dead between two steps; another one (or a tick) carries on. ------


class Crash(Exception):  # noqa: N818 - no error of ours
    """The process stops here; nothing of ours handles it."""


@pytest.fixture
async def quiet(alone, start_service):
    """A process that takes turns only when asked."""
    async with start_service(role="api", lease_seconds=0.2) as api_only:
        yield api_only


async def test_crash_after_the_claim_before_the_row(quiet, monkeypatch):
    queue = await quiet.queue(max_active=1)
    fan = queue.fan()
    with monkeypatch.context() as patch:
        patch.setattr(quiet.door, "_write", dies)
        assert (await fan.join()).status_code == 500
    assert await queue.rows() == []
    # No pass without a row.
    assert (await fan.poll()).json()["pass"] is None
    await carried_on(quiet, queue, fan)
    assert len(await queue.rows()) == 1


async def test_crash_after_the_row_before_the_room_knows(quiet, monkeypatch):
    queue = await quiet.queue(max_active=1)
    fan = queue.fan()
    with monkeypatch.context() as patch:
        patch.setattr(quiet.door._rooms, "settle", dies)
        assert (await fan.join()).status_code == 500
    assert len(await queue.rows()) == 1
    assert (await fan.poll()).json()["pass"] is None
    await carried_on(quiet, queue, fan)
    assert len(await queue.rows()) == 1


async def carried_on(service, queue, fan):
    async def is_inside():
        await service.door.attend(queue.concert_id)
        return await admitted(fan)

    assert await eventually(is_inside)


@pytest.mark.parametrize("step", ["run", "settle"])
async def test_crash_while_leaving(quiet, monkeypatch, step):
    queue = await quiet.queue(max_active=1)
    leaver, next_one = queue.fan(), queue.fan()
    await leaver.join()
    await next_one.join()
    owner = quiet.database if step == "run" else quiet.door._rooms
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        assert (await leaver.leave()).status_code == 500
    # The slot is not free before MySQL says so, and not lost either.
    assert not await admitted(next_one)
    await carried_on(quiet, queue, next_one)
    left, _ = await queue.rows()
    assert left["end_cause"] == "left"


async def test_crash_after_a_purchase_is_written_is_repaired_without_the_message(
    quiet, monkeypatch
):
    queue = await quiet.queue(max_active=1)
    buyer, next_one = queue.fan(), queue.fan()
    pass_id = (await buyer.join()).json()["ticket_id"]
    await next_one.join()
    with monkeypatch.context() as patch:
        patch.setattr(quiet.door._rooms, "settle", dies)
        with pytest.raises(Crash):
            await quiet.door.end(queue.concert_id, [pass_id], AdmissionEndCause.PURCHASED)
    assert not await admitted(next_one)
    await quiet.door.free_recently_ended()
    await eventually(lambda: admitted(next_one))
    assert await buyer.state() == "done"


async def dies(*_, **__):
    raise Crash


async def test_a_process_frozen_with_a_claim_lets_nobody_in_after_a_rebuild(
    quiet, monkeypatch, lose_keys
):
    queue = await quiet.queue(max_active=1, mode="paused")
    forgotten, newcomer = queue.fan(), queue.fan()
    await forgotten.join()
    with monkeypatch.context() as patch:
        patch.setattr(quiet.door, "attend", does_nothing)
        await queue.policy(mode="open")
    claim = await quiet.door._rooms.turn(queue.concert_id, 60)
    assert [one.user_id for one in claim.slots] == [forgotten.user_id]
    lose_keys(f"{quiet.settings.redis_prefix}{{{queue.concert_id}}}:*")
    await newcomer.join()
    await carried_on(quiet, queue, newcomer)
    with pytest.raises(WrongEpoch):
        await quiet.door._write(queue.concert_id, claim)
    [row] = await queue.rows()
    assert (row["user_id"], row["epoch"]) == (newcomer.user_id, 2)


async def does_nothing(*_):
    return None


async def test_mysql_away_keeps_the_place_and_admits_later(quiet, monkeypatch):
    queue = await quiet.queue()
    fan = queue.fan()
    with monkeypatch.context() as patch:
        patch.setattr(quiet.door, "_write", mysql_is_away)
        joined = await fan.join()
    assert (joined.status_code, joined.json()["state"]) == (201, "waiting")
    await carried_on(quiet, queue, fan)


async def mysql_is_away(*_):
    raise DependencyUnavailable("database")


async def test_orphans_of_no_room_end_in_mysql(service):
    queue = await service.queue()
    async with service.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO admissions (pass_id, concert_id, user_id, number, epoch, sequence, mode,"
            " queued_at, admitted_at, delivered_at, expires_at) VALUES (%s, %s, 'ghost', 1, 1, 1,"
            " 'open', NOW(6), NOW(6) - INTERVAL 1 HOUR, NOW(6), NOW(6) - INTERVAL 30 MINUTE)",
            (new_id(), queue.concert_id),
        )
    await service.door.end_orphans()
    [row] = await queue.rows()
    assert row["end_cause"] == "expired"
