"""The sale of one performance: its states, and one method a transition.

``scheduled`` opens by itself at ``sale_opens_at``; an administrator opens, pauses and closes at
will, also before the opening time and after the close. ``cancelled`` is final: everybody who paid
gets the money back, so there is nothing to return to.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from common.events import PerformanceSaleChanged, SaleState


class SaleTransitionRefused(Exception):  # noqa: N818 - names the verdict
    """The performance is in a state that this transition cannot leave."""

    def __init__(self, sale: SaleState, wanted: SaleState) -> None:
        super().__init__(f"a performance that is {sale} cannot become {wanted}")
        self.sale = sale
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class Performance:
    """One date of a concert, as its sale sees it."""

    performance_id: str
    concert_id: str
    sale: SaleState
    sale_opens_at: datetime | None
    version: int
    """Counts the facts told about this performance; scheduling it was 1."""

    def open(self, now: datetime) -> "Transition":
        """Seats may be requested from now on."""
        return self._become(SaleState.OPEN, now)

    def open_when_due(self, now: datetime) -> "Transition":
        """Open a sale whose time has come; anything an administrator did since stays as it is."""
        due = self.sale_opens_at is not None and self.sale_opens_at <= now
        if self.sale is not SaleState.SCHEDULED or not due:
            return Transition(self, None)
        return self._become(SaleState.OPEN, now)

    def pause(self, now: datetime) -> "Transition":
        """No new requests for a while; a scheduled sale that is paused does not open by itself."""
        return self._become(SaleState.PAUSED, now)

    def close(self, now: datetime) -> "Transition":
        """The sale is over."""
        return self._become(SaleState.CLOSED, now)

    def cancel(self, now: datetime) -> "Transition":
        """The performance will not take place. Final."""
        return self._become(SaleState.CANCELLED, now)

    def _become(self, wanted: SaleState, now: datetime) -> "Transition":
        if self.sale is wanted:  # asked twice: the state is what the caller wants, nothing to tell
            return Transition(self, None)
        if self.sale is SaleState.CANCELLED:
            raise SaleTransitionRefused(self.sale, wanted)
        changed = replace(self, sale=wanted, version=self.version + 1)
        return Transition(
            changed,
            PerformanceSaleChanged(
                performance_id=self.performance_id,
                concert_id=self.concert_id,
                version=changed.version,
                sale=wanted,
                previous_sale=self.sale,
                sale_opens_at=self.sale_opens_at,
                occurred_at=now,
            ),
        )


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition leaves behind; no event means nothing changed."""

    performance: Performance
    event: PerformanceSaleChanged | None


def first_sale_state(sale_opens_at: datetime | None, now: datetime) -> SaleState:
    """A performance whose opening time has passed already is on sale from the start."""
    if sale_opens_at is not None and sale_opens_at <= now:
        return SaleState.OPEN
    return SaleState.SCHEDULED
