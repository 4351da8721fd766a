"""One consistent snapshot over the four schemas, through an account that may only read."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiomysql
from pydantic import SecretStr

CONNECT_SECONDS = 5.0
SETTLE_SECONDS = 60
"""News between services is given this long before a rule about two of them judges it."""

SERVICES = ("queue", "concert", "reservation", "payment")


@dataclass(frozen=True)
class Source:
    """Where to read, and as whom. The account needs SELECT on the four schemas and nothing else."""

    host: str
    port: int
    user: str
    password: SecretStr
    schemas: Mapping[str, str] = field(default_factory=lambda: {name: name for name in SERVICES})
    """Service → schema; only tests use other names."""


class Snapshot:
    """Reads of one moment: whatever is written meanwhile, every rule sees the same state."""

    def __init__(
        self, connection: aiomysql.Connection, schemas: Mapping[str, str], settled_before: str
    ) -> None:
        self._connection = connection
        self._schemas = schemas
        self.settled_before = settled_before

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """All rows of a query; see :class:`audit.rule.QueryRule` for what it may name."""
        text = sql.format(settled=f"'{self.settled_before}'", **self._schemas)
        async with self._connection.cursor(aiomysql.DictCursor) as cursor:
            await cursor.execute(text)
            return list(await cursor.fetchall())

    async def value(self, sql: str) -> Any:
        """The only column of the only row."""
        (row,) = await self.rows(sql)
        (value,) = row.values()
        return value


@contextlib.asynccontextmanager
async def open_snapshot(
    source: Source, *, settle_seconds: int = SETTLE_SECONDS
) -> AsyncIterator[Snapshot]:
    """Open a read-only snapshot on the primary.

    Args:
        source: where and as whom.
        settle_seconds: age at which news between services must have arrived; 0 once a sale has
            come to rest.

    Raises:
        pymysql.err.MySQLError: the database cannot be reached or the account may not read.
        TimeoutError: the database did not answer within ``CONNECT_SECONDS``.
    """
    connection = await aiomysql.connect(
        host=source.host,
        port=source.port,
        user=source.user,
        password=source.password.get_secret_value(),
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
        charset="utf8mb4",
    )
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("SET time_zone = '+00:00'")
            await cursor.execute("SELECT NOW(6) - INTERVAL %s SECOND", (settle_seconds,))
            (settled_before,) = await cursor.fetchone()
            await cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield Snapshot(connection, source.schemas, settled_before.isoformat(sep=" "))
    finally:
        connection.close()
