"""A random history on the real database: many fans at once, everything twice, outcomes shuffled.

The seed is in the test's id; the same one makes the same requests and messages again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import MessageRejected, Problem
from payment_service.domain import PaymentInProgress

STEPS = 120
AT_ONCE = 12
FANS = 4

Step = Callable[[], Awaitable[object]]


class History:
    """Chooses what happens next and remembers what it needs for the check."""

    def __init__(self, scene: Any, seed: int) -> None:
        self._scene = scene
        self._random = random.Random(seed)
        self.fans: list[str] = []
        self._holds: list[Any] = []
        self._outcomes: list[Step] = []
        self.charged = 0

    async def begin(self) -> None:
        for _ in range(FANS):
            self.fans.append(await self._scene.fan(balance=100_000))
            self.charged += 100_000
        for _ in range(STEPS // 2):
            fan = self._random.choice(self.fans)
            amount = self._random.randrange(0, 60_000, 1_000)
            self._holds.append(await self._scene.hold(fan, amount))

    def next(self) -> Step:
        kind = self._random.choices(["charge", "pay", "outcome", "again"], [1, 4, 4, 2])[0]
        if kind == "charge":
            return self._charge(self._random.choice(self.fans), self._random.randrange(1, 5_000))
        if kind == "pay" or not self._outcomes:
            return self._pay(self._random.choice(self._holds), self._random.choice("cccrrx"))
        position = self._random.randrange(len(self._outcomes))
        return self._outcomes[position] if kind == "again" else self._outcomes.pop(position)

    def _charge(self, fan: str, amount: int) -> Step:
        self.charged += amount
        return lambda: self._scene.charge(fan, amount)

    def _pay(self, hold: Any, verdict: str) -> Step:
        async def step() -> None:
            outcome = await self._scene.pay(hold)
            if outcome.answer is None:
                self._decide(hold, outcome.payment.payment_id, verdict)

        return step

    def _decide(self, hold: Any, payment_id: str, verdict: str) -> None:
        """What reservation-service will say, and say again: confirmed, rejected, or cancelled."""
        if verdict == "r":
            events = [hold.rejected(payment_id)]
        elif verdict == "c":
            events = [hold.confirmed(payment_id)]
        else:
            events = [hold.confirmed(payment_id), hold.cancelled(payment_id)]
        self._outcomes += [lambda one=event: self._scene.deliver(one) for event in events * 2]

    async def run(self, steps: list[Step]) -> None:
        results = await asyncio.gather(*(step() for step in steps), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                assert isinstance(result, PaymentInProgress | Problem | MessageRejected), result

    async def finish(self) -> None:
        """Every outcome arrives in the end."""
        self._random.shuffle(self._outcomes)
        waiting, self._outcomes = self._outcomes, []
        for start in range(0, len(waiting), AT_ONCE):
            await self.run(waiting[start : start + AT_ONCE])


async def assert_money_is_conserved(scene: Any, history: History) -> None:
    for fan in history.fans:
        await scene.assert_books_balance(fan)
    (wallets,) = await scene.rows(
        "SELECT SUM(balance) AS total FROM wallets WHERE user_id IN %s", history.fans
    )
    payments = await scene.rows(
        "SELECT payment_id, state, amount FROM payments WHERE user_id IN %s", history.fans
    )
    held = sum(one["amount"] for one in payments if one["state"] in {"authorized", "succeeded"})
    assert int(wallets["total"]) + held == history.charged
    entries = await scene.rows(
        "SELECT transfer_id, SUM(amount) AS total, COUNT(*) AS entries FROM ledger_entries"
        " GROUP BY transfer_id HAVING SUM(amount) <> 0 OR COUNT(*) <> 2"
    )
    assert entries == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_won_is_made_or_lost(scene: Any, seed: int) -> None:
    history = History(scene, seed)
    await history.begin()
    for _ in range(STEPS // AT_ONCE):
        await history.run([history.next() for _ in range(AT_ONCE)])
        await assert_money_is_conserved(scene, history)
    await history.finish()
    await assert_money_is_conserved(scene, history)
    open_ones = await scene.rows(
        "SELECT payment_id FROM payments WHERE state = 'authorized' AND user_id IN %s",
        history.fans,
    )
    assert open_ones == []
