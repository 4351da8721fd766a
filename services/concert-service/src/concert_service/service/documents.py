"""Documents of the catalogue: ready-made bytes in the process, behind them Redis, the replica."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from common.clock import Clock
from common.database import Database, Session
from common.errors import DependencyUnavailable
from concert_service.service.loading import OneLoader, read_behind_fence
from concert_service.service.recent import Recent
from concert_service.store.cache import Cache

MAX_BYTES = 64 * 1024 * 1024
"""What one process keeps of ready-made documents."""
_OVERHEAD_BYTES = 512

Read = Callable[[Session], Awaitable["Document | None"]]


@dataclass(frozen=True, slots=True)
class Document:
    """A body and the version it shows; a cache never replaces a version by a lower one."""

    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How old a document may get."""

    process_seconds: float
    """Shown without asking anybody."""
    redis_seconds: float
    """Shown without asking the database, unless something newer was required."""


class Documents:
    """Reads through all layers. What does not exist is never remembered."""

    def __init__(self, database: Database, cache: Cache, loader: OneLoader, clock: Clock) -> None:
        self._database = database
        self._cache = cache
        self._loader = loader
        self._clock = clock
        self._recent: Recent[tuple[float, Document]] = Recent(MAX_BYTES)

    async def get(self, name: str, read: Read, lifetime: Lifetime) -> bytes | None:
        """The document's body; None when there is no such thing."""
        recent = self._recent.get(name)
        if recent is not None and self._clock.monotonic() < recent[0]:
            return recent[1].body

        async def cached() -> Document | None:
            found = await self._cache.document(name)
            return Document(*found) if found else None

        async def load(shared: bool) -> Document | None:
            return await self._load(name, read, lifetime, shared=shared)

        document = await self._loader.get(self._cache.lock_name(name), cached, load)
        if document is None:
            self._recent.drop(name)
            return None
        until = self._clock.monotonic() + lifetime.process_seconds
        self._recent.put(name, (until, document), len(document.body) + _OVERHEAD_BYTES)
        return document.body

    async def require(self, name: str, version: int) -> None:
        """Something newer was committed: this process forgets, the others within their lifetime.

        Losing this (Redis is away) costs at most the document's lifetimes.
        """
        self._recent.drop(name)
        await self._cache.require_document(name, version)

    async def _load(
        self, name: str, read: Read, lifetime: Lifetime, *, shared: bool
    ) -> Document | None:
        async def store(document: Document) -> bool:
            if not shared:
                return True
            try:
                needed = await self._cache.store_document(
                    name, document.version, document.body, lifetime.redis_seconds
                )
            except DependencyUnavailable:
                return True  # shown, not kept
            return needed <= document.version

        return await read_behind_fence(self._database, read, store)
