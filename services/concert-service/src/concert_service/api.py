"""Routes of concert-service and the bodies that only they know."""

import gzip
from typing import Annotated, Any, Literal, Self

from fastapi import Depends, Header, Query, Request, Response
from pydantic import Field, model_validator

from common.clock import Clock
from common.errors import Problem
from common.events import Timestamp
from common.web import (
    AdminUser,
    ItemPage,
    Page,
    RequestModel,
    ResourceId,
    ResponseModel,
    Router,
    deadline,
    encode_cursor,
    from_state,
    json_bytes,
    next_cursor,
    problems,
    sent_headers,
    standard_problem,
)
from concert_service.domain.plan import SeatingPlanInvalid
from concert_service.domain.sale import SaleTransitionRefused
from concert_service.service.availability import AvailabilityReader
from concert_service.service.catalogue import Catalogue
from concert_service.service.creation import Creation, Dates, NewConcert
from concert_service.service.sales import Sales
from concert_service.service.views import (
    AvailabilityChangeView,
    AvailabilityView,
    ConcertView,
    PerformanceView,
    SaleProgressView,
    SeatMapView,
)

CURRENCY = "KRW"
LARGEST_PLAN_BYTES = 40 * 1024 * 1024
"""A plan of 100,000 seats as editors write it, with uuids and indentation."""
CREATION_SECONDS = 110.0

router = Router(tags=["concerts"])
admin = Router(tags=["administration"])

CatalogueOf = Annotated[Catalogue, Depends(from_state("catalogue"))]
AvailabilityOf = Annotated[AvailabilityReader, Depends(from_state("availability"))]
SalesOf = Annotated[Sales, Depends(from_state("sales"))]
CreationOf = Annotated[Creation, Depends(from_state("creation"))]
ClockOf = Annotated[Clock, Depends(from_state("clock"))]

Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_SHORT_LIVED = {"Cache-Control": "public, max-age=1"}
_IMMUTABLE = "public, max-age=31536000, immutable"


class NewPerformance(RequestModel):
    """A date."""

    starts_at: Timestamp
    sale_opens_at: Annotated[
        Timestamp | None, Field(description="Null: an administrator opens the sale by hand")
    ] = None

    @model_validator(mode="after")
    def _opens_before_it_starts(self) -> Self:
        if self.sale_opens_at is not None and self.sale_opens_at >= self.starts_at:
            raise ValueError("sale_opens_at must be before starts_at")
        return self


class ConcertRequest(RequestModel):
    """A concert with its seating plan, in the open format of pretix's plan editor."""

    title: Words
    artist: Words
    venue: Words
    currency: str
    max_seats_per_fan: Annotated[int, Field(ge=1, le=100, description="For one performance")]
    hold_seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    seating_plan: dict[str, Any]
    prices: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=100_000_000)]],
        Field(max_length=1_000, description="Minor units, for every category with seats"),
    ]
    performances: Annotated[list[NewPerformance], Field(min_length=1, max_length=100)]


class ConcertCreated(ResponseModel):
    """The ids to go on with."""

    concert_id: str
    performances: tuple[PerformanceView, ...]


class SaleChange(RequestModel):
    """What the sale should be."""

    sale: Literal["open", "paused", "closed", "cancelled"]


class Dashboard(ItemPage[SaleProgressView]):
    """Sale progress, newest performance first, and how old what it says is."""

    as_of: Timestamp
    source: Literal["primary", "replica"]
    staleness_seconds: float


@admin.post(
    "/admin/concerts",
    status_code=201,
    max_body_size=LARGEST_PLAN_BYTES,
    responses={
        **problems((422, "seating-plan-invalid", "currency-unsupported")),
        201: {"headers": sent_headers(location="The concert")},
    },
)
@deadline(CREATION_SECONDS)
async def create_concert(
    body: ConcertRequest, _: AdminUser, creation: CreationOf, response: Response
) -> ConcertCreated:
    """Create a concert and its performances, with seats of their own for each."""
    if body.currency != CURRENCY:
        raise Problem(
            422, "currency-unsupported", "This platform sells in one currency", f"only {CURRENCY}"
        )
    order = NewConcert(
        title=body.title,
        artist=body.artist,
        venue=body.venue,
        currency=body.currency,
        max_seats_per_fan=body.max_seats_per_fan,
        hold_seconds=body.hold_seconds,
        seating_plan=body.seating_plan,
        prices=body.prices,
        performances=[Dates(one.starts_at, one.sale_opens_at) for one in body.performances],
    )
    try:
        created = await creation.create(order)
    except SeatingPlanInvalid as error:
        raise Problem(
            422,
            "seating-plan-invalid",
            "The seating plan breaks rules of its format",
            f"{len(error.errors)} places are wrong; the first: {error.errors[0].pointer}",
            errors=[{"pointer": one.pointer, "message": one.detail} for one in error.errors],
        ) from None
    response.headers["Location"] = f"/api/v1/concerts/{created.concert_id}"
    return ConcertCreated(concert_id=created.concert_id, performances=created.performances)


@admin.put(
    "/admin/performances/{performance_id}",
    responses=problems((404, "not-found"), (409, "performance-cancelled")),
)
async def change_sale(
    performance_id: ResourceId, body: SaleChange, _: AdminUser, sales: SalesOf
) -> PerformanceView:
    """Open, pause, close or cancel a sale. Asking for the present state changes nothing."""
    try:
        changed = await sales.change(performance_id, body.sale)
    except SaleTransitionRefused as error:
        raise Problem(
            409, "performance-cancelled", "A cancelled performance stays cancelled", str(error)
        ) from None
    if changed is None:
        raise standard_problem(404)
    return changed


@admin.get("/admin/dashboard")
async def dashboard(page: Page, _: AdminUser, catalogue: CatalogueOf, clock: ClockOf) -> Dashboard:
    """Sale progress of every performance, from the replica."""
    after = page.after(str)
    rows, source, staleness = await catalogue.sale_progress(
        after[0] if after else None, page.limit + 1
    )
    items, cursor = next_cursor(rows, page.limit, lambda one: (one.performance_id,))
    return Dashboard(
        items=items,
        next_cursor=cursor,
        as_of=clock.now(),
        source="replica" if source == "replica" else "primary",
        staleness_seconds=round(staleness, 3),
    )


@router.get("/concerts")
async def list_concerts(
    page: Page, catalogue: CatalogueOf, response: Response
) -> ItemPage[ConcertView]:
    """Concerts, newest first."""
    after = page.after(str)
    views = await catalogue.concerts(after[0] if after else None, page.limit + 1)
    items, cursor = next_cursor(views, page.limit, lambda one: (one.concert_id,))
    response.headers.update(_SHORT_LIVED)
    return ItemPage[ConcertView](items=items, next_cursor=cursor)


@router.get(
    "/concerts/{concert_id}", response_model=ConcertView, responses=problems((404, "not-found"))
)
async def get_concert(concert_id: ResourceId, catalogue: CatalogueOf) -> Response:
    """One concert; it never changes."""
    body = await catalogue.concert(concert_id)
    if body is None:
        raise standard_problem(404)
    return json_bytes(body, headers={"Cache-Control": "public, max-age=60"})


@router.get("/concerts/{concert_id}/performances", responses=problems((404, "not-found")))
async def list_performances(
    concert_id: ResourceId, page: Page, catalogue: CatalogueOf, response: Response
) -> ItemPage[PerformanceView]:
    """A concert's performances by date."""
    after = page.after(str, str)
    views = await catalogue.performances(concert_id)
    if views is None:
        raise standard_problem(404)
    if after:
        views = [one for one in views if _date_key(one) > after]
    items, _ = next_cursor(views[: page.limit + 1], page.limit, _date_key)
    cursor = encode_cursor(*_date_key(items[-1])) if len(views) > len(items) else None
    response.headers.update(_SHORT_LIVED)
    return ItemPage[PerformanceView](items=items, next_cursor=cursor)


@router.get(
    "/performances/{performance_id}",
    response_model=PerformanceView,
    responses=problems((404, "not-found")),
)
async def get_performance(performance_id: ResourceId, catalogue: CatalogueOf) -> Response:
    """One performance with its sale and the seats left."""
    body = await catalogue.performance(performance_id)
    if body is None:
        raise standard_problem(404)
    return json_bytes(body, headers=_SHORT_LIVED)


@router.get(
    "/performances/{performance_id}/seats",
    response_model=SeatMapView,
    responses={
        **problems((404, "not-found")),
        200: {"headers": sent_headers(ETag="One for each coding", cache_control="Immutable")},
        304: {"description": "What the client has is what there is, for ever"},
    },
)
async def get_seats(
    performance_id: ResourceId,
    catalogue: CatalogueOf,
    request: Request,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Seats, prices and the plan to draw them on. Immutable: fetch it once."""
    found = await catalogue.seat_map(performance_id)
    if found is None:
        raise standard_problem(404)
    digest, body = found
    zipped = _accepts_gzip(request.headers.get("accept-encoding", ""))
    # A strong tag names bytes, so each coding has its own; any of them is good enough for a 304.
    tags = {False: f'"{digest}"', True: f'"{digest}-gzip"'}
    headers = {"ETag": tags[zipped], "Cache-Control": _IMMUTABLE, "Vary": "Accept-Encoding"}
    if _matches(if_none_match, set(tags.values())):
        return Response(status_code=304, headers=headers)
    if zipped:
        return json_bytes(body, headers=headers | {"Content-Encoding": "gzip"})
    return json_bytes(gzip.decompress(body), headers=headers)


@router.get(
    "/performances/{performance_id}/availability",
    response_model=AvailabilityView | AvailabilityChangeView,
    responses=problems((404, "not-found")),
)
async def get_availability(
    performance_id: ResourceId,
    availability: AvailabilityOf,
    since: Annotated[
        int | None,
        Query(
            ge=0,
            le=2**53,
            description="A version got before: answer what changed since. The whole is answered"
            " when that is too long ago; it has no member `since`.",
        ),
    ] = None,
) -> Response:
    """What cannot be had now, or what changed since a version."""
    body = await availability.body(performance_id, since)
    if body is None:
        raise standard_problem(404)
    return json_bytes(body, headers=_SHORT_LIVED)


def _date_key(view: PerformanceView) -> tuple[str, str]:
    return view.starts_at.isoformat(timespec="microseconds"), view.performance_id


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip() in {"gzip", "*"}:
            return parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _matches(if_none_match: str | None, tags: set[str]) -> bool:
    """RFC 9110 13.1.2: any of a list, compared weakly."""
    if if_none_match is None:
        return False
    given = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in given or bool(given & tags)
