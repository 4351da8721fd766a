"""Which inventory changes are news, whatever order they come in."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import SeatChange, SeatState
from concert_service.domain.projection import (
    SeatRecord,
    SeatUnknown,
    next_availability_version,
    project,
)

A, B = "a" * 36, "b" * 36
FREE = {
    A: SeatRecord(A, 0, SeatState.AVAILABLE, 0),
    B: SeatRecord(B, 1, SeatState.AVAILABLE, 0),
}


def change(seat_id: str, state: SeatState, version: int) -> SeatChange:
    return SeatChange(seat_id=seat_id, state=state, version=version)


def test_a_held_seat_cannot_be_had() -> None:
    projected = project(FREE, [change(A, SeatState.HELD, 1)])
    assert projected.seats == (SeatRecord(A, 0, SeatState.HELD, 1),)
    assert (projected.taken, projected.freed) == ((0,), ())
    assert (projected.available_delta, projected.held_delta, projected.sold_delta) == (-1, 1, 0)


def test_selling_a_held_seat_changes_nothing_for_readers() -> None:
    held = {A: SeatRecord(A, 0, SeatState.HELD, 1)}
    projected = project(held, [change(A, SeatState.SOLD, 2)])
    assert (projected.taken, projected.freed) == ((), ())
    assert (projected.available_delta, projected.held_delta, projected.sold_delta) == (0, -1, 1)


def test_a_released_seat_can_be_had_again() -> None:
    held = {A: SeatRecord(A, 0, SeatState.HELD, 1)}
    projected = project(held, [change(A, SeatState.AVAILABLE, 2)])
    assert (projected.taken, projected.freed) == ((), (0,))


@pytest.mark.parametrize("version", [0, 1, 4, 5])
def test_an_older_or_equal_version_is_no_news(version: int) -> None:
    held = {A: SeatRecord(A, 0, SeatState.HELD, 5)}
    event = SeatChange.model_construct(seat_id=A, state=SeatState.AVAILABLE, version=version)
    assert project(held, [event]).seats == ()


def test_an_unknown_seat_is_refused() -> None:
    with pytest.raises(SeatUnknown) as caught:
        project(FREE, [change("c" * 36, SeatState.HELD, 1)])
    assert caught.value.seat_id == "c" * 36


def test_any_order_of_the_same_changes_ends_the_same() -> None:
    changes = [
        change(A, SeatState.HELD, 1),
        change(A, SeatState.AVAILABLE, 2),
        change(A, SeatState.HELD, 3),
        change(B, SeatState.SOLD, 2),
        change(B, SeatState.HELD, 1),
    ]
    ends = {project(FREE, order) for order in permutations(changes)}
    assert len(ends) == 1
    assert ends.pop().seats == (
        SeatRecord(A, 0, SeatState.HELD, 3),
        SeatRecord(B, 1, SeatState.SOLD, 2),
    )


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.sampled_from(list(SeatState)), st.integers(1, 6)),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_counts_move_as_the_seats_do(raw: list[tuple[str, SeatState, int]], cut: int) -> None:
    """Applied in two steps or one, the deltas add up to the seats' states."""
    # One version of a seat has one state: the owner of the inventory promises that.
    changes = list(
        {(seat, version): change(seat, state, version) for seat, state, version in raw}.values()
    )
    records, total = dict(FREE), dict.fromkeys(SeatState, 0)
    for part in (changes[:cut], changes[cut:]):
        projected = project(records, part)
        records |= {seat.seat_id: seat for seat in projected.seats}
        total[SeatState.AVAILABLE] += projected.available_delta
        total[SeatState.HELD] += projected.held_delta
        total[SeatState.SOLD] += projected.sold_delta
    assert total[SeatState.AVAILABLE] == sum(
        (record.state is SeatState.AVAILABLE) - 1 for record in records.values()
    )
    assert total[SeatState.HELD] == sum(r.state is SeatState.HELD for r in records.values())
    assert total[SeatState.SOLD] == sum(r.state is SeatState.SOLD for r in records.values())
    assert {s.seat_id: s for s in project(FREE, changes).seats}.items() <= records.items()


@pytest.mark.parametrize(
    ("current", "heard", "changed", "version"),
    [
        (0, 1, True, 1),  # in order: the inventory's own number
        (4, 9, True, 9),  # a batch of five transactions
        (9, 5, True, 10),  # late, and still news: readers must notice
        (10, 10, True, 11),  # in order again after a late one: content never changes silently
        (9, 5, False, 9),  # late and no news
        (9, 12, False, 12),
    ],
)
def test_the_availability_version(current: int, heard: int, changed: bool, version: int) -> None:
    assert next_availability_version(current, heard, changed) == version
