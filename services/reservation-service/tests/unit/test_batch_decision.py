"""The lane's decision against a model so simple that it can be read at a glance."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.events import BestAvailable, ReservationRequested, SaleState, SeatState
from reservation_service.domain import (
    CandidatesExhausted,
    Decision,
    FreeSeats,
    Held,
    KnownReservation,
    Performance,
    Rejected,
    RejectionCode,
    Repeated,
    Seat,
    Snapshot,
    decide_batch,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROWS, SEATS_A_ROW, LIMIT = 3, 4, 4


def uid(kind: str, number: int) -> str:
    return f"{kind:0>8}-0000-7000-8000-{number:0>12}"


PERFORMANCES = (uid("f", 1), uid("f", 2))
CONCERT = uid("c", 1)


def seat_of(performance: int, position: int) -> Seat:
    return Seat(
        seat_id=uid(str(performance), position),
        performance_id=PERFORMANCES[performance],
        position=position,
        row_key=f"row {position // SEATS_A_ROW}",
        label=f"{position}",
        category="floor",
        price=100 + position,
        state=SeatState.AVAILABLE,
        reservation_id=None,
        version=1,
    )


def snapshot(*, taken: frozenset[str] = frozenset(), **changes: object) -> Snapshot:
    seats = {
        seat.seat_id: replace(
            seat, state=SeatState.SOLD if seat.seat_id in taken else SeatState.AVAILABLE
        )
        for performance in (0, 1)
        for seat in (seat_of(performance, p) for p in range(ROWS * SEATS_A_ROW))
    }
    whole = Snapshot(
        performances={
            performance_id: Performance(
                performance_id=performance_id,
                concert_id=CONCERT,
                sale=SaleState.OPEN,
                currency="KRW",
                max_seats_per_fan=LIMIT,
                hold_seconds=300,
                seats_left=len(seats),
                inventory_version=0,
                lane_position=0,
            )
            for performance_id in PERFORMANCES
        },
        seats=seats,
        free_seats={
            (performance_id, "floor"): FreeSeats(
                tuple(
                    seat.seat_id
                    for seat in seats.values()
                    if seat.performance_id == performance_id and seat.state is SeatState.AVAILABLE
                ),
                complete=True,
            )
            for performance_id in PERFORMANCES
        },
        seats_of_fans={},
        ended_passes=frozenset(),
        known={},
    )
    return replace(whole, **changes)  # type: ignore[arg-type] # the tests name fields


def request(number: int, **changes: object) -> ReservationRequested:
    fields: dict[str, object] = {
        "reservation_id": uid("e", number),
        "user_id": f"fan {number}",
        "concert_id": CONCERT,
        "performance_id": PERFORMANCES[0],
        "pass_id": uid("a", number),
        "idempotency_key": f"key {number}",
        "body_hash": "0" * 64,
        "seat_ids": (uid("0", 0),),
        "best_available": None,
        "reply_to": None,
        "requested_at": NOW,
    }
    return ReservationRequested.model_validate(fields | changes)


def wish(number: int, quantity: int, **changes: object) -> ReservationRequested:
    best = BestAvailable(category="floor", quantity=quantity)
    return request(number, seat_ids=None, best_available=best, **changes)


@st.composite
def requests(draw: st.DrawFn) -> ReservationRequested:
    number = draw(st.integers(0, 10**6))
    performance = draw(st.sampled_from((0, 1)))
    changes: dict[str, object] = {
        "user_id": f"fan {draw(st.integers(0, 4))}",
        "idempotency_key": f"key {draw(st.integers(0, 12))}",
        "performance_id": PERFORMANCES[performance],
        "pass_id": uid("a", draw(st.integers(0, 9))),
    }
    if draw(st.booleans()):
        return wish(number, draw(st.integers(1, LIMIT + 1)), **changes)
    asked = draw(st.lists(st.integers(0, ROWS * SEATS_A_ROW), min_size=1, max_size=5, unique=True))
    changes["seat_ids"] = tuple(uid(str(performance), position) for position in asked)
    return request(number, **changes)


class Model:
    """One request after the other, sets only."""

    def __init__(self, taken: frozenset[str], ended: frozenset[str]) -> None:
        self.free = {
            (seat.performance_id, seat.position): seat.seat_id
            for performance in (0, 1)
            for seat in (seat_of(performance, p) for p in range(ROWS * SEATS_A_ROW))
            if seat.seat_id not in taken
        }
        self.ended = ended
        self.owned: dict[tuple[str, str], int] = {}
        self.seen: dict[tuple[str, str], str] = {}

    def decide(self, asked: ReservationRequested) -> tuple[str, frozenset[str]]:
        key = (asked.user_id, asked.idempotency_key)
        if key in self.seen:
            return f"repeated {self.seen[key]}", frozenset()
        self.seen[key] = asked.reservation_id
        owner = (asked.user_id, asked.performance_id)
        wants = asked.best_available.quantity if asked.best_available else len(asked.seat_ids or ())
        if asked.pass_id in self.ended:
            return "pass-invalid", frozenset()
        if self.owned.get(owner, 0) + wants > LIMIT:
            return "limit-exceeded", frozenset()
        mine = self.runs(asked.performance_id, wants) if asked.best_available else asked.seat_ids
        if not mine or not set(mine) <= set(self.free.values()):
            return "seat-unavailable", frozenset()
        self.free = {place: seat for place, seat in self.free.items() if seat not in mine}
        self.owned[owner] = self.owned.get(owner, 0) + wants
        return "held", frozenset(mine)

    def runs(self, performance_id: str, wants: int) -> tuple[str, ...]:
        for row in range(ROWS):
            for start in range(SEATS_A_ROW - wants + 1):
                places = [
                    (performance_id, row * SEATS_A_ROW + start + offset) for offset in range(wants)
                ]
                if all(place in self.free for place in places):
                    return tuple(self.free[place] for place in places)
        return ()


def outcome(decision: Decision) -> tuple[str, frozenset[str]]:
    match decision:
        case Held():
            return "held", frozenset(decision.reservation.seat_ids)
        case Rejected():
            return decision.code.value, frozenset()
        case Repeated():
            return f"repeated {decision.original.reservation_id}", frozenset()


seat_sets = st.frozensets(
    st.builds(uid, st.sampled_from("01"), st.integers(0, ROWS * SEATS_A_ROW - 1)), max_size=10
)
pass_sets = st.frozensets(st.builds(uid, st.just("a"), st.integers(0, 9)), max_size=3)
batches = st.lists(requests(), max_size=40)


@settings(max_examples=400, deadline=None)
@given(taken=seat_sets, ended=pass_sets, batch=batches)
def test_it_decides_as_the_model_does(
    taken: frozenset[str], ended: frozenset[str], batch: list[ReservationRequested]
) -> None:
    model = Model(taken, ended)
    decisions = decide_batch(snapshot(taken=taken, ended_passes=ended), batch, NOW)
    assert [outcome(d) for d in decisions] == [model.decide(asked) for asked in batch]


@settings(max_examples=200, deadline=None)
@given(taken=seat_sets, batch=batches)
def test_no_seat_has_two_owners_and_no_fan_too_many(
    taken: frozenset[str], batch: list[ReservationRequested]
) -> None:
    given_away: set[str] = set(taken)
    owned: dict[tuple[str, str], int] = {}
    for decision in decide_batch(snapshot(taken=taken), batch, NOW):
        if not isinstance(decision, Held):
            continue
        mine = decision.reservation.seat_ids
        assert not given_away & set(mine)
        given_away |= set(mine)
        owner = (decision.request.user_id, decision.request.performance_id)
        owned[owner] = owned.get(owner, 0) + len(mine)
        assert owned[owner] <= LIMIT
        assert decision.reservation.total == sum(seat.price for seat in decision.seats)
        assert {s.performance_id for s in decision.seats} == {decision.request.performance_id}


@settings(max_examples=100, deadline=None)
@given(batch=batches, cut=st.integers(0, 40))
def test_a_batch_decides_as_its_parts_would(batch: list[ReservationRequested], cut: int) -> None:
    """Where a batch is cut must not matter: bisecting one never changes who wins."""
    whole = decide_batch(snapshot(), batch, NOW)
    assert whole[:cut] == decide_batch(snapshot(), batch[:cut], NOW)


class TestOneRequest:
    def decide(self, asked: ReservationRequested, **changes: object) -> Decision:
        return decide_batch(snapshot(**changes), [asked], NOW)[0]

    def test_a_free_seat_is_held_for_the_performances_time(self) -> None:
        decision = self.decide(request(1))
        assert isinstance(decision, Held)
        assert decision.reservation.hold_expires_at == NOW + timedelta(seconds=300)
        assert decision.reservation.total == 100

    def test_the_answer_names_exactly_the_seats_that_are_gone(self) -> None:
        asked = request(1, seat_ids=(uid("0", 0), uid("0", 1), uid("0", 99)))
        decision = decide_batch(snapshot(taken=frozenset({uid("0", 1)})), [asked], NOW)[0]
        assert isinstance(decision, Rejected)
        assert decision.unavailable_seats == (uid("0", 1), uid("0", 99))

    def test_a_seat_of_another_performance_cannot_be_had_through_this_one(self) -> None:
        decision = self.decide(request(1, seat_ids=(uid("1", 0),)))
        assert isinstance(decision, Rejected)
        assert decision.code is RejectionCode.SEAT_UNAVAILABLE

    @pytest.mark.parametrize("sale", [s for s in SaleState if s is not SaleState.OPEN])
    def test_a_sale_that_is_not_open_sells_nothing(self, sale: SaleState) -> None:
        performances = {
            key: replace(value, sale=sale) for key, value in snapshot().performances.items()
        }
        decision = self.decide(request(1), performances=performances)
        assert isinstance(decision, Rejected)
        assert decision.code is RejectionCode.SALE_NOT_OPEN

    def test_an_unknown_or_incomplete_performance_sells_nothing(self) -> None:
        incomplete = {
            key: replace(value, complete=False) for key, value in snapshot().performances.items()
        }
        for performances in ({}, incomplete):
            decision = self.decide(request(1), performances=performances)
            assert isinstance(decision, Rejected)
            assert decision.code is RejectionCode.PERFORMANCE_UNKNOWN

    def test_a_pass_of_another_concert_is_no_pass(self) -> None:
        decision = self.decide(request(1, concert_id=uid("c", 2)))
        assert isinstance(decision, Rejected)
        assert decision.code is RejectionCode.PASS_INVALID

    def test_live_reservations_count_towards_the_limit(self) -> None:
        owned = {("fan 1", PERFORMANCES[0]): LIMIT}
        decision = self.decide(request(1), seats_of_fans=owned)
        assert isinstance(decision, Rejected)
        assert decision.code is RejectionCode.LIMIT_EXCEEDED

    def test_an_earlier_outcome_stands_whatever_the_body(self) -> None:
        original = KnownReservation(uid("e", 7), "1" * 64)
        decision = self.decide(request(1), known={("fan 1", "key 1"): original})
        assert decision == Repeated(request(1), original)


class TestBestAvailable:
    def chosen(self, quantity: int, taken: set[int]) -> list[str]:
        gone = frozenset(uid("0", position) for position in taken)
        decision = decide_batch(snapshot(taken=gone), [wish(1, quantity)], NOW)[0]
        return [seat.label for seat in decision.seats] if isinstance(decision, Held) else []

    @pytest.mark.parametrize(
        ("quantity", "taken", "chosen"),
        [
            (2, set(), ["0", "1"]),  # the front of the plan
            (2, {1}, ["2", "3"]),  # seat 0 has no free neighbour
            (2, {0, 1, 2}, ["4", "5"]),  # 3 and 4 stand in different rows
            (3, {1, 5}, ["8", "9", "10"]),
            (4, {0, 4, 8}, []),  # enough seats, but no four together
            (1, {0, 1, 2}, ["3"]),
        ],
    )
    def test_the_first_run_of_neighbours_in_one_row(
        self, quantity: int, taken: set[int], chosen: list[str]
    ) -> None:
        assert self.chosen(quantity, taken) == chosen

    def test_another_category_has_no_seats(self) -> None:
        best = BestAvailable(category="balcony", quantity=1)
        asked = request(1, seat_ids=None, best_available=best)
        decision = decide_batch(snapshot(), [asked], NOW)[0]
        assert isinstance(decision, Rejected)
        assert decision.unavailable_seats == ()

    def test_a_cut_off_list_asks_for_more_instead_of_saying_no(self) -> None:
        some = {(PERFORMANCES[0], "floor"): FreeSeats((uid("0", 3), uid("0", 4)), complete=False)}
        with pytest.raises(CandidatesExhausted):
            decide_batch(snapshot(free_seats=some), [wish(1, 2)], NOW)

    def test_a_cut_off_list_is_enough_when_it_holds_the_run(self) -> None:
        some = {(PERFORMANCES[0], "floor"): FreeSeats((uid("0", 4), uid("0", 5)), complete=False)}
        assert isinstance(decide_batch(snapshot(free_seats=some), [wish(1, 2)], NOW)[0], Held)
