"""The fan's wallet: balance, history, charges."""

from datetime import datetime

from common import idempotency
from common.database import Database, Transaction
from common.errors import DependencyUnavailable, UniqueViolation
from common.events import Money
from common.idempotency import StoredAnswer
from common.redis import Redis
from common.web import ResponseModel
from payment_service.answers import CREATED, problem_answer, problem_of, won
from payment_service.domain import BalanceLimitExceeded
from payment_service.store import wallets
from payment_service.store.payments import Answer
from payment_service.store.wallets import Entry

CHARGES_PATH = "/wallet/charges"


class ChargeBody(ResponseModel):
    """A charge that was booked, and the balance right after it."""

    entry_id: str
    balance: Money


class Wallets:
    """Use cases of `/wallet`."""

    def __init__(self, database: Database, redis: Redis, redis_prefix: str) -> None:
        self._database = database
        self._redis = redis
        self._redis_prefix = redis_prefix

    async def balance(self, user_id: str) -> int:
        """What can be spent now: read from the primary, so that an own charge is in it."""
        async with self._database.primary() as session:
            return (await wallets.find(session, user_id)).balance

    async def entries(
        self, user_id: str, *, limit: int, after: tuple[datetime, str] | None
    ) -> list[Entry]:
        """The wallet's history, newest first, from the replica."""
        async with self._database.replica() as session:
            return await wallets.entries(session, user_id, limit=limit, after=after)

    async def charge(self, user_id: str, key: str, body_hash: str, amount: int) -> Answer:
        """Put money in, once for each key.

        Raises:
            Problem: 422 the key was used for another amount; 409 the first call is still open.
            DependencyUnavailable: repeat with the same key.
        """
        known = await self._known(user_id, key, body_hash)
        if known is not None:
            return known
        async with idempotency.in_flight(
            self._redis, self._redis_prefix, user_id, CHARGES_PATH, key
        ):
            try:
                return await self._database.run(
                    lambda tx: self._charge(tx, user_id, key, body_hash, amount)
                )
            except UniqueViolation as error:
                # A rival with the same key was faster; nothing of ours was booked.
                known = await self._known(user_id, key, body_hash)
                if known is None:
                    raise DependencyUnavailable("database") from error
                return known

    async def _known(self, user_id: str, key: str, body_hash: str) -> Answer | None:
        async with self._database.primary() as session:
            stored = await idempotency.find(session, user_id, CHARGES_PATH, key)
        if stored is None:
            return None
        idempotency.require_same_body(stored.body_hash, body_hash)
        return Answer(stored.status, stored.body)

    async def _charge(
        self, tx: Transaction, user_id: str, key: str, body_hash: str, amount: int
    ) -> Answer:
        wallet, now = await wallets.lock(tx, user_id)
        try:
            charged, transfer = wallet.charge(amount)
        except BalanceLimitExceeded as refusal:
            answer = problem_answer(problem_of(refusal))
        else:
            (entry_id,) = await wallets.book(tx, (transfer,), now)
            body = ChargeBody(entry_id=entry_id, balance=won(charged.balance))
            answer = Answer(CREATED, body.model_dump_json().encode())
        stored = StoredAnswer(answer.status, answer.body, body_hash)
        await idempotency.store(tx, user_id, CHARGES_PATH, key, stored)
        return answer
