"""One request, one effect: the stored answer of a call that carried an ``Idempotency-Key``.

The fence is the table's primary key, written in the same transaction as the effect. The mark in
Redis only tells a second call early that the first is still open.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import BaseModel

from common.database import Database, Session, Transaction
from common.errors import DependencyUnavailable, Problem
from common.ids import new_id
from common.redis import Lease, Redis

_log = structlog.get_logger(__name__)

KEPT_SECONDS = 24 * 3600
IN_FLIGHT_SECONDS = 10.0
PURGE_ROWS = 1_000

_FIND = (
    "SELECT status, headers, body, body_hash FROM idempotency"
    " WHERE user_id = %s AND path = %s AND idempotency_key = %s"
)
_STORE = (
    "INSERT INTO idempotency"
    " (user_id, path, idempotency_key, body_hash, status, headers, body, created_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, NOW(6))"
)
_PURGE = (
    "DELETE FROM idempotency WHERE created_at < NOW(6) - INTERVAL %s SECOND"
    " ORDER BY created_at LIMIT %s"
)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A final answer, as it was first sent."""

    status: int
    body: bytes
    body_hash: str
    """`canonical_hash` of the request it answers."""
    headers: Mapping[str, str] = field(default_factory=dict)


def canonical_hash(body: BaseModel | Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a request body, the same however its JSON was spelled."""
    value = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def require_same_body(stored_hash: str, body_hash: str) -> None:
    """Refuse a key that was used for another request.

    Raises:
        Problem: 422 ``idempotency-key-reused``.
    """
    if stored_hash != body_hash:
        raise Problem(
            422,
            "idempotency-key-reused",
            "This Idempotency-Key was used with another request body",
        )


async def find(session: Session, user_id: str, path: str, key: str) -> StoredAnswer | None:
    """The answer this call has already had; ask the primary."""
    row = await session.fetch_one(_FIND, (user_id, path, key))
    if row is None:
        return None
    headers = json.loads(row["headers"])
    return StoredAnswer(row["status"], row["body"].encode(), row["body_hash"], headers)


async def store(tx: Transaction, user_id: str, path: str, key: str, answer: StoredAnswer) -> None:
    """Keep a final answer, in the transaction of its effect. 202 and 503 are not final.

    Raises:
        UniqueViolation: a rival has answered; roll back and replay what it answered.
        ValueError: the answer is not final.
    """
    if answer.status in {202, 503}:
        raise ValueError(f"{answer.status} is no final answer")
    headers = json.dumps(dict(answer.headers))
    values = (user_id, path, key, answer.body_hash, answer.status, headers, answer.body.decode())
    await tx.execute(_STORE, values)


@asynccontextmanager
async def in_flight(
    redis: Redis, prefix: str, user_id: str, path: str, key: str
) -> AsyncIterator[None]:
    """Mark the call as open for the length of the block, at most 10 s.

    Without Redis the block runs unmarked: the table's key still allows one effect only.

    Raises:
        Problem: 409 ``request-in-progress``: the same call is open elsewhere.
    """
    # Hashed: a user id may hold any character, and a key of ours has bounded length.
    name = hashlib.sha256("\n".join((user_id, path, key)).encode()).hexdigest()
    lease = Lease(redis, f"{prefix}in-flight:{name}", IN_FLIGHT_SECONDS, new_id())
    marked = False
    try:
        marked = await lease.try_acquire()
    except DependencyUnavailable:
        _log.warning("in-flight-unmarked", path=path)
    else:
        if not marked:
            raise Problem(
                409,
                "request-in-progress",
                "The first call with this Idempotency-Key is still open",
                retry_after_seconds=1,
            )
    try:
        yield
    finally:
        if marked:
            with suppress(DependencyUnavailable):  # it ends by itself
                await lease.release()


async def purge(database: Database, *, kept_seconds: int = KEPT_SECONDS) -> int:
    """Forget answers older than that; returns how many. A periodic job, at most one batch."""
    return await database.run(lambda tx: tx.execute(_PURGE, (kept_seconds, PURGE_ROWS)))
