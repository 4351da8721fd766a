"""Events of concert-service."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from common.events.base import Event, Id, Money, SaleState, Timestamp, Version

EXCHANGE = "concert.events"
SEATS_PER_PART = 2_000
LONGEST_LABEL = 500
"""Characters of a seat's label: zone, row and seat of a plan, each with its number filled in."""
LONGEST_NAME = 255
"""Characters of a category's or a row's name."""


class ScheduledSeat(BaseModel):
    """One seat of a performance as it goes on sale."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seat_id: Id
    label: Annotated[str, Field(max_length=LONGEST_LABEL)]
    category: Annotated[str, Field(max_length=LONGEST_NAME)]
    price: Money
    position: Annotated[int, Field(ge=0)]
    """Rank in plan order; unique within the performance."""
    row: Annotated[str, Field(max_length=LONGEST_NAME)]
    """Names the run of seats it stands in; neighbours share it and have adjacent positions."""


class PerformanceScheduled(Event):
    """A performance exists. Large plans come in parts; it is complete when all parts are there."""

    type: ClassVar[str] = "performance.scheduled.v1"
    exchange: ClassVar[str] = EXCHANGE

    performance_id: Id
    concert_id: Id
    version: Version
    part: Annotated[int, Field(ge=1)]
    parts: Annotated[int, Field(ge=1)]
    starts_at: Timestamp
    sale: SaleState
    sale_opens_at: Timestamp | None
    currency: str
    max_seats_per_fan: Annotated[int, Field(ge=1)]
    hold_seconds: Annotated[int, Field(ge=1, le=3600)]
    seats_total: Annotated[int, Field(ge=1)]
    seats: Annotated[tuple[ScheduledSeat, ...], Field(max_length=SEATS_PER_PART)]

    @property
    def subject(self) -> str:
        """The performance."""
        return self.performance_id


class PerformanceSaleChanged(Event):
    """An administrator, or the opening time, changed whether a performance is on sale."""

    type: ClassVar[str] = "performance.sale_changed.v1"
    exchange: ClassVar[str] = EXCHANGE

    performance_id: Id
    concert_id: Id
    version: Version
    sale: SaleState
    previous_sale: SaleState
    sale_opens_at: Timestamp | None
    occurred_at: Timestamp

    @property
    def subject(self) -> str:
        """The performance."""
        return self.performance_id
