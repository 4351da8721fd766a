"""The waiting room's rules: policy, what the sale makes of it, waits, polls, and how things end.

Pure: `now` is an argument, moments are aware and in UTC. The order of the line itself is kept by
the Lua scripts, which decide everything that needs Redis TIME; their words are repeated here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.events import AdmissionEndCause, SaleState

LONGEST_POLL_SECONDS = 30.0
POLL_JITTER = 0.15
_NEAR_POLL_SECONDS = 1.0
_PAUSED_POLL_SECONDS = 5.0
_POLLS_OF_A_WAIT = 10
"""A fan asks about this often during the wait that lies ahead: rarely far back, often near."""
_GRACE_POLLS = 3
"""Polls that fit into the grace time: two may be lost and the place is still kept."""

LARGEST_MAX_ACTIVE = 1_000_000
LARGEST_ADMIT_PER_MINUTE = 1_000_000
SHORTEST_GRACE_SECONDS = 3
LONGEST_GRACE_SECONDS = 3_600
LONGEST_PASS_SECONDS = 24 * 3_600


class QueueError(Exception):
    """Root of the domain's errors; ``api`` maps each to a problem."""


class QueueUnknown(QueueError):  # noqa: N818 - an answer, not a fault
    """No performance of this concert is known."""


class QueueClosed(QueueError):  # noqa: N818 - an answer, not a fault
    """Nobody may join any more."""


class NoTicket(QueueError):  # noqa: N818 - an answer, not a fault
    """The caller has no place in this queue."""


class Mode(StrEnum):
    """What an administrator wants of a queue."""

    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"
    PASSTHROUGH = "passthrough"


class TicketState(StrEnum):
    """Where a fan stands."""

    PRE_QUEUE = "pre_queue"
    WAITING = "waiting"
    ADMITTED = "admitted"
    EXPIRED = "expired"
    DONE = "done"
    CLOSED = "closed"


class QueueState(StrEnum):
    """What a queue does now."""

    PRE_QUEUE = "pre_queue"
    OPEN = "open"
    PAUSED = "paused"
    SOLD_OUT = "sold_out"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Policy:
    """How an administrator steers a queue. ``opens_at`` None follows the sale."""

    mode: Mode = Mode.OPEN
    opens_at: datetime | None = None
    shuffle_at_open: bool = False
    max_active: int = 500
    admit_per_minute: int = 6_000
    pass_ttl_seconds: int = 600
    place_grace_seconds: int = 120

    def changed(self, fields: Mapping[str, Any]) -> "Policy":
        """This policy with some fields given anew."""
        return replace(self, **fields)

    def record(self) -> dict[str, Any]:
        """Plain values for the audit log."""
        values = asdict(self)
        values["mode"] = self.mode.value
        values["opens_at"] = self.opens_at.isoformat() if self.opens_at else None
        return values


@dataclass(frozen=True, slots=True)
class Performance:
    """What the queue knows of one performance; ``stock`` is (inventory version, seats left)."""

    performance_id: str
    sale: SaleState
    sale_opens_at: datetime | None
    stock: tuple[int, int] | None = None

    @property
    def is_over(self) -> bool:
        """Whether its seats will not be sold any more."""
        return self.sale in {SaleState.CLOSED, SaleState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Sale:
    """What all performances of a concert together mean for its queue."""

    opens_at: datetime | None
    """Earliest known opening; None when it opens with the first performance that does."""
    any_open: bool
    paused: bool
    over: bool
    counted: frozenset[str]
    """Performances whose seats make up ``seats_left``: the open ones, else all not over."""

    @classmethod
    def of(cls, performances: Iterable[Performance]) -> "Sale":
        """Judge the performances known."""
        known = list(performances)
        alive = [one for one in known if not one.is_over]
        openings = [one.sale_opens_at for one in alive if one.sale_opens_at is not None]
        any_open = any(one.sale is SaleState.OPEN for one in alive)
        selling = [one for one in alive if one.sale is SaleState.OPEN] or alive
        return cls(
            opens_at=min(openings, default=None),
            any_open=any_open,
            paused=bool(alive) and all(one.sale is SaleState.PAUSED for one in alive),
            over=bool(known) and not alive,
            counted=frozenset(one.performance_id for one in selling),
        )


def opening(policy: Policy, sale: Sale) -> datetime | None:
    """When the queue opens by the clock; None: as soon as a performance is open.

    A performance that is on sale already opens the queue at once, unless an administrator named
    a moment.
    """
    if policy.opens_at is not None:
        return policy.opens_at
    return None if sale.any_open else sale.opens_at


@dataclass(frozen=True, slots=True)
class Place:
    """A fan's place as the room shows it at one moment (the scripts' ``view``)."""

    is_new: bool
    now: datetime
    state: TicketState
    queue_state: QueueState
    ticket_id: str
    number: int
    people_ahead: int
    waiting: int
    rate_per_minute: int | None
    opens_at: datetime | None
    grace_seconds: int
    epoch: int
    expires_at: datetime | None
    room_is_free: bool
    """Whether somebody would enter if a turn were taken now."""
    admit_per_minute: int


@dataclass(frozen=True, slots=True)
class Look:
    """A queue as anyone may see it at one moment."""

    now: datetime
    state: QueueState
    serving_number: int
    waiting: int
    rate_per_minute: int | None
    seats_left: int | None
    inside: int
    version: int
    epoch: int
    opens_at: datetime | None
    last_number: int


def expected_wait(place: Place) -> int | None:
    """Seconds until this fan probably enters, from the measured rate; None when unknown."""
    if place.state is TicketState.ADMITTED:
        return 0
    if place.state is not TicketState.WAITING or place.queue_state is not QueueState.OPEN:
        return None
    if not place.rate_per_minute:
        return None
    return math.ceil((place.people_ahead + 1) * 60 / place.rate_per_minute)


def longest_poll(grace_seconds: int) -> float:
    """The longest pause between polls that is ever asked for, jitter included."""
    return min(LONGEST_POLL_SECONDS, grace_seconds / _GRACE_POLLS)


def poll_after(place: Place, luck: float) -> float:
    """Seconds until the fan should ask again.

    Args:
        place: as seen now.
        luck: 0 to 1, spreads the fans over ±15 %.
    """
    longest = longest_poll(place.grace_seconds) / (1 + POLL_JITTER)
    base = min(max(_calm_poll(place), _NEAR_POLL_SECONDS), longest)
    return round(base * (1 + POLL_JITTER * (2 * luck - 1)), 2)


def _calm_poll(place: Place) -> float:
    if place.state in {TicketState.EXPIRED, TicketState.DONE, TicketState.CLOSED}:
        return LONGEST_POLL_SECONDS
    if place.state is TicketState.ADMITTED:
        return _PAUSED_POLL_SECONDS
    if place.queue_state is QueueState.PRE_QUEUE and place.opens_at is not None:
        return max((place.opens_at - place.now).total_seconds(), 0) / _POLLS_OF_A_WAIT
    rate = place.rate_per_minute or place.admit_per_minute
    return pause_at(place.people_ahead, rate, place.state, place.queue_state)


def pause_at(
    people_ahead: int, rate_per_minute: int, state: TicketState, queue_state: QueueState
) -> float:
    """The pause between two polls of somebody with so many ahead, before jitter and bounds."""
    wait = people_ahead * 60 / max(rate_per_minute, 1) / _POLLS_OF_A_WAIT
    if state is TicketState.PRE_QUEUE or queue_state is not QueueState.OPEN:
        return max(wait, _PAUSED_POLL_SECONDS)
    return wait


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signed ticket says: this user had this number in this epoch of the queue."""

    concert_id: str
    user_id: str
    ticket_id: str
    number: int
    epoch: int


CAUSES: tuple[AdmissionEndCause, ...] = (
    AdmissionEndCause.PURCHASED,
    AdmissionEndCause.LEFT,
    AdmissionEndCause.EXPIRED,
    AdmissionEndCause.UNCOLLECTED,
    AdmissionEndCause.CLOSED,
)
"""Causes by the scripts' codes, which begin at 1."""


class Debt(StrEnum):
    """What the room owes to MySQL."""

    ADMISSION = "a"
    DELIVERY = "d"
    END = "e"
    REFUSED = "r"
    """Answer to an admission whose ticket was spent before."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One admission as a turn hands it out."""

    debt: Debt
    pass_id: str
    """The ticket's id: one place is admitted once, and MySQL's primary key sees to it."""
    user_id: str
    number: int
    sequence: int
    queued_at: datetime
    delivered_at: datetime | None
    expires_at: datetime | None
    cause: AdmissionEndCause | None
    mode: str
    """``open`` or ``passthrough`` (admitted without regard to the limits)."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What MySQL says about a debt: it is written (or, for ``REFUSED``, never will be)."""

    debt: Debt
    pass_id: str
    cause: AdmissionEndCause | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a room found and owes."""

    epoch: int
    version: int
    numbers_left: int
    more: bool
    short_of_numbers: bool
    opened: bool
    drawn_base: int | None
    drawn_count: int | None
    waiting: int
    inside: int
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Room:
    """What MySQL knows of one queue beside its policy."""

    concert_id: str
    epoch: int
    numbers_to: int
    """Every number up to this one may have been handed out."""
    seed: str
    opened: bool
    drawn_base: int | None
    drawn_count: int | None


@dataclass(frozen=True, slots=True)
class Inside:
    """One live admission of MySQL, to fill a rebuilt room with."""

    pass_id: str
    user_id: str
    number: int
    sequence: int
    queued_at: datetime
    delivered_at: datetime | None
    expires_at: datetime | None
    age_seconds: float
    """Since the admission, on the database's clock."""


def rest_of_undelivered(inside: Inside, policy: Policy) -> float:
    """Seconds a slot may still be taken whose delivery is not known to MySQL.

    The pass may have been delivered at the last moment of grace, unrecorded: until that pass
    would end, its owner counts as inside, so that no more than ``max_active`` ever are.
    """
    longest = policy.place_grace_seconds + policy.pass_ttl_seconds
    return max(longest - inside.age_seconds, 0.0)
