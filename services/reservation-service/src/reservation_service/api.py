"""Routes of reservation-service and the models of their bodies."""

from typing import Annotated, Literal, Self

from fastapi import Depends, Request, Response, Security
from fastapi.security import APIKeyHeader
from pydantic import Field, model_validator

from common.errors import Problem
from common.events import BestAvailable, Timestamp
from common.idempotency import canonical_hash
from common.security import AdminUser, CurrentUser, Pass, queue_pass
from common.web import (
    IdempotencyKey,
    ItemPage,
    Page,
    RateLimit,
    RequestModel,
    ResourceId,
    ResponseModel,
    Router,
    Wait,
    from_state,
    next_cursor,
    problems,
    sent_headers,
    standard_problem,
)
from reservation_service.domain import ReservationEnded
from reservation_service.representation import Answer, ReservationBody
from reservation_service.service.endings import Endings, ReservationUnknown
from reservation_service.service.looking import Looking
from reservation_service.service.reserving import Reserving, Wish
from reservation_service.store.reports import PerformanceFigures

MOST_SEATS = 100
"""Seats one request may name; the performance's own limit is usually far lower."""

REQUESTS_LIMIT = RateLimit("reservations", quota=1_000, window_seconds=10)
"""Far above what a fan's clients ask for: it keeps one runaway script from a whole process."""

router = Router(tags=["reservations"])
admin_router = Router(tags=["administration"])

ReservingService = Annotated[Reserving, Depends(from_state("reserving"))]
EndingsService = Annotated[Endings, Depends(from_state("endings"))]
LookingService = Annotated[Looking, Depends(from_state("looking"))]

_pass_header = APIKeyHeader(
    name="Queue-Pass",
    scheme_name="queue-pass",
    auto_error=False,
    description="The pass an admitted poll of the waiting room carries.",
)


async def _pass_or_problem(
    request: Request,
    user: CurrentUser,
    token: Annotated[str | None, Security(_pass_header)],
) -> Pass | Problem:
    """The caller's pass, or the 403 it deserves.

    Not raised here: the answer of a key that is known is given without a pass, too.
    """
    try:
        return await queue_pass(request, user, token)
    except Problem as problem:
        return problem


QueuePassOrProblem = Annotated[Pass | Problem, Depends(_pass_or_problem)]

Id = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
]


class BestAvailableWish(RequestModel):
    """Neighbouring seats in one row, the first there are in plan order; the service chooses."""

    category: Annotated[str, Field(min_length=1, max_length=255)]
    quantity: Annotated[int, Field(ge=1, le=MOST_SEATS)]


class ReservationRequest(RequestModel):
    """Seats of one performance: exactly one of `seat_ids` and `best_available`."""

    performance_id: Id
    seat_ids: Annotated[
        tuple[Id, ...] | None, Field(min_length=1, max_length=MOST_SEATS, description="Unique.")
    ] = None
    best_available: BestAvailableWish | None = None

    @model_validator(mode="after")
    def _names_seats_one_way(self) -> Self:
        if (self.seat_ids is None) == (self.best_available is None):
            raise ValueError("give exactly one of seat_ids and best_available")
        if self.seat_ids is not None and len(set(self.seat_ids)) != len(self.seat_ids):
            raise ValueError("seat_ids names a seat twice")
        return self

    def wish(self, user_id: str, key: str) -> Wish:
        """What the use case takes."""
        best = self.best_available
        return Wish(
            user_id=user_id,
            key=key,
            body_hash=canonical_hash(self),
            performance_id=self.performance_id,
            seat_ids=self.seat_ids,
            best_available=None
            if best is None
            else BestAvailable(category=best.category, quantity=best.quantity),
        )


class HoldEnds(ResponseModel):
    """How holds went on."""

    confirmed: int
    expired: int
    cancelled_by_fan: int
    cancelled_with_performance: int


class PerformanceFiguresBody(ResponseModel):
    """How one performance sells."""

    performance_id: str
    concert_id: str
    sale: str
    starts_at: Timestamp | None
    seats_total: int
    seats_left: int
    seats: Annotated[dict[str, int], Field(description="By state: available, held, sold.")]
    holds: Annotated[int, Field(description="Live holds now.")]
    ends: HoldEnds
    rejected: Annotated[int, Field(description="Requests the lanes refused.")]
    refunded: int


class ReservationFigures(ResponseModel):
    """Seats by state, holds and their ends, per performance, the newest first."""

    source: Literal["primary", "replica"]
    staleness_seconds: float
    items: list[PerformanceFiguresBody]
    next_cursor: str | None


def _response(answer: Answer) -> Response:
    failed = answer.status >= 400  # noqa: PLR2004 - HTTP's own border
    return Response(
        answer.body,
        answer.status,
        {**answer.headers, "Cache-Control": "no-store"},
        "application/problem+json" if failed else "application/json",
    )


@router.post(
    "/reservations",
    status_code=201,
    response_model=ReservationBody,
    response_description="Held: the seats are kept until `hold_expires_at`.",
    dependencies=[Depends(REQUESTS_LIMIT)],
    responses={
        201: {"headers": sent_headers(location="The reservation")},
        202: {
            "model": ReservationBody,
            "description": "Not decided in time: follow `Location`, or repeat the request.",
            "headers": sent_headers(location="The reservation", retry_after="Seconds"),
        },
        **problems(
            (400, "idempotency-key-missing"),
            (403, "pass-required", "pass-invalid"),
            (404, "performance-unknown"),
            (
                409,
                "seat-unavailable",
                "limit-exceeded",
                "sale-not-open",
                "request-in-progress",
            ),
            (422, "idempotency-key-reused"),
            (429, "rate-limited"),
        ),
    },
)
async def reserve(  # noqa: PLR0917 - FastAPI passes every one by name
    body: ReservationRequest,
    user: CurrentUser,
    key: IdempotencyKey,
    admitted: QueuePassOrProblem,
    wait: Wait,
    service: ReservingService,
) -> Response:
    """Hold seats for the time the performance gives, all of them or none.

    Refusals that need a decision (`seat-unavailable`, `limit-exceeded`, …) and the hold itself are
    final and replayed byte for byte for the same `Idempotency-Key`; refusals before that, 202 and
    503 are not kept.
    """
    return _response(await service.reserve(body.wish(user.user_id, key), admitted, wait))


@router.get("/reservations", responses=problems())
async def list_reservations(
    user: CurrentUser, page: Page, service: LookingService
) -> ItemPage[ReservationBody]:
    """The caller's reservations, the newest first."""
    after = page.after(str)
    found = await service.list_own(user.user_id, after[0] if after else None, page.limit + 1)
    items, cursor = next_cursor(found, page.limit, lambda body: [body.reservation_id])
    return ItemPage[ReservationBody](items=items, next_cursor=cursor)


@router.get("/reservations/{reservation_id}", responses=problems((404, "not-found")))
async def get_reservation(
    reservation_id: ResourceId, user: CurrentUser, service: LookingService
) -> ReservationBody:
    """One of the caller's reservations, also while it is pending."""
    found = await service.own(user.user_id, reservation_id)
    if found is None:
        raise standard_problem(404)
    return found


@router.delete(
    "/reservations/{reservation_id}",
    responses=problems((404, "not-found"), (409, "reservation-ended", "reservation-pending")),
)
async def cancel_reservation(
    reservation_id: ResourceId,
    user: CurrentUser,
    service: EndingsService,
    looking: LookingService,
) -> ReservationBody:
    """Cancel: a hold is released at once, a confirmed one is refunded. Again is the same."""
    try:
        cancelled = await service.cancel(user.user_id, reservation_id)
    except ReservationEnded as ended:
        raise Problem(409, "reservation-ended", "This reservation is over", str(ended)) from None
    except ReservationUnknown:
        if await looking.own(user.user_id, reservation_id) is None:
            raise standard_problem(404) from None
        raise Problem(
            409, "reservation-pending", "It is being decided; ask again", retry_after_seconds=1
        ) from None
    return looking.body(cancelled)


@admin_router.get("/admin/dashboard/reservations", responses=problems((403, "forbidden")))
async def dashboard(_: AdminUser, page: Page, service: LookingService) -> ReservationFigures:
    """Seats by state, holds and their ends by cause, per performance."""
    after = page.after(str)
    figures = await service.figures(after[0] if after else None, page.limit + 1)
    items, cursor = next_cursor(figures.performances, page.limit, lambda p: [p.performance_id])
    return ReservationFigures(
        source=figures.source,
        staleness_seconds=figures.staleness_seconds,
        items=[_figures_body(item) for item in items],
        next_cursor=cursor,
    )


def _figures_body(figures: PerformanceFigures) -> PerformanceFiguresBody:
    def count(*labels: str) -> int:
        return sum(figures.reservations.get(label, 0) for label in labels)

    return PerformanceFiguresBody(
        performance_id=figures.performance_id,
        concert_id=figures.concert_id,
        sale=figures.sale,
        starts_at=figures.starts_at,
        seats_total=figures.seats_total,
        seats_left=figures.seats_left,
        seats={state: figures.seats.get(state, 0) for state in ("available", "held", "sold")},
        holds=count("held"),
        ends=HoldEnds(
            confirmed=count("confirmed"),
            expired=count("expired"),
            cancelled_by_fan=count("cancelled:fan", "refunded:fan"),
            cancelled_with_performance=count(
                "cancelled:performance_cancelled", "refunded:performance_cancelled"
            ),
        ),
        rejected=count("rejected"),
        refunded=count("refunded:fan", "refunded:performance_cancelled"),
    )
