"""One eager client is slowed down; nobody else is."""

from common.ids import new_id
from reservation_service.api import REQUESTS_LIMIT


async def test_every_answer_says_how_much_is_left(box) -> None:
    show = await box.show()
    answer = await box.reserve(f"fan-{new_id()}", show, {"seat_ids": [show.seat_ids[0]]})
    assert answer.status_code == 201
    limit = REQUESTS_LIMIT
    policy = f'"{limit.name}";q={limit.quota};w={limit.window_seconds}'
    assert answer.headers["ratelimit-policy"] == policy
    assert answer.headers["ratelimit"].startswith(f'"{limit.name}";r={limit.quota - 1};t=')


async def test_who_asks_too_often_is_told_when_to_come_back_and_holds_nothing(box) -> None:
    show = await box.show()
    eager, other = f"fan-{new_id()}", f"fan-{new_id()}"
    wish = {"seat_ids": [show.seat_ids[0]]}
    key = f"{box.settings.redis_prefix}rate:{REQUESTS_LIMIT.name}:{eager}"
    await box.redis.set(key, REQUESTS_LIMIT.quota, px=10_000)
    refused = await box.reserve(eager, show, wish)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert await box.seat_owners(show) == {}
    assert (await box.reserve(other, show, wish)).status_code == 201
