"""A TCP proxy that can be told to misbehave, between a client under test and a real server."""

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65_536


class _Mode(Enum):
    PASS = auto()
    DROP = auto()
    REFUSE = auto()


class _Link:
    """One client and its connection to the server."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self.tasks: list[asyncio.Task[None]] = []

    def abort(self) -> None:
        """Reset both sides."""
        for task in self.tasks:
            task.cancel()
        for writer in (self.client_writer, self.server_writer):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Send RST instead of FIN: the peer sees an error, not the end of a stream."""
    if not writer.is_closing():
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class TcpProxy:
    """Listens on a free port of ``127.0.0.1`` and forwards to a server.

    Args:
        port: of the server.
        host: of the server.

    It starts by passing everything; each method below changes that for old and new connections.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._mode = _Mode.PASS
        self._delay_seconds = 0.0
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.host = "127.0.0.1"
        self.port = 0
        """Where clients connect; stays the same for the proxy's whole life."""
        self.accepted = 0
        """How many connections were accepted so far."""

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop_listening()
        await self.cut()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    async def resume(self) -> None:
        """Forward everything at once; what was dropped meanwhile arrives late, as after a loss."""
        self._delay_seconds = 0.0
        self._switch(_Mode.PASS)
        if self._server is None:
            await self._listen()

    async def refuse(self) -> None:
        """Abort every connection and refuse new ones: the server's process is gone."""
        self._switch(_Mode.REFUSE)
        await self._stop_listening()
        await self.cut()

    async def drop(self) -> None:
        """Deliver nothing either way and say nothing: a black hole, or a frozen server."""
        self._switch(_Mode.DROP)

    async def delay(self, seconds: float) -> None:
        """Hold every chunk back for that long, in each direction."""
        self._delay_seconds = seconds
        self._switch(_Mode.PASS)

    async def cut(self) -> None:
        """Abort the connections there are (a reset); new ones are fine."""
        links, self._links = self._links, set()
        for link in links:
            link.abort()
        for link in links:
            await asyncio.gather(*link.tasks, return_exceptions=True)

    async def half_close(self) -> None:
        """Let every client see the end of the stream, while what it sends still arrives."""
        for link in self._links:
            link.tasks[1].cancel()
            if link.client_writer.can_write_eof():
                link.client_writer.write_eof()

    async def half_open(self) -> None:
        """Close the server's side only; no client is told."""
        for link in self._links:
            for task in link.tasks:
                task.cancel()
            _reset(link.server_writer)

    def _switch(self, mode: _Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        link = _Link((reader, writer), server)
        link.tasks = [
            asyncio.create_task(self._pump(link.client_reader, link.server_writer)),
            asyncio.create_task(self._pump(link.server_reader, link.client_writer)),
        ]
        if self._mode is _Mode.REFUSE:
            link.abort()
            return
        self._links.add(link)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*link.tasks)
            self._links.discard(link)
            link.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                while self._mode is _Mode.DROP:
                    await self._changed.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
