"""Payments. A row is the saga's state and the record of the request that made it."""

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from common.database import RetryTransaction, Session, Transaction
from payment_service.domain import Payment, PaymentState

_COLUMNS = ", ".join(field.name for field in fields(Payment))
_RECORD_COLUMNS = f"{_COLUMNS}, body_hash, reply_to, answer_status, answer_body"


def _select(columns: str, rest: str) -> str:
    return f"SELECT {columns} FROM payments {rest}"  # noqa: S608 - constants of this module


_FIND = _select(_COLUMNS, "WHERE payment_id = %s AND user_id = %s")
_BY_REQUEST = _select(_RECORD_COLUMNS, "WHERE user_id = %s AND idempotency_key = %s")
_BY_ID = _select(_RECORD_COLUMNS, "WHERE payment_id = %s")
_LOCK = _select(f"{_RECORD_COLUMNS}, NOW(6) AS now", "WHERE payment_id = %s FOR UPDATE")
_HISTORY = _select(
    _COLUMNS, "WHERE user_id = %s ORDER BY created_at DESC, payment_id DESC LIMIT %s"
)
_HISTORY_AFTER = _select(
    _COLUMNS,
    "WHERE user_id = %s AND (created_at < %s OR (created_at = %s AND payment_id < %s))"
    " ORDER BY created_at DESC, payment_id DESC LIMIT %s",
)
_OWNER = "SELECT user_id FROM payments WHERE payment_id = %s"
_LIVE_STATE = "SELECT state FROM payments WHERE live_reservation_id = %s"
_INSERT = """
INSERT INTO payments (payment_id, reservation_id, user_id, concert_id, performance_id, seat_ids,
    amount, state, live_reservation_id, version, idempotency_key, body_hash, reply_to,
    answer_status, answer_body, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
# The version is the fence: a transition is written over the very state it was decided from.
_TRANSITION = """
UPDATE payments SET state = %s, live_reservation_id = %s, version = %s, settled_at = %s,
    refunded_at = %s, answer_body = IF(answer_status IS NULL, %s, answer_body),
    answer_status = COALESCE(answer_status, %s)
WHERE payment_id = %s AND version = %s
"""
_LISTEN = "UPDATE payments SET reply_to = %s WHERE payment_id = %s AND answer_status IS NULL"

ONE_LIVE_PAYMENT = "payments_live"
"""Unique key: a reservation has at most one payment that is authorized or succeeded."""
ONE_PAYMENT_A_REQUEST = "payments_request"
"""Unique key: a fan's idempotency key has one payment."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer, kept as it was first given: every repeat gets these bytes."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What a fan asked for, once or many times."""

    user_id: str
    reservation_id: str
    idempotency_key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Record:
    """A payment with its request's side: who waits for it and what was answered."""

    payment: Payment
    body_hash: str
    reply_to: str | None
    answer: Answer | None


async def find(session: Session, payment_id: str, user_id: str) -> Payment | None:
    """This fan's payment."""
    row = await session.fetch_one(_FIND, (payment_id, user_id))
    return _payment(row) if row else None


async def by_request(session: Session, user_id: str, idempotency_key: str) -> Record | None:
    """What became of a request, if it got as far as a payment."""
    row = await session.fetch_one(_BY_REQUEST, (user_id, idempotency_key))
    return _record(row) if row else None


async def by_id(session: Session, payment_id: str) -> Record | None:
    """A payment, whoever's it is."""
    row = await session.fetch_one(_BY_ID, (payment_id,))
    return _record(row) if row else None


async def lock(tx: Transaction, payment_id: str) -> tuple[Record, datetime] | None:
    """The payment, locked until the transaction ends, with the time it is."""
    row = await tx.fetch_one(_LOCK, (payment_id,))
    return (_record(row), row["now"]) if row else None


async def owner(session: Session, payment_id: str) -> str | None:
    """Whose payment it is; that never changes, so no lock is needed to know it."""
    value: str | None = await session.fetch_value(_OWNER, (payment_id,))
    return value


async def live_state(session: Session, reservation_id: str) -> PaymentState | None:
    """State of the reservation's live payment, if it has one."""
    state = await session.fetch_value(_LIVE_STATE, (reservation_id,))
    return PaymentState(state) if state else None


async def insert(
    tx: Transaction,
    payment: Payment,
    request: Request,
    *,
    reply_to: str | None,
    answer: Answer | None,
) -> None:
    """A new payment, with its answer if that is final already.

    Raises:
        UniqueViolation: `ONE_LIVE_PAYMENT` or `ONE_PAYMENT_A_REQUEST`.
    """
    values = (
        payment.payment_id,
        payment.reservation_id,
        payment.user_id,
        payment.concert_id,
        payment.performance_id,
        json.dumps(payment.seat_ids),
        payment.amount,
        payment.state.value,
        _live_reservation(payment),
        payment.version,
        request.idempotency_key,
        request.body_hash,
        reply_to,
        answer.status if answer else None,
        answer.body if answer else None,
        payment.created_at,
    )
    await tx.execute(_INSERT, values)


async def transition(tx: Transaction, before: Payment, after: Payment, answer: Answer) -> None:
    """Write a transition; the first final answer stays, whatever comes after it.

    Raises:
        RetryTransaction: the payment is no longer what the transition was decided from.
    """
    values = (
        after.state.value,
        _live_reservation(after),
        after.version,
        after.settled_at,
        after.refunded_at,
        answer.body,
        answer.status,
        after.payment_id,
        before.version,
    )
    if await tx.execute(_TRANSITION, values) != 1:
        raise RetryTransaction("the payment changed meanwhile")


async def listen(tx: Transaction, payment_id: str, reply_to: str) -> None:
    """Have the outcome sent to the process that waits now, if it is still to come."""
    await tx.execute(_LISTEN, (reply_to, payment_id))


async def history(
    session: Session, user_id: str, *, limit: int, after: tuple[datetime, str] | None = None
) -> list[Payment]:
    """The fan's newest payments, or those older than ``after`` (moment and id)."""
    if after is None:
        rows = await session.fetch_all(_HISTORY, (user_id, limit))
    else:
        moment, payment_id = after
        rows = await session.fetch_all(_HISTORY_AFTER, (user_id, moment, moment, payment_id, limit))
    return [_payment(row) for row in rows]


def _live_reservation(payment: Payment) -> str | None:
    return payment.reservation_id if payment.state.live else None


def _payment(row: dict[str, Any]) -> Payment:
    members = {field.name: row[field.name] for field in fields(Payment)}
    members["seat_ids"] = tuple(json.loads(members["seat_ids"]))
    members["state"] = PaymentState(members["state"])
    return Payment(**members)


def _record(row: dict[str, Any]) -> Record:
    status = row["answer_status"]
    return Record(
        payment=_payment(row),
        body_hash=row["body_hash"],
        reply_to=row["reply_to"],
        answer=None if status is None else Answer(status, row["answer_body"]),
    )
