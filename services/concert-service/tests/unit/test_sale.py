"""Every transition of a sale, from every state."""

from datetime import UTC, datetime, timedelta

import pytest

from common.events import SaleState
from concert_service.domain.sale import (
    Performance,
    SaleTransitionRefused,
    first_sale_state,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL = list(SaleState)
WANTED = {
    "open": SaleState.OPEN,
    "pause": SaleState.PAUSED,
    "close": SaleState.CLOSED,
    "cancel": SaleState.CANCELLED,
}


def performance(sale: SaleState, opens_at: datetime | None = None) -> Performance:
    return Performance("p", "c", sale, opens_at, version=3)


@pytest.mark.parametrize("method", WANTED)
@pytest.mark.parametrize("sale", [s for s in ALL if s is not SaleState.CANCELLED])
def test_a_living_performance_can_become_anything(sale: SaleState, method: str) -> None:
    wanted = WANTED[method]
    before = Performance("0" * 36, "1" * 36, sale, NOW, version=3)
    transition = getattr(before, method)(NOW)
    if sale is wanted:
        assert transition.performance is before
        assert transition.event is None
        return
    assert transition.performance.sale is wanted
    assert transition.performance.version == 4
    event = transition.event
    assert (event.sale, event.previous_sale, event.version) == (wanted, sale, 4)
    assert (event.performance_id, event.concert_id) == ("0" * 36, "1" * 36)
    assert (event.occurred_at, event.sale_opens_at) == (NOW, NOW)


@pytest.mark.parametrize("method", ["open", "pause", "close"])
def test_cancelled_is_final(method: str) -> None:
    with pytest.raises(SaleTransitionRefused) as caught:
        getattr(performance(SaleState.CANCELLED), method)(NOW)
    assert caught.value.sale is SaleState.CANCELLED
    assert caught.value.wanted is WANTED[method]


def test_cancelling_twice_tells_nobody_again() -> None:
    assert performance(SaleState.CANCELLED).cancel(NOW).event is None


class TestOpeningByItself:
    @pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), timedelta(days=9)])
    def test_when_the_time_has_come(self, late: timedelta) -> None:
        due = Performance("0" * 36, "1" * 36, SaleState.SCHEDULED, NOW - late, version=1)
        transition = due.open_when_due(NOW)
        assert transition.performance.sale is SaleState.OPEN
        assert transition.event is not None

    @pytest.mark.parametrize("opens_at", [None, NOW + timedelta(microseconds=1)])
    def test_not_before_and_not_without_a_time(self, opens_at: datetime | None) -> None:
        waiting = performance(SaleState.SCHEDULED, opens_at)
        transition = waiting.open_when_due(NOW)
        assert transition.performance is waiting
        assert transition.event is None

    @pytest.mark.parametrize("sale", [s for s in ALL if s is not SaleState.SCHEDULED])
    def test_never_over_an_administrators_head(self, sale: SaleState) -> None:
        assert performance(sale, NOW).open_when_due(NOW).event is None


@pytest.mark.parametrize(
    ("opens_at", "state"),
    [
        (None, SaleState.SCHEDULED),
        (NOW, SaleState.OPEN),
        (NOW - timedelta(days=1), SaleState.OPEN),
        (NOW + timedelta(microseconds=1), SaleState.SCHEDULED),
    ],
)
def test_the_first_state(opens_at: datetime | None, state: SaleState) -> None:
    assert first_sale_state(opens_at, NOW) is state
