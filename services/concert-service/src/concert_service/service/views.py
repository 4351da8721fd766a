"""What readers are shown. Kept ready-made in the cache, so the shapes stand here, not in `api`."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from common.events import Money, SaleState, Timestamp
from concert_service.store.concerts import ConcertRow, PerformanceRow


class View(BaseModel):
    """Immutable once made."""

    model_config = ConfigDict(frozen=True)


class CategoryView(View):
    """A price level of a concert."""

    category: str
    color: str
    price: Money
    seats: Annotated[int, Field(ge=0, description="Seats of this category in a performance")]


class ConcertView(View):
    """A concert as the catalogue shows it."""

    concert_id: str
    title: str
    artist: str
    venue: str
    currency: str
    max_seats_per_fan: Annotated[int, Field(description="For one performance")]
    hold_seconds: int
    categories: tuple[CategoryView, ...]
    created_at: Timestamp


class PerformanceView(View):
    """One date of a concert."""

    performance_id: str
    concert_id: str
    starts_at: Timestamp
    sale: SaleState
    sale_opens_at: Annotated[
        Timestamp | None, Field(description="Null: an administrator opens the sale by hand")
    ]
    seats_total: int
    seats_left: int


class SeatView(View):
    """One seat. ``position`` is its rank in plan order; its place in the drawing is in ``plan``."""

    seat_id: str
    seat_guid: Annotated[str, Field(description="The seat's name in the plan")]
    label: Annotated[str, Field(description="For people, e.g. `Stalls, Row C, Seat 12`")]
    category: str
    price: Money
    position: int


class SeatMapView(View):
    """The seats of a performance with the plan to draw them on. Never changes."""

    performance_id: str
    version: int
    seats: tuple[SeatView, ...]
    plan: Annotated[dict[str, Any], Field(description="As it was uploaded")]


class CategoryAvailability(View):
    """Seats of one category that can be had."""

    category: str
    seats_left: int


class AvailabilityView(View):
    """Every seat that cannot be had now."""

    performance_id: str
    version: Annotated[int, Field(ge=0, description="Grows with every change; 0: nothing yet")]
    as_of: Timestamp
    seats_left: int
    categories: tuple[CategoryAvailability, ...]
    unavailable: tuple[str, ...]


class AvailabilityChangeView(View):
    """What changed since the version asked for. Seats not named are as they were."""

    performance_id: str
    version: int
    as_of: Timestamp
    since: int
    seats_left: int
    categories: tuple[CategoryAvailability, ...]
    unavailable: Annotated[tuple[str, ...], Field(description="Cannot be had now")]
    available: Annotated[tuple[str, ...], Field(description="Can be had now")]


class SaleProgressView(View):
    """How far the sale of one performance is."""

    performance_id: str
    concert_id: str
    title: str
    starts_at: Timestamp
    sale: SaleState
    sale_opens_at: Timestamp | None
    seats_total: int
    seats_left: int
    seats_held: int
    seats_sold: int
    availability_version: int


_categories = TypeAdapter(tuple[CategoryView, ...])
concert_list = TypeAdapter(tuple[ConcertView, ...])
performance_list = TypeAdapter(tuple[PerformanceView, ...])


def concert_view(row: ConcertRow) -> ConcertView:
    """A concert from its row."""
    return ConcertView(
        concert_id=row.concert_id,
        title=row.title,
        artist=row.artist,
        venue=row.venue,
        currency=row.currency,
        max_seats_per_fan=row.max_seats_per_fan,
        hold_seconds=row.hold_seconds,
        categories=_categories.validate_json(row.categories),
        created_at=row.created_at,
    )


def categories_json(categories: tuple[CategoryView, ...]) -> str:
    """As `ConcertRow.categories` keeps them."""
    return _categories.dump_json(categories).decode()


def performance_view(row: PerformanceRow) -> PerformanceView:
    """A performance from its row."""
    return PerformanceView(
        performance_id=row.performance_id,
        concert_id=row.concert_id,
        starts_at=row.starts_at,
        sale=row.sale,
        sale_opens_at=row.sale_opens_at,
        seats_total=row.seats_total,
        seats_left=row.seats_left,
    )
