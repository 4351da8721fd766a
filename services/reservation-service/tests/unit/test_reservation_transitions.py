"""Every transition of a reservation: where it starts, what it tells, what it refuses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.events import (
    CancelCause,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationRejected,
    SeatState,
)
from common.ids import new_id
from reservation_service.domain import (
    Payment,
    PaymentRefused,
    Reservation,
    ReservationEnded,
    ReservationState,
    ReservedSeat,
    TransitionRefused,
    refuse_unknown,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
END = NOW + timedelta(minutes=5)
TICK = timedelta(microseconds=1)
PAYMENT_ID = new_id()


def hold(**changes: object) -> Reservation:
    reservation = Reservation(
        reservation_id=new_id(),
        user_id="ada",
        concert_id=new_id(),
        performance_id=new_id(),
        pass_id=new_id(),
        state=ReservationState.HELD,
        seats=(ReservedSeat(new_id(), "A1", 900), ReservedSeat(new_id(), "A2", 600)),
        total=1500,
        currency="KRW",
        hold_expires_at=END,
    )
    return replace(reservation, **changes)  # type: ignore[arg-type] # the tests name fields


def payment_for(reservation: Reservation, **changes: object) -> Payment:
    payment = Payment(
        payment_id=PAYMENT_ID,
        reservation_id=reservation.reservation_id,
        user_id=reservation.user_id,
        concert_id=reservation.concert_id,
        performance_id=reservation.performance_id,
        amount=reservation.total,
        currency=reservation.currency,
    )
    return replace(payment, **changes)  # type: ignore[arg-type] # as above


class TestConfirm:
    def test_a_live_hold_paid_in_full_by_its_owner_is_confirmed(self) -> None:
        reservation = hold()
        done = reservation.confirm(payment_for(reservation), END - TICK)
        assert done is not None
        assert done.reservation.state is ReservationState.CONFIRMED
        assert done.reservation.payment_id == PAYMENT_ID
        assert done.reservation.version == 2
        assert done.seats_become is SeatState.SOLD
        assert isinstance(done.event, ReservationConfirmed)
        assert done.event.version == 2
        assert done.event.pass_id == reservation.pass_id
        assert done.event.seat_ids == reservation.seat_ids

    @pytest.mark.parametrize("late", [timedelta(0), TICK, timedelta(hours=1)])
    def test_the_end_of_the_hold_is_too_late(self, late: timedelta) -> None:
        reservation = hold()
        with pytest.raises(PaymentRefused, match="hold-expired"):
            reservation.confirm(payment_for(reservation), END + late)

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            (ReservationState.EXPIRED, "hold-expired"),
            (ReservationState.CANCELLED, "reservation-cancelled"),
            (ReservationState.REFUNDED, "reservation-cancelled"),
            (ReservationState.REJECTED, "reservation-unknown"),
        ],
    )
    def test_what_is_over_cannot_be_confirmed(self, state: ReservationState, reason: str) -> None:
        reservation = hold(state=state)
        with pytest.raises(PaymentRefused, match=reason):
            reservation.confirm(payment_for(reservation), NOW)

    def test_another_payment_of_a_confirmed_reservation_goes_back(self) -> None:
        reservation = hold(state=ReservationState.CONFIRMED, payment_id=new_id())
        with pytest.raises(PaymentRefused, match="already-confirmed"):
            reservation.confirm(payment_for(reservation), NOW)

    def test_the_same_payment_again_changes_nothing(self) -> None:
        reservation = hold(state=ReservationState.CONFIRMED, payment_id=PAYMENT_ID)
        assert reservation.confirm(payment_for(reservation), END + TICK) is None

    def test_another_fan_cannot_pay(self) -> None:
        reservation = hold()
        with pytest.raises(PaymentRefused, match="not-owner"):
            reservation.confirm(payment_for(reservation, user_id="mallory"), NOW)

    @pytest.mark.parametrize("wrong", [{"amount": 1499}, {"amount": 1501}, {"currency": "USD"}])
    def test_another_amount_is_refused(self, wrong: dict[str, object]) -> None:
        reservation = hold()
        with pytest.raises(PaymentRefused, match="reservation-unknown"):
            reservation.confirm(payment_for(reservation, **wrong), NOW)


class TestRefusePayment:
    def test_it_tells_the_reason_and_leaves_the_state(self) -> None:
        reservation = hold(state=ReservationState.EXPIRED, version=2)
        done = reservation.refuse_payment(payment_for(reservation), "hold-expired", NOW)
        assert done is not None
        assert done.reservation == replace(reservation, version=3)
        assert done.seats_become is None
        assert isinstance(done.event, ReservationRejected)
        assert (done.event.previous_state, done.event.reason) == ("expired", "hold-expired")
        assert done.event.version == 3

    def test_the_payment_that_confirmed_it_is_never_refused(self) -> None:
        reservation = hold(state=ReservationState.CANCELLED, payment_id=PAYMENT_ID)
        late = payment_for(reservation)
        assert reservation.refuse_payment(late, "reservation-cancelled", NOW) is None

    def test_a_payment_for_nothing_goes_back(self) -> None:
        payment = payment_for(hold())
        event = refuse_unknown(payment, NOW)
        assert (event.previous_state, event.reason) == ("unknown", "reservation-unknown")
        assert event.payment_id == payment.payment_id


class TestExpire:
    @pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1)])
    def test_a_hold_expires_at_its_end(self, late: timedelta) -> None:
        done = hold().expire(END + late)
        assert done.reservation.state is ReservationState.EXPIRED
        assert done.seats_become is SeatState.AVAILABLE
        assert isinstance(done.event, ReservationExpired)

    def test_a_live_hold_cannot_expire(self) -> None:
        with pytest.raises(TransitionRefused):
            hold().expire(END - TICK)

    @pytest.mark.parametrize("state", [s for s in ReservationState if s != "held"])
    def test_only_holds_expire(self, state: ReservationState) -> None:
        with pytest.raises(TransitionRefused):
            hold(state=state).expire(END)


class TestCancel:
    def test_a_hold_is_cancelled_and_its_seats_freed(self) -> None:
        done = hold().cancel(CancelCause.FAN, NOW)
        assert done is not None
        assert done.reservation.state is ReservationState.CANCELLED
        assert done.reservation.cancel_cause is CancelCause.FAN
        assert done.seats_become is SeatState.AVAILABLE
        assert isinstance(done.event, ReservationCancelled)
        assert (done.event.previous_state, done.event.payment_id) == ("held", None)

    def test_a_confirmed_one_is_cancelled_with_its_payment(self) -> None:
        bought = hold(state=ReservationState.CONFIRMED, payment_id=PAYMENT_ID)
        done = bought.cancel(CancelCause.FAN, END + TICK)
        assert done is not None
        assert isinstance(done.event, ReservationCancelled)
        assert (done.event.previous_state, done.event.payment_id) == ("confirmed", PAYMENT_ID)

    @pytest.mark.parametrize("state", [ReservationState.CANCELLED, ReservationState.REFUNDED])
    def test_again_changes_nothing(self, state: ReservationState) -> None:
        assert hold(state=state).cancel(CancelCause.FAN, NOW) is None

    @pytest.mark.parametrize("state", [ReservationState.EXPIRED, ReservationState.REJECTED])
    @pytest.mark.parametrize("cause", list(CancelCause))
    def test_what_ended_cannot_be_cancelled(
        self, state: ReservationState, cause: CancelCause
    ) -> None:
        with pytest.raises(ReservationEnded):
            hold(state=state).cancel(cause, NOW)

    def test_a_hold_whose_time_is_over_has_ended_for_its_fan(self) -> None:
        with pytest.raises(ReservationEnded):
            hold().cancel(CancelCause.FAN, END)

    def test_a_cancelled_performance_takes_it_even_then(self) -> None:
        done = hold().cancel(CancelCause.PERFORMANCE_CANCELLED, END)
        assert done is not None
        assert done.reservation.cancel_cause is CancelCause.PERFORMANCE_CANCELLED


class TestRefund:
    def test_cancelled_after_confirmation_becomes_refunded(self) -> None:
        cancelled = hold(state=ReservationState.CANCELLED, payment_id=PAYMENT_ID)
        assert cancelled.refund(PAYMENT_ID).state is ReservationState.REFUNDED

    def test_a_refused_payment_of_a_cancelled_hold_refunds_nothing(self) -> None:
        with pytest.raises(TransitionRefused):
            hold(state=ReservationState.CANCELLED).refund(PAYMENT_ID)

    @pytest.mark.parametrize("state", [s for s in ReservationState if s != "cancelled"])
    def test_only_cancelled_ones(self, state: ReservationState) -> None:
        with pytest.raises(TransitionRefused):
            hold(state=state, payment_id=PAYMENT_ID).refund(PAYMENT_ID)


class TestHeld:
    def test_a_hold_tells_what_may_be_paid(self) -> None:
        reservation = hold()
        event = reservation.held(NOW)
        assert event.total.amount == 1500
        assert event.hold_expires_at == END
        assert event.version == 1

    def test_nothing_else_does(self) -> None:
        with pytest.raises(TransitionRefused):
            hold(state=ReservationState.EXPIRED).held(NOW)
