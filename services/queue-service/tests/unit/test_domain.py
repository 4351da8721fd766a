"""The rules without a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import AdmissionEndCause, SaleState
from queue_service.domain import (
    CAUSES,
    LONGEST_POLL_SECONDS,
    Inside,
    Mode,
    Performance,
    Place,
    Policy,
    QueueState,
    Sale,
    TicketState,
    expected_wait,
    longest_poll,
    opening,
    poll_after,
    rest_of_undelivered,
)

NOW = datetime(2026, 12, 1, 18, tzinfo=UTC)
PLACE = Place(
    is_new=False,
    now=NOW,
    state=TicketState.WAITING,
    queue_state=QueueState.OPEN,
    ticket_id="ticket",
    number=1,
    people_ahead=0,
    waiting=1,
    rate_per_minute=None,
    opens_at=None,
    grace_seconds=120,
    epoch=1,
    expires_at=None,
    room_is_free=False,
    admit_per_minute=6_000,
)


def performance(sale, opens_in=None, name="one"):
    return Performance(name, sale, None if opens_in is None else NOW + timedelta(opens_in))


class TestSale:
    @pytest.mark.parametrize(
        ("sales", "any_open", "paused", "over"),
        [
            ([], False, False, False),
            (["scheduled"], False, False, False),
            (["open"], True, False, False),
            (["paused"], False, True, False),
            (["paused", "paused"], False, True, False),
            (["paused", "scheduled"], False, False, False),
            (["paused", "open"], True, False, False),
            (["paused", "closed"], False, True, False),
            (["closed"], False, False, True),
            (["cancelled", "closed"], False, False, True),
            (["cancelled", "open"], True, False, False),
        ],
    )
    def test_is_what_all_performances_together_are(self, sales, any_open, paused, over):
        known = [performance(SaleState(one), name=str(n)) for n, one in enumerate(sales)]
        sale = Sale.of(known)
        assert (sale.any_open, sale.paused, sale.over) == (any_open, paused, over)

    def test_opens_at_the_earliest_of_those_not_over(self):
        known = [
            performance(SaleState.CANCELLED, 1),
            performance(SaleState.SCHEDULED, 3),
            performance(SaleState.SCHEDULED, 2),
            performance(SaleState.SCHEDULED),
        ]
        assert Sale.of(known).opens_at == NOW + timedelta(2)

    def test_counts_open_performances_or_else_all_not_over(self):
        scheduled = performance(SaleState.SCHEDULED, name="scheduled")
        closed = performance(SaleState.CLOSED, name="closed")
        opened = performance(SaleState.OPEN, name="open")
        assert Sale.of([scheduled, closed, opened]).counted == {"open"}
        assert Sale.of([scheduled, closed]).counted == {"scheduled"}


class TestOpening:
    def test_follows_the_sale(self):
        sale = Sale.of([performance(SaleState.SCHEDULED, 2)])
        assert opening(Policy(), sale) == NOW + timedelta(2)

    def test_is_now_when_a_performance_opened_early(self):
        sale = Sale.of([performance(SaleState.SCHEDULED, 2), performance(SaleState.OPEN, 5)])
        assert opening(Policy(), sale) is None

    def test_is_the_administrators_when_there_is_one(self):
        sale = Sale.of([performance(SaleState.OPEN, 2)])
        assert opening(Policy(opens_at=NOW), sale) == NOW

    def test_is_unknown_without_any_time(self):
        assert opening(Policy(), Sale.of([performance(SaleState.SCHEDULED)])) is None


class TestPolicy:
    def test_defaults_are_the_contracts(self):
        assert Policy().record() == {
            "mode": "open",
            "opens_at": None,
            "shuffle_at_open": False,
            "max_active": 500,
            "admit_per_minute": 6000,
            "pass_ttl_seconds": 600,
            "place_grace_seconds": 120,
        }

    def test_changes_only_what_is_given(self):
        changed = Policy(max_active=7).changed({"mode": Mode.PAUSED})
        assert changed == Policy(max_active=7, mode=Mode.PAUSED)


class TestExpectedWait:
    @pytest.mark.parametrize(
        ("ahead", "rate", "seconds"),
        [
            (0, 60, 1),  # one more person at one a second
            (99, 60, 100),
            (9, 6_000, 1),  # rounded up: never promised too early
            (0, None, None),
            (5, 0, None),
        ],
    )
    def test_comes_from_the_measured_rate_or_is_unknown(self, ahead, rate, seconds):
        place = replace(PLACE, people_ahead=ahead, rate_per_minute=rate)
        assert expected_wait(place) == seconds

    @pytest.mark.parametrize(
        "state", [QueueState.PAUSED, QueueState.PRE_QUEUE, QueueState.SOLD_OUT, QueueState.CLOSED]
    )
    def test_is_unknown_while_nobody_enters(self, state):
        assert expected_wait(replace(PLACE, rate_per_minute=60, queue_state=state)) is None

    def test_is_nothing_inside(self):
        assert expected_wait(replace(PLACE, state=TicketState.ADMITTED)) == 0

    def test_is_unknown_when_it_is_over(self):
        assert expected_wait(replace(PLACE, state=TicketState.EXPIRED, rate_per_minute=60)) is None


class TestPollAfter:
    def test_is_about_a_second_at_the_front(self):
        assert poll_after(PLACE, 0.5) == 1.0

    def test_grows_with_the_wait_up_to_the_longest(self):
        pauses = [
            poll_after(replace(PLACE, people_ahead=ahead, rate_per_minute=600), 0.5)
            for ahead in (0, 200, 1_000, 2_000, 1_000_000)
        ]
        assert pauses == sorted(pauses)
        assert pauses[2] == 10.0
        assert pauses[-1] == pytest.approx(30 / 1.15, abs=0.01)

    def test_asks_more_often_as_the_opening_comes_near(self):
        def at(seconds):
            place = replace(
                PLACE,
                state=TicketState.PRE_QUEUE,
                queue_state=QueueState.PRE_QUEUE,
                opens_at=NOW + timedelta(seconds=seconds),
            )
            return poll_after(place, 0.5)

        assert (at(3600), at(100), at(5)) == (pytest.approx(26.09), 10.0, 1.0)

    @given(
        st.builds(
            lambda **fields: replace(PLACE, **fields),
            people_ahead=st.integers(0, 10**7),
            rate_per_minute=st.none() | st.integers(0, 10**6),
            grace_seconds=st.integers(3, 3600),
            state=st.sampled_from(TicketState),
            queue_state=st.sampled_from(QueueState),
            admit_per_minute=st.integers(1, 10**6),
        ),
        st.floats(0, 1),
    )
    def test_three_polls_always_fit_into_the_grace(self, place, luck):
        pause = poll_after(place, luck)
        assert 0 < pause <= LONGEST_POLL_SECONDS
        assert 3 * pause <= place.grace_seconds + 0.05
        assert pause <= longest_poll(place.grace_seconds) + 0.01

    @given(st.floats(0, 1))
    def test_spreads_by_15_percent(self, luck):
        place = replace(PLACE, people_ahead=1_000, rate_per_minute=600)
        assert 8.5 <= poll_after(place, luck) <= 11.5


class TestRestOfUndelivered:
    @pytest.mark.parametrize(("age", "rest"), [(0, 720), (100, 620), (720, 0), (9_999, 0)])
    def test_is_grace_and_pass_together(self, age, rest):
        inside = Inside("pass", "fan", 1, 1, NOW, None, None, age)
        assert rest_of_undelivered(inside, Policy()) == rest


def test_every_cause_has_a_code():
    assert set(CAUSES) == set(AdmissionEndCause)
