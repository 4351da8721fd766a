"""The inbox: a message has its effect once, however often the broker delivers it.

The row and the effect share a transaction, so they exist both or neither.
"""

from collections.abc import Iterable

from common.database import Database, RetryTransaction, Transaction
from common.errors import UniqueViolation

KEPT_SECONDS = 14 * 24 * 3600
"""How long a message is remembered: longer than any parked message lives."""
PURGE_ROWS = 1_000

_INSERT = (
    "INSERT INTO inbox (consumer, message_id, received_at) VALUES (%s, %s, NOW(6))"
    " ON DUPLICATE KEY UPDATE message_id = message_id"
)
_KNOWN = "SELECT message_id FROM inbox WHERE consumer = %s AND message_id IN %s"
_INSERT_NEW = "INSERT INTO inbox (consumer, message_id, received_at) VALUES (%s, %s, NOW(6))"
_PURGE = (
    "DELETE FROM inbox WHERE received_at < NOW(6) - INTERVAL %s SECOND"
    " ORDER BY received_at LIMIT %s"
)


async def first_time(tx: Transaction, consumer: str, message_id: str) -> bool:
    """Whether ``consumer`` meets this message now for the first time; waits for a rival.

    False also means: its effect is committed, so there is nothing left to do but acknowledge.
    """
    return await tx.execute(_INSERT, (consumer, message_id)) == 1


async def first_times(tx: Transaction, consumer: str, message_ids: Iterable[str]) -> set[str]:
    """Those of the messages that ``consumer`` meets now for the first time.

    Raises:
        RetryTransaction: a rival recorded one of them meanwhile; `Database.run` starts again.
    """
    # Sorted: two batches with the same messages must not lock them crosswise.
    wanted = sorted(set(message_ids))
    if not wanted:
        return set()
    rows = await tx.fetch_all(_KNOWN, (consumer, wanted))
    known = {row["message_id"] for row in rows}
    new = [message_id for message_id in wanted if message_id not in known]
    try:
        await tx.execute_many(_INSERT_NEW, [(consumer, message_id) for message_id in new])
    except UniqueViolation as error:
        raise RetryTransaction("a rival recorded the same message") from error
    return set(new)


async def purge(database: Database, *, kept_seconds: int = KEPT_SECONDS) -> int:
    """Forget messages older than that; returns how many. A periodic job, at most one batch."""
    return await database.run(lambda tx: tx.execute(_PURGE, (kept_seconds, PURGE_ROWS)))
