"""Lists and figures."""

from common.events import PaymentAuthorized
from common.ids import new_id
from testkit import eventually


async def test_a_fans_list_is_paged_and_its_own(box) -> None:
    show, other = await box.show(), await box.show()
    fan = f"fan {new_id()}"
    mine = [(await box.held(fan, show, n))["reservation_id"] for n in range(3)]
    mine.append((await box.held(fan, other, 0))["reservation_id"])
    await box.held("bob", show, 5)
    seen: list[str] = []
    path = "?limit=3"
    while path:
        page = (await box.get(fan, path)).json()
        seen += [item["reservation_id"] for item in page["items"]]
        path = page["next_cursor"] and f"?limit=3&cursor={page['next_cursor']}"
    assert seen == mine[::-1]


async def test_a_cursor_of_something_else_is_refused(box) -> None:
    for query in ("?cursor=x", "?limit=0", "?limit=101", "?cursor="):
        assert (await box.get("ada", query)).status_code == 422


async def test_lists_need_a_token(box) -> None:
    for path in ("/reservations", f"/reservations/{new_id()}", "/admin/dashboard/reservations"):
        assert (await box.client.get(f"/api/v1{path}")).status_code == 401
    assert (await box.client.delete(f"/api/v1/reservations/{new_id()}")).status_code == 401


async def test_the_dashboard_counts_seats_holds_and_their_ends(box) -> None:
    show = await box.show(10)
    sold = await box.held("ada", show, 0)
    await box.held("bob", show, 1, 2)
    dropped = await box.held("cy", show, 3)
    payment: PaymentAuthorized = box.payment(sold, "ada", show)
    await box.endings().confirm(payment, new_id())
    await box.delete("cy", dropped["reservation_id"])
    admin = box.bearer("root", roles=["admin"])

    async def figures() -> dict[str, object]:
        answer = await box.client.get("/api/v1/admin/dashboard/reservations", headers=admin)
        assert answer.status_code == 200
        body = answer.json()
        assert body["staleness_seconds"] <= 2
        (mine,) = [i for i in body["items"] if i["performance_id"] == show.performance_id]
        return dict(mine)

    async def replicated() -> bool:
        return (await figures())["seats"] == {"available": 7, "held": 2, "sold": 1}

    await eventually(replicated)
    shown = await figures()
    assert shown["seats_left"] == 7
    assert shown["holds"] == 1
    assert shown["ends"] == {
        "confirmed": 1,
        "expired": 0,
        "cancelled_by_fan": 1,
        "cancelled_with_performance": 0,
    }


async def test_the_dashboard_is_for_administrators(box) -> None:
    answer = await box.client.get("/api/v1/admin/dashboard/reservations", headers=box.bearer("ada"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
