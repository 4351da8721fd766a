"""Payments in SQL: one live one a reservation, one a request, and the first answer stays."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import payment_service.store.payments as store
from common.database import CheckViolation, Database, RetryTransaction, Session
from common.errors import UniqueViolation
from common.ids import new_id
from payment_service.domain import Payment, PaymentState
from payment_service.store.payments import Answer, Record, Request

NOW = datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=UTC)
GOOD = Answer(201, b'{"good":"\xea\xb3\xb5"}')
BAD = Answer(410, b'{"bad":1}')


def payment(**changes: object) -> Payment:
    return replace(
        Payment(
            payment_id=new_id(),
            reservation_id=new_id(),
            user_id=new_id(),
            concert_id=new_id(),
            performance_id=new_id(),
            seat_ids=(new_id(), new_id()),
            amount=10_000,
            state=PaymentState.AUTHORIZED,
            version=1,
            created_at=NOW,
        ),
        **changes,  # type: ignore[arg-type]
    )


def request_of(one: Payment, key: str | None = None) -> Request:
    return Request(one.user_id, one.reservation_id, key or new_id(), "a" * 64)


async def insert(
    database: Database,
    one: Payment,
    request: Request | None = None,
    answer: Answer | None = None,
) -> Payment:
    asked = request or request_of(one)
    await database.run(
        lambda tx: store.insert(tx, one, asked, reply_to="payment:answers:x", answer=answer)
    )
    return one


async def transition(database: Database, before: Payment, after: Payment, answer: Answer) -> Record:
    await database.run(lambda tx: store.transition(tx, before, after, answer))
    async with database.primary() as session:
        record = await store.by_id(session, before.payment_id)
    assert record is not None
    return record


@pytest.fixture
async def session(database: Database) -> Session:
    async with database.primary() as session:
        yield session  # type: ignore[misc]


def succeeded(one: Payment) -> Payment:
    return replace(one, state=PaymentState.SUCCEEDED, version=2, settled_at=NOW)


def refunded(one: Payment) -> Payment:
    return replace(one, state=PaymentState.REFUNDED, version=one.version + 1, refunded_at=NOW)


class TestInsertAndRead:
    async def test_a_payment_comes_back_as_it_was(
        self, database: Database, session: Session
    ) -> None:
        one = payment()
        request = request_of(one)
        await insert(database, one, request)
        assert await store.find(session, one.payment_id, one.user_id) == one
        expected = Record(one, request.body_hash, "payment:answers:x", None)
        assert await store.by_id(session, one.payment_id) == expected
        found = await store.by_request(session, one.user_id, request.idempotency_key)
        assert found == expected
        assert await store.owner(session, one.payment_id) == one.user_id
        assert await store.live_state(session, one.reservation_id) is PaymentState.AUTHORIZED

    async def test_an_answer_comes_back_byte_for_byte(
        self, database: Database, session: Session
    ) -> None:
        one = await insert(database, payment(state=PaymentState.FAILED), answer=GOOD)
        record = await store.by_id(session, one.payment_id)
        assert record is not None
        assert record.answer == GOOD

    async def test_what_does_not_exist_is_none(self, session: Session) -> None:
        assert await store.find(session, new_id(), "fan") is None
        assert await store.by_id(session, new_id()) is None
        assert await store.by_request(session, "fan", new_id()) is None
        assert await store.owner(session, new_id()) is None
        assert await store.live_state(session, new_id()) is None

    async def test_another_fans_payment_is_none(self, database: Database, session: Session) -> None:
        one = await insert(database, payment())
        assert await store.find(session, one.payment_id, "other") is None


class TestUniqueness:
    async def test_one_live_payment_a_reservation(self, database: Database) -> None:
        one = await insert(database, payment())
        with pytest.raises(UniqueViolation) as refused:
            await insert(database, payment(reservation_id=one.reservation_id))
        assert refused.value.constraint == store.ONE_LIVE_PAYMENT

    async def test_beside_a_failed_one_another_may_live(self, database: Database) -> None:
        one = await insert(database, payment(state=PaymentState.FAILED), answer=BAD)
        await insert(database, payment(reservation_id=one.reservation_id))

    async def test_after_a_refund_another_may_live(self, database: Database) -> None:
        one = await insert(database, payment())
        await transition(database, one, refunded(one), BAD)
        await insert(database, payment(reservation_id=one.reservation_id))

    async def test_one_payment_a_request(self, database: Database) -> None:
        one = payment()
        request = request_of(one)
        await insert(database, one, request)
        rival = payment(user_id=one.user_id)
        with pytest.raises(UniqueViolation) as refused:
            await insert(database, rival, request)
        assert refused.value.constraint == store.ONE_PAYMENT_A_REQUEST
        await insert(database, payment(), replace(request, user_id=new_id()))


class TestChecks:
    @pytest.mark.parametrize(
        "column",
        [
            "live_reservation_id = NULL",  # authorized and not live
            "state = 'refunded'",  # refunded and live, at no time
            "state = 'succeeded'",  # settled at no time
            "state = 'lost'",
            "amount = -1",
        ],
    )
    async def test_the_schema_refuses_half_a_transition(
        self, database: Database, column: str
    ) -> None:
        one = await insert(database, payment())
        with pytest.raises(CheckViolation):
            await database.run(
                lambda tx: tx.execute(
                    f"UPDATE payments SET {column} WHERE payment_id = %s", (one.payment_id,)
                )
            )


class TestTransition:
    async def test_writes_state_times_version_and_answer(self, database: Database) -> None:
        one = await insert(database, payment())
        record = await transition(database, one, succeeded(one), GOOD)
        assert record.payment == succeeded(one)
        assert record.answer == GOOD

    async def test_the_first_answer_stays(self, database: Database, session: Session) -> None:
        one = await insert(database, payment())
        good = (await transition(database, one, succeeded(one), GOOD)).payment
        record = await transition(database, good, refunded(good), BAD)
        assert record.payment.state is PaymentState.REFUNDED
        assert record.answer == GOOD
        assert await store.live_state(session, one.reservation_id) is None

    async def test_from_an_old_state_is_refused(self, database: Database) -> None:
        one = await insert(database, payment())
        await transition(database, one, succeeded(one), GOOD)
        with pytest.raises(RetryTransaction):
            await database.run(lambda tx: store.transition(tx, one, refunded(one), BAD), attempts=1)


class TestLockAndListen:
    async def test_lock_reads_the_record_and_the_time(self, database: Database) -> None:
        one = await insert(database, payment())
        async with database.transaction() as tx:
            locked = await store.lock(tx, one.payment_id)
            assert locked is not None
            assert locked[0].payment == one
            assert abs(locked[1] - datetime.now(UTC)).total_seconds() < 60
            assert await store.lock(tx, new_id()) is None

    async def test_lock_makes_a_rival_wait(self, database: Database) -> None:
        one = await insert(database, payment())
        async with database.transaction() as tx:
            await store.lock(tx, one.payment_id)
            rival = asyncio.create_task(
                database.run(lambda other: store.lock(other, one.payment_id))
            )
            done, _ = await asyncio.wait({rival}, timeout=0.2)
            assert not done
        assert await rival is not None

    async def test_listen_moves_the_reply_until_there_is_an_answer(
        self, database: Database, session: Session
    ) -> None:
        one = await insert(database, payment())
        for reply_to in ("second", "second", "third"):
            await database.run(
                lambda tx, to=reply_to: store.listen(tx, one.payment_id, to)  # type: ignore[misc]
            )
        record = await store.by_id(session, one.payment_id)
        assert record is not None
        assert record.reply_to == "third"
        await transition(database, one, succeeded(one), GOOD)
        await database.run(lambda tx: store.listen(tx, one.payment_id, "late"))
        record = await store.by_id(session, one.payment_id)
        assert record is not None
        assert record.reply_to == "third"


class TestHistory:
    async def test_newest_first_page_by_page(self, database: Database, session: Session) -> None:
        user_id = new_id()
        made = [
            await insert(database, payment(user_id=user_id, created_at=NOW.replace(second=second)))
            for second in (1, 2, 2, 3)
        ]
        expected = sorted(made, key=lambda p: (p.created_at, p.payment_id), reverse=True)
        first = await store.history(session, user_id, limit=2)
        last = first[-1]
        rest = await store.history(
            session, user_id, limit=9, after=(last.created_at, last.payment_id)
        )
        assert first + rest == expected
        assert await store.history(session, new_id(), limit=9) == []
