"""What callers are told: bodies of payments, problems of refusals, and the final answers stored.

A final answer is rendered once, in the transaction that makes it true, kept in the payment's row
and sent from there to whoever waits; every repeat of the request gets the very same bytes.
"""

from dataclasses import dataclass
from typing import Any

from common.errors import Problem
from common.events import Money, Timestamp
from common.web import ResponseModel, problem_response
from payment_service.domain import (
    CURRENCY,
    MAX_BALANCE,
    AlreadyPaid,
    BalanceLimitExceeded,
    HoldExpired,
    InsufficientBalance,
    Payment,
    PaymentInProgress,
    PaymentServiceError,
    PaymentState,
    PaymentUnknown,
    ReservationUnknown,
)
from payment_service.store.payments import Answer

CREATED = 201


class PaymentBody(ResponseModel):
    """A payment as its owner sees it."""

    payment_id: str
    reservation_id: str
    amount: Money
    state: PaymentState
    created_at: Timestamp


def won(amount: int) -> Money:
    """An amount in the platform's one currency."""
    return Money(amount=amount, currency=CURRENCY)


def payment_body(payment: Payment) -> PaymentBody:
    """The payment as its owner sees it."""
    return PaymentBody(
        payment_id=payment.payment_id,
        reservation_id=payment.reservation_id,
        amount=won(payment.amount),
        state=payment.state,
        created_at=payment.created_at,
    )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How a refusal reads."""

    status: int
    code: str
    title: str
    detail: str | None = None
    retry_after_seconds: int | None = None


_REFUSALS: dict[type[PaymentServiceError], _Refusal] = {
    ReservationUnknown: _Refusal(
        404,
        "reservation-unknown",
        "No such reservation of yours can be paid",
        "A reservation made a moment ago may not be known here yet: try again.",
        retry_after_seconds=1,
    ),
    PaymentUnknown: _Refusal(404, "payment-unknown", "You have no such payment"),
    InsufficientBalance: _Refusal(
        402,
        "insufficient-balance",
        "The wallet holds too little",
        "Nothing was charged. Charge the wallet and pay with a new Idempotency-Key.",
    ),
    HoldExpired: _Refusal(
        410,
        "hold-expired",
        "The reservation can no longer be paid",
        "Nothing was charged, or it is back in the wallet already.",
    ),
    AlreadyPaid: _Refusal(409, "already-paid", "The reservation is paid already"),
    PaymentInProgress: _Refusal(
        409,
        "payment-in-progress",
        "Another payment of this reservation is open",
        retry_after_seconds=1,
    ),
    BalanceLimitExceeded: _Refusal(
        409,
        "balance-limit-exceeded",
        "The wallet would hold too much",
        f"A charge fills a wallet up to {MAX_BALANCE} at most. Nothing was charged.",
    ),
}


def problem_of(refusal: PaymentServiceError, payment_id: str | None = None) -> Problem:
    """The refusal as an answer; it names the payment that records it, if there is one.

    Raises:
        KeyError: this refusal is not meant for a caller.
    """
    about = _REFUSALS[type(refusal)]
    members: dict[str, Any] = {} if payment_id is None else {"payment_id": payment_id}
    return Problem(
        about.status,
        about.code,
        about.title,
        about.detail,
        retry_after_seconds=about.retry_after_seconds,
        **members,
    )


def problem_answer(problem: Problem) -> Answer:
    """The problem as stored bytes."""
    return Answer(problem.status, bytes(problem_response(problem).body))


def refusal_answer(refusal: PaymentServiceError, payment: Payment) -> Answer:
    """The final answer to a request whose payment was refused before any money moved."""
    return problem_answer(problem_of(refusal, payment.payment_id))


def outcome_answer(payment: Payment) -> Answer:
    """The final answer to a request whose payment has its outcome.

    Raises:
        ValueError: the outcome is still open.
    """
    if payment.state is PaymentState.SUCCEEDED:
        return Answer(CREATED, payment_body(payment).model_dump_json().encode())
    if payment.state is PaymentState.REFUNDED:
        return refusal_answer(HoldExpired(), payment)
    raise ValueError(f"{payment.state} is no outcome")


def to_message(answer: Answer) -> bytes:
    """The answer as it travels to the process that waits."""
    return b"%d\n%b" % (answer.status, answer.body)


def from_message(message: bytes) -> Answer:
    """The answer as it arrived.

    Raises:
        ValueError: this is none.
    """
    status, _, body = message.partition(b"\n")
    return Answer(int(status), body)
