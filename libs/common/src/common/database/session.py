"""What a use case holds: a session that reads, or a transaction that also writes."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, TypeVar

import structlog

from common.database.connections import Connection, Params, Result, Row
from common.database.errors import RetryTransaction
from common.errors import OutcomeUnknown

_log = structlog.get_logger(__name__)
_VALUES = re.compile(r"\bVALUES\s*\(", re.IGNORECASE)

T = TypeVar("T")
Callback = Callable[[], Awaitable[object] | None]


class Session:
    """Reads of one server, one statement at a time.

    Parameters stand as ``%s`` and are always passed beside the text; a sequence stands for a whole
    ``IN %s``. Moments are aware and in UTC, both ways.
    """

    def __init__(self, connection: Connection, source: Literal["primary", "replica"]) -> None:
        self._connection = connection
        self.source: Literal["primary", "replica"] = source
        """The server that answered last, or will answer next."""

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        """Every row; the statement limits how many there can be."""
        return (await self._execute(sql, params)).rows

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row, if there is any."""
        rows = await self.fetch_all(sql, params)
        return rows[0] if rows else None

    async def fetch_value(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row, or None."""
        row = await self.fetch_one(sql, params)
        return next(iter(row.values())) if row else None

    async def _execute(self, sql: str, params: Params) -> Result:
        return await self._connection.execute(sql, params)


class Transaction(Session):
    """One READ COMMITTED transaction on the primary.

    Any error of any statement rolls all of it back, even if the caller swallows the error: it is
    raised again at the end instead of a COMMIT.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, "primary")
        self._failure: BaseException | None = None
        self._callbacks: list[Callback] = []
        self.committed = False

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement and count the rows it inserted, deleted or really changed."""
        return (await self._execute(sql, params)).affected

    async def execute_many(self, sql: str, rows: Iterable[Params]) -> int:
        """Insert many rows by ``INSERT … VALUES (…) [ON DUPLICATE KEY UPDATE …]``.

        They go in one statement, or a few for a megabyte and more. No rows: nothing is sent.

        Raises:
            ValueError: the text has no ``VALUES (…)``.
        """
        head, template, tail = _split_values(sql)
        if not (listed := list(rows)):
            return 0
        return await self._guarded(self._connection.insert_many(head, template, tail, listed))

    def after_commit(self, callback: Callback) -> None:
        """Call once the transaction is committed; never if it is not. Errors are only logged."""
        self._callbacks.append(callback)

    async def begin(self) -> None:
        """Start it; for `Database` only, as everything below."""
        self._connection.in_transaction = True
        await self._connection.execute("START TRANSACTION")

    async def rollback(self) -> None:
        """Undo everything, if the server can still be told; else hang up, which does the same."""
        try:
            await self._connection.execute("ROLLBACK")
            self._connection.in_transaction = False
        except Exception:  # noqa: BLE001 - an error is being raised already; this one says nothing new
            self._connection.close()

    async def commit(self) -> None:
        """Commit, and let no cancellation cut it in two.

        Raises:
            OutcomeUnknown: the answer to COMMIT did not come.
            BaseException: what a statement had raised before; nothing is committed.
        """
        if self._failure is not None:
            await self.rollback()
            raise self._failure
        commit = asyncio.create_task(self._commit())
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            # A COMMIT that was sent happens. Its connection stays ours until the answer is read.
            while not commit.done():
                try:
                    await asyncio.wait({commit})
                except asyncio.CancelledError:
                    continue
            commit.exception()
            raise

    async def _commit(self) -> None:
        try:
            await self._connection.execute("COMMIT")
        except RetryTransaction:
            self._connection.close()
            raise
        except Exception as error:
            self._connection.close()
            raise OutcomeUnknown("database") from error
        self._connection.in_transaction = False
        self.committed = True

    async def run_callbacks(self) -> None:
        """Call what waits for the commit."""
        for callback in self._callbacks:
            try:
                result = callback()
                if inspect.isawaitable(result):
                    await result
            except Exception:  # noqa: BLE001 - the commit stands: a callback must not make it look undone
                _log.exception("after-commit-callback-failed")

    async def _execute(self, sql: str, params: Params) -> Result:
        return await self._guarded(self._connection.execute(sql, params))

    async def _guarded(self, statement: Coroutine[Any, Any, T]) -> T:
        if self._failure is not None:
            statement.close()
            raise self._failure
        try:
            return await statement
        except BaseException as error:
            self._failure = error
            raise


def _split_values(sql: str) -> tuple[str, str, str]:
    """Split an INSERT around the row of its VALUES."""
    found = _VALUES.search(sql)
    if found is None:
        raise ValueError("execute_many takes INSERT … VALUES (…)")
    start, depth = found.end() - 1, 0
    for position in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[position], 0)
        if depth == 0:
            return sql[:start].rstrip(), sql[start : position + 1], sql[position + 1 :].strip()
    raise ValueError("the parenthesis after VALUES is never closed")
