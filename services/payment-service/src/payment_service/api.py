"""Routes of payment-service and their models."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Response
from pydantic import Field

from common.events import Money, Timestamp
from common.idempotency import canonical_hash
from common.web import (
    PREFIX,
    AdminUser,
    CurrentUser,
    IdempotencyKey,
    ItemPage,
    Page,
    PageRequest,
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
from payment_service.answers import PaymentBody, payment_body, problem_of, won
from payment_service.domain import MAX_CHARGE, PaymentServiceError
from payment_service.service.payments import Payments
from payment_service.service.wallets import ChargeBody, Wallets
from payment_service.service.watch import Watch
from payment_service.store.payments import Answer, Request

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_EXAMPLE_ID = "0193f5a0-0000-7000-8000-000000000001"
_PROBLEM = "application/problem+json"

WalletsUseCases = Annotated[Wallets, Depends(from_state("wallets"))]
PaymentsUseCases = Annotated[Payments, Depends(from_state("payments"))]
WatchUseCases = Annotated[Watch, Depends(from_state("watch"))]

CHARGES_LIMIT = RateLimit("charges", quota=1_000, window_seconds=10)
PAYMENTS_LIMIT = RateLimit("payments", quota=1_000, window_seconds=10)
"""Far above what a fan's clients ask for: these keep one runaway script from a whole process."""

wallet_router = Router(tags=["wallet"])
payments_router = Router(tags=["payments"])
admin_router = Router(tags=["admin"])
routers = (wallet_router, payments_router, admin_router)


class WalletBody(ResponseModel):
    """What can be spent."""

    balance: Money


class EntryBody(ResponseModel):
    """One movement of a wallet's money; all amounts together are the balance."""

    entry_id: str
    kind: Literal["charge", "payment", "refund"]
    amount: Annotated[Money, Field(description="Negative when the money left.")]
    payment_id: str | None
    created_at: Timestamp


class Charge(RequestModel):
    """Money to put in, in minor units."""

    amount: Annotated[int, Field(ge=1, le=MAX_CHARGE)]


class Pay(RequestModel):
    """The reservation to pay; its price is known here."""

    reservation_id: Annotated[str, Field(pattern=_UUID, examples=[_EXAMPLE_ID])]


class RevenueBody(ResponseModel):
    """One minute's revenue."""

    minute: Timestamp
    amount: Annotated[Money, Field(description="Negative when refunds outweighed sales.")]
    sales: int
    refunds: int


class BacklogBody(ResponseModel):
    """Payments whose outcome is open."""

    payments: int
    oldest_age_seconds: float | None


class WalletTotalsBody(ResponseModel):
    """Every fan's money together."""

    wallets: int
    balance: Money


class DashboardBody(ResponseModel):
    """Figures of the last hour, as old as `staleness_seconds`."""

    source: Literal["primary", "replica"]
    staleness_seconds: float
    revenue_per_minute: Sequence[RevenueBody]
    saga_backlog: BacklogBody
    wallets: WalletTotalsBody


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except PaymentServiceError as refusal:
        raise problem_of(refusal) from refusal


def _answered(answer: Answer, location: str | None = None) -> Response:
    good = answer.status < 400  # noqa: PLR2004 - where HTTP's errors begin
    headers = {"Cache-Control": "no-store"}
    if good and location is not None:
        headers["Location"] = location
    media_type = "application/json" if good else _PROBLEM
    return Response(answer.body, answer.status, headers, media_type)


def _location(payment_id: str) -> str:
    return f"{PREFIX}/payments/{payment_id}"


def _after(page: PageRequest) -> tuple[datetime, str] | None:
    """The cursor's moment (microseconds of Unix time) and id."""
    parts = page.after(int, str)
    if parts is None:
        return None
    microseconds, last_id = parts
    try:
        return _EPOCH + timedelta(microseconds=microseconds), last_id
    except OverflowError:
        raise standard_problem(422) from None


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


@wallet_router.get("/wallet", summary="What can be spent now")
async def get_wallet(user: CurrentUser, wallets: WalletsUseCases) -> WalletBody:
    """0 for who never charged; an own charge is in it at once."""
    return WalletBody(balance=won(await wallets.balance(user.user_id)))


@wallet_router.get("/wallet/entries", summary="The wallet's history, newest first")
async def list_entries(
    user: CurrentUser, page: Page, wallets: WalletsUseCases
) -> ItemPage[EntryBody]:
    """May lag a moment behind."""
    entries = await wallets.entries(user.user_id, limit=page.limit + 1, after=_after(page))
    shown, cursor = next_cursor(
        entries, page.limit, lambda entry: (_micros(entry.created_at), entry.entry_id)
    )
    items = [
        EntryBody(
            entry_id=entry.entry_id,
            kind=entry.kind.value,
            amount=won(entry.amount),
            payment_id=entry.payment_id,
            created_at=entry.created_at,
        )
        for entry in shown
    ]
    return ItemPage[EntryBody](items=items, next_cursor=cursor)


@wallet_router.post(
    "/wallet/charges",
    status_code=201,
    response_model=ChargeBody,
    dependencies=[Depends(CHARGES_LIMIT)],
    responses=problems(
        (409, "request-in-progress", "balance-limit-exceeded"),
        (422, "idempotency-key-reused"),
        (429, "rate-limited"),
    ),
    summary="Put money into the wallet",
)
async def charge_wallet(
    body: Charge, user: CurrentUser, key: IdempotencyKey, wallets: WalletsUseCases
) -> Response:
    """A repeat with the same key gets the first answer."""
    answer = await wallets.charge(user.user_id, key, canonical_hash(body), body.amount)
    return _answered(answer)


@payments_router.post(
    "/payments",
    status_code=201,
    response_model=PaymentBody,
    dependencies=[Depends(PAYMENTS_LIMIT)],
    responses={
        201: {"headers": sent_headers(location="The payment")},
        202: {
            "model": PaymentBody,
            "description": "The outcome is still open: follow `Location`",
            "headers": sent_headers(location="The payment"),
        },
        **problems(
            (402, "insufficient-balance"),
            (404, "reservation-unknown"),
            (409, "already-paid", "payment-in-progress", "request-in-progress"),
            (410, "hold-expired"),
            (422, "idempotency-key-reused"),
            (429, "rate-limited"),
        ),
    },
    summary="Pay a reservation from the wallet",
)
async def pay(
    body: Pay, user: CurrentUser, key: IdempotencyKey, wait: Wait, payments: PaymentsUseCases
) -> Response:
    """Waits for the outcome; a repeat with the same key waits again, or gets the first answer."""
    request = Request(
        user_id=user.user_id,
        reservation_id=body.reservation_id,
        idempotency_key=key,
        body_hash=canonical_hash(body),
    )
    with _refusals():
        outcome = await payments.pay(request, wait_seconds=wait)
    location = _location(outcome.payment.payment_id)
    if outcome.answer is not None:
        return _answered(outcome.answer, location)
    pending = payment_body(outcome.payment).model_dump_json().encode()
    return _answered(Answer(202, pending), location)


@payments_router.get("/payments", summary="Own payments, newest first")
async def list_payments(
    user: CurrentUser, page: Page, payments: PaymentsUseCases
) -> ItemPage[PaymentBody]:
    """May lag a moment behind; one payment alone never does."""
    found = await payments.history(user.user_id, limit=page.limit + 1, after=_after(page))
    shown, cursor = next_cursor(
        found, page.limit, lambda payment: (_micros(payment.created_at), payment.payment_id)
    )
    return ItemPage[PaymentBody](items=[payment_body(one) for one in shown], next_cursor=cursor)


@payments_router.get(
    "/payments/{payment_id}",
    responses=problems((404, "payment-unknown", "not-found")),
    summary="One own payment as it is now",
)
async def get_payment(
    payment_id: ResourceId, user: CurrentUser, payments: PaymentsUseCases
) -> PaymentBody:
    """Another fan's payment is as unknown as one that does not exist."""
    with _refusals():
        return payment_body(await payments.get(user.user_id, payment_id))


@admin_router.get("/admin/dashboard/payments", summary="Revenue, open sagas, wallets")
async def dashboard(_: AdminUser, watch: WatchUseCases) -> DashboardBody:
    """Figures of the replica; they decide nothing."""
    figures = await watch.figures()
    return DashboardBody(
        source=figures.source,
        staleness_seconds=figures.staleness_seconds,
        revenue_per_minute=[
            RevenueBody(
                minute=datetime.fromtimestamp(one.minute, UTC),
                amount=won(one.amount),
                sales=one.sales,
                refunds=one.refunds,
            )
            for one in figures.revenue
        ],
        saga_backlog=BacklogBody(
            payments=figures.backlog.payments,
            oldest_age_seconds=figures.backlog.oldest_age_seconds,
        ),
        wallets=WalletTotalsBody(
            wallets=figures.wallets.wallets, balance=won(figures.wallets.balance)
        ),
    )
