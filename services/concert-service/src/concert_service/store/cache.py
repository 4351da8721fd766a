"""What Redis keeps for readers: documents of the catalogue, and availabilities.

Every entry carries a version and may carry a *requirement*: the lowest version that may still be
shown. Writers that know of something newer raise it, so that no loader can bring the old back.
Entries expire: a fault that loses both a write and its requirement heals by itself.
"""

from dataclasses import dataclass
from typing import cast

from common.redis import Argument, Redis, Scripts
from concert_service.domain.availability import (
    HISTORY_LIMIT,
    Change,
    decode_changes,
    encode_change,
)
from concert_service.domain.projection import Projected

AVAILABILITY_TTL_SECONDS = 30
"""The longest a doubly lost write can go unnoticed; then it is loaded anew."""
HISTORY_TTL_SECONDS = 120
FENCE_TTL_SECONDS = 60
"""Far longer than any loader can be late: replica lag plus lock time."""


@dataclass(frozen=True, slots=True)
class CachedAvailability:
    """An availability as Redis has it; ``changes`` are those the asker has not seen."""

    version: int
    bitmap: bytes
    changes: tuple[Change, ...]


class UpToDate:
    """The asker's version is the present one."""


UP_TO_DATE = UpToDate()


class Cache:
    """Named as they are read: ``document`` entries and ``availability`` entries."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        scripts = Scripts(redis, "concert_service.lua")
        self._redis = redis
        self._prefix = prefix
        self._read = scripts["availability_read"]
        self._advance = scripts["availability_advance"]
        self._store = scripts["availability_store"]
        self._store_document = scripts["document_store"]
        self._require = scripts["require"]

    def lock_name(self, name: str) -> str:
        """Key of the lock that one loader of this entry holds."""
        return f"{self._prefix}load:{name}"

    async def document(self, name: str) -> tuple[int, bytes] | None:
        """Version and body, unless it must be loaded."""
        version, body, required = await self._redis.hmget(
            self._document_key(name), ["version", "body", "required"]
        )
        if version is None or body is None:
            return None
        if required is not None and int(required) > int(version):
            return None
        return int(version), cast("bytes", body)

    async def store_document(self, name: str, version: int, body: bytes, ttl_seconds: float) -> int:
        """Keep a loaded document; -1, or the version a load has to reach."""
        args: list[Argument] = [version, body, int(ttl_seconds * 1000)]
        return int(await self._store_document([self._document_key(name)], args))

    async def require_document(self, name: str, version: int) -> None:
        """Nothing older than this version of the document may be shown any more."""
        await self._require([self._document_key(name)], [version, FENCE_TTL_SECONDS * 1000])

    async def availability(
        self, performance_id: str, held_version: int
    ) -> CachedAvailability | UpToDate | None:
        """What is newer than the version the caller holds; None when it must be loaded."""
        reply = await self._read(self._keys(performance_id), [held_version])
        if reply is None:
            return None
        if len(reply) == 1:
            return UP_TO_DATE
        version, bitmap, changes = reply
        return CachedAvailability(int(version), bitmap, tuple(decode_changes(changes)))

    async def advance_availability(
        self, performance_id: str, base: int, version: int, projected: Projected
    ) -> str:
        """Tell readers of a committed change: ``written``, ``older`` or ``gap``."""
        change = Change(base, version, (*projected.taken, *projected.freed))
        reply: bytes = await self._advance(
            self._keys(performance_id),
            [
                base,
                version,
                encode_change(change),
                HISTORY_LIMIT,
                HISTORY_TTL_SECONDS * 1000,
                FENCE_TTL_SECONDS * 1000,
                len(projected.taken),
                *projected.taken,
                *projected.freed,
            ],
        )
        return reply.decode()

    async def store_availability(self, performance_id: str, version: int, bitmap: bytes) -> int:
        """Keep a loaded availability; -1, or the version a load has to reach."""
        args: list[Argument] = [version, bitmap, AVAILABILITY_TTL_SECONDS * 1000]
        return int(await self._store(self._keys(performance_id), args))

    async def require_availability(self, performance_id: str, version: int) -> None:
        """Nothing older than this version may be shown any more."""
        keys = self._keys(performance_id)[:1]
        await self._require(keys, [version, FENCE_TTL_SECONDS * 1000])

    def _document_key(self, name: str) -> str:
        return f"{self._prefix}document:{name}"

    def _keys(self, performance_id: str) -> list[str]:
        # One hash tag: all three stand on one node of a cluster.
        name = f"{self._prefix}availability:{{{performance_id}}}"
        return [name, f"{name}:bits", f"{name}:changes"]
