from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.envelope import Envelope
from common.events import Money, PaymentRecord
from common.ids import new_id
from data_platform.warehouse import Dimension, Fact, Unreadable, Warehouse

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def fact(kind: str = "succeeded", *, payment_id: str | None = None, **values: object) -> Fact:
    columns: dict[str, object] = {
        "payment_id": payment_id or new_id(),
        "reservation_id": new_id(),
        "concert_id": "c" * 36,
        "performance_id": "f" * 36,
        "seat_ids": (new_id(), new_id()),
        "amount": Money(amount=300),
        "occurred_at": NOON,
        "type": f"payment.{kind}.v1",
    }
    record = PaymentRecord.model_validate(columns | values)
    return Fact(Envelope(new_id(), record.type, "payment", record.payment_id, NOON), record)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "payments.duckdb"


@pytest.fixture
def warehouse(path: Path) -> Iterator[Warehouse]:
    warehouse = Warehouse(path)
    yield warehouse
    warehouse.close()


class TestAdd:
    def test_a_repeated_event_counts_once(self, warehouse: Warehouse) -> None:
        one = fact()
        assert warehouse.add([one, one]) == 1
        assert warehouse.add([one]) == 0
        assert warehouse.totals()["payments"] == 1

    def test_what_cannot_be_read_is_kept_beside(self, warehouse: Warehouse) -> None:
        broken = Unreadable("topic/0/7", "no amount", b"{}")
        assert warehouse.add([broken, fact()]) == 1
        warehouse.add([broken])
        assert warehouse.totals()["unreadable"] == 1

    def test_survives_a_restart(self, warehouse: Warehouse, path: Path) -> None:
        one = fact()
        warehouse.add([one])
        warehouse.close()
        again = Warehouse(path)
        assert again.add([one]) == 0
        assert again.totals()["revenue"] == 300
        again.close()


class TestFigures:
    def test_nothing_yet(self, warehouse: Warehouse) -> None:
        assert set(warehouse.totals().values()) == {0}
        assert warehouse.revenue(Dimension.CONCERT) == []

    def test_refunds_are_taken_off(self, warehouse: Warehouse) -> None:
        paid = fact()
        refund = fact("refunded", payment_id=paid.record.payment_id)
        warehouse.add([paid, refund, fact()])
        assert warehouse.totals() == {
            "revenue": 300,
            "seats": 2,
            "payments": 2,
            "refunds": 1,
            "unreadable": 0,
        }

    @pytest.mark.parametrize(
        ("by", "column", "keys"),
        [
            (Dimension.CONCERT, "concert_id", ["c" * 36, "d" * 36]),
            (Dimension.PERFORMANCE, "performance_id", ["f" * 36]),
            (Dimension.MINUTE, "minute", ["2026-05-01T12:00:00Z", "2026-05-01T12:01:00Z"]),
        ],
    )
    def test_are_split(
        self, warehouse: Warehouse, by: Dimension, column: str, keys: list[str]
    ) -> None:
        warehouse.add([fact(), fact(concert_id="d" * 36, occurred_at=NOON + timedelta(minutes=1))])
        rows = warehouse.revenue(by)
        assert [row[column] for row in rows] == keys
        assert sum(row["revenue"] for row in rows) == 600
