"""The verdict of a demo: what breaks it, and how it looks."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from local_stack.demo.report import LATENCIES, Report, picture, sparkline

SOUND = Report(
    fans=10,
    seats=4,
    sold=4,
    double_sold=0,
    queue_order_inversions=0,
    max_inside=2,
    max_active=2,
    holds_expired=1,
    payments_succeeded=3,
    payments_refunded=1,
    data_platform_payments=3,
    invariants={"one-live-reservation-a-seat": 0},
    seconds=1.5,
    latency_ms={kind: {"p50": 1.0, "p99": 2.0} for kind in LATENCIES},
    errors_5xx=0,
    seed=1,
    outcomes={"bought": 3},
    replay_mismatches=0,
    unexpected=[],
)


def test_a_sound_sale_fails_nothing() -> None:
    assert SOUND.failures() == []


@pytest.mark.parametrize(
    "broken",
    [
        {"double_sold": 1},
        {"queue_order_inversions": 1},
        {"max_inside": 3},
        {"data_platform_payments": 2},
        {"invariants": {"one-live-reservation-a-seat": 1}},
        {"replay_mismatches": 1},
    ],
)
def test_each_broken_promise_is_a_failure_of_its_own(broken: dict[str, Any]) -> None:
    assert len(replace(SOUND, **broken).failures()) == 1


def test_a_line_of_blocks_fits_and_reaches_the_top() -> None:
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert sparkline([0, 4, 8]) == " ▄█"
    assert len(sparkline(list(range(1, 1_000)), width=72)) <= 72


def test_the_picture_asks_no_server_for_anything() -> None:
    run: Any = SimpleNamespace(figures=SimpleNamespace(history=[(0.0, 5, 2, 0), (1.0, 0, 2, 4)]))
    svg = picture(SOUND, run)
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "kept" in svg
    assert "@font-face" not in svg
    assert svg.count("://") == svg.count("http://www.w3.org/2000/svg")
