"""Every status of the contract, over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import jwt
import pytest

from common.events import SaleState
from common.ids import new_id
from testkit.openapi import assert_complete
from testkit.waiting import eventually


def code(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_every_route_of_an_unknown_queue_is_404(service):
    unknown = f"/api/v1/queues/{new_id()}"
    fan, admin = service.bearer("fan"), service.admin
    calls = [
        service.client.put(f"{unknown}/ticket", headers=fan),
        service.client.get(f"{unknown}/ticket", headers=fan),
        service.client.delete(f"{unknown}/ticket", headers=fan),
        service.client.get(unknown),
        service.client.get(f"/api/v1/admin/queues/{new_id()}", headers=admin),
        service.client.put(f"/api/v1/admin/queues/{new_id()}", headers=admin, json={}),
    ]
    for answer in await asyncio.gather(*calls):
        assert code(answer) == (404, "queue-unknown")


async def test_an_id_that_is_none_is_404(service):
    answer = await service.client.get("/api/v1/queues/*/ticket", headers=service.bearer("fan"))
    assert code(answer) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/queues/{id}/ticket"),
        ("GET", "/api/v1/queues/{id}/ticket"),
        ("DELETE", "/api/v1/queues/{id}/ticket"),
        ("GET", "/api/v1/admin/queues/{id}"),
        ("PUT", "/api/v1/admin/queues/{id}"),
        ("GET", "/api/v1/admin/dashboard/queues"),
    ],
)
async def test_who_is_nobody_is_401_and_who_is_no_administrator_403(service, method, path):
    url = path.format(id=new_id())
    answer = await service.client.request(method, url)
    assert code(answer) == (401, "unauthenticated")
    if "/admin/" in path:
        answer = await service.client.request(method, url, headers=service.bearer("fan"))
        assert code(answer) == (403, "forbidden")


async def test_who_never_joined_has_no_ticket(service):
    queue = await service.queue()
    assert code(await queue.fan().poll()) == (404, "no-ticket")


async def test_a_closed_queue_takes_nobody_and_tells_those_who_wait(service):
    queue = await service.queue(mode="paused")
    fan = queue.fan()
    await fan.join()
    await queue.policy(mode="closed")
    assert code(await queue.fan().join()) == (409, "queue-closed")
    assert await fan.state() == "closed"
    assert (await queue.look())["state"] == "closed"
    await queue.policy(mode="open")
    await eventually(lambda: _is(fan, "admitted"))


async def test_before_the_opening_everybody_is_in_the_pre_queue(service):
    opens_at = datetime.now(UTC) + timedelta(seconds=2)
    queue = await service.queue(SaleState.SCHEDULED, opens_at)
    fan = queue.fan()
    ticket = (await fan.join()).json()
    assert (ticket["state"], ticket["number"], ticket["pass"]) == ("pre_queue", 1, None)
    assert (await queue.look())["state"] == "pre_queue"
    await eventually(lambda: _is(fan, "admitted"), 6)
    [row] = await queue.rows()
    assert row["admitted_at"] >= opens_at


async def test_without_an_opening_time_the_queue_opens_with_the_first_open_sale(service):
    queue = await service.queue(SaleState.SCHEDULED)
    fan = queue.fan()
    assert (await fan.join()).json()["state"] == "pre_queue"
    await queue.sale(SaleState.OPEN)
    await eventually(lambda: _is(fan, "admitted"))


async def test_a_cancelled_sale_closes_the_queue_and_ends_who_is_inside(service, published):
    queue = await service.queue(max_active=1)
    inside, waiting = queue.fan(), queue.fan()
    pass_id = (await inside.join()).json()["ticket_id"]
    await waiting.join()
    async with published("queue.events", "admission.ended.v1") as spy:
        await queue.sale(SaleState.CANCELLED)
        ended = await spy.first(lambda message: message.json()["pass_id"] == pass_id)
    assert ended.json()["cause"] == "closed"
    assert ended.persistent
    assert await waiting.state() == "closed"
    assert await inside.state() == "expired"


async def test_a_second_performance_keeps_the_queue_open(service):
    queue = await service.queue()
    await queue.sale(SaleState.OPEN, performance_id=new_id())
    await queue.sale(SaleState.CLOSED)
    assert (await queue.fan().join()).json()["state"] == "admitted"


async def test_the_public_state(service):
    queue = await service.queue(max_active=1)
    for _ in range(3):
        await queue.fan().join()
    answer = await service.client.get(f"/api/v1/queues/{queue.concert_id}")
    assert answer.headers["cache-control"] == "public, max-age=1"
    state = answer.json()
    assert state == {
        "concert_id": queue.concert_id,
        "state": "open",
        "serving_number": 1,
        "waiting": 2,
        "admitted_per_minute": 0,
        "seats_left": 100,
        "as_of": state["as_of"],
    }
    await queue.stock(3, 0)
    assert (await queue.look())["state"] == "sold_out"
    await queue.stock(2, 50)
    assert (await queue.look())["seats_left"] == 0


async def test_the_pass_verifies_with_the_published_keys(service):
    queue = await service.queue()
    ticket = (await queue.fan().join()).json()
    answer = await service.client.get("/api/v1/queues/.well-known/jwks.json")
    assert answer.status_code == 200
    keys = {key["kid"]: key for key in answer.json()["keys"]}
    assert all("d" not in key for key in keys.values())
    token = ticket["pass"]["token"]
    key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]])
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="reservation")
    assert claims["pass_id"] == ticket["ticket_id"]


async def test_a_policy_begins_with_the_defaults(service):
    opens_at = datetime(2030, 1, 1, tzinfo=UTC)
    queue = await service.queue(SaleState.SCHEDULED, opens_at)
    url = f"/api/v1/admin/queues/{queue.concert_id}"
    policy = (await service.client.get(url, headers=service.admin)).json()
    defaults = {
        "mode": "open",
        "opens_at": "2030-01-01T00:00:00.000000Z",
        "shuffle_at_open": False,
        "max_active": 500,
        "admit_per_minute": 6000,
        "pass_ttl_seconds": 600,
        "place_grace_seconds": 120,
        "state": "pre_queue",
        "changed_by": "system",
    }
    assert {name: policy[name] for name in defaults} == defaults


async def test_every_policy_field_can_be_changed_and_each_change_is_recorded(service):
    queue = await service.queue()
    fields = {
        "mode": "paused",
        "opens_at": "2030-01-01T00:00:00.000000Z",
        "shuffle_at_open": True,
        "max_active": 7,
        "admit_per_minute": 70,
        "pass_ttl_seconds": 77,
        "place_grace_seconds": 17,
    }
    for name, value in fields.items():
        answer = await queue.policy(**{name: value})
        assert (answer.status_code, answer.json()[name]) == (200, value)
    same = await queue.policy(max_active=7)
    async with service.database.primary() as session:
        changes = await session.fetch_all(
            "SELECT version, changed_by, old_policy, new_policy, max_active FROM policy_changes"
            " WHERE concert_id = %s ORDER BY id",
            (queue.concert_id,),
        )
    assert len(changes) == 1 + len(fields)
    assert same.json()["version"] == changes[-1]["version"]
    assert {change["changed_by"] for change in changes[1:]} == {"the-administrator"}
    assert [change["max_active"] for change in changes] == [500, 500, 500, 500, 7, 7, 7, 7]
    for before, after in pairwise(changes):
        assert after["old_policy"] == before["new_policy"]
    assert changes[0]["old_policy"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"max_active": 0},
        {"max_active": "5"},
        {"max_active": 2**63},
        {"admit_per_minute": 0},
        {"pass_ttl_seconds": 0},
        {"place_grace_seconds": 1},
        {"mode": "ajar"},
        {"mode": None},
        {"opens_at": "tomorrow"},
        {"shuffle_at_open": 1},
        {"unknown": 1},
        [],
    ],
)
async def test_a_malformed_policy_is_422_and_changes_nothing(service, body):
    queue = await service.queue()
    url = f"/api/v1/admin/queues/{queue.concert_id}"
    before = (await service.client.get(url, headers=service.admin)).json()["version"]
    answer = await service.client.put(url, headers=service.admin, json=body)
    assert code(answer) == (422, "request-invalid")
    after = (await service.client.get(url, headers=service.admin)).json()["version"]
    assert before == after


async def test_another_process_follows_a_policy_within_a_second(service, start_service):
    async with start_service() as other:
        queue = await service.queue(mode="paused")
        fan = queue.fan()
        await fan.join()
        # The change is committed, but the process dies before it tells the room.
        async with service.database.transaction() as tx:
            await tx.execute(
                "UPDATE policies SET mode = 'open', version = version + 1 WHERE concert_id = %s",
                (queue.concert_id,),
            )
        fan.client = other.client
        await eventually(lambda: _is(fan, "admitted"), 1.5)


async def test_the_dashboard_counts_from_the_replica(service):
    queue = await service.queue(max_active=1)
    buyer = queue.fan()
    await buyer.join()

    async def figures():
        answer = await service.client.get(
            "/api/v1/admin/dashboard/queues", params={"limit": 1}, headers=service.admin
        )
        [newest] = answer.json()["items"]
        return newest if newest["inside"] == 1 else None

    newest = await eventually(figures)
    assert newest["concert_id"] == queue.concert_id
    assert (newest["admitted_total"], newest["max_active"], newest["purchased"]) == (1, 1, 0)


async def test_dashboard_pages_go_on_where_the_last_one_ended(service):
    for _ in range(3):
        await service.queue()
    seen, cursor = [], None

    async def page(cursor):
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = await service.client.get(
            "/api/v1/admin/dashboard/queues", params=parameters, headers=service.admin
        )
        return answer.json()

    for _ in range(2):
        body = await page(cursor)
        cursor = body["next_cursor"]
        seen += [one["concert_id"] for one in body["items"]]
    assert len(set(seen)) == len(seen) == 4 or cursor is None
    assert seen == sorted(seen, reverse=True)


async def test_redis_away_is_503_with_retry_after(service, start_service):
    queue = await service.queue()
    async with start_service(role="api", redis_url="redis://127.0.0.1:1/0") as blind:
        fan = queue.fan()
        fan.client = blind.client
        for answer in (await fan.join(), await fan.poll(), await fan.leave()):
            assert code(answer) == (503, "dependency-unavailable")
            assert int(answer.headers["retry-after"]) >= 1


def test_openapi_is_complete(service):
    assert_complete(service.app)


async def _is(fan, state):
    return await fan.state() == state
