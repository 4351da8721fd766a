"""A dependency is away: bounded answers, nothing lost, nothing kept that nobody can give back."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from common.ids import new_id
from reservation_service.app import create_app
from testkit import Infrastructure, TcpProxy, running


@asynccontextmanager
async def api_behind(
    box, port: int, setting: str, real: str
) -> AsyncIterator[tuple[httpx.AsyncClient, TcpProxy]]:
    """An API process whose ``setting`` leads through a proxy."""
    async with TcpProxy(port) as proxy:
        through = real.replace(f":{port}", f":{proxy.port}")
        settings = box.settings.model_copy(update={setting: through, "instance": f"x-{new_id()}"})
        async with running(create_app, settings, role="api") as client:
            yield client, proxy


@pytest.mark.parametrize("how", ["drop", "refuse"])
async def test_without_the_broker_503_and_the_seat_is_free(
    box, infrastructure: Infrastructure, how: str
) -> None:
    show, key = await box.show(), new_id()
    body = {"seat_ids": [show.seat_ids[0]]}
    port = infrastructure.ports.rabbitmq
    async with api_behind(box, port, "broker_url", box.settings.broker_url) as (client, proxy):
        await getattr(proxy, how)()
        began = time.monotonic()
        away = await box.reserve(
            "ada", show, body, key=key, client=client, headers={"Prefer": "wait=1"}
        )
        assert time.monotonic() - began < 3
        assert (away.status_code, away.json()["code"]) == (503, "dependency-unavailable")
        assert int(away.headers["retry-after"]) >= 1
        assert await box.redis.get(box.claims.mark(show.seat_ids[0])) is None
    # 503 was not kept: the same call goes on where it was.
    record = await box.redis.hgetall(box.claims.record("ada", key))
    done = await box.reserve("ada", show, body, key=key)
    assert done.status_code == 201
    assert done.json()["reservation_id"].encode() == record[b"id"]


async def test_a_rival_may_have_the_seat_of_a_request_that_was_not_published(
    box, infrastructure: Infrastructure
) -> None:
    show, key = await box.show(), new_id()
    body = {"seat_ids": [show.seat_ids[0]]}
    port = infrastructure.ports.rabbitmq
    async with api_behind(box, port, "broker_url", box.settings.broker_url) as (client, proxy):
        await proxy.refuse()
        await box.reserve("ada", show, body, key=key, client=client, headers={"Prefer": "wait=1"})
    await box.held("bob", show, 0)
    late = await box.reserve("ada", show, body, key=key)
    assert (late.status_code, late.json()["code"]) == (409, "seat-unavailable")


@pytest.mark.parametrize("how", ["drop", "refuse"])
async def test_without_redis_503_but_own_reservations_can_be_read_and_cancelled(
    box, infrastructure: Infrastructure, how: str
) -> None:
    show = await box.show()
    held = await box.held("ada", show, 0)
    port = infrastructure.ports.redis
    async with api_behind(box, port, "redis_url", box.settings.redis_url) as (client, proxy):
        await getattr(proxy, how)()
        began = time.monotonic()
        away = await box.reserve("bob", show, {"seat_ids": [show.seat_ids[1]]}, client=client)
        assert time.monotonic() - began < 3
        assert (away.status_code, away.json()["code"]) == (503, "dependency-unavailable")
        path = f"/api/v1/reservations/{held['reservation_id']}"
        shown = await client.get(path, headers=box.bearer("ada"))
        assert (shown.status_code, shown.json()["state"]) == (200, "held")
        cancelled = await client.delete(path, headers=box.bearer("ada"))
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")


async def test_without_the_database_503_in_time(box, infrastructure: Infrastructure) -> None:
    show = await box.show()
    port = infrastructure.ports.mariadb_primary
    async with TcpProxy(port) as proxy:
        settings = box.settings.model_copy(
            update={"database_primary_port": proxy.port, "instance": f"x-{new_id()}"}
        )
        async with running(create_app, settings, role="api") as client:
            await proxy.drop()
            began = time.monotonic()
            for response in (
                await box.reserve(
                    "ada",
                    show,
                    {"seat_ids": [show.seat_ids[0]]},
                    client=client,
                    headers={"Prefer": "wait=2"},
                ),
            ):
                assert (response.status_code, response.json()["code"]) == (
                    503,
                    "dependency-unavailable",
                )
                assert "retry-after" in response.headers
            assert time.monotonic() - began < 3.2
