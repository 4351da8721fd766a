"""One eager client is slowed down; nobody else is, and no money moves."""

from typing import Any

import pytest

from common.ids import new_id
from common.redis import create_redis
from common.web import RateLimit
from payment_service.api import CHARGES_LIMIT, PAYMENTS_LIMIT
from payment_service.settings import PaymentSettings


@pytest.mark.parametrize(
    ("limit", "path", "body"),
    [
        (CHARGES_LIMIT, "/wallet/charges", {"amount": 500}),
        (PAYMENTS_LIMIT, "/payments", {"reservation_id": new_id()}),
    ],
)
async def test_who_asks_too_often_is_told_when_to_come_back(
    fans: Any, settings: PaymentSettings, limit: RateLimit, path: str, body: dict[str, Any]
) -> None:
    fan, other = await fans(), await fans()
    redis = create_redis(settings)
    try:
        key = f"{settings.redis_prefix}rate:{limit.name}:{fan.user_id}"
        await redis.set(key, limit.quota, px=10_000)
        refused = await fan.post(path, body, wait=0)
    finally:
        await redis.aclose()
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert await fan.balance() == 0
    answered = await other.post(path, body, wait=0)
    assert answered.status_code != 429
    assert answered.headers["ratelimit"].startswith(f'"{limit.name}";r={limit.quota - 1};t=')
