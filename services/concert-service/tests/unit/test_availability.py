"""Bitmaps, and what is answered from them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concert_service.domain.availability import (
    HISTORY_LIMIT,
    Availability,
    Change,
    SeatIndex,
    bitmap_length,
    bitmap_of,
    bitmap_of_words,
    decode_changes,
    encode_change,
    is_set,
    unbroken,
)

AS_OF = "2026-11-21T12:00:00.000000Z"
SEATS = [(f"{number:036d}", "VIP" if number < 3 else "Standard") for number in range(11)]
INDEX = SeatIndex.build("p" * 36, SEATS)


def availability(taken: list[int], version: int, history: list[Change]) -> Availability:
    return Availability(INDEX, version, bitmap_of(taken, 11), unbroken(history, version))


def answer(one: Availability, since: int | None = None) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(one.body(AS_OF, since))
    return parsed


def ids(*positions: int) -> list[str]:
    return [SEATS[position][0] for position in positions]


class TestWhole:
    def test_all_free_at_version_0(self) -> None:
        assert answer(availability([], 0, [])) == {
            "performance_id": "p" * 36,
            "version": 0,
            "as_of": AS_OF,
            "seats_left": 11,
            "categories": [
                {"category": "VIP", "seats_left": 3},
                {"category": "Standard", "seats_left": 8},
            ],
            "unavailable": [],
        }

    def test_what_cannot_be_had(self) -> None:
        got = answer(availability([0, 2, 3, 10], 7, []))
        assert got["unavailable"] == ids(0, 2, 3, 10)
        assert got["seats_left"] == 7
        assert got["categories"] == [
            {"category": "VIP", "seats_left": 1},
            {"category": "Standard", "seats_left": 6},
        ]

    def test_a_category_name_is_escaped(self) -> None:
        index = SeatIndex.build("p" * 36, [("s" * 36, 'say "hi" 한')])
        got = answer(Availability(index, 0, bitmap_of([], 1), unbroken([], 0)))
        assert got["categories"] == [{"category": 'say "hi" 한', "seats_left": 1}]


HISTORY = [Change(0, 1, (0,)), Change(1, 4, (1, 2)), Change(4, 5, (2,))]


class TestSince:
    def one(self) -> Availability:
        # 1: 0 taken; 4: 1 and 2 taken; 5: 2 freed again
        return availability([0, 1], 5, HISTORY)

    def test_what_changed(self) -> None:
        got = answer(self.one(), since=1)
        assert got["since"] == 1
        assert got["version"] == 5
        assert got["unavailable"] == ids(1)
        assert got["available"] == ids(2)
        assert got["seats_left"] == 9
        assert got["categories"][0] == {"category": "VIP", "seats_left": 1}

    def test_nothing_changed(self) -> None:
        got = answer(self.one(), since=5)
        assert (got["since"], got["unavailable"], got["available"]) == (5, [], [])

    def test_a_version_inside_a_batch_gets_the_batch(self) -> None:
        got = answer(self.one(), since=2)
        assert (got["unavailable"], got["available"]) == (ids(1), ids(2))

    @pytest.mark.parametrize("since", [6, 2**53])
    def test_a_version_we_do_not_know_gets_the_whole(self, since: int) -> None:
        got = answer(self.one(), since=since)
        assert "since" not in got
        assert got["unavailable"] == ids(0, 1)

    def test_a_history_that_is_not_there_any_more_gets_the_whole(self) -> None:
        one = availability([0, 1], 5, HISTORY[1:])
        assert "since" not in answer(one, since=0)
        assert "since" in answer(one, since=1)


class TestUnbroken:
    def test_a_gap_ends_the_history(self) -> None:
        run = unbroken([Change(0, 1, ()), Change(2, 3, ()), Change(3, 5, ())], 5)
        assert [change.version for change in run] == [3, 5]

    def test_repeats_and_order_do_not_matter(self) -> None:
        run = unbroken([Change(3, 5, ()), Change(2, 3, ()), Change(3, 5, ())], 5)
        assert [change.version for change in run] == [3, 5]

    def test_a_change_beyond_the_version_is_left_out(self) -> None:
        run = unbroken([Change(2, 3, ()), Change(3, 5, ())], 3)
        assert [change.version for change in run] == [3]

    def test_no_history_when_the_last_change_is_missing(self) -> None:
        assert not unbroken([Change(2, 3, ())], 5)

    def test_is_bounded(self) -> None:
        many = [Change(version - 1, version, ()) for version in range(1, HISTORY_LIMIT + 9)]
        run = unbroken(many, HISTORY_LIMIT + 8)
        assert len(run) == HISTORY_LIMIT
        assert run[-1].version == HISTORY_LIMIT + 8


@given(st.integers(1, 300), st.sets(st.integers(0, 299)))
def test_bitmaps_hold_their_positions(total: int, wanted: set[int]) -> None:
    positions = {position for position in wanted if position < total}
    bitmap = bitmap_of(positions, total)
    assert len(bitmap) == bitmap_length(total)
    assert {position for position in range(total) if is_set(bitmap, position)} == positions
    words: dict[int, int] = {}
    for position in positions:
        words[position // 64] = words.get(position // 64, 0) | 1 << (63 - position % 64)
    assert bitmap_of_words(words.items(), total) == bitmap


@pytest.mark.parametrize("change", [Change(0, 1, ()), Change(5, 9, (0, 17, 99_999))])
def test_a_change_survives_redis(change: Change) -> None:
    assert list(decode_changes([encode_change(change).encode()])) == [change]
