"""The lane's decision: who gets which seats, in the order the broker accepted the requests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from common.events import BestAvailable, ReservationRequested, SaleState, SeatState
from reservation_service.domain.reservation import DomainError, Reservation, ReservationState
from reservation_service.domain.reservation import ReservedSeat as Reserved


class RejectionCode(StrEnum):
    """Why a request got nothing; the same words are the problem codes of the HTTP contract."""

    SEAT_UNAVAILABLE = "seat-unavailable"
    LIMIT_EXCEEDED = "limit-exceeded"
    SALE_NOT_OPEN = "sale-not-open"
    PASS_INVALID = "pass-invalid"  # noqa: S105 - a problem code, not a password
    PERFORMANCE_UNKNOWN = "performance-unknown"


class CandidatesExhausted(DomainError):  # noqa: N818 - names the condition
    """No such run among the free seats loaded, but there are more: load them, decide anew."""


@dataclass(frozen=True, slots=True)
class Performance:
    """A performance as the lane sees it. Complete when every part of its plan has arrived."""

    performance_id: str
    concert_id: str
    sale: SaleState
    currency: str
    max_seats_per_fan: int
    hold_seconds: int
    seats_left: int
    inventory_version: int
    lane_position: int
    """How many requests have been decided; the next one gets this plus one."""
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat of the inventory; ``price`` in minor units."""

    seat_id: str
    performance_id: str
    position: int
    row_key: str
    label: str
    category: str
    price: int
    state: SeatState
    reservation_id: str | None
    version: int


@dataclass(frozen=True, slots=True)
class FreeSeats:
    """Free seats of one category in plan order, ``complete`` unless cut off at the end."""

    seat_ids: tuple[str, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class KnownReservation:
    """An earlier outcome under the same user and idempotency key."""

    reservation_id: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the decision depends on, read under the locks of its transaction."""

    performances: Mapping[str, Performance]
    seats: Mapping[str, Seat]
    free_seats: Mapping[tuple[str, str], FreeSeats]
    """By performance and category, for the best-available wishes of the batch."""
    seats_of_fans: Mapping[tuple[str, str], int]
    """Seats in live reservations, by user and performance."""
    ended_passes: frozenset[str]
    known: Mapping[tuple[str, str], KnownReservation]
    """By user and idempotency key."""


@dataclass(frozen=True, slots=True)
class Held:
    """The request got these seats."""

    request: ReservationRequested
    reservation: Reservation
    seats: tuple[Seat, ...]
    """As they were before."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request got nothing."""

    request: ReservationRequested
    code: RejectionCode
    unavailable_seats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same user and key were decided before: the first outcome stands."""

    request: ReservationRequested
    original: KnownReservation


Decision = Held | Rejected | Repeated


def decide_batch(
    snapshot: Snapshot, requests: Sequence[ReservationRequested], now: datetime
) -> list[Decision]:
    """Decide requests one after the other, each seeing what the ones before it took.

    Raises:
        CandidatesExhausted: a best-available wish needs more free seats than were loaded.
    """
    round_ = _Round(snapshot, now)
    return [round_.decide(request) for request in requests]


class _Round:
    """The snapshot, changed by each decision in turn."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self._snapshot = snapshot
        self._now = now
        self._taken: set[str] = set()
        self._seats_of_fans = dict(snapshot.seats_of_fans)
        self._known = dict(snapshot.known)

    def decide(self, request: ReservationRequested) -> Decision:
        key = (request.user_id, request.idempotency_key)
        original = self._known.get(key)
        if original is not None:
            return Repeated(request, original)
        decision = self._decide_first(request)
        self._known[key] = KnownReservation(request.reservation_id, request.body_hash)
        return decision

    def _decide_first(self, request: ReservationRequested) -> Decision:
        performance = self._snapshot.performances.get(request.performance_id)
        if performance is None or not performance.complete:
            return Rejected(request, RejectionCode.PERFORMANCE_UNKNOWN)
        if (
            request.concert_id != performance.concert_id
            or request.pass_id in self._snapshot.ended_passes
        ):
            return Rejected(request, RejectionCode.PASS_INVALID)
        if performance.sale is not SaleState.OPEN:
            return Rejected(request, RejectionCode.SALE_NOT_OPEN)
        owner = (request.user_id, request.performance_id)
        quantity = _quantity(request)
        if self._seats_of_fans.get(owner, 0) + quantity > performance.max_seats_per_fan:
            return Rejected(request, RejectionCode.LIMIT_EXCEEDED)
        seats, unavailable = self._find(request)
        if len(seats) != quantity:
            return Rejected(request, RejectionCode.SEAT_UNAVAILABLE, unavailable)
        self._taken.update(seat.seat_id for seat in seats)
        self._seats_of_fans[owner] = self._seats_of_fans.get(owner, 0) + quantity
        return Held(request, self._reserve(request, performance, seats), seats)

    def _find(self, request: ReservationRequested) -> tuple[tuple[Seat, ...], tuple[str, ...]]:
        if request.best_available is not None:
            return self._best_run(request.performance_id, request.best_available), ()
        asked = request.seat_ids or ()
        unavailable = tuple(
            seat_id for seat_id in asked if not self._is_free(seat_id, request.performance_id)
        )
        if unavailable:
            return (), unavailable
        seats = [self._snapshot.seats[seat_id] for seat_id in asked]
        return tuple(sorted(seats, key=lambda seat: seat.position)), ()

    def _is_free(self, seat_id: str, performance_id: str) -> bool:
        seat = self._snapshot.seats.get(seat_id)
        return (
            seat is not None
            and seat.performance_id == performance_id
            and seat.state is SeatState.AVAILABLE
            and seat_id not in self._taken
        )

    def _best_run(self, performance_id: str, wish: BestAvailable) -> tuple[Seat, ...]:
        """The first run of neighbours, in plan order, that is long enough."""
        free = self._snapshot.free_seats.get(
            (performance_id, wish.category), FreeSeats((), complete=True)
        )
        run: list[Seat] = []
        for seat in self._still_free(free.seat_ids, performance_id):
            follows = bool(run) and _are_neighbours(run[-1], seat)
            run = [*run, seat] if follows else [seat]
            if len(run) == wish.quantity:
                return tuple(run)
        if not free.complete:
            raise CandidatesExhausted(f"{wish.category} of {performance_id}")
        return ()

    def _still_free(self, seat_ids: Iterable[str], performance_id: str) -> Iterable[Seat]:
        return (
            self._snapshot.seats[seat_id]
            for seat_id in seat_ids
            if self._is_free(seat_id, performance_id)
        )

    def _reserve(
        self, request: ReservationRequested, performance: Performance, seats: tuple[Seat, ...]
    ) -> Reservation:
        return Reservation(
            reservation_id=request.reservation_id,
            user_id=request.user_id,
            concert_id=request.concert_id,
            performance_id=request.performance_id,
            pass_id=request.pass_id,
            state=ReservationState.HELD,
            seats=tuple(Reserved(seat.seat_id, seat.label, seat.price) for seat in seats),
            total=sum(seat.price for seat in seats),
            currency=performance.currency,
            hold_expires_at=self._now + timedelta(seconds=performance.hold_seconds),
        )


def _quantity(request: ReservationRequested) -> int:
    if request.best_available is not None:
        return request.best_available.quantity
    return max(1, len(request.seat_ids or ()))


def _are_neighbours(left: Seat, right: Seat) -> bool:
    return left.row_key == right.row_key and right.position == left.position + 1
