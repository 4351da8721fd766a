"""Final answers: their bytes, and how they travel."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.ids import new_id
from payment_service import answers, domain
from payment_service.domain import Payment, PaymentServiceError, PaymentState
from payment_service.store.payments import Answer

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PAYMENT = Payment(
    payment_id=new_id(),
    reservation_id=new_id(),
    user_id="fan",
    concert_id=new_id(),
    performance_id=new_id(),
    seat_ids=(new_id(),),
    amount=1_000,
    state=PaymentState.SUCCEEDED,
    version=2,
    created_at=NOW,
)

FOR_CALLERS = {
    domain.AlreadyPaid: (409, "already-paid"),
    domain.BalanceLimitExceeded: (409, "balance-limit-exceeded"),
    domain.HoldExpired: (410, "hold-expired"),
    domain.InsufficientBalance: (402, "insufficient-balance"),
    domain.PaymentInProgress: (409, "payment-in-progress"),
    domain.PaymentUnknown: (404, "payment-unknown"),
    domain.ReservationUnknown: (404, "reservation-unknown"),
}
FOR_PEOPLE = {domain.ContradictoryOutcome}


def test_a_success_is_the_payment() -> None:
    answer = answers.outcome_answer(PAYMENT)
    assert answer.status == 201
    assert json.loads(answer.body) == {
        "payment_id": PAYMENT.payment_id,
        "reservation_id": PAYMENT.reservation_id,
        "amount": {"amount": 1_000, "currency": "KRW"},
        "state": "succeeded",
        "created_at": "2026-11-21T12:00:00.000000Z",
    }


def test_a_refund_is_an_expired_hold_that_names_the_payment() -> None:
    answer = answers.outcome_answer(replace(PAYMENT, state=PaymentState.REFUNDED))
    assert answer.status == 410
    body = json.loads(answer.body)
    assert (body["code"], body["payment_id"]) == ("hold-expired", PAYMENT.payment_id)


@pytest.mark.parametrize("state", [PaymentState.AUTHORIZED, PaymentState.FAILED])
def test_what_is_no_outcome_has_no_answer(state: PaymentState) -> None:
    with pytest.raises(ValueError, match="no outcome"):
        answers.outcome_answer(replace(PAYMENT, state=state))


@pytest.mark.parametrize(("refusal", "expected"), FOR_CALLERS.items())
def test_every_refusal_has_its_problem(
    refusal: type[PaymentServiceError], expected: tuple[int, str]
) -> None:
    problem = answers.problem_of(refusal())
    assert (problem.status, problem.code) == expected


def test_every_refusal_is_for_callers_or_for_people() -> None:
    assert set(PaymentServiceError.__subclasses__()) == set(FOR_CALLERS) | FOR_PEOPLE


@pytest.mark.parametrize("body", [b"", b"{}", b"a\nb\n\nc", bytes(range(256))])
def test_an_answer_arrives_as_it_was_sent(body: bytes) -> None:
    answer = Answer(201, body)
    assert answers.from_message(answers.to_message(answer)) == answer
