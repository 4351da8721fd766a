"""Sale control: an administrator's transitions, and the opening that comes by itself."""

from collections.abc import Callable
from typing import Literal

from common.clock import Clock
from common.database import Database, Transaction
from common.errors import DependencyUnavailable
from common.events import SaleState
from common.logging import get_logger
from common.outbox import Outbox
from concert_service.domain.sale import Performance, Transition
from concert_service.service.catalogue import performance_name, performances_name
from concert_service.service.documents import Documents
from concert_service.service.views import PerformanceView, performance_view
from concert_service.store import concerts as store

WantedSale = Literal["open", "paused", "closed", "cancelled"]
OPENED_AT_ONCE = 100
"""Sales one run of the opening job takes; the next run takes the rest."""

log = get_logger(__name__)


class Sales:
    """Changes of a performance's sale, one transaction each, told through the outbox."""

    def __init__(
        self, database: Database, outbox: Outbox, documents: Documents, clock: Clock
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._documents = documents
        self._clock = clock

    async def change(self, performance_id: str, wanted: WantedSale) -> PerformanceView | None:
        """Bring a performance into the state; None when there is no such performance.

        Raises:
            SaleTransitionRefused: its present state cannot be left that way.
        """
        transitions: dict[WantedSale, Callable[[Performance], Transition]] = {
            "open": lambda performance: performance.open(self._clock.now()),
            "paused": lambda performance: performance.pause(self._clock.now()),
            "closed": lambda performance: performance.close(self._clock.now()),
            "cancelled": lambda performance: performance.cancel(self._clock.now()),
        }
        return await self._transit(performance_id, transitions[wanted])

    async def open_due(self) -> int:
        """Open the sales whose time has come; how many were due."""
        async with self._database.primary() as session:
            due = await store.due_performances(session, OPENED_AT_ONCE)
        for performance_id in due:
            # The row is judged again under its lock: an administrator may have been faster. Time
            # is the database's, here by the clock that follows it; early by a hair, the next
            # run opens it.
            await self._transit(
                performance_id, lambda performance: performance.open_when_due(self._clock.now())
            )
        return len(due)

    async def _transit(
        self, performance_id: str, transition: Callable[[Performance], Transition]
    ) -> PerformanceView | None:
        async def work(tx: Transaction) -> tuple[Transition, int, PerformanceView] | None:
            performance = await store.lock_performance(tx, performance_id)
            if performance is None:
                return None
            changed = transition(performance)
            if changed.event is not None:
                await store.update_sale(tx, changed.performance)
                await self._outbox.add(tx, changed.event)
            rows = await store.performances_of(tx, performance.concert_id)
            row = next(one for one in rows if one.performance_id == performance_id)
            return changed, sum(one.version for one in rows), performance_view(row)

        result = await self._database.run(work)
        if result is None:
            return None
        changed, list_version, view = result
        if changed.event is not None:
            await self._refresh(changed.performance, list_version)
            log.info(
                "sale-changed",
                performance_id=performance_id,
                sale=SaleState(view.sale).value,
                previous=changed.event.previous_sale.value,
            )
        return view

    async def _refresh(self, performance: Performance, list_version: int) -> None:
        try:
            await self._documents.require(
                performance_name(performance.performance_id), performance.version
            )
            await self._documents.require(performances_name(performance.concert_id), list_version)
        except DependencyUnavailable:  # readers see it when the document's short life ends
            log.warning("catalogue-refresh-lost", performance_id=performance.performance_id)
