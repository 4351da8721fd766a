"""Golden events: what payment-service emits is, byte for byte, what everybody agreed on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common.events import CancelCause
from payment_service.domain import (
    Change,
    Payable,
    PayableState,
    Payment,
    Wallet,
    stream_record,
)

GOLDEN = Path(__file__).parents[4] / "libs/common/tests/golden"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PAYMENT_ID = "0193f5a0-0000-7000-8000-000000000021"


def golden(name: str) -> str:
    """The file's document as an event's compact JSON."""
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    return json.dumps(document, separators=(",", ":"))


def life() -> list[Change]:
    """The payment whose facts the golden files are: authorized, succeeded, refunded."""
    payable = Payable(
        reservation_id="0193f5a0-0000-7000-8000-000000000001",
        version=1,
        user_id="fan-1",
        concert_id="0193f5a0-0000-7000-8000-000000000002",
        performance_id="0193f5a0-0000-7000-8000-000000000003",
        seat_ids=(
            "0193f5a0-0000-7000-8000-000000000011",
            "0193f5a0-0000-7000-8000-000000000012",
        ),
        state=PayableState.HELD,
        amount=264_000,
        hold_expires_at=NOON + timedelta(minutes=5),
    )

    def after(seconds: int) -> datetime:
        return NOON + timedelta(seconds=seconds)

    wallet = Wallet("fan-1", 264_000)
    authorized = Payment.authorize(PAYMENT_ID, payable, wallet, rival=None, now=after(1))
    succeeded = authorized.payment.confirm(now=after(3))
    assert succeeded is not None
    refunded = succeeded.payment.cancel(CancelCause.FAN, now=after(5))
    assert refunded is not None
    return [authorized, succeeded, refunded]


def test_facts_on_the_broker_are_the_golden_ones() -> None:
    facts = [fact for change in life() for fact in change.facts]
    assert [fact.type for fact in facts] == [
        "payment.authorized.v1",
        "payment.succeeded.v1",
        "payment.refunded.v1",
    ]
    for fact in facts:
        assert fact.model_dump_json() == golden(fact.type)


def test_records_on_the_stream_are_the_golden_ones() -> None:
    facts = [fact for change in life() for fact in change.facts]
    records = [record for fact in facts if (record := stream_record(fact))]
    assert len(records) == 2
    for record in records:
        assert record.model_dump_json() == golden(f"stream.{record.type}")
