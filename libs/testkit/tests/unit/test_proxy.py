"""The proxy misbehaves exactly as told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from testkit import TcpProxy, eventually

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    def __init__(self) -> None:
        self.received = b""
        self.closed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(1000):
                self.received += chunk
                writer.write(chunk)
                await writer.drain()
        self.closed += 1
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    yield echo, server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: tuple[Echo, int]) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(echo[1]) as proxy:
        yield proxy


@pytest.fixture
async def stream(proxy: TcpProxy) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    yield reader, writer
    writer.transport.abort()


async def ask(stream: Stream, text: bytes) -> bytes:
    reader, writer = stream
    writer.write(text)
    async with asyncio.timeout(2):
        return await reader.readexactly(len(text))


async def silent(stream: Stream, seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stream[0].read(1)
    except TimeoutError:
        return True
    return False


async def test_it_passes_both_ways(proxy: TcpProxy, stream: Stream) -> None:
    assert await ask(stream, b"hello") == b"hello"
    assert (proxy.accepted, proxy.connections) == (1, 1)
    stream[1].close()
    await eventually(lambda: proxy.connections == 0)


async def test_refuse(proxy: TcpProxy, stream: Stream) -> None:
    await ask(stream, b"a")
    await proxy.refuse()
    with pytest.raises(OSError, match="reset"):
        await stream[0].readexactly(1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    await proxy.resume()
    _, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.transport.abort()


async def test_drop_then_resume_delivers_late(
    proxy: TcpProxy, stream: Stream, echo: tuple[Echo, int]
) -> None:
    await ask(stream, b"a")
    await proxy.drop()
    stream[1].write(b"b")
    assert await silent(stream)
    assert echo[0].received == b"a"
    await proxy.resume()
    async with asyncio.timeout(2):
        assert await stream[0].readexactly(1) == b"b"


async def test_delay(proxy: TcpProxy, stream: Stream) -> None:
    await proxy.delay(0.1)
    began = time.monotonic()
    assert await ask(stream, b"a") == b"a"
    assert time.monotonic() - began >= 0.2  # there and back


async def test_cut_ends_only_what_is_open(proxy: TcpProxy, stream: Stream) -> None:
    await ask(stream, b"a")
    await proxy.cut()
    with pytest.raises(OSError, match="reset"):
        await stream[0].readexactly(1)
    fresh = await asyncio.open_connection(proxy.host, proxy.port)
    assert await ask(fresh, b"b") == b"b"
    fresh[1].transport.abort()


async def test_half_close_lets_requests_through_and_ends_answers(
    proxy: TcpProxy, stream: Stream, echo: tuple[Echo, int]
) -> None:
    await ask(stream, b"a")
    await proxy.half_close()
    async with asyncio.timeout(2):
        assert await stream[0].read() == b""
    stream[1].write(b"b")
    await eventually(lambda: echo[0].received == b"ab")


async def test_half_open_tells_only_the_server(
    proxy: TcpProxy, stream: Stream, echo: tuple[Echo, int]
) -> None:
    await ask(stream, b"a")
    await proxy.half_open()
    await eventually(lambda: echo[0].closed == 1)
    stream[1].write(b"b")
    assert await silent(stream)
    assert echo[0].received == b"a"


async def test_a_server_that_is_not_there() -> None:
    async with TcpProxy(1) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        with suppress(OSError):
            assert await reader.read() == b""
        writer.transport.abort()
