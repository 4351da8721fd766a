"""A limit of requests a user and a window, counted in Redis for all replicas together."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import Request

from common.errors import DependencyUnavailable
from common.redis import Redis, Script
from common.security import CurrentUser
from common.web.problems import standard_problem
from common.web.requests import HEADERS_SCOPE_KEY

if TYPE_CHECKING:
    from common.platform import Platform

PATIENCE_SECONDS = 0.25

# A repeated run (a lost answer) counts one request twice, which costs a user nothing worth having.
_COUNT = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {used, redis.call('PTTL', KEYS[1])}
"""


class RateLimit:
    """At most ``quota`` requests of one user in ``window_seconds``; then 429 with Retry-After.

    ``@router.post(…, dependencies=[Depends(RateLimit("charges", quota=30, window_seconds=10))],
    responses=problems((429, "rate-limited"), …))``. Every answer tells by ``RateLimit`` and
    ``RateLimit-Policy`` (IETF draft) how much is left. It protects us from one eager client and
    decides nothing: while Redis is away everybody passes.

    Args:
        name: of the policy, in the headers and the key; letters, digits and ``-``.
        quota: requests a window.
        window_seconds: begins with a user's first request.
    """

    def __init__(self, name: str, *, quota: int, window_seconds: int) -> None:
        self.name = name
        self.quota = quota
        self.window_seconds = window_seconds

    async def __call__(self, request: Request, user: CurrentUser) -> None:
        """Count this request.

        Raises:
            Problem: 429 when the quota is used up.
        """
        platform: Platform = request.app.state.platform
        key = f"{platform.settings.redis_prefix}rate:{self.name}:{user.user_id}"
        counted = await self._count(platform.redis, key)
        if counted is None:
            return
        used, left_ms = counted
        seconds = max(1, -(-left_ms // 1000))
        remaining = max(0, self.quota - used)
        headers = {
            "RateLimit-Policy": f'"{self.name}";q={self.quota};w={self.window_seconds}',
            "RateLimit": f'"{self.name}";r={remaining};t={seconds}',
        }
        request.scope.setdefault(HEADERS_SCOPE_KEY, {}).update(headers)
        if used > self.quota:
            raise standard_problem(429, retry_after_seconds=seconds)

    async def _count(self, redis: Redis, key: str) -> tuple[int, int] | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                used, left_ms = await Script(redis, _COUNT)([key], [self.window_seconds * 1000])
        except (DependencyUnavailable, TimeoutError):
            return None
        return int(used), int(left_ms)
