"""Golden events: what concert-service emits is, byte for byte, what everybody agreed on."""

import json
from datetime import UTC, datetime
from pathlib import Path

from common.events import PerformanceSaleChanged, PerformanceScheduled, SaleState
from concert_service.domain.sale import Performance
from concert_service.domain.seating import PlannedSeat
from concert_service.service.creation import Draft, scheduled
from concert_service.store.concerts import ConcertRow, PerformanceRow

GOLDEN = Path(__file__).parents[4] / "libs/common/tests/golden"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CONCERT = "0193f5a0-0000-7000-8000-000000000002"
PERFORMANCE = "0193f5a0-0000-7000-8000-000000000003"
SEAT = "0193f5a0-0000-7000-8000-000000000011"


def golden(type_: str) -> str:
    """The file's document as an event's compact JSON."""
    document = json.loads((GOLDEN / f"{type_}.json").read_text())
    return json.dumps(document, separators=(",", ":"))


def test_performance_scheduled() -> None:
    concert = ConcertRow(CONCERT, "T", "A", "V", "KRW", 4, 300, "[]", NOON)
    row = PerformanceRow(
        performance_id=PERFORMANCE,
        concert_id=CONCERT,
        starts_at=datetime(2026, 12, 24, 19, tzinfo=UTC),
        sale=SaleState.SCHEDULED,
        sale_opens_at=NOON,
        version=1,
        seats_total=1,
        seats_left=1,
    )
    seat = PlannedSeat(0, "guid", "A-1", "Floor", 132_000, "A")
    (event,) = scheduled(concert, Draft(row, ((SEAT, seat),)))
    assert event.model_dump_json() == golden(PerformanceScheduled.type)


def test_performance_sale_changed() -> None:
    performance = Performance(PERFORMANCE, CONCERT, SaleState.SCHEDULED, NOON, version=1)
    event = performance.open_when_due(NOON).event
    assert event is not None
    assert event.model_dump_json() == golden(PerformanceSaleChanged.type)
