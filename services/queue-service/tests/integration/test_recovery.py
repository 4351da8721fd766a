"""Redis loses everything: the room comes back, and everybody to the place they had."""

import asyncio

from testkit.waiting import eventually


async def lose(service, queue, lose_keys):
    await asyncio.to_thread(lose_keys, f"{service.settings.redis_prefix}{{{queue.concert_id}}}:*")


async def test_the_line_comes_back_by_signed_tickets(alone, start_service, lose_keys):
    async with start_service(recovery_hold_seconds=1.0) as service:
        queue = await service.queue(mode="paused", max_active=50)
        fans = [queue.fan() for _ in range(30)]
        for fan in fans:
            await fan.join()
        await lose(service, queue, lose_keys)
        await queue.policy(mode="open")
        newcomer = queue.fan()
        late = (await newcomer.join()).json()
        assert late["state"] == "waiting"
        back = await asyncio.gather(*(fan.return_with_ticket() for fan in reversed(fans)))
        assert [one.json()["number"] for one in reversed(back)] == list(range(1, 31))

        async def all_inside():
            return len(await queue.rows()) == 31

        await eventually(all_inside, 10)
        rows = await queue.rows()
        assert [row["user_id"] for row in rows] == [f.user_id for f in fans] + [newcomer.user_id]
        assert {row["epoch"] for row in rows} == {2}


async def test_those_inside_are_counted_and_keep_their_pass(service, lose_keys):
    queue = await service.queue(max_active=2)
    inside, other, waiting = queue.fan(), queue.fan(), queue.fan()
    before = (await inside.join()).json()
    await other.join()
    await waiting.join()

    async def saved():
        return all(row["expires_at"] for row in await queue.rows())

    await eventually(saved)
    await lose(service, queue, lose_keys)
    after = (await inside.poll()).json()
    assert after["state"] == "admitted"
    assert after["pass"]["token"] == before["pass"]["token"]
    assert (await waiting.return_with_ticket()).json()["state"] == "waiting"
    await service.door.attend(queue.concert_id)
    assert len(await queue.rows()) == 2
    assert (await inside.leave()).status_code == 204
    assert await eventually(lambda: is_admitted(waiting))
    first, second, third = await queue.rows()
    assert (first["end_cause"], second["ended_at"], third["ended_at"]) == ("left", None, None)


async def is_admitted(fan):
    return await fan.state() == "admitted"


async def test_nobody_is_admitted_twice_by_an_old_ticket(service, lose_keys):
    queue = await service.queue()
    fan = queue.fan()
    await fan.join()
    old = fan.token
    await fan.leave()
    await lose(service, queue, lose_keys)
    back = await fan.poll(**{"Queue-Ticket": old})
    # The place itself is back, since its end is not in the room's memory ...
    assert back.json()["state"] in {"waiting", "expired"}

    # ... but MySQL knows that it was used.
    async def refused():
        return await fan.state() == "expired"

    await eventually(refused)
    assert len(await queue.rows()) == 1


async def test_parallel_returns_rebuild_once_and_lose_nobody(start_service, lose_keys):
    async with start_service() as one, start_service() as two:
        queue = await one.queue(mode="paused")
        fans = [queue.fan() for _ in range(40)]
        for fan in fans:
            await fan.join()
        await lose(one, queue, lose_keys)
        for fan in fans[::2]:
            fan.client = two.client
        answers = await asyncio.gather(*(fan.return_with_ticket() for fan in fans))
        assert [answer.status_code for answer in answers] == [200] * 40
        assert [answer.json()["number"] for answer in answers] == list(range(1, 41))
        assert (await queue.look())["waiting"] == 40


async def test_stock_and_policy_come_back_from_mysql(service, lose_keys):
    queue = await service.queue(max_active=3)
    await queue.stock(7, 42)
    await service.steering.save_stock()
    await lose(service, queue, lose_keys)
    look = await queue.look()
    assert (look["seats_left"], look["state"]) == (42, "open")
