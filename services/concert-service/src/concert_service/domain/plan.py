"""Seating plans in the open JSON format that pretix's plan editor exports, and their rules.

A plan is a document of zones → rows → seats, every seat in one of the categories, with areas as
decoration. `parse_plan` accepts a decoded document or names every place that is wrong, as JSON
pointers (RFC 6901) below the pointer of the document itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_SEATS = 100_000
MAX_ERRORS = 100
"""Errors reported at once; a plan with more is far from ready and the rest would be noise."""

# Control characters in a name end up on tickets, in terminals and in logs: refused.
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, Field(max_length=100, pattern=_PRINTABLE)]
Key = Annotated[str, Field(min_length=1, max_length=100, pattern=_PRINTABLE)]
Number = Annotated[float, Field(ge=-1_000_000, le=1_000_000, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=0, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class PlanError:
    """One thing that is wrong, and the JSON pointer of its place."""

    pointer: str
    detail: str


class SeatingPlanInvalid(Exception):  # noqa: N818 - names the verdict
    """The document breaks rules of the format; ``errors`` names each place, in plan order."""

    def __init__(self, errors: tuple[PlanError, ...]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors[:3]))
        self.errors = errors


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Position(_Part):
    """A point of the drawing, in its pixels, relative to the parent's."""

    x: Number
    y: Number


class PlanSize(_Part):
    """Size of the drawing in pixels."""

    width: Size
    height: Size


class Category(_Part):
    """A price level; seats refer to it by name."""

    name: Key
    color: Name = ""


class Seat(_Part):
    """One seat. ``seat_guid`` is unique in the plan and means nothing to people."""

    seat_guid: Key
    seat_number: Name
    uuid: Name = ""
    start_direction: Literal["<", ">", "<>", ""] | None = None
    radius: Size = 10
    position: Position
    category: Key


class Row(_Part):
    """A run of seats; neighbours in the list are neighbours in the house.

    ``row_label`` and ``seat_label`` are what people read; ``%s`` in them stands for the number.
    """

    row_number: Name
    row_label: Name | None = None
    seat_label: Name | None = None
    uuid: Name = ""
    row_number_position: Literal["start", "end", "both"] | None = None
    position: Position | None = None
    seats: Annotated[tuple[Seat, ...], Field(strict=False, max_length=MAX_SEATS)]

    @model_validator(mode="before")
    @classmethod
    def _give_way(cls, row: Any) -> Any:
        # Does nothing, in Python: between two rows other threads get the interpreter. A plan of
        # 100,000 seats checked in one native call would hold up the event loop for a second.
        return row


class Polygon(_Part):
    """Corners of an area."""

    points: Annotated[tuple[Position, ...], Field(strict=False, max_length=10_000)]


class Rectangle(_Part):
    """Extent of an area."""

    width: Size
    height: Size


class Ellipse(_Part):
    """Radii of an area."""

    radius: Position


class Circle(_Part):
    """Radius of an area."""

    radius: Size


class Text(_Part):
    """Words written on an area; ``size`` in pixels."""

    text: Annotated[str, Field(max_length=1_000)]
    color: Name = ""
    size: Size = 16
    position: Position


class Area(_Part):
    """A stage, a bar, a wall: drawn, never sold."""

    color: Name = ""
    border_color: Name = ""
    rotation: Number = 0.0
    position: Position | None = None
    uuid: Name = ""
    shape: Literal["polygon", "rectangle", "ellipse", "circle", "text"] | None = None
    polygon: Polygon | None = None
    rectangle: Rectangle | None = None
    ellipse: Ellipse | None = None
    circle: Circle | None = None
    text: Text | None = None


class Zone(_Part):
    """A part of the house: stalls, balcony."""

    name: Name = ""
    zone_id: Name = ""
    uuid: Name = ""
    position: Position
    rows: Annotated[tuple[Row, ...], Field(strict=False, max_length=10_000)]
    areas: Annotated[tuple[Area, ...], Field(strict=False, max_length=10_000)] = ()


class SeatingPlan(_Part):
    """The whole document."""

    name: Name
    size: PlanSize
    categories: Annotated[tuple[Category, ...], Field(strict=False, max_length=1_000)]
    zones: Annotated[tuple[Zone, ...], Field(strict=False, max_length=1_000)]

    def placed_seats(self) -> Iterator[tuple[int, Zone, int, Row, int, Seat]]:
        """Every seat in plan order with the indexes that name its place."""
        for zone_index, zone in enumerate(self.zones):
            for row_index, row in enumerate(zone.rows):
                for seat_index, seat in enumerate(row.seats):
                    yield zone_index, zone, row_index, row, seat_index, seat


def parse_plan(document: Mapping[str, Any], pointer: str = "/seating_plan") -> SeatingPlan:
    """Read a decoded plan.

    Args:
        document: the JSON document.
        pointer: where the document stands in the request; every error starts with it.

    Raises:
        SeatingPlanInvalid: naming each place that breaks a rule.
    """
    try:
        plan = SeatingPlan.model_validate(document)
    except ValidationError as error:
        raise SeatingPlanInvalid(tuple(_structure_errors(error, pointer))) from None
    broken = tuple(islice(_rule_errors(plan, pointer), MAX_ERRORS))
    if broken:
        raise SeatingPlanInvalid(broken)
    return plan


def check_prices(
    plan: SeatingPlan, prices: Mapping[str, int], pointer: str = "/prices"
) -> tuple[PlanError, ...]:
    """What is wrong with the prices: one for every category in use, none for unknown ones."""
    used = {seat.category for *_, seat in plan.placed_seats()}
    known = {category.name for category in plan.categories}
    missing = [
        PlanError(f"{pointer}/{escape(name)}", "this category has seats but no price")
        for name in sorted(used - prices.keys())
    ]
    unknown = [
        PlanError(f"{pointer}/{escape(name)}", "the plan has no such category")
        for name in sorted(prices.keys() - known)
    ]
    return (*missing, *unknown)[:MAX_ERRORS]


def escape(token: str) -> str:
    """One reference token of a JSON pointer; what cannot be sent as UTF-8 is replaced."""
    sendable = token.encode("utf-8", "replace").decode()
    return sendable.replace("~", "~0").replace("/", "~1")


def _structure_errors(error: ValidationError, pointer: str) -> Iterator[PlanError]:
    # pydantic reports in field order, depth first: plan order.
    for one in error.errors(include_url=False, include_input=False, include_context=False)[
        :MAX_ERRORS
    ]:
        place = "".join(f"/{escape(str(token))}" for token in one["loc"])
        yield PlanError(pointer + place, one["msg"])


def _rule_errors(plan: SeatingPlan, pointer: str) -> Iterator[PlanError]:
    """What a schema cannot say: references, uniqueness, the number of seats."""
    names: set[str] = set()
    for index, category in enumerate(plan.categories):
        if category.name in names:
            yield PlanError(
                f"{pointer}/categories/{index}/name", f"category {category.name!r} is defined twice"
            )
        names.add(category.name)
    yield from _seat_errors(plan, pointer, names)
    yield from _uuid_errors(plan, pointer)


def _seat_errors(plan: SeatingPlan, pointer: str, categories: set[str]) -> Iterator[PlanError]:
    first: dict[str, tuple[int, int, int]] = {}
    for zone_index, _, row_index, _, seat_index, seat in plan.placed_seats():
        place = (zone_index, row_index, seat_index)
        if seat.category not in categories:
            yield PlanError(
                f"{_seat_pointer(pointer, place)}/category",
                f"category {seat.category!r} is not defined in categories",
            )
        if first.setdefault(seat.seat_guid, place) != place:
            yield PlanError(
                f"{_seat_pointer(pointer, place)}/seat_guid",
                f"seat_guid {seat.seat_guid!r} is also "
                f"{_seat_pointer(pointer, first[seat.seat_guid])}",
            )
    seats = sum(len(row.seats) for zone in plan.zones for row in zone.rows)
    if seats == 0:
        yield PlanError(f"{pointer}/zones", "the plan has no seat")
    if seats > MAX_SEATS:
        yield PlanError(f"{pointer}/zones", f"{seats} seats; at most {MAX_SEATS} are allowed")


def _seat_pointer(pointer: str, place: tuple[int, int, int]) -> str:
    zone, row, seat = place
    return f"{pointer}/zones/{zone}/rows/{row}/seats/{seat}"


def _uuid_errors(plan: SeatingPlan, pointer: str) -> Iterator[PlanError]:
    # The format demands uuids to differ between objects of any kind, not only among their own.
    first: dict[str, str] = {}
    for zone_index, zone in enumerate(plan.zones):
        zone_place = f"{pointer}/zones/{zone_index}"
        objects: list[tuple[str, str]] = [(zone.uuid, zone_place)]
        objects += [(area.uuid, f"{zone_place}/areas/{i}") for i, area in enumerate(zone.areas)]
        for row_index, row in enumerate(zone.rows):
            row_place = f"{zone_place}/rows/{row_index}"
            objects.append((row.uuid, row_place))
            objects += [(seat.uuid, f"{row_place}/seats/{i}") for i, seat in enumerate(row.seats)]
        for uuid, place in objects:
            if uuid and first.setdefault(uuid, place) != place:
                yield PlanError(f"{place}/uuid", f"uuid {uuid!r} is also {first[uuid]}")
