"""What may be paid, as reservation-service last said. Versions decide, not arrival."""

import json
from typing import Any

from common.database import Session, Transaction
from payment_service.domain import Payable, PayableState

_FIND = """
SELECT reservation_id, version, user_id, concert_id, performance_id, seat_ids, state, amount,
    hold_expires_at
FROM payables WHERE reservation_id = %s AND user_id = %s
"""
# Older news changes nothing but what was not known yet: the price of a hold whose end came first.
# `version` is assigned last: the conditions before it must see the old one.
_RECORD = """
INSERT INTO payables (reservation_id, version, user_id, concert_id, performance_id, seat_ids,
    state, amount, hold_expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    amount = COALESCE(amount, %s),
    hold_expires_at = COALESCE(hold_expires_at, %s),
    state = IF(version < %s, %s, state),
    version = GREATEST(version, %s)
"""


async def find(session: Session, reservation_id: str, user_id: str) -> Payable | None:
    """The reservation, if it was heard of and is this fan's."""
    row = await session.fetch_one(_FIND, (reservation_id, user_id))
    return _payable(row) if row else None


async def record(tx: Transaction, news: Payable) -> None:
    """Keep what an event said, unless something newer is known."""
    values = (
        news.reservation_id,
        news.version,
        news.user_id,
        news.concert_id,
        news.performance_id,
        json.dumps(news.seat_ids),
        news.state.value,
        news.amount,
        news.hold_expires_at,
    )
    changes = (
        news.amount,
        news.hold_expires_at,
        news.version,
        news.state.value,
        news.version,
    )
    await tx.execute(_RECORD, values + changes)


def _payable(row: dict[str, Any]) -> Payable:
    row["seat_ids"] = tuple(json.loads(row["seat_ids"]))
    row["state"] = PayableState(row["state"])
    return Payable(**row)
