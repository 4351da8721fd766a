"""One fan's evening: line up, wait as told, pick, hold, pay, or not.

Habits are drawn once, from the sale's seed, so that a run can be repeated.
"""

import asyncio
import random
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from local_stack.demo.client import FanClient, GaveUpError

POLL_FLOOR_SECONDS = 0.2
LOOK_AGAIN_SECONDS = (0.4, 1.2)
MAX_PICKS = 200
GOOD = (HTTPStatus.OK, HTTPStatus.CREATED)


class Habit(StrEnum):
    """What kind of evening it will be."""

    BUYS = "buys"
    ABANDONS_LINE = "abandons the line"
    LETS_HOLD_LAPSE = "lets the hold lapse"
    TOO_LITTLE_MONEY = "has too little money"
    CANCELS_HOLD = "cancels the hold"
    RETURNS_TICKETS = "cancels after paying"


SHARES = {
    Habit.ABANDONS_LINE: 0.06,
    Habit.LETS_HOLD_LAPSE: 0.04,
    Habit.TOO_LITTLE_MONEY: 0.05,
    Habit.CANCELS_HOLD: 0.04,
    Habit.RETURNS_TICKETS: 0.03,
}
NERVOUS_SHARE = 0.1
"""Share of fans whose client repeats every request: double taps, lost answers."""
BEST_AVAILABLE_SHARE = 0.2


def draw_habit(rng: random.Random) -> Habit:
    """A habit by its share; most fans simply buy."""
    point = rng.random()
    for habit, share in SHARES.items():
        if point < share:
            return habit
        point -= share
    return Habit.BUYS


@dataclass
class Sale:
    """What every fan can know, and what the fans together have done."""

    concert_id: str
    performance_id: str
    seats: list[dict[str, Any]]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    confirmed: dict[str, list[str]] = field(default_factory=dict)
    """reservation id → seat ids, of reservations confirmed and not returned."""
    held: set[str] = field(default_factory=set)
    double_sold: set[str] = field(default_factory=set)
    inside: int = 0
    done: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    returns_planned: int = 0

    @property
    def sold(self) -> int:
        """Seats of reservations the fans know to be confirmed."""
        return sum(len(seats) for seats in self.confirmed.values())

    def confirm(self, reservation_id: str, seat_ids: list[str]) -> None:
        """Note a purchase; a seat somebody else owns already is the one thing never to see."""
        taken = {seat for seats in self.confirmed.values() for seat in seats}
        self.double_sold.update(taken.intersection(seat_ids))
        self.confirmed[reservation_id] = seat_ids


class Fan:
    """A fan with a client, a habit and a patience."""

    def __init__(self, client: FanClient, sale: Sale, rng: random.Random) -> None:
        self._client = client
        self._sale = sale
        self._rng = rng
        self.habit = draw_habit(rng)
        self._nervous = rng.random() < NERVOUS_SHARE
        self._wants = rng.choice((1, 1, 2, 2, 3, 4))

    async def live(self) -> None:
        """The whole evening; every way out is counted as an outcome."""
        try:
            outcome = await self._evening()
        except GaveUpError as reason:
            outcome = "gave up"
            self._sale.unexpected.append(f"{self._client.user_id}: {reason}")
        self._sale.done += 1
        self._sale.outcomes[outcome] = self._sale.outcomes.get(outcome, 0) + 1

    async def _evening(self) -> str:
        await self._client.sign_in()
        pass_token = await self._wait_in_line()
        if pass_token is None:
            return "left the line" if self.habit is Habit.ABANDONS_LINE else "sale over in line"
        self._sale.inside += 1
        try:
            return await self._shop(pass_token)
        finally:
            self._sale.inside -= 1

    async def _wait_in_line(self) -> str | None:
        concert_id = self._sale.concert_id
        answer = await self._client.join(concert_id)
        polls_before_leaving = self._rng.randint(1, 4)
        while True:
            if answer.status == HTTPStatus.CONFLICT and answer.code == "queue-closed":
                return None
            if answer.status not in GOOD:
                self._unexpected("line", answer.status, answer.code)
                return None
            ticket = answer.body
            if ticket["state"] == "admitted" and ticket["pass"]:
                return str(ticket["pass"]["token"])
            if self._sale.over.is_set() or ticket["state"] == "closed":
                await self._client.leave(concert_id)
                return None
            if ticket["state"] in ("expired", "done"):
                answer = await self._client.join(concert_id)
                continue
            if self.habit is Habit.ABANDONS_LINE:
                polls_before_leaving -= 1
                if polls_before_leaving <= 0:
                    return None  # without a word: the server must notice by itself
            await self._pause(max(POLL_FLOOR_SECONDS, float(ticket["poll_after_seconds"])))
            answer = await self._client.poll(concert_id, ticket["token"])

    async def _shop(self, pass_token: str) -> str:
        for _ in range(MAX_PICKS):
            await self._think()
            wish = await self._pick()
            if wish is None:
                if self._sale.over.is_set():
                    await self._client.leave(self._sale.concert_id)
                    return "nothing left"
                continue
            answer = await self._client.reserve(pass_token, wish, twice=self._nervous)
            if answer.status in GOOD and answer.body["state"] == "held":
                return await self._with_hold(answer.body)
            if answer.status == HTTPStatus.FORBIDDEN:
                return "time ran out inside"
            if answer.code == "limit-exceeded":
                return "nothing left"
            if answer.status != HTTPStatus.CONFLICT and answer.body.get("state") != "rejected":
                self._unexpected("reserve", answer.status, answer.code)
                return "refused"
        return "nothing left"

    async def _pick(self) -> dict[str, Any] | None:
        answer = await self._client.availability(self._sale.performance_id)
        if answer.status != HTTPStatus.OK:
            self._unexpected("availability", answer.status, answer.code)
            return None
        unavailable = set(answer.body["unavailable"])
        free = [seat for seat in self._sale.seats if seat["seat_id"] not in unavailable]
        if not free:
            await self._pause(self._rng.uniform(*LOOK_AGAIN_SECONDS))
            return None
        wants = min(self._wants, len(free))
        wish: dict[str, Any] = {"performance_id": self._sale.performance_id}
        if self._rng.random() < BEST_AVAILABLE_SHARE and len(free) > 4 * wants:
            category = self._rng.choice(free)["category"]
            return wish | {"best_available": {"category": category, "quantity": wants}}
        first = self._rng.randrange(len(free) - wants + 1)
        return wish | {"seat_ids": [seat["seat_id"] for seat in free[first : first + wants]]}

    async def _with_hold(self, reservation: dict[str, Any]) -> str:
        reservation_id = reservation["reservation_id"]
        self._sale.held.add(reservation_id)
        try:
            return await self._decide(reservation)
        finally:
            self._sale.held.discard(reservation_id)

    async def _decide(self, reservation: dict[str, Any]) -> str:
        reservation_id = reservation["reservation_id"]
        await self._think()
        match self.habit:
            case Habit.LETS_HOLD_LAPSE:
                return "let the hold lapse"
            case Habit.CANCELS_HOLD:
                answer = await self._client.cancel(reservation_id)
                if answer.code == "reservation-ended":
                    return "let the hold lapse"  # too slow to cancel it
                self._expect("cancel", answer.status, answer.code, HTTPStatus.OK)
                await self._client.leave(self._sale.concert_id)
                return "cancelled the hold"
            case _:
                return await self._pay(reservation)

    async def _pay(self, reservation: dict[str, Any]) -> str:
        reservation_id = reservation["reservation_id"]
        total = int(reservation["total"]["amount"])
        poor = self.habit is Habit.TOO_LITTLE_MONEY
        charged = await self._client.charge(total // 2 if poor else total, twice=self._nervous)
        self._expect("charge", charged.status, charged.code, 201)
        answer = await self._client.pay(reservation_id, twice=self._nervous)
        if answer.status == HTTPStatus.GONE or answer.body.get("state") == "refunded":
            return "paid too late"
        if poor:
            self._expect("pay", answer.status, answer.code, HTTPStatus.PAYMENT_REQUIRED)
            await self._client.cancel(reservation_id)
            await self._client.leave(self._sale.concert_id)
            return "had too little money"
        if answer.status not in GOOD or answer.body["state"] != "succeeded":
            self._unexpected("pay", answer.status, answer.code or answer.body.get("state", ""))
            return "payment refused"
        self._sale.confirm(reservation_id, [seat["seat_id"] for seat in reservation["seats"]])
        if self.habit is not Habit.RETURNS_TICKETS:
            return "bought"
        return await self._return_tickets(reservation_id)

    async def _return_tickets(self, reservation_id: str) -> str:
        self._sale.returns_planned += 1
        try:
            await self._think()
            # Taken off the books first: once cancelled, another fan may own the seats at once.
            returned = self._sale.confirmed.pop(reservation_id)
            answer = await self._client.cancel(reservation_id)
            if answer.status != HTTPStatus.OK:
                self._sale.confirmed[reservation_id] = returned
                self._unexpected("cancel", answer.status, answer.code)
        finally:
            self._sale.returns_planned -= 1
        return "returned the tickets"

    def _expect(self, what: str, status: int, code: str, wanted: int) -> None:
        if status != wanted:
            self._unexpected(what, status, code)

    def _unexpected(self, what: str, status: int, code: str) -> None:
        self._sale.unexpected.append(f"{self._client.user_id}: {what} answered {status} {code}")

    async def _think(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.3, 2.0))

    async def _pause(self, seconds: float) -> None:
        """Wait as told, but wake when the sale is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._sale.over.wait()
        except TimeoutError:
            return
