"""One session on one server, and the limit on how long anything may wait for that server."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiomysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import convert_datetime, decoders

from common.database.errors import RetryTransaction, connection_survives, translate
from common.errors import DependencyUnavailable
from common.metrics import dependency_failures
from common.settings import CommonSettings

Params = Sequence[Any]
Row = dict[str, Any]

BULK_STATEMENT_CHARACTERS = 1_000_000
"""Longest INSERT built from many rows: well below every server's ``max_allowed_packet``."""


def _session_setup(lock_wait_seconds: int) -> str:
    # wait_timeout: a frozen process keeps its locks as long as its session lives (8 h by default).
    # sql_mode: the two engines' defaults differ, and neither refuses every bad value.
    return (
        "SET SESSION time_zone = '+00:00', wait_timeout = 4,"
        f" innodb_lock_wait_timeout = {lock_wait_seconds},"
        " sql_mode = 'TRADITIONAL,ONLY_FULL_GROUP_BY'"
    )


_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"


def _utc(text: bytes | str) -> Any:
    moment = convert_datetime(text)
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment


_DECODERS = {**decoders, FIELD_TYPE.DATETIME: _utc, FIELD_TYPE.TIMESTAMP: _utc}


def to_driver(value: Any) -> Any:
    """A parameter as the driver can write it.

    Raises:
        TypeError: a naive datetime, or a mapping.
        ValueError: an empty sequence, which ``IN`` cannot take.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a datetime parameter must be aware")
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            raise ValueError("an empty sequence is no parameter: IN () is no SQL")
        return tuple(to_driver(item) for item in value)
    if isinstance(value, dict):
        raise TypeError("a mapping is no parameter")
    return value


class Deadlines:
    """Every wait for one server; all of those in progress can be ended at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Raise TimeoutError out of the block when the time is up."""
        async with asyncio.timeout(self.seconds) as timeout:
            self._running.add(timeout)
            try:
                yield
            finally:
                self._running.discard(timeout)

    def expire(self) -> None:
        """End every wait in progress now: the server is known to be gone."""
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True)
class Server:
    """Where and how to open sessions."""

    name: Literal["primary", "replica"]
    host: str
    port: int
    schema: str
    user: str
    password: str = field(repr=False)
    tls_ca_file: Path | None
    timeout_seconds: float

    @classmethod
    def primary(cls, settings: CommonSettings) -> "Server":
        """The server that takes writes and decision reads."""
        return cls(
            name="primary",
            host=settings.database_primary_host,
            port=settings.database_primary_port,
            schema=settings.database_schema,
            user=settings.database_user,
            password=settings.database_password.get_secret_value(),
            tls_ca_file=settings.database_tls_ca_file,
            timeout_seconds=settings.database_timeout_seconds,
        )

    @classmethod
    def replica(cls, settings: CommonSettings) -> "Server":
        """The server for reads that may be a little old."""
        return replace(
            cls.primary(settings),
            name="replica",
            host=settings.database_replica_host,
            port=settings.database_replica_port,
        )


class Result(NamedTuple):
    """What one statement gave."""

    rows: list[Row]
    affected: int
    """Rows inserted, deleted or really changed: an UPDATE to the same values counts 0."""


class Connection:
    """A session of our own on a server. After an interrupted command it is closed for good."""

    def __init__(self, raw: Any, deadlines: Deadlines) -> None:
        self._raw = raw
        self._deadlines = deadlines
        self._busy = False
        self.used_at = time.monotonic()
        self.in_transaction = False

    @property
    def usable(self) -> bool:
        """Neither closed by us nor, as far as the socket tells, by the server."""
        if self._raw.closed:
            return False
        # MySQL 8 sends an error packet before it hangs up, so at_eof() alone would miss it.
        reader = self._raw._reader  # noqa: SLF001 - the driver shows it nowhere else
        return not reader.eof_received and reader.exception() is None

    async def execute(self, sql: str, params: Params = ()) -> Result:
        """Send one statement and read its whole answer, within the deadline.

        Raises:
            DependencyUnavailable: no answer; the connection is closed.
            UniqueViolation, CheckViolation, RetryTransaction: the server refused the statement.
        """
        values = tuple(to_driver(value) for value in params)
        return await self._command(lambda cursor: cursor.execute(sql, values or None))

    async def insert_many(self, head: str, template: str, tail: str, rows: list[Params]) -> int:
        """Send ``head (row), (row)… tail`` in as few statements as fit; count affected rows."""
        cursor = await self._raw.cursor()
        statements: list[list[str]] = [[]]
        length = 0
        for row in rows:
            text = cursor.mogrify(template, tuple(to_driver(value) for value in row))
            if length + len(text) > BULK_STATEMENT_CHARACTERS and statements[-1]:
                statements.append([])
                length = 0
            statements[-1].append(text)
            length += len(text)
        affected = 0
        for texts in statements:
            affected += (await self.execute(f"{head} {', '.join(texts)} {tail}")).affected
        return affected

    async def _command(self, send: Any) -> Result:
        if self._busy:
            raise RuntimeError("a session takes one statement at a time: await the other one first")
        if self._raw.closed:
            raise DependencyUnavailable("database")
        self._busy = True
        try:
            async with self._deadlines.limit():
                cursor = await self._raw.cursor()
                affected = await send(cursor)
                rows = await cursor.fetchall() if cursor.description else []
            return Result(list(rows), affected)
        except BaseException as error:
            if not connection_survives(error):
                self.close()  # half an answer may be on its way: nobody else may read it
            meaning = translate(error)
            contended = isinstance(meaning, RetryTransaction)
            if isinstance(meaning, DependencyUnavailable) and not contended:
                dependency_failures.labels("database").inc()
            if meaning is error:
                raise
            raise meaning from error
        finally:
            self._busy = False
            self.used_at = time.monotonic()

    def close(self) -> None:
        """Hang up at once. The server rolls back what was not committed."""
        self._raw.close()


async def connect(server: Server, deadlines: Deadlines | None = None) -> Connection:
    """Open a session in READ COMMITTED, UTC and strict mode, in autocommit.

    Raises:
        DependencyUnavailable: within the deadline no session could be had, for whatever reason.
    """
    deadlines = deadlines or Deadlines(server.timeout_seconds)
    # A lock wait must end before our own deadline does: the server's answer is "rolled back, try
    # again", the deadline's is a lost connection.
    lock_wait_seconds = max(1, int(server.timeout_seconds) - 1)
    tls = ssl.create_default_context(cafile=server.tls_ca_file) if server.tls_ca_file else None
    try:
        async with deadlines.limit():
            raw = await aiomysql.connect(
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password,
                db=server.schema,
                charset="utf8mb4",
                conv=_DECODERS,
                cursorclass=aiomysql.DictCursor,
                init_command=_session_setup(lock_wait_seconds),
                autocommit=True,
                ssl=tls,
            )
    except (aiomysql.Error, OSError, EOFError) as error:  # TimeoutError is an OSError
        dependency_failures.labels("database").inc()
        raise DependencyUnavailable("database") from error
    connection = Connection(raw, deadlines)
    await connection.execute(_ISOLATION)
    return connection
