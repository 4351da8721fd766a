"""Reading: a fan's own reservations from the primary, figures from the replica."""

from dataclasses import dataclass
from typing import Literal

from common.clock import Clock
from common.database import Database
from reservation_service.domain import Reservation
from reservation_service.representation import ReservationBody, pending_body, reservation_body
from reservation_service.store import reports, reservations
from reservation_service.store.claims import Claims
from reservation_service.store.reports import PerformanceFigures


@dataclass(frozen=True, slots=True)
class Figures:
    """A page of figures, and how old they may be."""

    performances: list[PerformanceFigures]
    source: Literal["primary", "replica"]
    staleness_seconds: float


class Looking:
    """Reads for fans and administrators."""

    def __init__(self, *, database: Database, claims: Claims, clock: Clock) -> None:
        self._database = database
        self._claims = claims
        self._clock = clock

    async def own(self, user_id: str, reservation_id: str) -> ReservationBody | None:
        """One reservation of this fan, also while it is pending; None: there is none.

        Raises:
            DependencyUnavailable: the primary, or Redis when there is no row yet.
        """
        found = await self._row(user_id, reservation_id)
        if found is not None:
            return self.body(found)
        pending = await self._claims.pending(reservation_id)
        if pending is not None and pending.user_id == user_id and pending.decided_as is None:
            return pending_body(reservation_id, pending.performance_id)
        # Decided between the two looks, or under the id the key was first used with.
        moved = pending is not None and pending.user_id == user_id and pending.decided_as
        found = await self._row(user_id, moved or reservation_id)
        return None if found is None else self.body(found)

    def body(self, reservation: Reservation) -> ReservationBody:
        """A reservation as its owner sees it now."""
        return reservation_body(reservation, self._clock.now())

    async def _row(self, user_id: str, reservation_id: str) -> Reservation | None:
        async with self._database.primary() as session:
            return await reservations.find_own(session, reservation_id, user_id)

    async def list_own(self, user_id: str, before: str | None, limit: int) -> list[ReservationBody]:
        """A fan's reservations, the newest first."""
        async with self._database.primary() as session:
            found = await reservations.list_own(session, user_id, before, limit)
        return [self.body(reservation) for reservation in found]

    async def figures(self, before: str | None, limit: int) -> Figures:
        """How performances sell, from the replica when it is young enough."""
        async with self._database.replica() as session:
            found = await reports.performance_figures(session, before, limit)
            source = session.source
        lag = self._database.replica_lag_seconds
        stale = lag if source == "replica" and lag is not None else 0.0
        return Figures(found, source, stale)
