"""From a plan and prices to the seats of a performance: rank, label, row and price of each."""

from collections.abc import Mapping
from dataclasses import dataclass

from concert_service.domain.plan import Row, Seat, SeatingPlan, Zone


@dataclass(frozen=True, slots=True)
class PlannedSeat:
    """One seat to be sold. The same in every performance of the concert, but for its id."""

    position: int
    """Rank in plan order, from 0, without gaps."""
    seat_guid: str
    label: str
    """For people: zone, row and seat, e.g. ``Stalls, Row C, Seat 12``."""
    category: str
    price: int
    """Minor units of the concert's currency."""
    row: str
    """Names the run of seats it stands in; shared by its neighbours, unique in the plan."""


def lay_out(plan: SeatingPlan, prices: Mapping[str, int]) -> tuple[PlannedSeat, ...]:
    """The plan's seats in plan order. Every category used must have a price."""
    return tuple(
        PlannedSeat(
            position=position,
            seat_guid=seat.seat_guid,
            label=label(zone, row, seat),
            category=seat.category,
            price=prices[seat.category],
            row=f"{zone_index}.{row_index}",
        )
        for position, (zone_index, zone, row_index, row, _, seat) in enumerate(plan.placed_seats())
    )


def label(zone: Zone, row: Row, seat: Seat) -> str:
    """What people call the seat; parts the plan leaves empty are left out.

    At most 500 characters: names have at most 100, and one ``%s`` of a label is filled in.
    """
    row_text = row.row_label or ("Row %s" if row.row_number else "")
    seat_text = row.seat_label or ("Seat %s" if seat.seat_number else "")
    parts = (
        zone.name,
        row_text.replace("%s", row.row_number, 1),
        seat_text.replace("%s", seat.seat_number, 1),
    )
    return ", ".join(part.strip() for part in parts if part.strip()) or seat.seat_guid
