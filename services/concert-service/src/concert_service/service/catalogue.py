"""The catalogue: concerts, performances, seat maps; read from the replica behind the cache."""

from collections.abc import Sequence

from common.database import Database, Session
from concert_service.service.documents import Document, Documents, Lifetime
from concert_service.service.views import (
    ConcertView,
    PerformanceView,
    SaleProgressView,
    concert_list,
    concert_view,
    performance_list,
    performance_view,
)
from concert_service.store import concerts as store

_CHANGING = Lifetime(process_seconds=0.4, redis_seconds=1.0)
"""Shows sale and seats left: with the client's own second, two seconds at most."""
_LISTED = Lifetime(process_seconds=0.4, redis_seconds=2.0)
_IMMUTABLE = Lifetime(process_seconds=300.0, redis_seconds=600.0)
LONGEST_LIST = 101
"""One document serves every page size: a hundred, and one more that says there is a next page."""
_FIXED_VERSION = 1
_ETAG_LENGTH = 64


def concerts_name(before: str | None = None) -> str:
    """Document of the concerts older than ``before``; without it, of the newest."""
    return f"concerts:{before or ''}"


def performances_name(concert_id: str) -> str:
    """Document of a concert's performances."""
    return f"performances:{concert_id}"


def performance_name(performance_id: str) -> str:
    """Document of one performance."""
    return f"performance:{performance_id}"


def list_version(concert_id: str) -> int:
    """Version of a list whose newest concert this is: its UUIDv7's milliseconds."""
    return int(concert_id.replace("-", "")[:12], 16)


class Catalogue:
    """What anyone may read."""

    def __init__(self, database: Database, documents: Documents) -> None:
        self._database = database
        self._documents = documents

    async def concerts(self, before: str | None, limit: int) -> Sequence[ConcertView]:
        """Up to ``limit`` concerts, newest first, after the one named ``before``."""

        async def read(session: Session) -> Document:
            rows = await store.concert_page(session, before, LONGEST_LIST)
            version = max((list_version(row.concert_id) for row in rows), default=0)
            return Document(version, concert_list.dump_json(tuple(map(concert_view, rows))))

        body = await self._documents.get(concerts_name(before), read, _LISTED)
        return concert_list.validate_json(body or b"[]")[:limit]

    async def concert(self, concert_id: str) -> bytes | None:
        """A `ConcertView` as JSON."""

        async def read(session: Session) -> Document | None:
            row = await store.concert(session, concert_id)
            if row is None:
                return None
            return Document(_FIXED_VERSION, concert_view(row).model_dump_json().encode())

        return await self._documents.get(f"concert:{concert_id}", read, _IMMUTABLE)

    async def performances(self, concert_id: str) -> Sequence[PerformanceView] | None:
        """All of a concert's performances by date; None when there is no such concert."""

        async def read(session: Session) -> Document | None:
            rows = await store.performances_of(session, concert_id)
            if not rows:  # a concert is created with at least one
                return None
            version = sum(row.version for row in rows)
            views = tuple(performance_view(row) for row in rows)
            return Document(version, performance_list.dump_json(views))

        body = await self._documents.get(performances_name(concert_id), read, _CHANGING)
        return None if body is None else performance_list.validate_json(body)

    async def performance(self, performance_id: str) -> bytes | None:
        """A `PerformanceView` as JSON."""

        async def read(session: Session) -> Document | None:
            row = await store.performance(session, performance_id)
            if row is None:
                return None
            return Document(row.version, performance_view(row).model_dump_json().encode())

        return await self._documents.get(performance_name(performance_id), read, _CHANGING)

    async def seat_map(self, performance_id: str) -> tuple[str, bytes] | None:
        """Entity tag and gzipped JSON of a `SeatMapView`."""

        async def read(session: Session) -> Document | None:
            found = await store.seat_map(session, performance_id)
            if found is None:
                return None
            etag, body = found
            return Document(_FIXED_VERSION, etag.encode() + body)

        found = await self._documents.get(f"seats:{performance_id}", read, _IMMUTABLE)
        if found is None:
            return None
        return found[:_ETAG_LENGTH].decode(), found[_ETAG_LENGTH:]

    async def sale_progress(
        self, before: str | None, limit: int
    ) -> tuple[Sequence[SaleProgressView], str, float]:
        """Progress of each sale, newest performance first; which server said so; its age in s."""
        async with self._database.replica() as session:
            rows = await store.sale_progress(session, before, limit)
            source = session.source
        lag = self._database.replica_lag_seconds if source == "replica" else 0.0
        return [SaleProgressView.model_validate(row) for row in rows], source, lag or 0.0
