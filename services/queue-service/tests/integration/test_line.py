"""A fan's way through the waiting room, over HTTP, on the real servers."""

import asyncio

import jwt

from testkit.waiting import eventually


async def test_join_answers_201_then_200_with_the_same_place(service):
    queue = await service.queue(mode="paused")
    fan = queue.fan()
    first = await fan.join()
    again = await fan.join()
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["ticket_id"] == again.json()["ticket_id"]
    assert first.json()["number"] == again.json()["number"] == 1
    assert first.json()["state"] == "waiting"
    assert first.json()["pass"] is None
    assert first.json()["estimated_wait_seconds"] is None
    assert int(first.headers["Retry-After"]) >= first.json()["poll_after_seconds"]


async def test_numbers_are_the_order_of_arrival(service):
    queue = await service.queue(mode="paused")
    fans = [queue.fan() for _ in range(5)]
    answers = [(await fan.join()).json() for fan in fans]
    assert [one["number"] for one in answers] == [1, 2, 3, 4, 5]
    assert [one["people_ahead"] for one in answers] == [0, 1, 2, 3, 4]


async def test_100_parallel_joins_of_one_fan_make_one_place(service):
    queue = await service.queue(mode="paused")
    fan = queue.fan()
    answers = await asyncio.gather(*(fan.join() for _ in range(100)))
    assert sorted(one.status_code for one in answers) == [200] * 99 + [201]
    assert {one.json()["ticket_id"] for one in answers} == {answers[0].json()["ticket_id"]}
    assert (await queue.look())["waiting"] == 1


async def test_a_burst_of_a_thousand_joins_loses_nobody(service):
    queue = await service.queue(mode="paused")
    fans = [queue.fan() for _ in range(1_000)]
    # One slow process stands for a house: what matters is that nobody is refused or forgotten.
    patient = {"Prefer": "wait=10"}
    answers = await asyncio.gather(*(fan.join(**patient) for fan in fans))
    assert {one.status_code for one in answers} == {201}
    assert sorted(one.json()["number"] for one in answers) == list(range(1, 1_001))
    again = await asyncio.gather(*(fan.poll(**patient) for fan in fans[::5]))
    assert [one.json()["ticket_id"] for one in again] == [
        one.json()["ticket_id"] for one in answers[::5]
    ]
    assert (await queue.look())["waiting"] == 1_000


async def test_who_joins_while_there_is_room_is_inside_at_once_with_a_pass(service, queue_pass):
    queue = await service.queue()
    fan = queue.fan()
    ticket = (await fan.join()).json()
    assert ticket["state"] == "admitted"
    assert 599 <= ticket["pass"]["expires_in_seconds"] <= 601
    key = next(queue_pass.keys.pass_public_keys.glob("*.pem")).read_text()
    claims = jwt.decode(ticket["pass"]["token"], key, algorithms=["EdDSA"], audience="reservation")
    assert claims["sub"] == fan.user_id
    assert claims["concert_id"] == queue.concert_id
    assert claims["pass_id"] == ticket["ticket_id"]
    [row] = await queue.rows()
    assert (row["pass_id"], row["user_id"], row["number"]) == (
        ticket["ticket_id"],
        fan.user_id,
        1,
    )
    # The same pass, as often as it is asked for: its time runs from the first delivery.
    again = (await fan.poll()).json()
    assert again["pass"]["expires_at"] == ticket["pass"]["expires_at"]


async def test_delivery_reaches_the_row(service):
    queue = await service.queue()
    fan = queue.fan()
    ticket = (await fan.join()).json()

    async def delivered():
        [row] = await queue.rows()
        return row["expires_at"]

    expires_at = await eventually(delivered)
    assert expires_at.isoformat()[:19] == ticket["pass"]["expires_at"][:19]


async def test_leaving_frees_the_slot_and_the_next_one_enters(service):
    queue = await service.queue(max_active=1)
    inside, next_one = queue.fan(), queue.fan()
    assert (await inside.join()).json()["state"] == "admitted"
    waiting = (await next_one.join()).json()
    assert (waiting["state"], waiting["people_ahead"]) == ("waiting", 0)
    assert (await inside.leave()).status_code == 204
    assert (await inside.poll()).json()["code"] == "no-ticket"
    await eventually(lambda: _is(next_one, "admitted"))
    ended, live = await queue.rows()
    assert (ended["end_cause"], live["ended_at"]) == ("left", None)
    assert ended["ended_at"] < live["admitted_at"]


async def test_leaving_the_line_lets_those_behind_move_up(service):
    queue = await service.queue(mode="paused")
    first, second, third = queue.fan(), queue.fan(), queue.fan()
    for fan in (first, second, third):
        await fan.join()
    assert (await second.leave()).status_code == 204
    assert (await second.leave()).status_code == 204
    assert (await third.poll()).json()["people_ahead"] == 1
    rejoined = (await second.join()).json()
    assert (rejoined["number"], rejoined["people_ahead"]) == (4, 2)


async def test_an_uncollected_admission_lapses_and_a_new_join_goes_to_the_end(service):
    queue = await service.queue(mode="paused", place_grace_seconds=3, max_active=1)
    absent, patient = queue.fan("absent"), queue.fan("patient")
    await absent.join()
    await patient.join()
    assert (await queue.policy(mode="open")).status_code == 200

    async def next_one_is_inside():
        return await patient.state() == "admitted"

    await eventually(next_one_is_inside, 8)
    lapsed, collected = await queue.rows()
    assert (lapsed["user_id"], lapsed["end_cause"]) == (absent.user_id, "uncollected")
    assert collected["user_id"] == patient.user_id
    assert await absent.state() == "expired"
    again = await absent.join()
    assert again.status_code == 201
    assert (again.json()["number"], again.json()["state"]) == (3, "waiting")


async def test_who_stops_polling_is_passed_over_without_costing_a_slot(service):
    queue = await service.queue(mode="paused", place_grace_seconds=3)
    gone, here = queue.fan("gone"), queue.fan("here")
    await gone.join()
    await here.join()

    async def gone_is_stale():
        await here.poll()
        return (await queue.look())["waiting"] == 1

    await eventually(gone_is_stale, 8)
    await queue.policy(mode="open")
    assert await eventually(lambda: _is(here, "admitted"))
    assert [row["user_id"] for row in await queue.rows()] == [here.user_id]
    assert await gone.state() == "expired"


async def test_a_pass_runs_out(service):
    queue = await service.queue(pass_ttl_seconds=1)
    fan = queue.fan()
    assert (await fan.join()).json()["state"] == "admitted"
    assert await eventually(lambda: _is(fan, "expired"))

    async def ended():
        [row] = await queue.rows()
        return row["end_cause"] == "expired" and row["ended_at"] >= row["expires_at"]

    assert await eventually(ended)
    again = (await fan.join()).json()
    assert (again["state"], again["number"]) == ("admitted", 2)


async def _is(fan, state):
    return await fan.state() == state
