"""A bounded set of connections to one server.

Ours and not aiomysql's: that one opens connections while holding its lock, and forgets to wake its
waiters when a cancelled task's connection dies, so that they wait for ever.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.database.connections import Connection, Deadlines, Server, connect
from common.errors import DependencyUnavailable

IDLE_SECONDS = 2.0
"""An idle connection is not used after this; the server hangs up after twice the time."""


class Pool:
    """At most ``size`` connections; who waits longer than the server's deadline gives up."""

    def __init__(self, server: Server, size: int) -> None:
        self._server = server
        self._deadlines = Deadlines(server.timeout_seconds)
        self._slots = asyncio.Semaphore(size)
        self._idle: deque[Connection] = deque()
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for the length of the block, kept afterwards only if it is still clean.

        Raises:
            DependencyUnavailable: none was free and none could be opened in time.
        """
        held = False
        try:
            try:
                # One deadline for the wait and the login together.
                async with self._deadlines.limit():
                    await self._slots.acquire()
                    held = True
                    connection = self._take_idle() or await connect(self._server, self._deadlines)
            except TimeoutError as error:
                raise DependencyUnavailable("database") from error
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            if held:
                self._slots.release()

    def _take_idle(self) -> Connection | None:
        if self._closed:
            raise DependencyUnavailable("database")
        self.trim()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.in_transaction or not connection.usable:
            connection.close()
        else:
            self._idle.append(connection)

    def trim(self) -> None:
        """Close what has been idle too long, and what the server has closed."""
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle and self._idle[0].used_at < oldest:
            self._idle.popleft().close()

    def expire(self) -> None:
        """The server is known to be gone: end every wait for it and trust no connection."""
        self._deadlines.expire()
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close idle connections now and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
