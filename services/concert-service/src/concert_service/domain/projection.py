"""What the inventory's changes mean for our copy of the seats: a pure decision.

The inventory's owner numbers every change of a seat; the higher number is the newer state, whatever
order the changes arrive in. Everything else (counts, the availability's own version) follows from
the seats that really changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.events import SeatChange, SeatState


class SeatUnknown(Exception):  # noqa: N818 - names the verdict
    """A change speaks of a seat the performance does not have."""

    def __init__(self, seat_id: str) -> None:
        super().__init__(f"seat {seat_id} does not belong to the performance")
        self.seat_id = seat_id


@dataclass(frozen=True, slots=True)
class SeatRecord:
    """A seat as the projection knows it; ``state_version`` 0 is as scheduled."""

    seat_id: str
    position: int
    state: SeatState
    state_version: int


@dataclass(frozen=True, slots=True)
class Projected:
    """What to write: seats with their new state, and how the counts move."""

    seats: tuple[SeatRecord, ...]
    available_delta: int = 0
    held_delta: int = 0
    sold_delta: int = 0
    taken: tuple[int, ...] = field(default=())
    """Positions that could be had and cannot any more."""
    freed: tuple[int, ...] = field(default=())
    """Positions that can be had again."""


def project(records: Mapping[str, SeatRecord], changes: Iterable[SeatChange]) -> Projected:
    """Decide which changes are news.

    Args:
        records: the present rows, by seat id, of at least the seats that change.
        changes: in any order, with repeats.

    Raises:
        SeatUnknown: a change names a seat that is not among ``records``.
    """
    newest: dict[str, SeatRecord] = {}
    for change in changes:
        present = newest.get(change.seat_id) or records.get(change.seat_id)
        if present is None:
            raise SeatUnknown(change.seat_id)
        if change.version > present.state_version:
            newest[change.seat_id] = SeatRecord(
                change.seat_id, present.position, SeatState(change.state), change.version
            )
    counts = dict.fromkeys(SeatState, 0)
    taken: list[int] = []
    freed: list[int] = []
    for seat_id, now in newest.items():
        before = records[seat_id]
        counts[before.state] -= 1
        counts[now.state] += 1
        if before.state is SeatState.AVAILABLE and now.state is not SeatState.AVAILABLE:
            taken.append(now.position)
        if before.state is not SeatState.AVAILABLE and now.state is SeatState.AVAILABLE:
            freed.append(now.position)
    return Projected(
        seats=tuple(sorted(newest.values(), key=lambda seat: seat.seat_id)),
        available_delta=counts[SeatState.AVAILABLE],
        held_delta=counts[SeatState.HELD],
        sold_delta=counts[SeatState.SOLD],
        taken=tuple(sorted(taken)),
        freed=tuple(sorted(freed)),
    )


def next_availability_version(current: int, heard: int, changed: bool) -> int:
    """The version of the availability after hearing the inventory's version ``heard``.

    It is the inventory's own number as long as changes arrive in order. A change that comes late
    (replayed from the parking queue) still has to be told to readers, so it counts one more:
    content never changes under one version, and versions never fall.
    """
    return max(heard, current + 1) if changed else max(heard, current)
