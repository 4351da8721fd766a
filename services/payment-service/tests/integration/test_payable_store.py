"""What may be paid: versions decide, not arrival."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from common.database import Database
from common.ids import new_id
from payment_service.domain import Payable, PayableState
from payment_service.store import payables


def held(version: int = 1) -> Payable:
    return Payable(
        reservation_id=new_id(),
        version=version,
        user_id="fan",
        concert_id=new_id(),
        performance_id=new_id(),
        seat_ids=(new_id(), new_id()),
        state=PayableState.HELD,
        amount=500,
        hold_expires_at=datetime.now(UTC) + timedelta(minutes=5),
    )


def ended(first: Payable, state: PayableState, version: int) -> Payable:
    return replace(first, state=state, version=version, amount=None, hold_expires_at=None)


async def record(database: Database, *news: Payable) -> Payable | None:
    for one in news:
        await database.run(lambda tx, one=one: payables.record(tx, one))  # type: ignore[misc]
    async with database.primary() as session:
        return await payables.find(session, news[0].reservation_id, news[0].user_id)


class TestRecord:
    async def test_keeps_everything(self, database: Database) -> None:
        news = held()
        assert await record(database, news) == news

    async def test_the_same_again_changes_nothing(self, database: Database) -> None:
        news = held()
        assert await record(database, news, news) == news

    @pytest.mark.parametrize("end", [PayableState.EXPIRED, PayableState.CANCELLED])
    async def test_the_end_wins_also_when_it_comes_first(
        self, database: Database, end: PayableState
    ) -> None:
        for order in ("held first", "end first"):
            first = held()
            last = ended(first, end, 2)
            news = (first, last) if order == "held first" else (last, first)
            found = await record(database, *news)
            # The price is known whichever came first; the state is the newest one's.
            assert found == replace(first, state=end, version=2), order

    async def test_any_order_of_three_ends_the_same(self, database: Database) -> None:
        for order in permutations(range(3)):
            first = held()
            news = [
                first,
                ended(first, PayableState.EXPIRED, 2),
                ended(first, PayableState.CANCELLED, 3),
            ]
            found = await record(database, *(news[position] for position in order))
            assert found is not None
            assert (found.state, found.version) == (PayableState.CANCELLED, 3), order

    async def test_an_end_alone_has_no_price(self, database: Database) -> None:
        last = ended(held(), PayableState.EXPIRED, 2)
        assert await record(database, last) == last


class TestFind:
    async def test_another_fans_reservation_is_unknown(self, database: Database) -> None:
        news = held()
        await record(database, news)
        async with database.primary() as session:
            assert await payables.find(session, news.reservation_id, "other") is None
            assert await payables.find(session, new_id(), news.user_id) is None
