"""What anyone may read, and how it is cached."""

import gzip
import json
from typing import Any

import httpx
import pytest

from common.database import Database
from concert_service.app import create_app
from concert_service.settings import ConcertSettings
from testkit import Infrastructure, TcpProxy, eventually, running

SOON = "2031-05-01T10:00:00Z"
NOBODY = "01a1fb97-049d-736d-bfea-dd719d6d38fd"


class TestConcerts:
    async def test_one(self, shop: Any) -> None:
        concert = await shop.create(10, title="Élan 한국")
        response = await shop.get(f"/concerts/{concert.concert_id}")
        assert response.status_code == 200
        body = response.json()
        assert body.pop("created_at").endswith("Z")
        assert body == {
            "concert_id": concert.concert_id,
            "title": "Élan 한국",
            "artist": "The Band",
            "venue": "The Hall",
            "currency": "KRW",
            "max_seats_per_fan": 4,
            "hold_seconds": 300,
            "categories": [
                {
                    "category": "VIP",
                    "color": "#b3261e",
                    "price": {"amount": 165000, "currency": "KRW"},
                    "seats": 10,
                }
            ],
        }

    async def test_a_new_one_is_listed_first_at_once(self, shop: Any) -> None:
        await shop.create(1)
        await shop.get("/concerts")  # cached from here on
        concert = await shop.create(1)
        body = (await shop.get("/concerts?limit=1")).json()
        assert [one["concert_id"] for one in body["items"]] == [concert.concert_id]

    async def test_pages_cover_everything_once(self, shop: Any) -> None:
        made = [(await shop.create(1)).concert_id for _ in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            response = await shop.client.get("/api/v1/concerts", params=query)
            assert response.status_code == 200
            seen += [one["concert_id"] for one in response.json()["items"]]
            cursor = response.json()["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen))
        assert seen[:5] == made[::-1]

    @pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=!", "cursor=e30"])
    async def test_a_bad_page_is_422(self, shop: Any, query: str) -> None:
        response = await shop.get(f"/concerts?{query}")
        assert (response.status_code, response.json()["code"]) == (422, "request-invalid")


class TestPerformances:
    async def test_by_date_in_pages(self, shop: Any) -> None:
        dates = [{"starts_at": f"2031-05-0{day}T10:00:00Z"} for day in (3, 1, 2)]
        concert = await shop.create(4, performances=dates)
        path = f"/concerts/{concert.concert_id}/performances"
        first = (await shop.get(f"{path}?limit=2")).json()
        assert [one["starts_at"][:10] for one in first["items"]] == ["2031-05-01", "2031-05-02"]
        rest = (await shop.get(f"{path}?limit=2&cursor={first['next_cursor']}")).json()
        assert [one["starts_at"][:10] for one in rest["items"]] == ["2031-05-03"]
        assert rest["next_cursor"] is None
        assert (await shop.get(f"{path}?cursor=nonsense")).status_code == 422

    async def test_one(self, shop: Any) -> None:
        concert = await shop.create(4)
        response = await shop.get(f"/performances/{concert.performance_id}")
        assert response.status_code == 200
        assert set(response.json()) == {
            "performance_id",
            "concert_id",
            "starts_at",
            "sale",
            "sale_opens_at",
            "seats_total",
            "seats_left",
        }
        assert response.headers["cache-control"] == "public, max-age=1"


@pytest.mark.parametrize(
    "path",
    [
        "/concerts/{}",
        "/concerts/{}/performances",
        "/performances/{}",
        "/performances/{}/seats",
        "/performances/{}/availability",
    ],
)
@pytest.mark.parametrize("name", [NOBODY, "x", "0", "%2e%2e", NOBODY.upper()])
async def test_404(shop: Any, path: str, name: str) -> None:
    response = await shop.get(path.format(name))
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/concerts", f"/performances/{NOBODY}/availability"])
async def test_405(shop: Any, path: str) -> None:
    response = await shop.client.delete(f"/api/v1{path}")
    assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")


async def test_a_404_is_never_cached(
    shop: Any, client: httpx.AsyncClient, redis: Any, settings: ConcertSettings
) -> None:
    for path in ("", "/seats", "/availability"):
        assert (await shop.get(f"/performances/{NOBODY}{path}")).status_code == 404
    assert (await shop.get(f"/concerts/{NOBODY}")).status_code == 404
    kinds = ("document:performance:", "document:seats:", "document:concert:")
    names = [f"{kind}{NOBODY}" for kind in kinds] + [f"availability:{{{NOBODY}}}"]
    assert await redis.exists(*(f"{settings.redis_prefix}{name}" for name in names)) == 0
    state = client._transport.app.state  # type: ignore[attr-defined] # the only way inside
    assert state.catalogue._documents._recent.get(f"performance:{NOBODY}") is None


class TestSeatMap:
    async def test_seats_prices_and_plan(self, shop: Any) -> None:
        body = shop.order(23)
        created = (await shop.post(body)).json()
        performance_id = created["performances"][0]["performance_id"]
        response = await shop.get(f"/performances/{performance_id}/seats")
        assert response.status_code == 200
        got = response.json()
        assert set(got) == {"performance_id", "version", "seats", "plan"}
        assert got["plan"] == body["seating_plan"]
        assert [seat["position"] for seat in got["seats"]] == list(range(23))
        first = got["seats"][0]
        assert first == {
            "seat_id": first["seat_id"],
            "seat_guid": "main-A-1",
            "label": "Main hall, Row A, Seat 1",
            "category": "VIP",
            "price": {"amount": 165000, "currency": "KRW"},
            "position": 0,
        }
        last = got["seats"][-1]
        assert (last["category"], last["price"]["amount"]) == ("Standard", 99000)

    async def test_both_codings_hold_the_same(self, shop: Any) -> None:
        concert = await shop.create(5)
        path = f"/performances/{concert.performance_id}/seats"
        zipped = await shop.get(path, **{"Accept-Encoding": "gzip, deflate"})
        plain = await shop.get(path, **{"Accept-Encoding": "identity, gzip;q=0"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert zipped.json() == plain.json()
        assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert "immutable" in plain.headers["cache-control"]

    async def test_304(self, shop: Any) -> None:
        concert = await shop.create(5)
        path = f"/performances/{concert.performance_id}/seats"
        tags = set()
        for coding in ("gzip", "identity"):
            tag = (await shop.get(path, **{"Accept-Encoding": coding})).headers["etag"]
            assert tag.startswith('"')  # strong
            tags.add(tag)
            for condition in (tag, f'"other", {tag}', f"W/{tag}", "*"):
                again = await shop.get(
                    path, **{"Accept-Encoding": coding, "If-None-Match": condition}
                )
                assert again.status_code == 304
                assert again.content == b""
                assert again.headers["etag"] == tag
        assert len(tags) == 2  # a strong tag names bytes
        assert (await shop.get(path, **{"If-None-Match": '"other"'})).status_code == 200

    async def test_immutable_through_a_cancelled_sale(self, shop: Any) -> None:
        concert = await shop.create(5)
        path = f"/performances/{concert.performance_id}/seats"
        before = await shop.get(path)
        await shop.put_sale(concert.performance_id, "cancelled")
        after = await shop.get(path)
        assert (after.headers["etag"], after.content) == (before.headers["etag"], before.content)

    async def test_kept_as_it_is_sent(self, shop: Any, database: Database) -> None:
        concert = await shop.create(5)
        async with database.primary() as session:
            body = await session.fetch_value(
                "SELECT body FROM seat_maps WHERE performance_id = %s", (concert.performance_id,)
            )
        path = f"/performances/{concert.performance_id}/seats"
        assert gzip.decompress(body) == (await shop.get(path)).content


class TestDashboard:
    async def test_sale_progress_and_its_age(self, shop: Any) -> None:
        concert = await shop.create(6, title="Progress")
        url = "/api/v1/admin/dashboard"

        async def listed() -> dict[str, Any]:
            body: dict[str, Any] = (await shop.client.get(url, headers=shop.admin)).json()
            assert body["items"][0]["performance_id"] == concert.performance_id
            return body

        body = await eventually(listed)  # from the replica
        assert body["source"] in {"replica", "primary"}
        assert 0 <= body["staleness_seconds"] < 5
        assert body["as_of"].endswith("Z")
        assert body["items"][0] == {
            "performance_id": concert.performance_id,
            "concert_id": concert.concert_id,
            "title": "Progress",
            "starts_at": "2031-05-01T10:00:00.000000Z",
            "sale": "scheduled",
            "sale_opens_at": None,
            "seats_total": 6,
            "seats_left": 6,
            "seats_held": 0,
            "seats_sold": 0,
            "availability_version": 0,
        }

    async def test_pages(self, shop: Any) -> None:
        await shop.create(1, performances=[{"starts_at": SOON}] * 3)
        url = "/api/v1/admin/dashboard"
        first = (await shop.client.get(f"{url}?limit=2", headers=shop.admin)).json()
        query = {"limit": 2, "cursor": first["next_cursor"]}
        second = (await shop.client.get(url, params=query, headers=shop.admin)).json()
        ids = [one["performance_id"] for one in first["items"] + second["items"]]
        assert ids == sorted(ids, reverse=True)
        assert len(set(ids)) == 4

    async def test_401_and_403(self, shop: Any, bearer: Any) -> None:
        url = "/api/v1/admin/dashboard"
        assert (await shop.client.get(url)).status_code == 401
        assert (await shop.client.get(url, headers=bearer("fan"))).status_code == 403


class TestReplica:
    """The catalogue lives from the replica while that is fresh, and on the primary otherwise."""

    async def test_a_lost_replica_is_replaced_by_the_primary(
        self, shop: Any, settings: ConcertSettings, infrastructure: Infrastructure
    ) -> None:
        concert = await shop.create(8)
        async with TcpProxy(infrastructure.ports.mariadb_replica) as proxy:
            own = settings.model_copy(
                update={"database_replica_port": proxy.port, "instance": "behind-a-proxy"}
            )
            async with running(create_app, own, role="api") as client:
                dashboard = "/api/v1/admin/dashboard"

                async def source() -> str:
                    response = await client.get(dashboard, headers=shop.admin)
                    assert response.status_code == 200
                    name: str = response.json()["source"]
                    return name

                async def on_replica() -> bool:
                    return await source() == "replica"

                await eventually(on_replica)
                await proxy.drop()

                async def on_primary() -> bool:
                    return await source() == "primary"

                await eventually(on_primary, 8)
                body = (await client.get(f"/api/v1/performances/{concert.performance_id}")).json()
                assert body["seats_total"] == 8
                path = f"/api/v1/performances/{concert.performance_id}/availability"
                assert (await client.get(path)).json()["seats_left"] == 8
                await proxy.resume()
                await eventually(on_replica, 8)

    async def test_a_stale_replica_never_hides_what_was_just_created(
        self, shop: Any, stale: Any
    ) -> None:
        async with stale() as parts:
            concert = await shop.create(8)
            assert await parts.catalogue.concert(concert.concert_id)
            assert await parts.catalogue.performances(concert.concert_id)
            assert await parts.catalogue.performance(concert.performance_id)
            assert await parts.catalogue.seat_map(concert.performance_id)
            assert await parts.availability.body(concert.performance_id, None)
            assert parts.database.stale_reads >= 5

    async def test_a_stale_replica_never_brings_an_old_sale_back(
        self, shop: Any, stale: Any, settings: ConcertSettings
    ) -> None:
        """The fence: a requirement in Redis sends the loader to the primary."""
        concert = await shop.create(8)
        async with stale(concert) as parts:
            old = await parts.catalogue.performance(concert.performance_id)
            assert json.loads(old)["sale"] == "scheduled"
            assert (await shop.put_sale(concert.performance_id, "open")).status_code == 200
            parts.documents.forget()
            new = await parts.catalogue.performance(concert.performance_id)
            assert json.loads(new)["sale"] == "open"
            (listed,) = await parts.catalogue.performances(concert.concert_id)
            assert listed.sale == "open"
            # Everybody behind Redis sees it at once, too.
            got = await shop.get(f"/performances/{concert.performance_id}")
            assert got.json()["sale"] == "open"
