"""A process's time is the database's, however its own wall clock is set."""

from datetime import UTC, datetime, timedelta

import pytest

from common.clock import Clock

FAR = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    state = {"wall": 1_000_000.0, "monotonic": 50.0}
    monkeypatch.setattr("common.clock.time.time", lambda: state["wall"])
    monkeypatch.setattr("common.clock.time.monotonic", lambda: state["monotonic"])
    return state


def test_before_it_is_synchronised_it_shows_the_wall_clock(wall: dict[str, float]) -> None:
    clock = Clock()
    assert not clock.synchronised
    assert clock.now() == datetime.fromtimestamp(1_000_000, UTC)


def test_afterwards_it_shows_the_databases_time_and_runs_on(wall: dict[str, float]) -> None:
    clock = Clock()
    clock.synchronise(FAR)
    assert clock.synchronised
    assert clock.now() == FAR
    wall["monotonic"] += 90
    assert clock.now() - FAR == timedelta(seconds=90)


def test_a_jump_of_the_wall_clock_changes_nothing(wall: dict[str, float]) -> None:
    clock = Clock()
    clock.synchronise(FAR)
    before = clock.monotonic()
    wall["wall"] += 300
    assert clock.now() == FAR
    assert clock.monotonic() == before


def test_now_is_aware_and_utc() -> None:
    assert Clock().now().tzinfo is UTC


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        Clock().synchronise(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test
