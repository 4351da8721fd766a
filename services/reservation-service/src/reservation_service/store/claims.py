"""The claims in Redis: the fast no, never the truth.

A mark is ``<reservation id>|claim``, ``|held`` or ``|sold`` under the seat's key and always has a
TTL; only its owner releases it. The record of an idempotency key and the pending record of a
reservation bridge the time until the row exists. Every script is safe to repeat.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from common.redis import Argument, Redis, Scripts

CLAIM_MS = 10_000
"""How long a claim, and the open phase of its key, last without a decision."""
RECORD_MS = 24 * 3600 * 1000
"""How long a key is remembered: longer than any parked message lives."""
OVER_MS = 3600 * 1000
"""How late a mark may be told of a reservation that is over: no hold is longer."""
SOLD_MS = 60_000
"""How long a sold seat is refused here before a request is let through to be told so again."""


class ClaimOutcome(StrEnum):
    """What the claim script found; see ``claim.lua``."""

    GRANTED = "granted"
    LOST = "lost"
    OPEN = "open"
    TAKEN_OVER = "taken_over"
    PENDING = "pending"
    DECIDED = "decided"
    REUSED = "reused"


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. ``reservation_id`` is the first call's when there was one."""

    outcome: ClaimOutcome
    reservation_id: str
    lost_places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way; ``decided_as`` names the row that answers it, if another one does."""

    user_id: str
    performance_id: str
    decided_as: str | None = None

    def to_json(self) -> str:
        """As the pending record keeps it."""
        return json.dumps([self.user_id, self.performance_id, self.decided_as])


class Claims:
    """Marks, key records and pending records under the service's prefix."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._scripts = Scripts(redis, "reservation_service.lua")

    def mark(self, seat_id: str) -> str:
        """Key of a seat's mark."""
        return f"{self._prefix}mark:{seat_id}"

    def record(self, user_id: str, key: str) -> str:
        """Key of the record of a fan's idempotency key."""
        # Hashed: a user id may hold any character, and a key of ours has bounded length.
        name = hashlib.sha256("\n".join((user_id, key)).encode()).hexdigest()
        return f"{self._prefix}key:{name}"

    def pending_key(self, reservation_id: str) -> str:
        """Key of a pending record."""
        return f"{self._prefix}pending:{reservation_id}"

    def over(self, reservation_id: str) -> str:
        """Key that is there once a reservation is over."""
        return f"{self._prefix}over:{reservation_id}"

    async def claim(
        self,
        *,
        reservation_id: str,
        user_id: str,
        key: str,
        body_hash: str,
        performance_id: str,
        seat_ids: Sequence[str],
    ) -> Claim:
        """Claim seats, all or none, and open the key's record, in one script.

        Raises:
            DependencyUnavailable: no answer; what was claimed ends by itself.
        """
        keys = [
            self.record(user_id, key),
            self.pending_key(reservation_id),
            *map(self.mark, seat_ids),
        ]
        pending = Pending(user_id, performance_id).to_json()
        args: list[Argument] = [reservation_id, body_hash, CLAIM_MS, RECORD_MS, pending]
        outcome, owner, places = await self._scripts["claim"](keys, args)
        return _claim(outcome, owner, places)

    async def peek(self, user_id: str, key: str, body_hash: str) -> Claim | None:
        """What is remembered of a key, without claiming anything."""
        found = await self._scripts["peek"]([self.record(user_id, key)], [body_hash])
        return None if found is None else _claim(*found)

    async def defer(self, user_id: str, key: str, reservation_id: str) -> None:
        """The caller is told to come back."""
        await self._scripts["defer"]([self.record(user_id, key)], [reservation_id])

    async def abandon(
        self, user_id: str, key: str, reservation_id: str, seat_ids: Sequence[str]
    ) -> None:
        """The request was not published, as far as is known."""
        keys = [self.record(user_id, key), *map(self.mark, seat_ids)]
        await self._scripts["abandon"](keys, [reservation_id])

    async def settle(
        self,
        *,
        reservation_id: str,
        user_id: str,
        key: str,
        answered_by: str,
        body_hash: str,
        performance_id: str,
        seat_ids: Sequence[str],
        held_until: datetime | None,
    ) -> None:
        """Bring everything here in line with a committed decision.

        Args:
            reservation_id: id of the request.
            user_id: whose it is.
            key: its idempotency key.
            answered_by: id whose row has the answer; another one when the key was used before.
            body_hash: of the request that row answered.
            performance_id: of the request.
            seat_ids: seats it got, or claimed in vain.
            held_until: end of its hold; None releases its claims.
        """
        moved = answered_by != reservation_id
        pending = Pending(user_id, performance_id, answered_by).to_json() if moved else ""
        until_ms = 0 if held_until is None else int(held_until.timestamp() * 1000)
        keys = [
            self.record(user_id, key),
            self.pending_key(reservation_id),
            self.over(reservation_id),
            *map(self.mark, seat_ids),
        ]
        args: list[Argument] = [
            reservation_id,
            answered_by,
            body_hash,
            RECORD_MS,
            until_ms,
            pending,
        ]
        await self._scripts["settle"](keys, args)

    async def release(self, reservation_id: str, seat_ids: Sequence[str]) -> None:
        """It is over: drop its marks, and set none for it any more; another's stay."""
        keys = [self.over(reservation_id), *map(self.mark, seat_ids)]
        await self._scripts["release"](keys, [reservation_id, OVER_MS])

    async def mark_sold(self, reservation_id: str, seat_ids: Sequence[str]) -> None:
        """Refuse these seats here for a while: they are sold to this reservation."""
        keys = [self.over(reservation_id), *map(self.mark, seat_ids)]
        await self._scripts["sold"](keys, [reservation_id, SOLD_MS])

    async def pending(self, reservation_id: str) -> Pending | None:
        """A request that is on its way, as far as Redis remembers."""
        value = await self._redis.get(self.pending_key(reservation_id))
        return None if value is None else Pending(*json.loads(value))


def _claim(outcome: bytes, owner: bytes, places: bytes) -> Claim:
    lost = tuple(int(place) for place in places.decode().split(",") if place)
    return Claim(ClaimOutcome(outcome.decode()), owner.decode(), lost)
